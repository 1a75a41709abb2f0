"""docs/parameters.md and config/nodes/*.yaml say what the tables say that the nodes declare their parameters from."""

import parameter_table
import pytest
import yaml

from deepverse_ros.nodes.runtime.parameters import Parameter

FILES = {"planner": "planner", "prefilter": "prefilter", "replay": "replay", "sim": "sim", "world_model": "world_model"}
# Planning itself delays images; a file names a recording to try, and the robot, which no node takes for granted.
OTHERS = {("planner", "stale_timeout"): 1.0, ("replay", "recording"): "val/899"} | {
    (node, "embodiment"): "arm" for node in ("planner", "prefilter", "world_model")
}


def values(name: str) -> dict[str, object]:
    text = (parameter_table.ROOT / "config" / "nodes" / f"{name}.yaml").read_text()
    return yaml.safe_load(text)["/**"]["ros__parameters"]


def test_the_page_is_what_the_tables_say() -> None:
    assert parameter_table.TARGET.read_text() == parameter_table.page(), "run make docs"


@pytest.mark.parametrize("node", FILES)
def test_a_file_has_every_parameter_with_its_default(node: str) -> None:
    table = {p.name: OTHERS.get((node, p.name), p.default) for p in parameter_table.NODES[node]}
    assert values(FILES[node]) == table


def test_the_file_of_the_arm_s_prefilter_says_only_what_differs() -> None:
    table = {p.name: p.default for p in parameter_table.NODES["prefilter"]}
    for name, value in values("arm_prefilter").items():
        assert name in table
        assert value != table[name], name


def test_a_row_says_default_range_and_choices() -> None:
    ranged = Parameter("rate", 5.0, "How often | how fast (Hz).", 0.1, 60.0, dynamic=True)
    assert parameter_table._cells(ranged) == ("`rate`", "`5.0`", "0.1 to 60", "yes", "How often \\| how fast (Hz).")
    chosen = Parameter("mode", "a", "Which.", choices=("a", "b"))
    assert parameter_table._cells(chosen) == ("`mode`", "`a`", "`a`, `b`", "", "Which.")
