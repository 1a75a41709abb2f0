"""Every encoding of a camera becomes the same picture: padded rows, both byte orders, odd sizes, and bad messages."""

import contextlib
import re
from pathlib import Path

import cv2
import made_images
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_images import compressed, expected, image, smooth

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages import image_decoding
from deepverse_ros.nodes.messages.encodings import ENCODINGS, pixels
from deepverse_ros.nodes.messages.image_decoding import picture_size, reduction, rgb_by_opencv, rgb_from_image

BRIDGE = image_decoding.ros_cv_bridge()


def off(one: np.ndarray, other: np.ndarray) -> int:
    """Largest difference, two rows and columns from the edges: there a neighbour's colours are the frame's."""
    assert one.shape == other.shape
    assert one.dtype == np.uint8
    return int(np.abs(one.astype(int) - other)[2:-2, 2:-2].max())


@pytest.mark.parametrize("padding", [0, 12])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_encoding_is_the_same_picture(encoding, big, padding):
    rgb = smooth(48, 64)
    picture, tolerance = expected(rgb, encoding)
    message = image(rgb, encoding, padding, big)
    decoded = rgb_by_opencv(message)
    assert off(decoded, picture) <= tolerance
    if BRIDGE is not None:
        assert off(rgb_from_image(message), decoded) <= 2


@pytest.mark.skipif(BRIDGE is None, reason="ROS provides no cv_bridge here; every encoding was read by OpenCV alone")
def test_cv_bridge_is_used_where_ros_provides_it():
    assert type(BRIDGE).__module__.startswith("cv_bridge")


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_a_smaller_picture_is_the_mean_of_its_pixels(encoding):
    rgb = smooth(8 * 26 + 3, 8 * 32 + 6)  # a size that 8 does not divide: what is left over is cut off
    picture, tolerance = expected(rgb, encoding)
    mean = picture[: 8 * 26, : 8 * 32].reshape(26, 8, 32, 8, 3).mean((1, 3))
    assert off(rgb_from_image(image(rgb, encoding), reduce=8), np.rint(mean).astype(np.uint8)) <= max(tolerance - 2, 1)


@pytest.mark.parametrize("encoding", sorted(set(ENCODINGS) - {"uyvy", "yuv422", "yuyv", "yuv422_yuy2"}))
def test_odd_sizes_are_read(encoding):
    rgb = smooth(33, 47)
    picture, tolerance = expected(rgb, encoding)
    for padding in (0, 3 if ENCODINGS[encoding].kind is np.uint8 else 8):
        assert off(rgb_from_image(image(rgb, encoding, padding)), picture) <= tolerance


def test_every_encoding_of_the_header_that_is_a_picture_is_known():
    import sensor_msgs

    header = next(Path(sensor_msgs.__file__).parents[4].rglob("image_encodings.hpp"), None)
    if header is None:
        pytest.skip("sensor_msgs is here without its headers")
    names = set(re.findall(r'^const char \w+\[\] = "(\w+)"', header.read_text(), re.M))
    assert {n for n in names if not re.match(r"(8|16|32)S", n)} - set(ENCODINGS) == set()
    assert set(made_images.ROWS) | set(made_images.PLANAR) == set(ENCODINGS)


@given(
    encoding=st.sampled_from(sorted(made_images.ROWS)), height=st.integers(1, 9), width=st.integers(1, 9),
    padding=st.integers(0, 5), big=st.booleans(), seed=st.integers(0, 2**16),
)  # fmt: skip
def test_any_layout_is_read_to_its_values(encoding, height, width, padding, big, seed):
    known = ENCODINGS[encoding]
    size = (height + 3, 2 * width + 2)
    values = np.random.default_rng(seed).integers(0, 256, (*size, known.channels)).astype(known.kind)
    message = made_images.message(values, encoding, padding, big)
    np.testing.assert_array_equal(pixels(message), values)


def test_drivers_name_the_step_of_planes_as_they_like():
    rgb = smooth(32, 48)
    for order, steps in (("nv12", (48, 72)), ("nv24", (48, 96, 144))):
        message = image(rgb, order)
        for message.step in steps:
            assert off(rgb_from_image(message), rgb) <= 6


def test_floats_beyond_0_to_1_are_clipped_and_those_of_another_scale_refused():
    picture = np.full((8, 8, 3), 0.5, np.float32)
    picture[0, 0] = (np.nan, -3.0, np.inf)
    decoded = rgb_from_image(made_images.message(picture, "32FC3"))
    assert decoded[0, 0].tolist() == [255, 0, 0]
    assert decoded[4, 4].tolist() == [128, 128, 128]
    with pytest.raises(MessageError, match="mean of 127; its values must lie between 0 and 1"):
        rgb_from_image(made_images.message(np.full((8, 8, 3), 127, np.float32), "32FC3"))


@pytest.mark.parametrize(
    ("encoding", "change", "said"),
    [
        (
            "rgb8",
            {"encoding": "RGB8"},
            "encoding is 'RGB8', which is no picture of sensor_msgs/image_encodings: did you mean 'rgb8'?",
        ),
        ("rgb8", {"encoding": "8SC3"}, "encoding is '8SC3'"),
        ("rgb8", {"encoding": ""}, "encoding is ''"),
        ("rgb8", {"width": 0}, "size is 0x16"),
        ("rgb8", {"height": 0}, "size is 16x0"),
        ("rgb8", {"step": 3}, "step is 3 bytes; 16 pixels of rgb8 need 48"),
        ("rgb8", {"height": 17}, "data has 768 bytes; height 17 x step 48 is 816"),
        ("bgr16", {"encoding": "rgba16"}, "step is 96 bytes; 16 pixels of rgba16 need 128"),
        ("yuyv", {"width": 15}, "width is 15; yuyv shares colours between two pixels"),
        ("nv12", {"height": 15}, "data has 384 bytes and step is 16; 16x15 pixels of nv12 without padding have 368"),
        ("nv12", {"data": b""}, "data has 0 bytes"),
        ("nv24", {"encoding": "nv12"}, "data has 768 bytes"),
        ("bayer_rggb8", {"height": 2, "step": 128}, "bayer_rggb8 needs 4x4"),
    ],
)
def test_a_bad_picture_is_refused_with_field_and_value(encoding, change, said):
    message = image(smooth(16, 16), encoding)
    for field, value in change.items():
        setattr(message, field, value)
    for read in (picture_size, rgb_from_image):
        with pytest.raises(MessageError, match=re.escape(said)):
            read(message)


# Compressed ----------------------------------------------------------------------------------------------------------
def jpeg(rgb: np.ndarray) -> np.ndarray:
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]


@pytest.mark.parametrize("reduce", [1, 2, 8, 16])
@pytest.mark.parametrize("format_", ["jpeg", "rgb8; jpeg compressed bgr8", "png", "png of 16 bits", "grey png"])
def test_compressed_pictures_are_decoded_at_the_size_that_is_needed(format_, reduce):
    rgb = smooth(16 * 12 + 5, 16 * 16 + 9)
    picture = {
        "png": lambda: cv2.imencode(".png", rgb[..., ::-1])[1],
        "png of 16 bits": lambda: cv2.imencode(".png", rgb[..., ::-1].astype(np.uint16) * 257)[1],
        "grey png": lambda: cv2.imencode(".png", rgb[..., 1])[1],
    }.get(format_, lambda: jpeg(rgb))()
    message = compressed(picture, format_)
    wanted = np.repeat(rgb[..., 1:2], 3, -1) if "grey" in format_ else rgb
    height, width = len(rgb) // reduce, rgb.shape[1] // reduce
    wanted = wanted[: height * reduce, : width * reduce].reshape(height, reduce, width, reduce, 3).mean((1, 3))
    assert picture_size(message) == rgb.shape[:2]
    assert off(rgb_from_image(message, reduce), np.rint(wanted).astype(np.uint8)) <= 4


def test_a_jpeg_whose_colours_went_in_the_other_way_round_says_so():
    rgb = smooth(48, 64)
    assert off(rgb_from_image(compressed(jpeg(rgb[..., ::-1]), "rgb8; jpeg compressed rgb8")), rgb) <= 4


def test_a_picture_that_is_to_be_turned_for_a_viewer_is_read_as_the_sensor_saw_it():
    turn = (
        b"\xff\xe1\x00\x22Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"
        + bytes(4)
    )
    data = jpeg(smooth(32, 48)).tobytes()
    turned = compressed(data[:2] + turn + data[2:], "jpeg")
    assert picture_size(turned) == (32, 48)
    assert rgb_from_image(turned).shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "begins with nothing"),
        (b"GIF89a" + bytes(30), "begins with 47494638; it is neither JPEG nor PNG"),
        (b"\xff\xd8\xff\xe0\x00\x10" + bytes(14), "JPEG of 20 bytes without a size"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + b"\x00\x01\x00\x00" * 2, "65536x65536 pixels"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + b"\x00\x00\x00\x10" * 2 + bytes(40), "is damaged"),
    ],
)
def test_bad_compressed_pictures_are_refused(data, said):
    with pytest.raises(MessageError, match=said):
        rgb_from_image(compressed(data, "jpeg"))


@given(st.binary(max_size=60), st.integers(2, 400))
def test_a_damaged_jpeg_ends_with_a_picture_or_a_sentence(noise, at):
    data = bytearray(jpeg(smooth(32, 32)).tobytes())
    data[at : at + len(noise)] = noise
    with contextlib.suppress(MessageError):
        assert rgb_from_image(compressed(data, "jpeg")).dtype == np.uint8


def test_twice_the_models_size_remains():
    model = (128, 128)
    assert reduction(2160, 3840, model) == 8
    assert reduction(1080, 1920, model) == 4
    assert reduction(480, 640, model) == reduction(64, 64, model) == 1
    assert reduction(2160, 3840, None) == 1
