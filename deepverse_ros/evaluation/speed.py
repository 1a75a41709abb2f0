"""How fast a world model observes, imagines and plans on this machine, and how much memory it takes."""

import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepverse_ros.data.collect import collect
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.observation import Goal, Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.objectives.goal_image import GoalImage
from deepverse_ros.planning.search.icem import Icem, IcemConfig
from deepverse_ros.planning.search.mpc import Mpc, MpcConfig
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.base import SceneFrames

BATCHES = (1, 16, 64, 256)
RANKED = (16, 256, 4096)
BUDGET = 5.0
"""Seconds for a measurement."""
_SCENES = 12


def benchmark(model: WorldModel, repeats: int = 20, collect_episodes: int = 200) -> dict[str, Any]:
    """Measure, on the pictures of that of `_SCENES` simulated scenes which has most things.

    A robot that nothing simulates sees noise, in which there are no things; nothing else depends on what is seen.

    Args: repeats: of each measurement, fewer where it is slow; collect_episodes: simulated for the figure of
    `deepverse collect`, 0 leaves it out.
    Returns: {"machine", "dtype", "size", "measurements": [{"name", "p50", "p95", "unit"}], "peak_memory_mb"}.
    """
    config = model.config
    robot = model.embodiment
    seen = _simulated(model) if robot.name in robots.names() else _noise(model)
    stands = seen.joints[-1].astype(np.float32)
    past = seen.joints[None, 1:].astype(np.float32)

    def observe() -> Belief:
        return model.observe(Observation.from_numpy(seen.rgb, seen.depth, seen.intrinsics, seen.camera_to_world), past)

    def read_goal() -> Goal:
        return model.encode_goal(seen.rgb[0], seen.depth[0], seen.intrinsics, seen.camera_to_world)

    warm_up_ms = model.warm_up()
    belief = observe()
    # Such plans as a search begins with.
    sampler = Icem(robot, IcemConfig(samples=max(RANKED), horizon=config.horizon))
    sampler.reset(stands, 0)
    plans = sampler.ask()[: max(RANKED)]
    goal = read_goal()

    def imagine_decoded() -> None:
        future = model.imagine(belief, plans[:1])
        _touch(future.rgb, future.depth)

    def imagine_latents(some: np.ndarray) -> None:
        _touch(model.imagine(belief, some).latents)

    def camera_to_future() -> None:
        future = model.imagine(observe(), plans[:1])
        _touch(future.rgb, future.depth)

    h = config.horizon
    measurements = [
        {"name": "warm-up", "p50": warm_up_ms, "unit": "ms"},
        _timed(f"observe {config.context} frames", lambda: _touch(observe().newest.latents), repeats),
        _timed(f"imagine 1x{h} RGB-D frames", imagine_decoded, repeats),
        _timed(f"observe and imagine 1x{h} RGB-D frames", camera_to_future, repeats),
        _timed("encode a goal image", read_goal, repeats),  # ends on the CPU
    ]
    for count in BATCHES:
        name = f"imagine {count}x{h} latent frames"
        measurements.append(_timed(name, partial(imagine_latents, plans[:count]), repeats))
    for count in RANKED:
        name = f"rank {count}x{h} on the coarse level"
        objective = GoalImage(goal)
        rank = partial(model.rank, belief, plans[:count], objective)
        measurements.append(_timed(name, lambda rank=rank: _touch(rank()), repeats))  # type: ignore[misc]
    search = MpcConfig(max_replans=0)
    mpc = Mpc(model, search)
    name = f"plan {search.sampler.samples}x{h}, {search.iterations} iterations"
    measurements.append(_timed(name, lambda: mpc.plan(belief, goal, stands), repeats))
    if collect_episodes:
        rate = collect_rate(robot, collect_episodes, (config.width, config.height))
        name = f"collect at {config.width}x{config.height}"
        measurements.append({"name": name, "p50": rate, "unit": "RGB-D frames/s"})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measurements.append({"name": "peak memory of this process", "p50": peak, "unit": "MB"})
    return {
        "machine": machine(),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "size": [config.height, config.width],
        "measurements": measurements,
    }


def _simulated(model: WorldModel) -> SceneFrames:
    """The context in the scene of most things, the robot standing still."""
    c = model.config
    with closing(robots.of(model.embodiment).simulate(width=c.width, height=c.height)) as simulation:
        counts = []
        for seed in range(_SCENES):
            simulation.reset(seed)
            counts.append(len(simulation.object_positions))
        simulation.reset(int(np.argmax(counts)))
        frames = []
        for _ in range(c.context):
            frames.append((*simulation.render(), simulation.joints))
            simulation.step(simulation.joints)
        rgb, depth, joints = (np.stack(parts) for parts in zip(*frames, strict=True))
        return SceneFrames(rgb, depth, simulation.intrinsics, simulation.camera_to_world, joints)


def _noise(model: WorldModel) -> SceneFrames:
    """Noise, of a robot that stands at home."""
    c, robot = model.config, model.embodiment
    rng = np.random.default_rng(0)
    shape = (c.context, c.height, c.width)
    camera = np.diag([c.width, c.width, 1.0])
    return SceneFrames(
        rng.integers(0, 255, (*shape, 3), dtype=np.uint8),
        rng.uniform(robot.camera.near, robot.camera.far, shape).astype(np.float32),
        camera, np.eye(4), np.tile(np.asarray(robot.home, np.float32), (c.context, 1)),
    )  # fmt: skip


def collect_rate(embodiment: Embodiment, episodes: int, size: tuple[int, int]) -> float:
    """RGB-D frames per second of `deepverse collect` on all cores, starting the workers included.

    Args: size: width and height in pixels.
    """
    with tempfile.TemporaryDirectory(prefix="deepverse_collect_") as folder:
        start = time.perf_counter()
        store = collect(embodiment, episodes, 0, folder, workers=os.cpu_count() or 1, size=size)
        seconds = time.perf_counter() - start
        return sum(len(episode) for episode in store) / seconds


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                processor = line.split(":", 1)[1].strip()
                break
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": processor,
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _timed(name: str, work: Callable[[], object], repeats: int) -> dict[str, Any]:
    """Median and 95th percentile in ms, after one run that does not count; none is begun after `BUDGET` seconds."""
    work()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < repeats and (not times or time.perf_counter() - began < BUDGET):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    p50, p95 = np.percentile(times, [50, 95])
    return {"name": name, "p50": float(p50), "p95": float(p95), "runs": len(times), "unit": "ms"}


def _touch(*tensors: torch.Tensor) -> None:
    """Wait until tensors are computed, also on a GPU."""
    for tensor in tensors:
        tensor.flatten()[-1].item()
