"""What faults make of a message, of whatever type."""

import array
import copy
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time

from deepverse_ros.nodes.messages.time import stamp_from_seconds, stamp_seconds

_FLOAT32 = float(np.finfo(np.float32).max)
_LATEST = 2.0**31 - 1
"""Seconds that a Time holds."""
_NAMES = ("name", "joint_names", "names")
"""Fields that hold names of values."""


def corrupt(kind: str, message: Any, amount: float, random: np.random.Generator, first: Any) -> Any:
    """A copy of the message with a fault of this kind (`safety.faults.KINDS`) in it.

    Args: first: the message that the fault met first.
    """
    out = copy.deepcopy(first if kind == "stick" else message)
    if kind in _STAMPS:
        times = [stamp_seconds(s) for s in _stamps(out)]
        new = _STAMPS[kind](times, amount, [stamp_seconds(s) for s in _stamps(first if kind != "stick" else message)])
        for stamp, seconds in zip(_stamps(out), new, strict=False):
            _set(stamp, seconds)
    elif kind in _IMAGES:
        _IMAGES[kind](out, amount, random)
    elif kind in _NUMBERS:
        _change(out, _NUMBERS[kind], amount, random)
    else:
        _OTHERS[kind](out, random)
    return out


# Where things are in a message ------------------------------------------------------------------------------------
def _parts(message: Any) -> Iterator[Any]:
    """The message and every message within it."""
    yield message
    for name in message.get_fields_and_field_types():
        value = getattr(message, name)
        if hasattr(value, "get_fields_and_field_types"):
            yield from _parts(value)
        elif isinstance(value, list):
            for one in value:
                if hasattr(one, "get_fields_and_field_types"):
                    yield from _parts(one)


def _stamps(message: Any) -> list[Time]:
    return [part for part in _parts(message) if isinstance(part, Time)]


def _floats(message: Any) -> Iterator[tuple[Any, str, bool]]:
    """(message, field, whether it is an array) of all numbers with a fraction."""
    for part in _parts(message):
        for name, kind in part.get_fields_and_field_types().items():
            if kind in ("float", "double", "sequence<float>", "sequence<double>"):
                yield part, name, kind.startswith("sequence")


# Stamps and names -------------------------------------------------------------------------------------------------
def _set(stamp: Time, seconds: float) -> None:
    new = stamp_from_seconds(min(max(seconds, 0.0), _LATEST - 1))
    stamp.sec, stamp.nanosec = new.sec, new.nanosec


# From the stamps as they are, an amount, and those of the first message (with `stick`: of the one that came).
_STAMPS: dict[str, Callable[[list[float], float, list[float]], list[float]]] = {
    "stick": lambda _, __, live: live,
    "stamp_past": lambda times, amount, _: [t - amount for t in times],
    "stamp_future": lambda times, amount, _: [t + amount for t in times],
    "stamp_zero": lambda times, _, __: [0.0 for _t in times],
    "clock_freeze": lambda _, __, first: first,
    "clock_back": lambda times, amount, _: [t - amount for t in times],
    "clock_ahead": lambda times, amount, _: [t + amount for t in times],
}


def _move_frame(message: Any, _random: np.random.Generator) -> None:
    for part in _parts(message):
        if hasattr(part, "frame_id"):
            part.frame_id = "elsewhere"


def _rename(change: Callable[[list[str]], list[str]], message: Any, _random: np.random.Generator) -> None:
    for part in _parts(message):
        for field in _NAMES:
            names = getattr(part, field, None)
            if isinstance(names, list) and names:
                setattr(part, field, change(names))


# Numbers ----------------------------------------------------------------------------------------------------------
_NUMBERS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "huge": lambda values, amount, _: values * amount,
    "zeroed": lambda values, _, __: values * 0.0,
    "negated": lambda values, _, __: -values,
    "biased": lambda values, amount, _: values + amount,
    "noisy": lambda values, amount, random: values + amount * random.standard_normal(values.shape),
}


def _change(message: Any, change: Callable[..., np.ndarray], amount: float, random: np.random.Generator) -> None:
    pixels = _depth(message)
    if pixels is not None:
        message.data = array.array("B", change(pixels, amount, random).astype(np.float32).tobytes())
    for part, name, several in _floats(message):
        with np.errstate(invalid="ignore", over="ignore"):
            new = np.clip(change(np.atleast_1d(getattr(part, name)).astype(float), amount, random), -_FLOAT32, _FLOAT32)
        setattr(part, name, new.tolist() if several else float(new[0]))


def _spoil(value: float, message: Any, random: np.random.Generator) -> None:
    pixels = _depth(message)
    if pixels is not None:
        pixels[random.random(pixels.shape) < 0.3] = value
        message.data = array.array("B", pixels.tobytes())
        return
    given = [(place, np.atleast_1d(getattr(*place[:2]))) for place in _floats(message)]
    places = [place for place, values in given if len(values) and np.isfinite(values).all()]
    if not places:
        return
    part, name, several = places[int(random.integers(len(places)))]
    if not several:
        setattr(part, name, value)
        return
    values = list(getattr(part, name))
    values[int(random.integers(len(values)))] = value
    setattr(part, name, values)


def _resize(shorter: bool, message: Any, _random: np.random.Generator) -> None:
    for part, name, several in _floats(message):
        values = list(getattr(part, name)) if several else []
        if values:
            setattr(part, name, values[:-1] if shorter else [*values, values[-1]])


# Images -----------------------------------------------------------------------------------------------------------
def _depth(message: Any) -> np.ndarray | None:
    """The numbers of a depth image in metres, their own copy."""
    if getattr(message, "encoding", "") != "32FC1" or len(message.data) % 4:
        return None
    return np.frombuffer(bytes(message.data), np.float32).copy()


def _wrong_encoding(image: Any, _amount: float, _random: np.random.Generator) -> None:
    image.encoding = "yuv422" if image.encoding != "yuv422" else "rgb8"


def _zero_size(image: Any, _amount: float, _random: np.random.Generator) -> None:
    image.height = image.width = image.step = 0
    image.data = array.array("B")


def _bit_noise(image: Any, amount: float, random: np.random.Generator) -> None:
    data = np.frombuffer(bytes(image.data), np.uint8).copy()
    hit = random.random(len(data)) < amount
    data[hit] ^= (1 << random.integers(0, 8, int(hit.sum()))).astype(np.uint8)
    image.data = array.array("B", data.tobytes())


def _filled(value: int) -> Callable[[Any, float, np.random.Generator], None]:
    def fill(image: Any, _amount: float, _random: np.random.Generator) -> None:
        image.data = array.array("B", bytes([value]) * len(image.data))

    return fill


def _cut_data(image: Any, _amount: float, _random: np.random.Generator) -> None:
    image.data = image.data[: len(image.data) // 2]


_IMAGES: dict[str, Callable[[Any, float, np.random.Generator], None]] = {
    "wrong_encoding": _wrong_encoding,
    "zero_size": _zero_size,
    "bit_noise": _bit_noise,
    "saturated": _filled(255),
    "black": _filled(0),
    "cut_data": _cut_data,
}
_OTHERS: dict[str, Callable[[Any, np.random.Generator], None]] = {
    "wrong_frame": _move_frame,
    "wrong_name": partial(_rename, lambda names: ["somebody_else", *names[1:]]),
    "missing_name": partial(_rename, lambda names: names[1:]),
    "repeated_name": partial(_rename, lambda names: [names[-1], *names[1:]]),
    "swapped_names": partial(_rename, lambda names: names[::-1]),
    "nan": partial(_spoil, math.nan),
    "inf": partial(_spoil, math.inf),
    "shortened": partial(_resize, True),
    "lengthened": partial(_resize, False),
}
