"""One training stage: steps, schedule, EMA, validation, and a state that resumes exactly.

Every random number of step t comes from (seed, stage, t), so a resumed run draws what an uninterrupted one would.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from deepverse_ros.errors import CheckpointError, DeepverseError
from deepverse_ros.training.config import StageConfig
from deepverse_ros.training.engine.distributed import Processes
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.engine.state import CsvLog, load_state, save_state

_LOG_EVERY = 10
# After so many steps in a row without finite gradients the weights will not recover.
_PATIENCE = 50
# A picture that takes longer is not drawn again.
_PICTURE_SECONDS = 2.0


class Stage(Protocol):
    """What is optimised: `loss` of (a part of) one step, and `validate`, with the averaged weights in place."""

    name: str

    @property
    def module(self) -> nn.Module: ...

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        """Named scalars, means over the examples drawn; "total" is what is minimised."""

    def validate(self) -> dict[str, float]: ...


@runtime_checkable
class Sampled(Protocol):
    """A stage that shows how far it has come."""

    def sample(self) -> np.ndarray | None:
        """A picture, uint8 (h, w, 3): rows of truth, each above the row of what the stage makes of it."""


class Interrupted(Exception):
    """Ctrl-C: the state was saved."""


class Diverged(DeepverseError, RuntimeError):
    """The loss is not finite any more."""


def run_stage(
    stage: Stage, config: StageConfig, seed: int, out: Path, save_every: int, console: Console,
    progress: Callable[[int, int, str], None], processes: Processes,
) -> None:  # fmt: skip
    """Train `stage.module` in place; afterwards it holds the averaged weights.

    Args: out: run directory: NAME.state.safetensors (resumable), NAME.csv and samples_NAME.png, where NAME is the
    stage's; progress(step, steps, text).
    Raises: Interrupted after Ctrl-C, in every process; Diverged; ConfigError if the batch has no equal parts.
    """
    # Where the run stands. All processes must begin at the same step, or they would draw different batches.
    config.require_divisible(stage.name, processes.count)
    trainer = _StageTrainer(stage, config, seed, out / f"{stage.name}.state.safetensors", processes)
    step = trainer.resume(console)
    if not processes.agree(step):
        raise CheckpointError(f"{trainer.path}: not the same for every process; all must see the same run folder")
    log = CsvLog(out / f"{stage.name}.csv", step) if processes.first else None
    pictures = _Pictures(stage, out / f"samples_{stage.name}.png", console)
    started = time.monotonic()
    first = step
    with _ctrl_c() as asked:
        while step < config.steps:
            losses, stop = trainer.step(step, bool(asked))
            step += 1
            last = step == config.steps
            # Only the first process reports.
            if log and step % _LOG_EVERY == 0:
                log.write(step, {"rate": config_rate(config, step), "skipped": trainer.skipped, **losses})
                speed = (step - first) / (time.monotonic() - started)
                text = " ".join(f"{k} {v:.4g}" for k, v in losses.items())
                progress(step, config.steps, f"{text}  {speed:.2f} steps/s")
            # Measured and drawn are the averaged weights, which are those that will be shipped.
            if log and (step % config.validate_every == 0 or last):
                with trainer.averaged():
                    scores = stage.validate()
                    pictures.draw()
                log.write(step, {f"val_{k}": v for k, v in scores.items()})
                console.print(f"{stage.name} {step}: " + "  ".join(f"{k} {v:.3f}" for k, v in scores.items()))
            # While steps fail, the last state of a good one is kept.
            if processes.first and (last or ((stop or step % save_every == 0) and not trainer.failing)):
                trainer.save(step)
            if stop:
                raise Interrupted(f"stopped at {stage.name} step {step}; the same command with --resume goes on")
    trainer.adopt_average()


def config_rate(config: StageConfig, step: int) -> float:
    """Learning rate: linear warm-up, constant, linear to zero over the last share `decay` of the steps."""
    warm = min(1.0, (step + 1) / config.warmup)
    left = (config.steps - step) / max(1.0, config.decay * config.steps)
    return config.learning_rate * warm * min(1.0, left)


class _StageTrainer:
    """Weights, their average and the optimiser; `skipped` steps had no finite gradient, the last `failing` in a row."""

    def __init__(self, stage: Stage, config: StageConfig, seed: int, state_path: Path, processes: Processes) -> None:
        self.stage = stage
        self.config = config
        self.seed = seed
        self.path = state_path
        self.processes = processes
        # Weight decay is for matrices: biases and norms have no reason to be near 0.
        parameters = [p for p in stage.module.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim >= 2]
        vectors = [p for p in parameters if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
        self.parameters = parameters
        self.average: list[Tensor] = [p.detach().clone() for p in parameters]
        self.skipped = self.failing = 0

    def step(self, step: int, stop: bool = False) -> tuple[dict[str, float], bool]:
        """One optimiser step. Returns: the losses of the whole batch, and whether any process was asked to stop."""
        self.stage.module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = config_rate(self.config, step)
        self.optimizer.zero_grad(set_to_none=True)
        losses, stopping = self._gradients(step, stop)
        # A step without finite gradients is left out, not taken: one of them would spoil weights, moments and average.
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        if not (torch.isfinite(norm) and np.isfinite(losses["total"])):
            self._skip(step, losses["total"], float(norm))
            return losses, stopping
        self.failing = 0
        self.optimizer.step()
        with torch.no_grad():
            # A short memory at first, so that the average forgets the initial weights.
            decay = min(self.config.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.average, list[Tensor](self.parameters), 1 - decay)
        return losses, stopping

    def _gradients(self, step: int, stop: bool) -> tuple[dict[str, float], bool]:
        """Mean gradients over all micro-batches of all processes, and what `step` returns."""
        micro = self.config.accumulate
        device = self.processes.device
        sums: dict[str, Tensor] = {}
        for i in range(micro):
            # A part of the batch is known by its number among all parts of all processes, and drawn by that.
            draw = Draw.of_step(self.seed, step, self.processes.rank * micro + i, self.processes.count * micro)
            losses = self.stage.loss(step, draw)
            (losses["total"] / micro).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach().float() / micro
        # The wish to stop travels with the losses: every process learns of it at the same step.
        figures = torch.stack([*sums.values(), torch.tensor(float(stop), device=device)])
        *means, stopping = self.processes.average(self.parameters, figures).tolist()
        return dict(zip(sums, means, strict=True)), stopping > 0

    def _skip(self, step: int, loss: float, norm: float) -> None:
        """Raises: Diverged after too many in a row."""
        self.skipped, self.failing = self.skipped + 1, self.failing + 1
        if self.failing == _PATIENCE:
            raise Diverged(
                f"{self.stage.name}: no finite gradient in {_PATIENCE} steps up to {step} (loss {loss}, norm {norm}); "
                f"lower {self.stage.name}.learning_rate ({self.config.learning_rate:g}) or .clip ({self.config.clip:g})"
                f", or take precision float32; --resume --accept-changes goes on from the last good state"
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While it lasts, the module holds the averaged weights."""
        kept = [p.detach().clone() for p in self.parameters]
        self.adopt_average()
        self.stage.module.eval()
        yield
        self._assign(kept)

    def adopt_average(self) -> None:
        self._assign(self.average)

    def _assign(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)

    def save(self, step: int) -> None:
        tensors = {"step": torch.tensor(step), "skipped": torch.tensor(self.skipped)}
        for i, (parameter, mean) in enumerate(zip(self.parameters, self.average, strict=True)):
            tensors |= {f"weight.{i}": parameter, f"average.{i}": mean}
        for i, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in entries.items()}
        save_state(self.path, tensors)

    def resume(self, console: Console) -> int:
        """Take up the saved state, if there is one. Returns the step to go on with."""
        shapes = {f"{kind}.{i}": p.shape for i, p in enumerate(self.parameters) for kind in ("weight", "average")}
        tensors = load_state(self.path, shapes | {"step": torch.Size([])})
        if tensors is None:
            return 0
        step = int(tensors["step"])
        self.skipped = int(tensors.get("skipped", torch.tensor(0)).sum())
        if step < 0:
            raise CheckpointError(f"{self.path}: step: expected 0 or more, got {step}")
        # Weights and average as they were.
        self._assign([tensors[f"weight.{i}"] for i in range(len(self.parameters))])
        for i, mean in enumerate(self.average):
            mean.copy_(tensors[f"average.{i}"])
        # The optimiser's moments, by the number of their parameter; those of another network would fail only in the
        # next step, without saying why.
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        ordered = [p for group in self.optimizer.param_groups for p in group["params"]]
        for number, entries in state.items():
            size = ordered[number].numel() if number < len(ordered) else -1
            if any(tensor.numel() != (1 if key == "step" else size) for key, tensor in entries.items()):
                raise CheckpointError(f"{self.path}: optimizer.{number}: is of another network; remove the run folder")
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        console.print(f"{self.stage.name}: resumed at step {step}")
        return step


class _Pictures:
    """Pictures are for people: neither a failure nor a slow one may hold up a training."""

    def __init__(self, stage: Stage, path: Path, console: Console) -> None:
        self.stage = stage
        self.path = path
        self.console = console
        self.wanted = isinstance(stage, Sampled)

    def draw(self) -> None:
        if not self.wanted or not isinstance(self.stage, Sampled):
            return
        from PIL import Image

        started = time.monotonic()
        try:
            picture = self.stage.sample()
            if picture is not None:
                Image.fromarray(picture).save(self.path)
        except Exception as error:
            self.console.print(f"{self.stage.name}: no sample picture: {error}")
        seconds = time.monotonic() - started
        if seconds > _PICTURE_SECONDS:
            self.wanted = False
            self.console.print(f"{self.path.name}: took {seconds:.1f} s; no further ones in this run")


@contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """A list that fills when Ctrl-C is pressed: the step that runs ends first, so that no half of it is saved.

    A second Ctrl-C ends a single process at once. Under torchrun it comes twice anyway: from the terminal and from
    torchrun itself.
    """
    asked: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    # Signals belong to the main thread, and a run in the background may have been told to ignore this one.
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if asked and not torch.distributed.is_initialized():
            raise KeyboardInterrupt
        asked.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
