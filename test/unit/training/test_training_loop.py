"""What the training loop does about bad steps, pictures and checkpoints to start from; the shipped configs."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn
from trainings_made import QUIET, config, episode

from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.errors import CheckpointError, ConfigError
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.config import StageConfig, TrainingConfig
from deepverse_ros.training.engine.distributed import Processes
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.engine.loop import Diverged, run_stage
from deepverse_ros.training.engine.warm_start import warm_start
from deepverse_ros.training.trainer import train

CPU = Processes(torch.device("cpu"))


class Line:
    """y = 3x, with noise; `bad` steps have no finite loss; `unused` has no part in it."""

    name = "line"

    def __init__(self, bad: range = range(0), picture: object = None) -> None:
        self.module = nn.ParameterDict({"slope": torch.zeros(1, 1), "unused": torch.ones(2, 2)})
        self.bad, self.picture, self.drawn = bad, picture, 0

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        x, noise = draw.normal(4, 1), draw.normal(4, 1)
        error = (x @ self.module["slope"] - 3 * x + 0.01 * noise).square().mean()
        return {"total": error * torch.nan if step in self.bad else error}

    def validate(self) -> dict[str, float]:
        return {"slope": float(self.module["slope"].detach())}

    def sample(self) -> np.ndarray | None:
        self.drawn += 1
        if isinstance(self.picture, Exception):
            raise self.picture
        return self.picture  # type: ignore[return-value]


def settings(**changes: object) -> StageConfig:
    values = {"steps": 120, "batch": 4, "learning_rate": 0.2, "warmup": 1, "validate_every": 60, "ema": 0.5}
    return StageConfig.model_validate(values | changes)


def run(stage: Line, out: Path, config: StageConfig, console: Console = QUIET) -> float:
    run_stage(stage, config, 0, out, 10, console, lambda *_: None, CPU)
    return float(stage.module["slope"].detach())


def rows(path: Path, name: str) -> dict[int, float]:
    found = (row.split(",") for row in path.read_text().splitlines())
    return {int(step): float(value) for step, key, value in found if key == name}


def test_steps_without_a_finite_loss_are_skipped_and_counted(tmp_path: Path) -> None:
    assert run(Line(range(20, 60)), tmp_path, settings()) == pytest.approx(3, abs=0.05)
    skipped = rows(tmp_path / "line.csv", "skipped")
    assert (skipped[20], skipped[30], skipped[60], skipped[120]) == (0, 10, 40, 40)


def test_fifty_bad_steps_in_a_row_end_the_training_and_keep_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"line: no finite gradient in 50 steps up to 74 .*learning_rate \(0\.2\)"):
        run(Line(range(25, 200)), tmp_path, settings())
    state = load_file(tmp_path / "line.state.safetensors")
    assert int(state["step"]) == 20
    assert all(torch.isfinite(t).all() for t in state.values())
    # After a change of the settings, --resume goes on from there.
    assert run(Line(), tmp_path, settings(learning_rate=0.1)) == pytest.approx(3, abs=0.05)


def test_a_parameter_that_takes_no_part_stays_as_it_is(tmp_path: Path) -> None:
    stage = Line()
    run(stage, tmp_path, settings(weight_decay=0.5))
    assert torch.equal(stage.module["unused"].detach(), torch.ones(2, 2))


def test_a_failure_to_draw_a_picture_does_not_end_a_training(tmp_path: Path) -> None:
    console = Console(record=True, file=io.StringIO())
    stage = Line(picture=ValueError("no colours left"))
    assert run(stage, tmp_path, settings(), console) == pytest.approx(3, abs=0.05)
    assert stage.drawn == 2
    assert console.export_text().count("line: no sample picture: no colours left") == 2
    picture = np.zeros((4, 6, 3), np.uint8)
    run(Line(picture=picture), tmp_path / "..", settings())
    assert Image.open(tmp_path.parent / "samples_line.png").size == (6, 4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = EpisodeStore(tmp_path_factory.mktemp("episodes"))
    for i in range(6):
        store.write(i, episode(i))
    return store.directory


def test_a_training_shows_its_samples_and_starts_from_a_checkpoint(data: Path, tmp_path: Path) -> None:
    first = train(config(data), tmp_path / "first", device="cpu", console=QUIET)
    # Three windows of four decoded frames; two windows of the horizon's eight: truth and prediction below one another.
    for stage, size in (("codec", (4 * 32, 2 * 3 * 32)), ("dynamics", (8 * 32, 2 * 2 * 32))):
        assert Image.open(tmp_path / "first" / f"samples_{stage}.png").size == size

    # A rate of next to nothing: what comes out is what went in.
    still = config(data, steps=1, init=str(first)).model_dump(mode="json")
    for stage in ("codec", "picture", "dynamics", "decoder", "outcome", "coarse"):
        still[stage]["learning_rate"] = 1e-12
    tuned = train(TrainingConfig.model_validate(still), tmp_path / "tuned", device="cpu", console=QUIET)
    a, b = (load_file(folder / "model.safetensors") for folder in (first, tuned))
    assert all(torch.equal(a[k], b[k]) for k in a if not k.startswith("novelty."))
    start = WorldModel.load(tuned, "cpu").provenance["init"]
    assert start["checkpoint"] == str(first)
    assert start["from_scratch"] == 0

    # Another width of the dynamics: the codec fits, the rest is named.
    console = Console(record=True, width=2000, file=io.StringIO())
    network = {"codec": {"channels": [8, 8, 16], "latent_dim": 8}, "dynamics": {"width": 32, "layers": 2, "heads": 2}}
    wider = WorldModel(config(data, network=network).model_config_())
    assert warm_start(wider, str(first), console)["from_scratch"] > 0
    assert torch.equal(wider.codec.encoder.stem.weight.half(), a["codec.encoder.stem.weight"])
    assert "dynamics.head.weight" in console.export_text()


def test_a_checkpoint_that_does_not_fit_is_refused(data: Path, tmp_path: Path) -> None:
    shape = config(data).model_config_()
    robot = shape.embodiment.model_copy(update={"name": "crane"})
    WorldModel(shape.model_copy(update={"embodiment": robot})).save(tmp_path / "crane")
    with pytest.raises(CheckpointError, match=r"'crane'.*'arm'"):
        train(config(data, init=str(tmp_path / "crane")), tmp_path / "run", device="cpu", console=QUIET)
    assert not (tmp_path / "run").exists()
    with pytest.raises(CheckpointError, match="nowhere"):
        train(config(data, init="nowhere"), tmp_path / "run", device="cpu", console=QUIET)
    model = WorldModel(shape)
    model.save(tmp_path / "arm")

    class Other(nn.Linear):
        embodiment = shape.embodiment

    with pytest.raises(CheckpointError, match="none of the 2 tensors"):
        warm_start(Other(3, 3), str(tmp_path / "arm"), QUIET)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["tiny", "small", "base", "seed"])
def test_a_shipped_config_builds_its_network_for_any_robot(name: str, tmp_path: Path) -> None:
    loaded = TrainingConfig.load(f"config/training/{name}.yaml")
    robot = Embodiment.load("arm").model_dump(mode="json") | {"name": "crane"}
    file = tmp_path / "crane.yaml"
    file.write_text(yaml.safe_dump(robot))
    changed = loaded.changed(embodiment=str(file), data=tmp_path)
    assert (changed.data.directory, changed.data.episodes) == (tmp_path, 0)
    model = WorldModel(changed.model_config_())
    assert model.embodiment.name == "crane"
    assert changed.data.frames >= changed.model_config_().window
    for stage, values in loaded.stages().items():
        values.require_divisible(stage, 8)
    if name == "seed":
        shape = (loaded.context, loaded.horizon, loaded.height, loaded.width)
        assert shape == (16, 8, 256, 256)
        assert {s.learning_rate for s in loaded.stages().values()} == {1e-4}
        assert loaded.codec.batch == loaded.dynamics.batch == 8 * 8


def test_the_tiny_config_trains_on_collected_episodes(tmp_path: Path) -> None:
    from deepverse_ros.data.collect import collect

    collect(Embodiment.load("arm"), 5, 3, tmp_path / "data", workers=1, size=(64, 64))
    loaded = TrainingConfig.load("config/training/tiny.yaml").changed(data=tmp_path / "data")
    few = loaded.model_dump(mode="json")
    few["data"]["validation"] = 2
    for stage in loaded.stages():
        few[stage] |= {"steps": 12, "batch": 8, "validate_every": 12, "warmup": 2}
    checkpoint = train(TrainingConfig.model_validate(few), tmp_path / "run", device="cpu", console=QUIET)
    assert WorldModel.load(checkpoint, "cpu").calibration is not None
    for stage in ("codec", "picture", "dynamics", "decoder", "outcome", "coarse"):
        assert np.isfinite(list(rows(tmp_path / "run" / f"{stage}.csv", "total").values())).all()


def test_a_network_that_cannot_be_is_named(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    values = config(data).model_dump(mode="json") | {"network": {"dynamics": {"width": 30, "heads": 4}}}
    file.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"mine\.json: network\.dynamics: width \(30\) must be a multiple of heads"):
        TrainingConfig.load(file)
    file.write_text(json.dumps(values | {"network": {}, "height": 50}))
    with pytest.raises(ConfigError, match=r"mine\.json: network: .*height \(50\) must be a multiple of 32"):
        TrainingConfig.load(file)
