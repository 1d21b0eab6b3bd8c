"""The processes of a run: one, or those that ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's place among ``size`` processes, and its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)

    @property
    def first(self) -> bool:
        """Whether this process writes files and draws the progress bar."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """``model`` with gradients averaged over the processes; unchanged if there is one."""
        if self.size == 1:
            return model
        # static_graph: which parameters take part does not change from step to step. It also covers
        # parameters that never do, such as the residual output of SSSD-ECG's last block.
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, static_graph=True)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, for models that ``wrap`` cannot
        hold: it follows ``backward`` alone, not gradients of gradients.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def mean(self, *values: float) -> list[float]:
        """Each value averaged over the processes, the same numbers in all of them."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [value / self.size for value in total.tolist()]

    def share(self, *batch: Tensor) -> list[Tensor]:
        """This process's part of each tensor's first axis, on its device."""
        part = len(batch[0]) // self.size
        mine = slice(self.rank * part, (self.rank + 1) * part)
        return [tensor[mine].to(self.device) for tensor in batch]

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def agree(self, value: T) -> T:
        """The first process's ``value``, any object, in all of them."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


@contextmanager
def connect(device: torch.device, *, patience: timedelta | None = None) -> Iterator[World]:
    """The world this process belongs to, read from the variables that ``torchrun`` sets.

    Args:
        patience: how long a process waits for the others before it gives up; torch's own default is
            ten minutes on GPUs, half an hour on CPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device=device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patience)
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()
