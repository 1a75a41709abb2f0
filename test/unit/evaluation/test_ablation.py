"""Ablations: what is shared, what differs, what is not repeated."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from deepverse_ros import resources
from deepverse_ros.data.collect import collect
from deepverse_ros.evaluation.ablation import AblationConfig, Row, ablate, placed, section, to_markdown
from deepverse_ros.robot.embodiment import Embodiment

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    collect(Embodiment.load("arm"), 8, 5, folder, workers=1, size=(64, 64), frames=16)
    return folder


def config(data: Path, variants: dict[str, Any], **others: Any) -> AblationConfig:
    stage = {"steps": 3, "batch": 2, "learning_rate": 1e-3}
    training = {
        "embodiment": "arm",
        "height": 64,
        "width": 64,
        "network": {
            "codec": {"channels": [8, 8, 16], "latent_dim": 8},
            "dynamics": {"width": 16, "layers": 2, "heads": 2},
            "coarse": {"token_dim": 4, "hidden": 16},
        },
        "data": {"directory": str(data), "frames": 16, "validation": 3},
        **dict.fromkeys(("codec", "dynamics", "picture", "outcome", "coarse"), stage),
    }
    values = {"title": "Two", "training": training, "variants": variants, "seeds": 1, "episodes": 2}
    return AblationConfig.model_validate(values | others)


def test_variants_share_the_codec_and_finished_trainings_are_kept(data: Path, tmp_path: Path) -> None:
    settings = config(
        data, {"smooth world": {"dynamics": {"spacetime_weight": 1.0}}, "cause": {"dynamics": {"causal_weight": 1.0}}}
    )
    done: list[str] = []
    rows = ablate(settings, tmp_path, "cpu", QUIET, done.append)
    assert [row.name for row in rows] == ["baseline", "smooth world", "cause"]
    assert done == ["baseline, seed 0", "smooth world, seed 0", "cause, seed 0"]
    runs = [tmp_path / name for name in ("baseline-0", "smooth_world-0", "cause-0")]
    for stage, equal in (("codec", True), ("dynamics", False)):
        states = [(run / f"{stage}.state.safetensors").read_bytes() for run in runs]
        assert (states[0] == states[1] == states[2]) is equal
    stamps = [(run / "checkpoint" / "model.safetensors").stat().st_mtime_ns for run in runs]
    assert [row.values for row in ablate(settings, tmp_path, "cpu", QUIET)] == [row.values for row in rows]
    assert stamps == [(run / "checkpoint" / "model.safetensors").stat().st_mtime_ns for run in runs]


def test_a_setting_that_is_none_is_named_before_anything_is_trained(data: Path) -> None:
    with pytest.raises(ValidationError, match=r"(?s)variants\.odd.*dynamics\.magic"):
        config(data, {"odd": {"dynamics": {"magic": 1}}})
    with pytest.raises(ValidationError, match=r"(?s)variants\.odd.*network\.things"):
        config(data, {"odd": {"network": {"things": {}}}})
    with pytest.raises(ValidationError, match=r"shared: there is no 'encoder'; expected some of codec"):
        config(data, {"none": {}}, shared=["encoder"])
    with pytest.raises(ValidationError, match=r"figures: there is no 'beauty'; expected some of PSNR"):
        config(data, {"none": {}}, figures=["beauty"])


def test_variants_change_any_part_of_a_training_and_leave_the_rest(data: Path) -> None:
    settings = config(data, {"wider": {"network": {"dynamics": {"width": 32}}, "decoder": None}})
    base, wider = settings.changed({}, 2), settings.changed(settings.variants["wider"])
    assert (base.seed, wider.seed) == (2, 0)
    assert wider.network.dynamics == base.network.dynamics.model_copy(update={"width": 32})
    assert wider.network.codec == base.network.codec
    assert settings.changed({}) == settings.training


def test_a_section_says_what_each_variant_changes_with_every_seed_and_what_the_baseline_has() -> None:
    figures = ("PSNR", "SSIM", "true - shuffled", "depth, moving", "tool error")
    same = {name: [1.0, 2.0] for name in figures}
    rows = [
        Row("baseline", {}, same),
        Row(
            "more",
            {"dynamics": {"causal_weight": 0.5}},
            same | {"PSNR": [1.5, 2.1], "SSIM": [0.9, 2.1], "tool error": [1.5, 2.5]},
        ),
        Row("none", {"network": {"things": None}}, same | {"SSIM": [float("nan")] * 2}),
    ]
    lines = to_markdown(rows).splitlines()
    assert "more (dynamics.causal_weight 0.5) | 1.8 (+0.3, +0.1 to +0.5)" in lines[3]
    assert "none (network.things none) | 1.5 (+0, +0 to +0) | – |" in lines[4]
    assert lines[6] == (
        "- more (dynamics.causal_weight 0.5): better with every seed: PSNR (+20.0%); "
        "worse with every seed: tool error (+33.3%)."
    )
    assert lines[7] == "- none (network.things none): no figure is better or worse with every seed."
    shipped = AblationConfig.load("config/training/ablation.yaml")
    text = section(shipped, rows, "deepverse ablate X")
    assert "`deepverse ablate X`" in text
    assert "The baseline has `dynamics.causal_weight` 0.0, `dynamics.spacetime_weight` 0.0." in text


def test_a_page_has_one_section_of_a_title() -> None:
    one, two = "## One\n\nfirst\n", "## Two\n\nsecond\n"
    page = placed(placed("", one), two)
    assert page == f"# What choices of the training buy\n\n{one}\n{two}"
    assert placed(page, "## One\n\nagain\n") == page.replace("first", "again")


def test_the_shipped_config_is_valid() -> None:
    shipped = AblationConfig.load(resources.find("config/training/ablation.yaml"))
    assert {"spacetime", "causal"} <= set(shipped.variants)
