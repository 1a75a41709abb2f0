"""The robot's own body: its points are found, and no deviation within the bounds moves it beyond what was said."""

import numpy as np
import pytest

from deepverse_ros.errors import ConfigError, ShapeError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.kinematics import square_distance
from deepverse_ros.robot.self_filter import RobotSelfFilter
from deepverse_ros.safety.view import Slack, View
from deepverse_ros.safety.zones import Zones

ARM = Embodiment.load("arm")
BODY = RobotSelfFilter(ARM)


def modalities(values: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[:, part] for name, part in ARM.slices.items()}


def configurations(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(ARM.lower, ARM.upper, (count, ARM.action_dim))


def test_its_points_are_those_near_its_capsules():
    rng = np.random.default_rng(0)
    poses = BODY.forward_kinematics(modalities(configurations(5, 0)))
    points = rng.uniform(-1.2, 1.2, (5, 4000, 3))
    points[:, ::7] = np.nan
    placed = BODY._all.placed(poses)
    ends = placed.start[:, None], placed.end[:, None]
    distance = (np.sqrt(square_distance(points[:, :, None], *ends)) - placed.radius).min(-1)
    own = BODY.self_mask(points, poses, 0.03)
    sure = np.abs(distance - 0.03) > 1e-5  # single precision
    assert np.array_equal(own[sure], (distance <= 0.03)[sure])
    assert 50 < own.sum() < 5000
    assert not own[:, ::7].any()


@pytest.mark.parametrize("seed", range(5))
def test_no_deviation_within_the_bounds_moves_the_body_beyond_its_balls(seed):
    rng = np.random.default_rng(seed)
    values = configurations(20, seed)
    width = rng.uniform(0, 0.15, ARM.action_dim)
    deviation = np.repeat(width[None], len(values), 0)
    poses = BODY.forward_kinematics(modalities(values))
    grown, wide = BODY.collision_spheres(poses, modalities(deviation))
    _, plain = BODY.collision_spheres(poses, modalities(0 * deviation))
    largest = np.zeros(grown.shape[:2])
    for corner in range(30):
        sign = rng.choice([-1, 1], values.shape) if corner < 20 else rng.uniform(-1, 1, values.shape)
        centres, _ = BODY.collision_spheres(
            BODY.forward_kinematics(modalities(values + sign * width)), modalities(0 * deviation)
        )
        largest = np.maximum(largest, np.linalg.norm(centres - grown, axis=-1))
    assert (largest <= wide - plain + 1e-9).all()
    # And it is no mere guess on the safe side: the worst corner comes near to it.
    assert np.median(largest[:, -1] / (wide - plain)[:, -1]) > 0.5
    assert (wide - plain)[:, 0].max() == 0.0  # the base stands


def test_a_point_of_the_world_is_where_the_slack_of_a_moving_frame_says():
    rng = np.random.default_rng(1)
    values, width = configurations(10, 1), np.full(ARM.action_dim, 0.02)
    deviation = modalities(np.repeat(width[None], len(values), 0))
    poses = BODY.forward_kinematics(modalities(values))
    slack = Slack(
        BODY.shift("tool0", poses["tool0"][:, None, :3, 3], poses, deviation)[:, 0], BODY.turn("tool0", deviation)
    )
    points = np.append(rng.uniform(-1, 1, (50, 3)), np.ones((50, 1)), 1)
    local = (np.linalg.inv(poses["tool0"])[:, None] @ points[..., None])[..., :3, 0]
    radius = slack.radius(local)
    for _ in range(30):
        off = BODY.forward_kinematics(modalities(values + rng.choice([-1, 1], values.shape) * width))
        there = (np.linalg.inv(off["tool0"])[:, None] @ points[..., None])[..., :3, 0]
        assert (np.linalg.norm(there - local, axis=-1) <= radius + 1e-9).all()
    assert np.isinf(Slack(np.zeros(1), np.ones(1)).radius(points[None, :, :3])).all()


def test_a_zone_in_a_frame_with_slack_counts_what_may_be_in_it():
    ball = {"kind": "sphere", "radius": 0.2}
    zone = {"name": "near", "type": "stop", "frame_id": "tool0", "attached": True, "shape": ball}
    zones = Zones.model_validate({"zones": [zone]})
    points = np.array([[[0.19, 0, 0], [0.24, 0, 0], [0.4, 0, 0], [np.nan] * 3]])
    frames = {"tool0": np.eye(4)[None]}
    times = np.array([0.2])
    assert zones.count(View("base_link", points, transforms=frames), times) == 1
    slack = {"tool0": Slack(np.array([0.03]), np.array([0.1]))}  # (0.03 + 0.1 · 0.24) / 0.9 = 0.06
    assert zones.count(View("base_link", points, transforms=frames, slack=slack), times) == 2
    with pytest.raises(ShapeError, match=r"slack\['tool0'\]"):
        View("base_link", points, slack={"tool0": Slack(np.zeros(2), np.zeros(2))})


def test_each_moment_may_have_balls_of_its_own_size():
    box = {"kind": "box", "size": [0.2, 0.2, 0.2]}
    zones = Zones.model_validate(
        {"zones": [{"name": "box", "type": "stop", "of": "robot", "frame_id": "base_link", "shape": box}]}
    )
    centres = np.full((2, 1, 3), 0.0)
    centres[..., 0] = 0.3
    view = View("base_link", np.zeros((2, 0, 3)), centres, np.array([[0.1], [0.25]]))
    assert zones.count(view, np.array([0.2, 0.4])).tolist() == [[0, 1]]


def test_a_robot_without_a_body_is_named():
    with pytest.raises(ConfigError, match="'drone' describes no body"):
        RobotSelfFilter(Embodiment.load("drone"))
