"""Remember what depends on parameters alone, for as long as they stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class ParameterCache(Generic[T]):
    """One value, valid while the tensors it was made from keep storage, version and type.

    A plain attribute, in no ``state_dict``; copies and pickles of it are empty. It keeps the
    storages of its sources alive, so that an address seen again is the same memory. Every in-place
    change of a tensor raises its version; only writes through ``.data`` or numpy do not, and want
    :meth:`clear`.
    """

    def __init__(self) -> None:
        self._entry: tuple[Hashable, tuple[Tensor, ...], tuple[Hashable, ...], T] | None = None

    def clear(self) -> None:
        self._entry = None

    def get(self, key: Hashable, sources: Sequence[Tensor], make: Callable[[], T]) -> T:
        """The value made for ``key`` from ``sources``, made anew if anything has changed."""
        if not all(map(_traceable, sources)):
            return make()
        stamps = tuple(map(_stamp, sources))
        if self._entry is not None:
            old_key, _, old_stamps, value = self._entry
            if (old_key, old_stamps) == (key, stamps):
                return value
        # Not of inference tensors, whatever the mode now: a later call may want gradients for its
        # input, with the value as a constant.
        with torch.inference_mode(False), torch.no_grad():
            value = make()
        # Making it may double the kernel's length, which replaces its buffers: then the next call
        # finds other stamps and makes it once more.
        self._entry = (key, tuple(t.detach() for t in sources), stamps, value)
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> ParameterCache[T]:
        return ParameterCache()

    def __reduce__(self) -> tuple[type[ParameterCache[T]], tuple[()]]:
        return ParameterCache, ()


def _traceable(tensor: Tensor) -> bool:
    """Whether a change of the tensor shows: inference tensors and wrappers keep it dark."""
    return type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_inference()


def _stamp(tensor: Tensor) -> Hashable:
    return (
        tensor.data_ptr(),
        tensor._version,
        tensor.dtype,
        tensor.device,
        tensor.shape,
        tensor.stride(),
    )
