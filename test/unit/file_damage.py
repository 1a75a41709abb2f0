"""How files get damaged: blindly, by another file in their place, or by somebody who knows what they are."""

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from deepverse_ros import resources
from deepverse_ros.model.checkpoint import config_checksum

Random = np.random.Generator
ODD: tuple[Any, ...] = (
    None, True, False, "text", "", "two\nlines", "\u2028", "x" * 5000, 0, -1, 1, 7, 0.0, -0.0, 1e-300, 1e308, -1e308,
    10**30, 2**63, float("nan"), float("inf"), -float("inf"), [], {}, [1], [[]], {"a": 1}, [0.0, 0.0, 0.0],
    "2020-01-01", "../../etc/passwd", "/dev/zero", "1e999", "nan", "0x10", "yes",
)  # fmt: skip


def flip(path: Path, rng: Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(int(rng.choice([1, 1, 1, 3, 20]))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def cut(path: Path, rng: Random) -> None:
    os.truncate(path, int(rng.integers(path.stat().st_size)))


def blank(path: Path, rng: Random) -> None:
    data = bytearray(path.read_bytes())
    begin, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
    data[begin : begin + length] = bytes([int(rng.choice([0, 255, 32, 91, 123]))]) * len(data[begin : begin + length])
    path.write_bytes(data)


def double(path: Path, rng: Random) -> None:
    data = path.read_bytes()
    begin, end = sorted(int(i) for i in rng.integers(0, len(data) + 1, 2))
    path.write_bytes(data[:end] + data[begin:end] + data[end:])


def replaced(path: Path, rng: Random) -> None:
    path.unlink()
    how = int(rng.integers(12))
    makers: list[Callable[[], Any]] = [
        lambda: os.mkfifo(path), path.mkdir, lambda: path.symlink_to("/dev/zero"), lambda: path.symlink_to(path),
        lambda: path.symlink_to("/dev/random"), lambda: path.write_bytes(b""), lambda: path.write_bytes(b"\xff\xfea"),
        lambda: path.write_bytes(rng.bytes(3000)), lambda: sparse(path), lambda: path.write_text("[" * 200_000),
        lambda: path.write_text("{'a': " * 3000), lambda: path.write_text(laughs()),
    ]  # fmt: skip
    makers[how]()


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(40 << 30)


def laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    return "\n".join(lines) + "\n"


def swapped(path: Path, rng: Random) -> None:
    """A file of another kind in its place."""
    source = (
        "config/embodiments/drone.yaml",
        "config/safety/faults.yaml",
        "models/arm/model.safetensors",
        "package.xml",
    )
    found = resources.find("models/arm").parent.parent / source[int(rng.integers(len(source)))]
    path.write_bytes(found.read_bytes()[: 1 << 20] if found.exists() else b"<a/>")


def places(values: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if where:
        yield where
    if isinstance(values, dict | list) and len(where) < 20:
        for key in values if isinstance(values, dict) else range(min(len(values), 12)):
            yield from places(values[key], (*where, key))


def change(values: Any, rng: Random) -> None:
    """One value becomes another, goes, comes twice, or lies deep."""
    found = list(places(values))
    where = found[int(rng.integers(len(found)))]
    at = values
    for key in where[:-1]:
        at = at[key]
    key, how = where[-1], int(rng.integers(10))
    if how == 0:
        del at[key]
    elif how == 1 and isinstance(at, dict):
        at[f"{key}_"] = at.pop(key)
    elif how == 2 and isinstance(at, list):
        at += at * int(rng.choice([1, 1000]))
    elif how == 3:
        for _ in range(int(rng.choice([3, 60, 700]))):
            at[key] = [at[key]]
    elif how == 4 and isinstance(at[key], int | float) and not isinstance(at[key], bool):
        at[key] = at[key] * float(rng.choice([-1, 0, 1e3, 1e9, 1e300]))
    else:
        at[key] = ODD[int(rng.integers(len(ODD)))]


def structured(path: Path, rng: Random) -> None:
    """As somebody damages a file who knows what it is, and makes its checksums anew."""
    if path.suffix in (".yaml", ".json"):
        text = path.read_text()
        values = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
        for _ in range(int(rng.choice([1, 1, 2, 4]))):
            change(values, rng)
        if "config_sha256" in values and rng.random() < 0.8:
            values["config_sha256"] = config_checksum(values)
        with contextlib.suppress(RecursionError):
            text = json.dumps(values) if path.suffix == ".json" else yaml.safe_dump(values, sort_keys=False)
        if rng.random() < 0.1:
            text += text[-200:] if path.suffix == ".json" else f"\n{text.splitlines()[0]}\n"
        path.write_text(text)
    elif path.suffix == ".safetensors":
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        change(header, rng)
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        config = path.with_name("config.json")
        if config.exists() and rng.random() < 0.8:
            values = json.loads(config.read_text()) | {"weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            config.write_text(json.dumps(values | {"config_sha256": config_checksum(values)}))
    elif path.suffix == ".h5":
        hdf5(path, rng)
    else:
        flip(path, rng)


def hdf5(path: Path, rng: Random) -> None:
    """Without the seal, as an older file, or one of another program."""
    data = path.read_bytes()
    path.write_bytes(data if data.startswith(b"\x89HDF") else data[512:])
    other = path.with_name("other.bin")
    with h5py.File(path, "r+") as file:
        name = str(rng.choice(["rgb", "depth", "segmentation", "actions", "intrinsics", "state/clearance"]))
        how = int(rng.integers(9))
        if how == 0:
            header = json.loads(file.attrs["header"])
            change(header, rng)
            text = json.dumps(header)
            file.attrs["header"], file.attrs["header_crc32"] = text, zlib.crc32(text.encode())
            return
        if how == 1:
            file.attrs["header"] = ODD[int(rng.choice([3, 8, 11]))]
            return
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        if how == 2:
            with h5py.File(other, "w") as beside:
                beside["rgb"] = np.zeros(shape, kind)
            file[name] = h5py.ExternalLink(str(other), "rgb")
        elif how == 3:
            file[name] = h5py.SoftLink("/actions" if name != "actions" else "/depth")
        elif how == 4:  # 100 GB of zeros in next to nothing
            file.create_dataset(name, (10**5, 1000, 1000), kind, chunks=(1, 1000, 1000), compression="gzip")
        elif how == 5:
            file.create_dataset(
                name, (6, 2000, 2000, 3), kind, chunks=(1, 2000, 2000, 3), compression="gzip", fillvalue=1
            )
            file[name][0] = 0
        elif how == 6:
            file.create_dataset(name, shape, rng.choice(["float64", "int64", "S5", "bool"]))
        elif how == 7:
            file.create_group(name)
        else:
            values = np.full(shape, np.nan) if kind.kind == "f" else np.zeros(shape[:-1])
            file.create_dataset(name, data=values.astype(kind))


DAMAGES = (flip, flip, cut, blank, double, replaced, swapped, structured, structured, structured, structured)
