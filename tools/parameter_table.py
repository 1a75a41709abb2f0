"""Write docs/parameters.md: every parameter of every node, out of the tables that the nodes declare them from."""

from collections.abc import Iterable
from pathlib import Path

from deepverse_ros.nodes.fault_injection import node as fault_injector
from deepverse_ros.nodes.planner.parameters import PARAMETERS as PLANNER
from deepverse_ros.nodes.prefilter.parameters import PARAMETERS as PREFILTER
from deepverse_ros.nodes.replay import node as replay
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.nodes.simulation import node as simulation
from deepverse_ros.nodes.world_model import node as world_model

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "parameters.md"
NODES: dict[str, Iterable[Parameter]] = {
    "world_model": world_model.PARAMETERS,
    "planner": PLANNER,
    "prefilter": PREFILTER,
    "sim": simulation.PARAMETERS,
    "replay": replay.PARAMETERS,
    "fault_injector": fault_injector.PARAMETERS,
}
HEADER = """\
# Parameters

Made by `make docs` from the tables that the nodes declare them from. `config/nodes/` has a file with all of each node,
and `ros2 param describe /planner goal_tolerance` says the same of one. **live**: may be changed while the node runs;
the others are applied by `configure`.
"""


def page() -> str:
    """The whole page."""
    lines = [HEADER]
    for node, table in NODES.items():
        lines += [f"## {node}", "| parameter | default | allowed | live | what |", "|---|---|---|---|---|"]
        lines += ["| " + " | ".join(_cells(parameter)) + " |" for parameter in table]
        lines.append("")
    return "\n".join(lines)


def _cells(parameter: Parameter) -> tuple[str, ...]:
    allowed = ", ".join(f"`{choice}`" for choice in parameter.choices)
    if parameter.lower is not None and parameter.upper is not None:
        allowed = f"{parameter.lower:g} to {parameter.upper:g}"
    default = "" if parameter.default in ("", [""]) else f"`{parameter.default}`"
    live = "yes" if parameter.dynamic else ""
    cells = (f"`{parameter.name}`", default, allowed, live, parameter.description)
    return tuple(cell.replace("|", "\\|") for cell in cells)


def main() -> None:
    """Write the page."""
    TARGET.write_text(page())
    print(f"wrote {TARGET.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
