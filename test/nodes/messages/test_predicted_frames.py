"""An imagined future as messages."""

import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

from deepverse_ros.geometry import Intrinsics
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.nodes.messages import predicted_frames
from deepverse_ros.nodes.messages.depth_decoding import depth_from_image
from deepverse_ros.nodes.messages.image_decoding import rgb_from_image

HEADER = Header(stamp=Time(sec=5, nanosec=900_000_000), frame_id="camera_optical_frame")


@pytest.fixture(scope="module")
def future(arm):
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(arm)).eval()
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (2, 64, 64, 3), np.uint8)
    pose = np.eye(4)
    pose[:3, 3] = 1.0, 2.0, 3.0
    seen = Observation.from_numpy(rgb, rng.uniform(1.0, 4.0, (2, 64, 64)).astype(np.float32), None, pose)
    belief = model.observe(seen, np.tile(np.float32(arm.home), (1, 1, 1)))
    return model.imagine(belief, np.tile(np.float32(arm.home), (1, 8, 1)))


def test_predicted_frames_hold_the_future_step_by_step(future):
    message = predicted_frames.predicted_frames(future, HEADER, 0.2, "base_link", plan_id="p", ood_score=1.5)
    assert (message.header, message.plan_id, message.base_frame) == (HEADER, "p", "base_link")
    assert len(message.rgb) == len(message.depth) == len(message.camera_poses) == len(message.tool_positions) == 8
    third = future.rgb[0, 2].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(rgb_from_image(message.rgb[2]) / 255, third, atol=0.003)
    np.testing.assert_allclose(depth_from_image(message.depth[2]), future.depth[0, 2].numpy(), rtol=1e-5)
    np.testing.assert_allclose(message.uncertainty, future.uncertainty[0].numpy(), rtol=1e-6)
    assert message.camera_poses[7].position.y == 2.0
    # Step i is at header.stamp + (i + 1) dt, also across a full second.
    assert message.rgb[0].header.stamp == Time(sec=6, nanosec=100_000_000)
    assert message.rgb[7].header.stamp == Time(sec=7, nanosec=500_000_000)


@pytest.mark.parametrize(
    ("accepted", "colour"),
    [(True, predicted_frames.ACCEPTED), (False, predicted_frames.REJECTED), (None, predicted_frames.NEUTRAL)],
)
def test_a_mosaic_shows_every_frame_in_a_border_of_its_verdict(accepted, colour):
    frames = np.stack([np.full((4, 6, 3), 10 * i, np.uint8) for i in range(3)])
    strip = rgb_from_image(predicted_frames.mosaic_image(frames, HEADER, accepted))
    assert strip.shape == (10, 36, 3)
    assert tuple(strip[0, 0]) == colour
    np.testing.assert_array_equal(strip[3:7, 15:21], frames[1])


def test_depth_colours_tell_near_from_far_and_unknown():
    colours = predicted_frames.colour_depth(np.array([[[1.0, 5.0, np.nan]]], np.float32), 1.0, 5.0)
    near, far, unknown = colours[0, 0].astype(int)
    assert near[0] > near[2]
    assert far[0] < 100
    assert not unknown.any()
    assert not np.array_equal(near, far)


def test_a_cloud_holds_the_known_points_with_their_colours():
    camera = Intrinsics(10.0, 10.0, 1.0, 0.0, 2, 2)
    depth = np.array([[2.0, np.nan], [1.0, 4.0]], np.float32)
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    message = predicted_frames.cloud(rgb, depth, camera, HEADER)
    points = point_cloud2.read_points(message)
    assert len(points) == 3
    np.testing.assert_allclose([points[n][0] for n in "xyz"], [-0.2, 0.0, 2.0], atol=1e-6)
    np.testing.assert_allclose([points[n][2] for n in "xyz"], [0.0, 0.4, 4.0], atol=1e-6)
    assert points["rgb"].view(np.uint32)[2] == (9 << 16 | 10 << 8 | 11)


def test_a_path_is_in_the_base_frame_with_the_time_of_each_step():
    base = predicted_frames.with_frame(HEADER, "base_link")
    message = predicted_frames.path(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), base, 0.2)
    assert (message.header.frame_id, HEADER.frame_id) == ("base_link", "camera_optical_frame")
    assert message.poses[1].pose.position.z == 6.0
    assert message.poses[1].header.stamp == Time(sec=6, nanosec=300_000_000)
