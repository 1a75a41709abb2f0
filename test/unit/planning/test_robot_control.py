"""Planning without ROS: a picture in, a judged plan and its imagined outcome out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from untrained import untrained_checkpoint

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.robot_control import RobotControl
from deepverse_ros.planning.search.icem import IcemConfig
from deepverse_ros.planning.search.mpc import MpcConfig
from deepverse_ros.planning.verdicts.verdict import Reason
from deepverse_ros.simulation.arm.simulation import ArmSimulation

FEW = MpcConfig(sampler=IcemConfig(samples=16), iterations=2, max_replans=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_checkpoint(tmp_path_factory.mktemp("model"))


def test_a_plan_comes_with_its_verdict_and_its_imagined_pictures(checkpoint: Path) -> None:
    control = RobotControl(checkpoint, FEW)
    with ArmSimulation(seed=3, width=64, height=64) as simulation:
        goal, _, _ = simulation.goal_frame(simulation.joints)
        for _ in range(6):  # more frames than the model looks back
            rgb, depth = simulation.render()
            result = control.plan_and_simulate(rgb, goal, joints=simulation.joints, depth=depth)
            assert result.plan is not None
            simulation.step(result.plan[0])
    assert result.plan.shape == (8, 8)
    assert result.future is not None
    assert result.future.rgb.shape == (1, 8, 3, 64, 64)
    assert result.verdict.level == 0.9
    start = simulation.joints
    assert (np.abs(result.plan[0] - start) <= 2 * simulation.embodiment.max_step + 1e-3).all()


def test_the_tool_is_led_to_a_place_that_is_given_in_numbers() -> None:
    """With the shipped model; the simulation says where the tool really ends."""
    few = MpcConfig(sampler=IcemConfig(samples=64), iterations=4)
    control, place = RobotControl("models/arm", few), np.array([0.45, -0.15, 0.30])
    with ArmSimulation(seed=1_000_003, width=128, height=128) as simulation:
        camera = {"intrinsics": simulation.intrinsics, "camera_to_world": simulation.camera_to_world}
        begin = float(np.linalg.norm(simulation.tool_position - place))
        for _ in range(2):
            rgb, depth = simulation.render()
            result = control.plan_and_simulate(
                rgb, joints=simulation.joints, depth=depth, goal_position=place, **camera
            )
            assert result.verdict.accepted, result.verdict.text
            assert result.plan is not None
            for action in result.plan:
                simulation.step(action)
                rgb, depth = simulation.render()
                control.see(rgb, simulation.joints, depth, **camera)
            control.executed(result)
        assert begin > 0.1
        assert np.linalg.norm(simulation.tool_position - place) < 0.05
        far = np.array([1.6, 0.0, 0.3])
        result = control.plan_and_simulate(rgb, joints=simulation.joints, depth=depth, goal_position=far, **camera)
    assert result.verdict.reason is Reason.MISSES_GOAL


@pytest.mark.parametrize(
    ("goal", "named"),
    [
        ({}, "goal_image, goal_position"),
        ({"goal_image": np.zeros((64, 64, 3), np.uint8), "goal_position": np.zeros(3)}, "goal_image, goal_position"),
        ({"goal_position": np.zeros(2)}, "goal position"),
        ({"goal_position": [0.4, np.nan, 0.3]}, "goal position"),
        ({"goal_position": np.zeros(3), "goal_depth": np.ones((64, 64))}, "goal_depth"),
    ],
)
def test_a_goal_that_is_none_is_refused_and_nothing_is_seen(checkpoint: Path, goal: dict, named: str) -> None:
    control = RobotControl(checkpoint, FEW)
    with pytest.raises(ShapeError, match=named):
        control.plan_and_simulate(
            np.zeros((64, 64, 3), np.uint8), joints=np.asarray(control.model.embodiment.home), **goal
        )
    with pytest.raises(ShapeError, match="nothing was seen"):
        control.believe()


def test_what_is_executed_widens_the_bounds_of_the_next_plans_where_it_missed_its_own(checkpoint: Path) -> None:
    control = RobotControl(checkpoint, FEW)  # promises next to nothing, so that every plan misses
    with ArmSimulation(seed=3, width=64, height=64) as simulation:
        goal, _, _ = simulation.goal_frame(simulation.joints)
        rgb, depth = simulation.render()
        result = control.plan_and_simulate(rgb, goal, joints=simulation.joints, depth=depth)
        assert result.plan is not None
        before = control.mpc.calibration
        assert before is not None
        for action in result.plan[:4]:
            simulation.step(action)
            rgb, depth = simulation.render()
            control.see(rgb, simulation.joints, depth)
    control.executed(result, steps=4)
    assert (control.recalibration.executed, control.recalibration.missed) == (1, 1)
    assert control.recalibration.factor > 1
    assert control.mpc.calibration == before.scaled(control.recalibration.factor)
    with pytest.raises(ShapeError, match="steps"):
        control.executed(result, steps=9)
    with pytest.raises(ShapeError, match="no plan"):
        RobotControl(control.model, FEW).executed(result)


def test_depth_may_come_and_go_and_a_reset_forgets(checkpoint: Path) -> None:
    control = RobotControl(checkpoint, FEW)
    home = np.asarray(control.model.embodiment.home, np.float32)
    rgb = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    control.see(rgb, home)
    alone = control.believe()
    control.see(rgb, home, np.full((48, 64), 2.0))
    assert not torch.allclose(control.believe().newest.latents, alone.newest.latents)
    control.reset()
    with pytest.raises(ShapeError, match="see"):
        control.believe()
    control.see(rgb, home)
    assert torch.equal(control.believe().newest.latents, alone.newest.latents)


def test_where_the_camera_stands_is_known_once_every_frame_tells(checkpoint: Path) -> None:
    control = RobotControl(checkpoint, FEW)
    home = np.asarray(control.model.embodiment.home, np.float32)
    rgb = np.zeros((64, 64, 3), np.uint8)
    camera = {"intrinsics": np.diag([60.0, 60.0, 1.0]), "camera_to_world": np.eye(4)}
    control.see(rgb, home)
    control.see(rgb, home, **camera)
    assert control.believe().camera_to_world is None
    for _ in range(control.model.config.context):
        control.see(rgb, home, **camera)
    belief = control.believe()
    np.testing.assert_array_equal(belief.camera_to_world, np.eye(4)[None])
    np.testing.assert_array_equal(belief.intrinsics, camera["intrinsics"])


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("joints", {"joints": np.zeros(7)}),
        ("joints", {"joints": np.full(8, np.nan)}),
        ("rgb", {"rgb": np.zeros((64, 64, 3))}),
        ("rgb", {"rgb": np.zeros((32, 64, 3), np.uint8)}),
        ("depth", {"depth": np.zeros((3, 3))}),
        ("intrinsics", {"intrinsics": np.eye(4)}),
        ("camera_to_world", {"camera_to_world": np.full((4, 4), np.nan)}),
    ],
)
def test_a_wrong_frame_is_refused_and_the_history_stays(checkpoint: Path, field: str, changes: dict) -> None:
    control = RobotControl(checkpoint, FEW)
    good = {"rgb": np.zeros((64, 64, 3), np.uint8), "joints": np.asarray(control.model.embodiment.home)}
    control.see(**good)
    before = control.believe().newest.latents
    with pytest.raises(ShapeError, match=field):
        control.see(**(good | changes))
    assert torch.equal(control.believe().newest.latents, before)
