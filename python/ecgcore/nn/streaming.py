"""Modules that work sample by sample: set up once, then ``step``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore.nn.recurrence import Recurrence, check_mode


class StepSetup:
    """A recurrence, and the tensors it was made from as they were then.

    A plain attribute, in no ``state_dict``; copies and pickles of it are empty. In-place changes,
    replaced tensors and moves to another device or type are seen, at a microsecond a step; writes
    through ``.data`` or numpy are not, nor changes of inference tensors.
    """

    def __init__(self) -> None:
        self._recurrence: Recurrence | None = None
        self._sources: list[tuple[dict[str, Any], str, Tensor, int | None]] = []

    def clear(self) -> None:
        self._recurrence, self._sources = None, []

    def set(self, module: nn.Module, recurrence: Recurrence) -> None:
        self._recurrence = recurrence
        self._sources = [
            (box, name, tensor, _version(tensor))
            for box in (module._parameters, module._buffers)
            for name, tensor in box.items()
            if tensor is not None
        ]

    def get(self, module: nn.Module) -> Recurrence:
        if self._recurrence is None:
            raise RuntimeError(f"{type(module).__name__}: call setup_step() before the first step")
        if not torch.compiler.is_compiling() and not self._fresh():
            raise RuntimeError(
                f"{type(module).__name__}: a parameter has changed since setup_step(), "
                "call it again"
            )
        return self._recurrence

    @contextmanager
    def kept(self, module: nn.Module) -> Iterator[None]:
        """The block changes parameters but not the system they stand for: a new internal length."""
        recurrence = self._recurrence if self._fresh() else None
        yield
        if recurrence is not None:
            self.set(module, recurrence)

    def _fresh(self) -> bool:
        return all(
            box.get(name) is tensor and (version is None or tensor._version == version)
            for box, name, tensor, version in self._sources
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> StepSetup:
        return StepSetup()

    def __reduce__(self) -> tuple[type[StepSetup], tuple[()]]:
        return StepSetup, ()


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


class Recurrent(nn.Module):
    """A kernel that is a recurrence as well.

    A subclass says how its parameters become one (:meth:`make_recurrence`) and moves a state over
    many samples (:meth:`advance`), and has ``H`` features and ``N`` kept modes.
    """

    H: int
    N: int
    conjugate_pairs: bool = True

    def __init__(self) -> None:
        super().__init__()
        self._steps = StepSetup()

    @abstractmethod
    def make_recurrence(self, mode: str) -> Recurrence:
        """The recurrence of the parameters as they are, in one of ``recurrence.MODES``."""

    @abstractmethod
    def advance(self, u: Tensor, state: Tensor) -> Tensor:
        """The state ``(B, H, n)`` after the samples ``u (B, H, T)``, of any precision."""

    def setup_step(self, mode: str = "dense") -> None:
        """Prepare :meth:`step`; again after every change of a parameter.

        What is set up is a constant: gradients reach samples and states, not the parameters.
        ``train()`` and moving the module forget it; it is in no state dict and no copy. A kernel
        that corrects or doubles its length stays the same system, and keeps it.

        Args:
            mode: ``"linear"``, O(n) a sample, is the one to stream with; ``"dense"``, the matrices
                themselves; ``"diagonal"``, in the eigenbasis. All give the same outputs; they
                differ in the shape of the state.

        Raises:
            ValueError: for an unknown mode, ``"diagonal"`` where there is no usable eigenbasis, and
                kernels that no state space has (``conjugate_pairs=False``, ``disc="dss"``).
        """
        check_mode(mode)
        if not self.conjugate_pairs:
            raise ValueError(
                f"{type(self).__name__}: the half sum (conjugate_pairs=False) is the kernel of no "
                "state space, it cannot step"
            )
        with torch.inference_mode(False), torch.no_grad():
            self._steps.set(self, self.make_recurrence(mode))

    def default_state(self, *batch: int) -> Tensor:
        """The state at rest, complex: ``(*batch, H, n)`` in mode ``"linear"``, else ``(*batch, H,
        2n)``; 2n states are the kept modes, then their conjugates, or the eigenbasis."""
        return self._steps.get(self).default_state(*batch)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One sample.

        Args:
            u: ``(B, H)`` real.
            state: of :meth:`default_state` or the step before.

        Returns:
            ``y (B, C, H)`` real, which has heard ``u`` already, and the next state. The state given
            is left as it is.

        Raises:
            RuntimeError: before :meth:`setup_step`, or if a parameter has changed since.
            ValueError: for wrong shapes and dtypes.
        """
        return self._steps.get(self).step(u, state)

    def forward_state(self, u: Tensor, state: Tensor) -> Tensor:
        """The state after many samples at once, without gradient and without :meth:`setup_step`.

        Args:
            u: ``(B, H, T)`` real.
            state: before the first sample, ``(B, H, n)`` complex, the kept modes: the state of mode
                ``"linear"``.

        Returns:
            ``Abar^T state + sum_t Abar^(T-1-t) Bbar u_t``, ``(B, H, n)``, of the state's precision.

        Raises:
            ValueError: for wrong shapes and dtypes.
        """
        H, n = self.H, self.N
        if u.dim() != 3 or u.shape[1] != H or not u.is_floating_point():
            raise ValueError(
                f"{type(self).__name__}: u must be real (B, {H}, T), got {u.dtype} {tuple(u.shape)}"
            )
        if state.shape != (u.shape[0], H, n) or not state.is_complex():
            raise ValueError(
                f"{type(self).__name__}: state must be complex {(u.shape[0], H, n)}, "
                f"got {state.dtype} {tuple(state.shape)}"
            )
        with torch.no_grad():
            return self.advance(u, state).to(state.dtype)

    def train(self, mode: bool = True) -> Recurrent:
        if mode:
            self._steps.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Recurrent:
        self._steps.clear()
        return super()._apply(fn, recurse)


class RecurrentThrough(nn.Module):
    """A module whose recurrence is that of the module inside it, :meth:`recurrent`."""

    @abstractmethod
    def recurrent(self) -> Recurrent | RecurrentThrough:
        """The module inside."""

    def setup_step(self, mode: str = "dense") -> None:
        """See :meth:`Recurrent.setup_step`."""
        self.recurrent().setup_step(mode)

    def default_state(self, *batch: int) -> Tensor:
        """See :meth:`Recurrent.default_state`."""
        return self.recurrent().default_state(*batch)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Recurrent.step`."""
        return self.recurrent().step(u, state)

    def forward_state(self, u: Tensor, state: Tensor) -> Tensor:
        """See :meth:`Recurrent.forward_state`."""
        return self.recurrent().forward_state(u, state)
