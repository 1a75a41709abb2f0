"""Files damaged at random, the same for the same seed, and what the readers make of them.

    python test/unit/fuzz_files.py --cases 3000 --seed 0

runs many in processes of their own, with a bound on their memory and time, and says how they ended: `make fuzz`.
"""

import argparse
import contextlib
import io
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bag_files import write_bag
from bag_messages import STORE, array, status, verdict
from droid_recording import write_recording
from file_damage import DAMAGES, blank, cut, double, flip

from deepverse_ros import resources
from deepverse_ros.data.importers.droid import read_recording
from deepverse_ros.data.store import Episode, EpisodeStore
from deepverse_ros.errors import DeepverseError
from deepverse_ros.evaluation import ablation
from deepverse_ros.evaluation.prefilter import bag
from deepverse_ros.evaluation.reporting import report
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.verdicts.calibration import Calibration
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.faults import Schedule
from deepverse_ros.safety.zones import Zones
from deepverse_ros.training.config import TrainingConfig
from deepverse_ros.training.engine.state import load_state, save_state

MEMORY, SECONDS = 2 << 30, 10
"""Bytes that a reader may take, and seconds."""
GOOD = ("refused", "as it was", "still valid")
STATE = {"weight.0": torch.Size([4, 3]), "average.0": torch.Size([4, 3]), "step": torch.Size([])}


@dataclass(frozen=True)
class Kind:
    """write: makes the files in a folder and returns those that are damaged. read: raises, or returns what was read as
    plain values, after what holds of every file of this kind was asserted of it."""

    write: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]


def finite(values: Any, besides: tuple[str, ...] = ()) -> Any:
    """The values; every number in them is finite. Args: besides: keys below which it may be otherwise."""
    if isinstance(values, dict):
        for key, value in values.items():
            if key not in besides:
                finite(value, besides)
    elif isinstance(values, list | tuple):
        for value in values:
            finite(value, besides)
    elif isinstance(values, float):
        assert math.isfinite(values), values
        assert abs(values) <= 1e12, values
    elif isinstance(values, str):
        assert len(values) < 300_000
    return values


def copied(*names: str) -> Callable[[Path], list[Path]]:
    return lambda folder: [Path(shutil.copy(resources.find(name), folder)) for name in names]


def embodiments(folder: Path) -> Any:
    out = []
    for path in sorted(folder.iterdir()):
        robot = Embodiment.load(path)
        assert np.isfinite(robot.max_step).all()
        assert (robot.max_step > 0).all()
        assert (robot.lower < robot.upper).all()
        assert robot.limit_plan(np.zeros((2, robot.action_dim), np.float32), np.float32(robot.home)).shape
        assert len(robot.joint_names) in (0, robot.modalities[0].dim)
        assert "\n" not in robot.name + robot.base_frame + robot.tool_frame + "".join(robot.joint_names)
        if robot.body:
            values = {m.name: np.zeros((1, m.dim)) for m in robot.measured}
            assert all(np.isfinite(end).all() for end in robot.body.capsule_ends(values))
            assert (robot.body.radii > 0).all()
        out.append(finite(robot.model_dump()))
    return out


def zones(folder: Path) -> Any:
    read = Zones.load(str(folder / "arm_zones.yaml"))
    assert read.checked
    for zone in read.zones:
        assert np.isfinite(zone.shape.distance(np.zeros((1, 3)))).all()
        assert "\n" not in zone.name + zone.frame_id
    return finite(read.model_dump())


def trainings(folder: Path) -> Any:
    out = []
    for path in sorted(folder.iterdir()):
        if path.name == "ablation.yaml":
            out.append(ablation.AblationConfig.load(path).model_dump(mode="json"))
        else:
            read = TrainingConfig.load(path)
            assert read.model_config_().tokens < 1_000_000
            out.append(read.model_dump(mode="json"))
    return finite(out)


@cache
def small_model() -> bytes:
    """A packed folder of a checkpoint."""
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(Embodiment.load("arm")))
    model.calibration = {"level": 0.9, "tool_error_q": [0.01] * 8, "goal_error_z": [0.5] * 8}
    model.provenance = {"episodes": 3}
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        (Path(folder) / "README.md").write_text("# A card\n")
        return b"\0\0\0\0".join((Path(folder) / n).read_bytes() for n in MODEL)


MODEL = ("config.json", "README.md", "model.safetensors")


def write_checkpoint(folder: Path) -> list[Path]:
    for name, data in zip(MODEL, small_model().split(b"\0\0\0\0", 2), strict=True):
        (folder / name).write_bytes(data)
    return [folder / name for name in MODEL]


def checkpoint(folder: Path) -> Any:
    from deepverse_ros.cli import inspect

    model = WorldModel.load(folder, "cpu")
    with contextlib.redirect_stdout(io.StringIO()):
        inspect.info(str(folder))
    calibration = Calibration.from_model(model.calibration)
    if calibration:
        assert 0 < calibration.level < 1
        assert all(z >= 0 for z in calibration.goal_error_z)
    assert all(torch.isfinite(t).all() for t in model.state_dict().values())
    total = sum(float(t.double().abs().sum()) for t in model.state_dict().values())
    return finite(model.config.model_dump(mode="json")), model.calibration, model.provenance, total


def make_episode(seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        embodiment="arm", dt=0.2, seed=seed, kind="random",
        rgb=rng.integers(0, 256, (6, 16, 24, 3), dtype=np.uint8), depth=rng.integers(0, 9999, (6, 16, 24), np.uint16),
        actions=rng.normal(size=(6, 8)).astype(np.float32),
        state={"clearance": np.ones((6, 1), np.float32), "objects": np.zeros((6, 0), np.float32)},
        intrinsics=np.eye(3, dtype=np.float32),
        camera_to_world=np.repeat(np.eye(4, dtype=np.float32)[None], 6, axis=0),
        segmentation=rng.integers(0, 4, (6, 16, 24), np.uint8),
    )  # fmt: skip


def write_episode(folder: Path) -> list[Path]:
    return [EpisodeStore(folder).write(0, make_episode(1))]


def episode(folder: Path) -> Any:
    read = EpisodeStore(folder).read(0)
    assert len(read.rgb) == len(read.depth) == len(read.actions)
    arrays = [read.rgb, read.depth, read.actions, read.intrinsics, *read.state.values()]
    if read.segmentation is not None:
        assert read.segmentation.shape == read.depth.shape
        arrays.append(read.segmentation)
    assert sum(a.nbytes for a in arrays) < 1 << 30
    assert np.isfinite(read.actions).all()
    return finite([read.embodiment, read.dt, read.seed, read.kind, sorted(read.state)]), [zlib.crc32(a) for a in arrays]


def write_droid(folder: Path) -> list[Path]:
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 32, 3), dtype=np.uint8)
    annotation = write_recording(folder, "7", frames, [[0.1] * 7] * 10, [0.0] * 4 + [1.0] * 6)
    return [annotation, annotation, folder / "videos" / "val" / "7" / "0.mp4"]


def droid(folder: Path) -> Any:
    read = read_recording(folder / "annotation" / "val" / "7.json")
    assert read.rgb.ndim == 4
    assert np.isfinite(read.joints).all()
    assert 0 <= read.gripper.min() <= read.gripper.max() <= 1
    assert 1e-3 <= read.dt <= 100
    return finite([read.text, read.dt, read.joints.tolist()])


def write_bags(folder: Path) -> list[Path]:
    rows = []
    for k in range(20):
        for topic, message in (
            (bag.COMMANDS, array(0.5, 0.0)), (bag.VERDICTS, verdict(Action(k % 2))),
            (bag.STATUS, status(k % 2)),
        ):  # fmt: skip
            kind = message.__msgtype__
            rows.append((0.1 * k, topic, kind, bytes(STORE.serialize_cdr(message, kind))))
    write_bag(folder / "mcap", rows)
    write_bag(folder / "sqlite", rows, sqlite=True)
    return sorted(p for p in folder.rglob("*") if p.is_file())


def bags(folder: Path) -> Any:
    out = []
    for name in ("mcap", "sqlite"):
        found = bag.report(folder / name)
        assert all(stop.begin <= stop.end for stop in found.stops)
        assert len(found.stops) < 1000
        out.append([stop.reason for stop in found.stops])
    return out


def write_state(folder: Path) -> list[Path]:
    tensors = {name: torch.ones(shape) for name, shape in STATE.items()}
    save_state(folder / "codec.state.safetensors", tensors | {"optimizer.0.exp_avg": torch.ones(4, 3)})
    return [folder / "codec.state.safetensors"]


def state(folder: Path) -> Any:
    read = load_state(folder / "codec.state.safetensors", STATE)
    if read is None:
        raise DeepverseError(f"{folder}: removed")
    assert all(torch.isfinite(t).all() for t in read.values())
    return {name: float(t.sum()) for name, t in read.items()}


def write_figures(folder: Path) -> list[Path]:
    figures = {"n_windows": 3, "psnr": {"model": [30.0, 29.0]}, "machine": {"threads": 2}, "model_sha256": "ab"}
    report.write_json(folder / "figures.json", figures)
    return [folder / "figures.json"]


KINDS: dict[str, Kind] = {
    "embodiment": Kind(copied(*(f"config/embodiments/{n}.yaml" for n in ("arm", "drone", "vehicle"))), embodiments),
    "zones": Kind(copied("config/safety/arm_zones.yaml"), zones),
    "faults": Kind(
        copied("config/safety/faults.yaml"),
        lambda folder: finite(Schedule.load(str(folder / "faults.yaml")).model_dump(), ("duration",)),
    ),
    "training": Kind(copied(*(f"config/training/{n}.yaml" for n in ("tiny", "seed", "ablation"))), trainings),
    "checkpoint": Kind(write_checkpoint, checkpoint),
    "episode": Kind(write_episode, episode),
    "recording": Kind(write_droid, droid),
    "bag": Kind(write_bags, bags),
    "state": Kind(write_state, state),
    "figures": Kind(write_figures, lambda folder: report.read_json(folder / "figures.json")),
}


# ---- cases


@cache
def untouched(name: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        KINDS[name].write(Path(folder))
        return KINDS[name].read(Path(folder))


class Hung(BaseException):
    pass


def run(seed: int, number: int, folder: Path) -> tuple[str, str]:
    """One case. Returns: how it ended, and what it was."""
    rng = np.random.default_rng([seed, number])
    name = list(KINDS)[number % len(KINDS)]
    kind = KINDS[name]
    paths = kind.write(folder)
    path, damage = paths[int(rng.integers(len(paths)))], DAMAGES[int(rng.integers(len(DAMAGES)))]
    damage(path, rng)
    what = f"case {number}: {name}, {path.relative_to(folder)}, {damage.__name__}"
    text = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = kind.read(folder)
        same = repr(read) == repr(untouched(name))
        ended = "as it was" if same else "still valid"
        # What only a checksum tells from the file that was written must not pass.
        if not same and damage in (flip, cut, blank, double) and path.suffix in (".h5", ".safetensors", ".json"):
            ended = "nonsense" if name in ("checkpoint", "episode", "state") else ended
    except DeepverseError as error:
        text = str(error)
        # Where a file refers to another one, what does not fit may be said of both.
        ended = "refused" if path.name in text or str(path.parent) in text else "unnamed"
    except AssertionError as error:
        ended, text = "nonsense", "".join(traceback.format_tb(error.__traceback__)[-1:]) + str(error)
    except MemoryError:
        ended = "memory"
    except Hung:
        ended, text = "hung", "".join(traceback.format_exc()[-800:])
    except Exception:
        ended, text = "traceback", traceback.format_exc()[-1500:]
    return ended, f"{what}: {text}"


@contextlib.contextmanager
def bounded(seconds: float, memory: int) -> Iterator[None]:
    """Raises Hung after so many seconds of computing, or six times as many of waiting on a machine that may have other
    things to do, and MemoryError beyond so many bytes more than are taken now."""

    def ring(*_: object) -> None:
        raise Hung

    limits = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    timers = ((signal.ITIMER_REAL, signal.SIGALRM, 6 * seconds), (signal.ITIMER_PROF, signal.SIGPROF, seconds))
    before = [signal.signal(number, ring) for _, number, _ in timers]
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory, limits[1]))
    for timer, _, after in timers:
        signal.setitimer(timer, after)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def batch(seed: int, numbers: range) -> Iterator[tuple[int, str, str]]:
    torch.set_num_threads(1)
    for name in KINDS:
        untouched(name)
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.process_time()
            with bounded(SECONDS, MEMORY):
                ended, text = run(seed, number, Path(folder))
            if time.process_time() - begun > SECONDS / 2 and ended in GOOD:
                ended = "slow"
            yield number, ended, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inside", action="store_true", help="in this process: what the others run")
    given = parser.parse_args()
    if given.inside:
        for number, ended, text in batch(given.seed, range(given.first, given.first + given.cases)):
            print(json.dumps([number, ended, text]), flush=True)
        return
    counts, number, end = Counter[str](), given.first, given.first + given.cases
    while number < end:
        command = [sys.executable, __file__, "--inside", "--seed", str(given.seed), "--first", str(number)]
        command += ["--cases", str(min(500, end - number))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        watch = Watch(process)
        first = number
        for line in process.stdout or ():
            watch.alive()
            if not line.startswith("["):  # of a library that prints
                continue
            number, ended, text = json.loads(line)
            number += 1
            counts[ended] += 1
            if ended not in GOOD:
                print(f"{ended}: {text}", flush=True)
        if process.wait() != 0 or number == first:
            ended = "hung" if watch.ended else "crash"
            print(f"{ended}: case {number}", flush=True)
            counts[ended] += 1
            number += 1
    print("; ".join(f"{count} {name}" for name, count in counts.most_common()))
    sys.exit(any(name not in GOOD for name in counts))


class Watch:
    """Ends a process that says nothing for too long."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        import threading

        self._process, self.ended = process, False
        self._last = time.monotonic() + 60  # it has to import and to make its files first
        threading.Thread(target=self._look, daemon=True).start()

    def alive(self) -> None:
        self._last = time.monotonic()

    def _look(self) -> None:
        while self._process.poll() is None:
            if time.monotonic() - self._last > 10 * SECONDS:
                self.ended = True
                self._process.kill()
            time.sleep(0.5)


if __name__ == "__main__":
    main()
