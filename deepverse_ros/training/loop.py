"""One training stage: steps, schedule, EMA, validation, and a state that resumes exactly.

Every random number of step t comes from (seed, stage, t), so a resumed run draws what an uninterrupted one would.
"""

import csv
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepverse_ros.errors import CheckpointError
from deepverse_ros.training.config import StageConfig


class Stage(Protocol):
    """What is optimised: `loss` of one step, and `validate`, with the averaged weights in place."""

    name: str

    @property
    def module(self) -> nn.Module: ...

    def loss(self, step: int, numpy_rng: np.random.Generator, torch_rng: torch.Generator) -> dict[str, Tensor]: ...

    def validate(self) -> dict[str, float]: ...


class Interrupted(Exception):
    """Ctrl-C: the state was saved."""


def run_stage(
    stage: Stage, config: StageConfig, seed: int, out: Path, save_every: int, console: Console,
    progress: Callable[[int, int, str], None],
) -> None:  # fmt: skip
    """Train `stage.module` in place; afterwards it holds the averaged weights.

    Args: out: run directory: NAME.state.safetensors (resumable) and NAME.csv; progress(step, steps, text).
    """
    trainer = _StageTrainer(stage, config, out / f"{stage.name}.state.safetensors")
    step = trainer.resume(console)
    log = _Csv(out / f"{stage.name}.csv", step)
    started, first = time.monotonic(), step
    try:
        while step < config.steps:
            rngs = np.random.default_rng([seed, step]), torch.Generator().manual_seed(seed * 1_000_003 + step)
            losses = trainer.step(step, *rngs)
            step += 1
            if step % 10 == 0:
                values = {k: float(v) for k, v in losses.items()}
                log.write({"step": step, "rate": config_rate(config, step), **values})
                speed = (step - first) / (time.monotonic() - started)
                text = " ".join(f"{k} {v:.4g}" for k, v in values.items())
                progress(step, config.steps, f"{text}  {speed:.2f} steps/s")
            if step % config.validate_every == 0 or step == config.steps:
                with trainer.averaged():
                    scores = stage.validate()
                log.write({"step": step, **{f"val_{k}": v for k, v in scores.items()}})
                console.print(f"{stage.name} {step}: " + "  ".join(f"{k} {v:.3f}" for k, v in scores.items()))
            if step % save_every == 0 or step == config.steps:
                trainer.save(step)
    except KeyboardInterrupt:
        trainer.save(step)
        raise Interrupted(f"stopped at {stage.name} step {step}; the same command with --resume goes on") from None
    trainer.adopt_average()


def config_rate(config: StageConfig, step: int) -> float:
    """Learning rate: linear warm-up, constant, linear to zero over the last share `decay` of the steps."""
    warm = min(1.0, (step + 1) / config.warmup)
    left = (config.steps - step) / max(1.0, config.decay * config.steps)
    return config.learning_rate * warm * min(1.0, left)


class _StageTrainer:
    def __init__(self, stage: Stage, config: StageConfig, state_path: Path) -> None:
        self.stage, self.config, self.path = stage, config, state_path
        parameters = [p for p in stage.module.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim >= 2]
        vectors = [p for p in parameters if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
        self.parameters = parameters
        self.average: list[Tensor] = [p.detach().clone() for p in parameters]

    def step(self, step: int, numpy_rng: np.random.Generator, torch_rng: torch.Generator) -> dict[str, Tensor]:
        self.stage.module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = config_rate(self.config, step)
        losses = self.stage.loss(step, numpy_rng, torch_rng)
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
        with torch.no_grad():
            # A short memory at first, so that the average forgets the initial weights.
            decay = min(self.config.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.average, list[Tensor](self.parameters), 1 - decay)
        return {k: v.detach() for k, v in losses.items()}

    def averaged(self) -> "_Averaged":
        return _Averaged(self)

    def adopt_average(self) -> None:
        with torch.no_grad():
            for parameter, mean in zip(self.parameters, self.average, strict=True):
                parameter.copy_(mean)

    def save(self, step: int) -> None:
        tensors = {"step": torch.tensor(step)}
        state = self.optimizer.state_dict()["state"]
        for i, (parameter, mean) in enumerate(zip(self.parameters, self.average, strict=True)):
            tensors |= {f"weight.{i}": parameter.detach().contiguous(), f"average.{i}": mean.contiguous()}
        for i, entries in state.items():
            tensors |= {f"optimizer.{i}.{k}": v.contiguous() for k, v in entries.items()}
        temporary = self.path.with_suffix(".tmp")
        save_file({k: v.cpu() for k, v in tensors.items()}, temporary)
        os.replace(temporary, self.path)

    def resume(self, console: Console) -> int:
        """Take up the saved state, if there is one. Returns the step to go on with."""
        if not self.path.exists():
            return 0
        tensors = load_file(self.path)
        expected = {f"weight.{i}": p.shape for i, p in enumerate(self.parameters)}
        wrong = [k for k, shape in expected.items() if k not in tensors or tensors[k].shape != shape]
        if wrong:
            raise CheckpointError(f"{self.path}: belongs to another network ({wrong[0]}); remove the run folder")
        with torch.no_grad():
            for i, (parameter, mean) in enumerate(zip(self.parameters, self.average, strict=True)):
                parameter.copy_(tensors[f"weight.{i}"])
                mean.copy_(tensors[f"average.{i}"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        step = int(tensors["step"])
        console.print(f"{self.stage.name}: resumed at step {step}")
        return step


class _Averaged:
    """While it lasts, the module holds the averaged weights."""

    def __init__(self, trainer: _StageTrainer) -> None:
        self.trainer = trainer

    def __enter__(self) -> None:
        self.kept = [p.detach().clone() for p in self.trainer.parameters]
        self.trainer.adopt_average()
        self.trainer.stage.module.eval()

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.trainer.parameters, self.kept, strict=True):
                parameter.copy_(value)


class _Csv:
    """Long-format log (step, name, value), so that columns may come later. Rows after a resumed step are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows = []
        if path.exists() and step > 0:
            with path.open() as file:
                rows = [r for r in csv.reader(file) if r and r[0].isdigit() and int(r[0]) <= step]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["step", "name", "value"], *rows])

    def write(self, values: dict[str, float]) -> None:
        step = values.pop("step")
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows([step, k, json.dumps(v)] for k, v in values.items())
