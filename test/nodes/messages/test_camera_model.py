"""What camera_info says is respected or refused: region, binning, distortion, size and aspect."""

import re

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from deepverse_ros.errors import MessageError
from deepverse_ros.geometry import Intrinsics
from deepverse_ros.nodes.messages.camera import CameraModel, camera_model, info_from_intrinsics

CAMERA = Intrinsics(300.0, 310.0, 323.5, 235.5, 640, 480)
BARREL = {"distortion_model": "plumb_bob", "d": [-0.3, 0.1, 0.001, -0.002, 0.0]}
MODELS = {
    "plumb_bob": BARREL,
    "rational_polynomial": {
        "distortion_model": "rational_polynomial", "d": [0.2, -0.1, 0.001, -0.001, 0.02, 0.5, -0.05, 0.03]
    },
    "equidistant": {"distortion_model": "equidistant", "d": [-0.02, 0.01, -0.004, 0.001]},
}  # fmt: skip


def info(camera: Intrinsics = CAMERA, **changes) -> CameraInfo:
    message = info_from_intrinsics(camera, Header())
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def projected(point: np.ndarray, camera: Intrinsics, name: str = "", d: tuple[float, ...] = ()) -> np.ndarray:
    """(2,) pixel of a place (3,) metres, by the models' published formulas."""
    x, y = point[:2] / point[2]
    r2 = x * x + y * y
    if name == "equidistant":
        r = np.sqrt(r2)
        theta = np.arctan(r)
        bent = theta * (1 + d[0] * theta**2 + d[1] * theta**4 + d[2] * theta**6 + d[3] * theta**8)
        x, y = x * bent / r, y * bent / r
    elif d:
        k1, k2, p1, p2, k3, k4, k5, k6 = (*d, 0.0, 0.0, 0.0)[:8]
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    return np.array([camera.fx * x + camera.cx, camera.fy * y + camera.cy])


def spot(at: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: a bright spot about a pixel."""
    y, x = np.mgrid[:height, :width]
    grey = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 18.0)
    return np.repeat(grey[..., None], 3, -1).astype(np.uint8)


def centre(pixels: np.ndarray) -> np.ndarray:
    weight = pixels[..., 0].astype(float)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


PLACE = np.array([0.5, -0.35, 1.0])


def test_camera_models_survive_the_way_there_and_back():
    assert camera_model(info(), 480, 640) == CameraModel(CAMERA)


@pytest.mark.parametrize(("roi", "binning", "size"), [
    ((100, 60, 320, 240), (0, 0), (240, 320)),
    ((0, 0, 0, 0), (2, 2), (240, 320)),
    ((0, 0, 640, 480), (1, 1), (480, 640)),
    ((100, 60, 320, 240), (2, 4), (60, 160)),
    ((99, 61, 321, 239), (2, 2), (119, 160)),
    ((0, 0, 0, 0), (0, 0), (240, 320)),  # neither, but made smaller on the way
])  # fmt: skip
def test_a_region_and_binning_move_the_pinhole(roi, binning, size):
    """Held against the picture itself: a spot is where the model says that it is."""
    left, top, width, height = roi
    region = RegionOfInterest(x_offset=left, y_offset=top, width=width, height=height)
    model = camera_model(info(roi=region, binning_x=binning[0], binning_y=binning[1]), *size)
    whole = spot(projected(PLACE * [0.3, 0.3, 1.0], CAMERA), 480, 640).astype(float)
    seen = whole[top : top + (height or 480), left : left + (width or 640)]
    across, down = round(seen.shape[1] / size[1]), round(seen.shape[0] / size[0])
    seen = seen[: size[0] * down, : size[1] * across].reshape(size[0], down, size[1], across, 3).mean((1, 3))
    np.testing.assert_allclose(centre(seen), projected(PLACE * [0.3, 0.3, 1.0], model.intrinsics), atol=0.35)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_distorted_pictures_become_a_pinholes(name, k):
    model = camera_model(info(**MODELS[name]), 480, 640)
    bent = projected(PLACE, CAMERA, name, tuple(MODELS[name]["d"]))
    assert np.abs(bent - projected(PLACE, CAMERA)).max() > 5  # the test would see it if nothing were done
    picture = spot(bent, 480, 640).reshape(480 // k, k, 640 // k, k, 3).mean((1, 3)).astype(np.uint8)
    straight = model.rectified(picture, k)
    np.testing.assert_allclose(centre(straight), projected(PLACE, model.reduced(k)), atol=0.3)
    depth = np.where(picture[..., 0] > 40, np.float32(1.0), np.float32(3.0))
    near = model.rectified(depth, k)
    assert set(np.unique(near[np.isfinite(near)])) <= {1.0, 3.0}  # no distance between the two
    np.testing.assert_allclose(centre((near == 1.0)[..., None]), projected(PLACE, model.reduced(k)), atol=0.8)


def test_maps_are_made_once():
    model = camera_model(info(**BARREL), 480, 640)
    again = camera_model(info(**BARREL), 480, 640)
    assert model == again
    from deepverse_ros.nodes.messages.camera import _maps

    before = _maps.cache_info().misses
    for one in (model, again, model):
        one.rectified(np.zeros((240, 320), np.float32), 2)
    assert _maps.cache_info().misses <= before + 1


def test_what_is_rectified_already_is_left_as_it_is():
    p = [250.0, 0.0, 320.0, 0.0, 0.0, 250.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    model = camera_model(info(**BARREL, p=p), 480, 640, rectified=True)
    assert model == CameraModel(Intrinsics(250.0, 250.0, 320.0, 240.0, 640, 480))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": [0.0] * 9}, "k is zero: the camera is not calibrated"),
        ({"k": [float("nan")] * 9}, "focal lengths must be positive"),
        ({"width": 0}, "must not be empty"),
        ({"height": 360}, "camera_info is of 640x360: pictures of 640x480 pixels are another cut of the sensor"),
        ({"binning_x": 2, "binning_y": 2}, "640x480, binned by 2x2: pictures of 640x480"),
        (
            {"roi": RegionOfInterest(x_offset=8, y_offset=4, width=320, height=240)},
            "of which 320x240 at (8, 4) are read (roi): pictures of 640x480",
        ),
        ({"distortion_model": "mei", "d": [0.1] * 4}, "distortion_model is 'mei'; known: plumb_bob"),
        ({"d": [0.1] * 3}, "d is [0.1, 0.1, 0.1]; plumb_bob has 4 or 5"),
        ({"d": [float("nan")] * 5}, "finite coefficients"),
    ],
)
def test_what_cannot_be_used_is_refused_with_field_and_value(changes, said):
    with pytest.raises(MessageError, match=re.escape(said)):
        camera_model(info(**changes), 480, 640)
