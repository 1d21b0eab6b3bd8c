"""The common face of ECG data sets: signals in mV in the order of ``LEADS``, labels multi-hot,
names beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ecgcore.errors import DataError


class MissingDataError(DataError, FileNotFoundError):
    """A file or folder of a data set that is not there."""


class ECGDataset(Dataset[tuple[Tensor, Tensor]]):
    """A torch data set of ``(x (12, L) float32 mV, y (classes,) float32)``.

    Attributes:
        leads: names of the rows of ``x``.
        fs: sampling rate in Hz.
        class_names: names of the entries of ``y``.
    """

    leads: tuple[str, ...]
    fs: float
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def load(self) -> tuple[Tensor, Tensor]:
        """All records as ``(x (n, 12, L), y (n, classes))`` float32, in memory."""
        raise NotImplementedError

    def _position(self, index: int) -> int:
        """``index`` as a non-negative position; ``IndexError`` outside, as sequences do."""
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"record {index} of {size}")
        return int(index) % size


class ArrayDataset(ECGDataset):
    """Records already in memory: ``x (n, leads, L)`` in mV and ``y (n, classes)``, both float32."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        leads: Sequence[str],
        fs: float,
        class_names: Sequence[str],
    ) -> None:
        for name, tensor, size in (("x", x, 3), ("y", y, 2)):
            if tensor.dtype != torch.float32:
                raise TypeError(f"ArrayDataset: {name} must be float32, got {tensor.dtype}")
            if tensor.ndim != size:
                raise ValueError(
                    f"ArrayDataset: {name} must have {size} axes, got shape {tuple(tensor.shape)}"
                )
        if x.shape[:2] != (y.shape[0], len(leads)):
            raise ValueError(
                f"ArrayDataset: x must have shape ({y.shape[0]}, {len(leads)}, L) to go with the"
                " labels and leads,"
                f" got {tuple(x.shape)}"
            )
        if y.shape[1] != len(class_names):
            raise ValueError(
                f"ArrayDataset: y has {y.shape[1]} columns for {len(class_names)} class names"
            )
        self.x, self.y = x, y
        self.leads = tuple(leads)
        self.fs = fs
        self.class_names = tuple(class_names)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        i = self._position(index)
        return self.x[i], self.y[i]

    def load(self) -> tuple[Tensor, Tensor]:
        return self.x, self.y
