"""What a body shoves along: things seen in front of it, on ways that are known."""

import numpy as np
import pytest

from deepverse_ros.judging.push_prediction import pushed_points
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.self_filter import RobotSelfFilter
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks.push import Push

ARM = Embodiment.load("arm")
BODY = RobotSelfFilter(ARM)
DOWN = np.array([0.0, 0.0, -1.0])
PIXEL = 0.02


def joints_of(ways: list[tuple[float, float, float]]) -> np.ndarray:
    """(S, 8) with the tool, pointing down, at places (x, y, z), metres."""
    kinematics, joints = ArmKinematics(ARM), np.asarray(ARM.home)[:7].copy()
    out = []
    for place in ways:
        found = kinematics.inverse(np.array(place), DOWN, joints)
        assert found is not None, place
        joints = found
        out.append(np.append(joints, 0.0))
    return np.array(out)


def poses(ways: list[tuple[float, float, float]]) -> dict[str, np.ndarray]:
    values = joints_of(ways)
    return BODY.forward_kinematics({"joint_positions": values[:, :7], "gripper_state": values[:, 7:]})


def block(x: float, y: float, half: float = 0.03) -> np.ndarray:
    """The top and the sides of a block on the table, seen every 1.5 cm."""
    grid = np.arange(-half, half + 1e-6, 0.015)
    points = [(a, b, 2 * half) for a in grid for b in grid] + [(half, b, c + half) for b in grid for c in grid]
    return np.array(points) + np.array([x, y, 0.0])


def along_x(first: float, last: float, steps: int, z: float = 0.04) -> list[tuple[float, float, float]]:
    return [(x, 0.0, z) for x in np.linspace(first, last, steps + 1)]


def test_a_block_goes_as_far_as_the_hand_goes_with_it():
    way = along_x(0.45, 0.65, 10)
    out = pushed_points(block(0.55, 0.0), PIXEL, BODY, poses(way))
    assert out.shape == (10, len(block(0, 0)), 3)
    assert np.isnan(out[0]).all()  # the hand is not there yet
    end = out[-1].mean(0)
    # Its near side is where the fingers are, whose capsules have 3.4 cm radius.
    assert end[0] - 0.03 - 0.65 == pytest.approx(0.04, abs=0.025)
    assert end[1] == pytest.approx(0.0, abs=0.01)
    moved = out[np.isfinite(out).all((1, 2))].mean(1)[:, 0]
    assert (np.diff(moved) > 0.01).all()
    # It keeps its shape and its height.
    assert np.ptp(out[-1], axis=0) == pytest.approx(np.ptp(block(0, 0), axis=0), abs=1e-3)
    assert out[-1][:, 2].max() == pytest.approx(0.06, abs=1e-3)


def test_it_stays_where_it_is_left():
    there_and_back = along_x(0.45, 0.61, 8) + along_x(0.59, 0.45, 7)
    out = pushed_points(block(0.55, 0.0), PIXEL, BODY, poses(there_and_back))
    assert out[-1].mean(0)[0] == pytest.approx(out[7].mean(0)[0], abs=0.005)
    lifted = [*along_x(0.45, 0.61, 8), (0.61, 0.0, 0.08), (0.61, 0.0, 0.14)]
    out = pushed_points(block(0.55, 0.0), PIXEL, BODY, poses(lifted))
    assert out[-1][:, 2].max() == pytest.approx(0.06, abs=1e-3)


def test_what_is_beside_the_way_or_is_no_thing_stays():
    way = poses(along_x(0.45, 0.65, 10))
    assert pushed_points(block(0.55, 0.25), PIXEL, BODY, way).shape[1] == 0
    assert pushed_points(block(0.55, 0.0)[:2], PIXEL, BODY, way).shape[1] == 0  # two points
    grid = np.arange(-0.3, 0.31, 0.02)
    table = np.array([(0.55 + a, b, 0.01) for a in grid for b in grid])
    assert pushed_points(table, PIXEL, BODY, poses(along_x(0.45, 0.65, 10, z=0.02))).shape[1] == 0
    assert pushed_points(np.full((50, 3), np.nan), PIXEL, BODY, way).shape[1] == 0
    two = np.concatenate([block(0.55, 0.0), block(0.55, 0.25)])
    assert pushed_points(two, PIXEL, BODY, way).shape[1] == len(block(0, 0))


def test_a_thing_in_simulation_gets_no_further_than_it_is_said_to():
    """The truth: pushes that physics carries out. What slips off to the side is said to be pushed on."""
    with ArmSimulation(width=64, height=64, embodiment=ARM) as simulation:
        task = Push(simulation)
        for seed in range(4):
            task.reset(seed)
            assert task.demonstration is not None
            place = simulation.object_positions[task.object]
            joints = np.concatenate([simulation.joints[None], task.demonstration])
            way = BODY.forward_kinematics({"joint_positions": joints[:, :7], "gripper_state": joints[:, 7:]})
            seen = block(*place[:2])
            told = pushed_points(seen, PIXEL, BODY, way).mean(1) - seen.mean(0)
            for action, there in zip(task.demonstration, told, strict=True):
                simulation.step(action)
                moved = simulation.object_positions[task.object] - place
                length = np.linalg.norm(moved)
                if length > 0.01:
                    assert there @ moved / length > length - 0.02, (seed, there, moved)
