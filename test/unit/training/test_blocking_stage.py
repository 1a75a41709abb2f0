import numpy as np
import pytest
import torch

from deepverse_ros.model.things.blocking import Blocking
from deepverse_ros.model.things.detail import Detail
from deepverse_ros.model.things.ground import COLUMNS, ROWS, HeightMap
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.config import BlockingStageConfig
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.stages.blocking import BlockingStage, Drives

ARM = Embodiment.load("arm")
EPISODES, FRAMES, HORIZON = 12, 14, 4


def driven(held: int) -> Drives:
    """Episodes in which the arm goes down; of the first `held` ones the second joint stops at 1.1 rad."""
    rng = np.random.default_rng(0)
    start = np.asarray(ARM.home) + np.append(rng.normal(0, 0.1, (EPISODES, 7)), np.zeros((EPISODES, 1)), 1)
    way = np.zeros((FRAMES + 1, 8))
    way[:, 1] = np.linspace(0, 0.9, FRAMES + 1)
    path = torch.tensor(start[:, None] + way, dtype=torch.float32)
    measured = path[:, :-1].clone()
    measured[:held, :, 1] = measured[:held, :, 1].clamp_max(1.1)
    grounds = torch.stack([torch.zeros(ROWS, COLUMNS), torch.full((ROWS, COLUMNS), 0.05)]).half()
    frames = torch.tensor([[0, 6]]).expand(EPISODES, 2)
    return Drives(path[:, 1:], measured, grounds.expand(EPISODES, -1, -1, -1), frames)


def staged(held: int = 4, **settings: float) -> BlockingStage:
    torch.manual_seed(0)
    config = BlockingStageConfig(**{"steps": 1, "batch": 8, "learning_rate": 1e-3, "horizon": HORIZON, **settings})
    return BlockingStage(Blocking(ARM, 16), ARM, config, driven(held), driven(held), torch.device("cpu"))


def test_the_ground_is_the_one_that_was_read_last() -> None:
    drives = driven(0)
    heights = drives.ground(torch.tensor([0, 1, 2]), torch.tensor([0, 5, 6])).heights
    assert torch.allclose(heights.amax((1, 2)), torch.tensor([0.0, 0.0, 0.05]), atol=1e-3)


def test_windows_in_which_the_arm_is_held_are_known() -> None:
    stage = staged()
    assert len(stage.windows) == EPISODES * (FRAMES - HORIZON)
    assert set(stage.held[:, 0].tolist()) == {0, 1, 2, 3}
    behind = (stage.train.commanded[:, :-1] - stage.train.measured[:, 1:]).abs().amax(-1) > 0.15
    for episode, start in stage.held.tolist():
        assert behind[episode, start : start + HORIZON].any()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_windows_are_drawn_from_those_asked_for(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, drawn = staged(blocked=share, batch=64), []
    followed = stage._followed

    def seen(drives: Drives, windows: torch.Tensor, *detail: Detail) -> object:
        drawn.append(windows)
        return followed(drives, windows, *detail)

    monkeypatch.setattr(stage, "_followed", seen)
    stage.loss(0, Draw.of_step(0, 0))
    episodes = set(drawn[0][:, 0].tolist())
    assert (episodes <= {0, 1, 2, 3}) == (share == 1.0)


def test_parts_of_a_batch_are_the_batch() -> None:
    stage = staged()
    whole = stage.loss(0, Draw.of_step(0, 0))
    parts = [stage.loss(0, Draw.of_step(0, 0, part, 2)) for part in range(2)]
    for name, value in whole.items():
        assert float(value.detach()) == pytest.approx(float(sum(p[name].detach() for p in parts)) / 2, abs=1e-5)


def test_it_learns_where_another_arm_comes_to_stand() -> None:
    stage = staged(batch=8)
    teacher, flat = Blocking(ARM, 16), HeightMap(torch.zeros(1, ROWS, COLUMNS))
    with torch.no_grad():  # its second joint gives in least of all
        teacher.springs[-1].bias[:7] = torch.tensor([0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0])
        drives = driven(0)
        stance = teacher.stands(drives.measured[:, 0], drives.commanded[:, :-1], flat, torch.zeros(1, 3))
    assert stance is not None
    measured = torch.cat([drives.measured[:, :1], stance.joints], 1)
    taught = Drives(drives.commanded, measured, flat.heights.expand(EPISODES, 1, -1, -1), torch.zeros(EPISODES, 1))
    stage = BlockingStage(stage.module, ARM, stage.config, taught, taught, torch.device("cpu"))
    optimizer = torch.optim.Adam(stage.module.parameters(), 1e-2)
    first = stage.validate()
    for step in range(40):
        optimizer.zero_grad()
        stage.loss(step, Draw.of_step(0, step))["total"].backward()
        optimizer.step()
    last = stage.validate()
    assert last["blocked_kinematic_mean_cm"] == first["blocked_kinematic_mean_cm"] > 5
    assert last["blocked_mean_cm"] < 0.6 * first["blocked_mean_cm"]
    assert last["blocked_recall"] > 0.5


def test_episodes_in_which_nothing_holds_the_arm_can_be_learned_from() -> None:
    assert torch.isfinite(staged(held=0).loss(0, Draw.of_step(0, 0))["total"])


def test_a_robot_that_is_not_described_is_refused() -> None:
    drone = Embodiment.load("drone")
    config = BlockingStageConfig(steps=1, batch=8, learning_rate=1e-3)
    with pytest.raises(ValueError, match="drone"):
        BlockingStage(Blocking(drone, 16), drone, config, driven(0), driven(0), torch.device("cpu"))
