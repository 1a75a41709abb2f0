"""Replayed futures are those that are computed kernel by kernel."""

import numpy as np
import pytest
import torch

from deepverse_ros import resources
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.cuda_graphs import CudaGraphs
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(scope="module")
def model() -> WorldModel:
    return WorldModel.load(resources.find("models/arm"), "cuda")


def seen(model: WorldModel, frames: int, seed: int = 0) -> Belief:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 255, (frames, 128, 128, 3), dtype=np.uint8)
    depth = rng.uniform(0.5, 2.0, (frames, 128, 128)).astype(np.float32)
    return model.observe(Observation.from_numpy(rgb, depth), np.tile(home(model), (1, frames - 1, 1)))


def home(model: WorldModel) -> np.ndarray:
    return np.asarray(model.embodiment.home, np.float32)


def plans(model: WorldModel, count: int, steps: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.1, (count, steps, 8)).astype(np.float32)
    return model.embodiment.limit_plan(home(model) + noise, home(model))


@pytest.mark.parametrize(("frames", "count", "steps"), [(4, 1, 8), (1, 1, 8), (4, 16, 8), (4, 1, 16)])
def test_a_replayed_future_is_the_computed_one(model: WorldModel, frames: int, count: int, steps: int) -> None:
    model._graphs = CudaGraphs(model.dynamics.rollout_tensors)
    inputs = [(seen(model, frames, seed), plans(model, count, steps, seed)) for seed in range(5)]
    replayed = [model.imagine(*i) for i in inputs]  # computed, captured, replayed from here on
    kept = [f.latents.clone() for f in replayed]
    model._graphs = None
    for future, before, given in zip(replayed, kept, inputs, strict=True):
        computed = model.imagine(*given)
        torch.testing.assert_close(future.latents, before, rtol=0, atol=0)  # later calls leave it alone
        torch.testing.assert_close(future.latents, computed.latents, rtol=0.02, atol=0.05)
        torch.testing.assert_close(future.states, computed.states, rtol=0.02, atol=0.02)


def test_graphs_are_captured_on_the_second_use_and_the_oldest_goes() -> None:
    calls: list[int] = []

    def double(x: torch.Tensor) -> list[torch.Tensor]:
        calls.append(len(x))
        return [2 * x]

    graphs = CudaGraphs(double, most=2)
    with torch.inference_mode():
        for size, expected in ((3, 1), (3, 3), (3, 3), (4, 4), (5, 5), (3, 6)):
            x = torch.rand(size, device="cuda")
            torch.testing.assert_close(graphs(x)[0], 2 * x)
            assert len(calls) == expected, (size, calls)


def test_what_cannot_be_captured_is_computed_with_a_warning() -> None:
    def synchronises(x: torch.Tensor) -> list[torch.Tensor]:
        return [x * float(x.sum())]

    graphs = CudaGraphs(synchronises)
    x = torch.ones(3, device="cuda")
    with torch.inference_mode():
        graphs(x)
        with pytest.warns(UserWarning, match="CUDA graphs are not used"):
            torch.testing.assert_close(graphs(x)[0], 3 * x)
        torch.testing.assert_close(graphs(x)[0], 3 * x)
