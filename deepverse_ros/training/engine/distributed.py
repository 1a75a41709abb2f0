"""One training in several processes, as torchrun starts them; a single process is its simplest case.

    torchrun --nproc-per-node 8 -m deepverse_ros.cli train config/training/seed.yaml --out runs/seed

Every process has a copy of the network and works on its part of every batch. After its gradients are averaged, all
take the same optimiser step, so the copies stay equal. The first process alone writes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepverse_ros.errors import DeviceError
from deepverse_ros.model.device import resolve_device

# The others wait while the first one collects episodes or validates. Should it end, torchrun ends them all.
_PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Processes:
    """Those that train together, and which of them this one is."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes states, logs, pictures, console and checkpoint."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process has come here."""
        float(self._sum(torch.zeros(1, device=self.device)))  # read, because a GPU works while its host goes on

    def agree(self, value: int) -> bool:
        """Whether every process has the same `value` >= 0."""
        values = torch.zeros(self.count, dtype=torch.int64, device=self.device)
        values[self.rank] = value
        return bool((self._sum(values) == value).all())

    def average(self, parameters: list[nn.Parameter], figures: Tensor) -> Tensor:
        """Replace gradients by their mean over the processes. Returns: the mean of `figures` (F,) float32.

        Written out, not DistributedDataParallel: that acts on a module's `forward`, while stages call the parts of a
        module in their own order, and on every backward pass, while here only the last micro-batch's counts. One sum
        over one flat tensor also tells which parameters no process used: these keep no gradient, as in a single
        process, so that weight decay leaves them alone.
        """
        if self.count == 1:
            return figures
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=self.device)
        flat = self._sum(torch.cat([*(g.float().flatten() for g in gradients), used, figures])) / self.count
        *means, any_used, mean_figures = flat.split([*(g.numel() for g in gradients), len(used), len(figures)])
        for parameter, gradient, mean, use in zip(parameters, gradients, means, any_used.tolist(), strict=True):
            parameter.grad = gradient.copy_(mean.view_as(gradient)) if use else None
        return mean_figures

    def _sum(self, tensor: Tensor) -> Tensor:
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes that torchrun started (gloo on CPUs, nccl on GPUs, one GPU each), or this one alone.

    Raises: DeviceError if the device cannot be had.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(resolve_device(device))
        return
    rank = int(os.environ["RANK"])
    local = os.environ["LOCAL_RANK"]
    if ":" in device:
        raise DeviceError(f"device: '{device}' is one GPU, but {count} processes train; use auto, cpu or cuda")
    where = resolve_device(f"cuda:{local}" if device != "cpu" and torch.cuda.is_available() else device)
    if os.environ.get("LOCAL_WORLD_SIZE") == str(count):
        # All on this machine: gloo then needs no network, and no host name that resolves.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if where.type == "cuda":
        torch.cuda.set_device(where)
        dist.init_process_group("nccl", timeout=_PATIENCE, device_id=where)
    else:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    # Not in a `finally`: after an error in one process the others are elsewhere, and torchrun ends them.
    yield Processes(where, rank, count)
    dist.destroy_process_group()
