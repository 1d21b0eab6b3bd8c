"""A step of a sampler as a CUDA graph: recorded once, then launched as one thing."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARMUP = 3
"""Steps before the recording. Libraries choose their algorithms and workspaces in them."""


class Replay:
    """Calls ``step()`` again and again; on a GPU by a CUDA graph.

    The first steps run on a stream of their own, the next one is recorded, and from then on every
    call launches the recording. Each call does one step's work, no step is done twice. For this
    ``step`` reads and writes the same tensors at every call, keeps its counters on the device, asks
    for no value on the host, and may leave nothing to Python but the first time: what is recorded
    are the kernels, not the code that launched them. Work in other streams must not touch the
    tensors during a call. An error in the recording is an error; ``eager=True`` is there for steps
    that cannot be recorded.

    Args:
        step: one step, in place.
        device: of the tensors. On a CPU every call is a plain one.
        eager: plain calls on a GPU, too.
    """

    def __init__(
        self, step: Callable[[], object], device: torch.device, *, eager: bool = False
    ) -> None:
        self.step, self.device = step, device
        self.plain = eager or device.type != "cuda"
        self.graph: torch.cuda.CUDAGraph | None = None
        self._stream: torch.cuda.Stream | None = None
        self._calls = 0

    def __call__(self) -> None:
        if self.plain:
            self.step()
            return
        with torch.cuda.device(self.device):
            if self.graph is not None:
                self.graph.replay()
            elif self._calls < WARMUP:
                self._warm_up()
            else:
                self._record().replay()
        self._calls += 1

    def _warm_up(self) -> None:
        """One step on the side stream, between what came before and what comes after."""
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self.step()
        current.wait_stream(self._stream)

    def _record(self) -> torch.cuda.CUDAGraph:
        """Runs ``step`` without its work being done."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self.step()
        self.graph = graph
        return graph
