"""Depth in every encoding and compression becomes metres, of the colour image's size."""

import struct

import cv2
import made_images
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_images import compressed

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages import rvl
from deepverse_ros.nodes.messages.depth_decoding import depth_from_image

METRES = np.array([[np.nan, 1.5, 0.25, 3.0], [65.535, 0.001, 2.0, 0.5]])


def encoded(encoding: str, **how) -> made_images.Image:
    values = METRES.astype(np.float64 if encoding == "64FC1" else np.float32)
    if encoding in ("16UC1", "mono16"):
        values = np.rint(np.nan_to_num(METRES) * 1000).astype(np.uint16)
    return made_images.message(values, encoding, **how)


@pytest.mark.parametrize("padding", [0, 8])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1", "64FC1"])
def test_depth_is_in_metres_and_unknown_is_nan(encoding, big, padding):
    depth = depth_from_image(encoded(encoding, padding=padding, big=big))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, METRES, rtol=1e-6)


def test_what_is_no_distance_is_unknown():
    values = np.array([[np.nan, 1.5], [-1.0, np.inf], [0.0, 2.0]], np.float32)
    depth = depth_from_image(made_images.message(values, "32FC1"))
    np.testing.assert_allclose(depth, [[np.nan, 1.5], [np.nan, np.nan], [np.nan, 2.0]])


def test_the_unit_of_integers_is_the_drivers():
    np.testing.assert_allclose(depth_from_image(encoded("16UC1"), scale=0.00025), METRES / 4, rtol=1e-6)
    np.testing.assert_allclose(depth_from_image(encoded("32FC1"), scale=0.00025), METRES, rtol=1e-6)


def test_depth_gets_the_size_of_the_colour_image_without_a_mean():
    rows = np.arange(1, 13, dtype=np.uint16).reshape(3, 4) * 1000
    message = made_images.message(rows, "16UC1")
    larger = depth_from_image(message, picture=(6, 8))
    np.testing.assert_allclose(larger, np.repeat(np.repeat(rows / 1000, 2, 0), 2, 1), rtol=1e-6)
    large = made_images.message(np.repeat(np.repeat(rows, 8, 0), 8, 1), "16UC1")
    for picture, reduce in (((24, 32), 8), ((12, 16), 4), ((3, 4), 1)):
        np.testing.assert_allclose(depth_from_image(large, picture=picture, reduce=reduce), rows / 1000, rtol=1e-6)
    assert depth_from_image(large, picture=(1080, 1440), reduce=4).shape == (270, 360)
    with pytest.raises(MessageError, match="depth image is 32x24 pixels; the colour image is 64x36, which is another"):
        depth_from_image(large, picture=(36, 64))


def test_a_bad_depth_image_is_refused_with_field_and_value():
    with pytest.raises(MessageError, match="depth encoding is 'rgb8'"):
        depth_from_image(made_images.image(made_images.smooth(4, 4), "rgb8"))
    with pytest.raises(MessageError, match="no known pixel"):
        depth_from_image(made_images.message(np.full((2, 2), np.nan, np.float32), "32FC1"))
    short = encoded("16UC1")
    short.height = 3
    with pytest.raises(MessageError, match="data has 16 bytes"):
        depth_from_image(short)


# Compressed ----------------------------------------------------------------------------------------------------------
DEPTHS = np.where(np.add.outer(np.arange(40), np.arange(60)) % 11 < 3, 0, 900 + 7 * np.arange(60)).astype(np.uint16)


def png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def rvl_of(values: np.ndarray) -> bytes:
    """As the paper has it: one number after the other, four bits at a time."""
    groups: list[int] = []

    def put(value: int) -> None:
        while True:
            more = value >> 3
            groups.append((value & 7) | (8 if more else 0))
            value = more
            if not more:
                return

    flat, at, previous = values.ravel().tolist(), 0, 0
    while at < len(flat):
        end = next((i for i in range(at, len(flat)) if flat[i]), len(flat))
        put(end - at)
        at, end = end, next((i for i in range(end, len(flat)) if not flat[i]), len(flat))
        put(end - at)
        for value in flat[at:end]:
            put(2 * (value - previous) if value >= previous else 2 * (previous - value) - 1)
            previous = value
        at = end
    groups += [0] * (-len(groups) % 8)
    words = [int("".join(f"{g:x}" for g in groups[i : i + 8]), 16) for i in range(0, len(groups), 8)]
    return struct.pack(f"<{len(words)}I", *words)


def config(a: float = 0.0, b: float = 0.0) -> bytes:
    return struct.pack("<iff", 0, a, b)


SIZE = struct.pack("<II", 60, 40)


@pytest.mark.parametrize(
    ("format_", "data"),
    [
        ("16UC1; compressedDepth png", config() + png(DEPTHS)),
        ("16UC1; compressedDepth", config() + png(DEPTHS)),
        ("16UC1; compressedDepth rvl", config() + SIZE + rvl_of(DEPTHS)),
        ("16UC1; png compressed ", png(DEPTHS)),
        ("png", png(DEPTHS)),
    ],
)
def test_compressed_depth_is_what_went_in(format_, data):
    depth = depth_from_image(compressed(data, format_))
    np.testing.assert_allclose(depth, np.where(DEPTHS > 0, DEPTHS / 1000, np.nan), rtol=1e-6)


@pytest.mark.parametrize("how", ["png", "rvl"])
def test_floats_are_compressed_as_their_inverse(how):
    quantum, farthest = 100.0, 10.0  # depth_quantization and depth_max of compressed_depth_image_transport
    a = quantum * (quantum + 1)
    b = 1 - a / farthest
    metres = np.where(DEPTHS > 0, DEPTHS / 1000, np.nan)
    inverse = np.nan_to_num(a / metres + b).astype(np.uint16)
    data = config(a, b) + (png(inverse) if how == "png" else SIZE + rvl_of(inverse))
    depth = depth_from_image(compressed(data, f"32FC1; compressedDepth {how}"))
    np.testing.assert_allclose(depth, metres, rtol=2e-4)


def test_rvl_reads_what_a_reader_of_the_paper_writes_by_hand():
    # 2 zeros, 3 others: 5 (+5: 10 is 8|2, 1), 4 (-1: 1), 6 (+2: 4); 1 zero, none other: groups 2 3 a 1 1 4 1 0
    np.testing.assert_array_equal(rvl.decode(np.array([0x10, 0x14, 0xA1, 0x23], np.uint8), 6), [0, 0, 5, 4, 6, 0])


@given(st.lists(st.one_of(st.just(0), st.integers(0, 65535)), min_size=1, max_size=70))
def test_rvl_is_lossless(values):
    data = np.frombuffer(rvl_of(np.array(values)), np.uint8)
    np.testing.assert_array_equal(rvl.decode(data, len(values)), values)


@pytest.mark.parametrize(
    ("format_", "data", "said"),
    [
        ("16UC1; compressedDepth rvl", config() + SIZE + rvl_of(DEPTHS)[:-8], "RVL data of .* damaged"),
        ("16UC1; compressedDepth rvl", config() + struct.pack("<II", 2**31, 2**31), "2147483648x2147483648 pixels"),
        ("16UC1; compressedDepth rvl", config(), "says it is 0x0 pixels"),
        ("16UC1; compressedDepth png", config() + png(DEPTHS)[:60], "is damaged"),
        ("16UC1; compressedDepth png", b"", "begins with nothing"),
        ("rgb8; compressedDepth png", config() + png(DEPTHS), "depth format is 'rgb8; compressedDepth png'"),
        (
            "mono8; png compressed ",
            png(DEPTHS.astype(np.uint8)),
            r"is uint8\(40, 60\); it must be a grey PNG of 16 bits",
        ),
        ("16UC1; jpeg compressed ", cv2.imencode(".jpg", DEPTHS.astype(np.uint8))[1].tobytes(), "blurs distances"),
    ],
)
def test_bad_compressed_depth_is_refused(format_, data, said):
    with pytest.raises(MessageError, match=said):
        depth_from_image(compressed(data, format_))
