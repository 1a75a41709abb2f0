"""Replaying many small CUDA kernels with one call, so that a GPU does not wait for Python."""

import threading
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Function = Callable[..., Sequence[Tensor]]


class _Captured:
    """A function's kernels for tensors of these shapes; what it reads and writes stays where it is."""

    def __init__(self, function: Function, inputs: Sequence[Tensor]) -> None:
        self._inputs = [t.clone(memory_format=torch.contiguous_format) for t in inputs]
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(*self._inputs)  # libraries set themselves up on a stream's first use; that is not to be replayed
        torch.cuda.current_stream().wait_stream(stream)
        # Other threads may go on using the GPU meanwhile.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._outputs = tuple(function(*self._inputs))

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return tuple(t.clone() for t in self._outputs)


class CudaGraphs:
    """A function of CUDA tensors that is replayed as a graph when tensors of the same shapes come again.

    Only for inference, and for functions whose kernels depend on nothing but the shapes. Calls from several threads
    wait for each other. A GPU on which a capture fails runs the function as it is, with one warning.

    Args: most: graphs that are kept; the one that was not used for the longest time goes first.
    """

    def __init__(self, function: Function, most: int = 16) -> None:
        self._function = function
        self._most = most
        self._lock = threading.Lock()
        # In the order of their last use; None: these shapes came once.
        self._graphs: dict[tuple, _Captured | None] = {}
        self._works = True

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's tensors, which belong to the caller."""
        if not self._works:
            return tuple(self._function(*inputs))
        key = tuple((t.shape, t.dtype) for t in inputs)
        with self._lock, torch.cuda.device(inputs[0].device):
            again = key in self._graphs
            graph = self._graphs.pop(key, None)
            if graph is None and again:
                graph = self._capture(inputs)
            self._graphs[key] = graph
            while len(self._graphs) > self._most:
                del self._graphs[next(iter(self._graphs))]
            return tuple(self._function(*inputs)) if graph is None else graph(inputs)

    def _capture(self, inputs: Sequence[Tensor]) -> _Captured | None:
        try:
            return _Captured(self._function, inputs)
        except RuntimeError as error:
            self._works = False
            warnings.warn(f"CUDA graphs are not used, imagining will take longer: {error}", stacklevel=3)
            return None
