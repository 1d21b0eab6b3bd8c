"""What every op file needs: argument errors of one style, and the refusal of second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

REAL_OF = {torch.complex64: torch.float32, torch.complex128: torch.float64}
COMPLEX_OF = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def fail(op: str, text: str) -> NoReturn:
    """Raise ``ValueError`` in the words all ops use: who, what was expected, what came."""
    raise ValueError(f"ecgcore::{op}: {text}")


def check_tensor(op: str, name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"ecgcore::{op}: {name} must be a tensor, got {type(value).__name__}")


def check_dtype(op: str, name: str, value: Tensor, *allowed: torch.dtype) -> None:
    if value.dtype not in allowed:
        words = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        got = str(value.dtype).removeprefix("torch.")
        fail(op, f"{name} must be {words}, got {got}")


def check_device(op: str, name: str, value: Tensor, expected: torch.device) -> None:
    if value.device != expected:
        fail(op, f"{name} must be on {expected}, got {value.device}")


def check_shape(
    op: str, name: str, value: Tensor, symbols: str, expected: tuple[int | None, ...]
) -> None:
    """``symbols`` names the axes, as ``"(C, H, N)"``; ``None`` in ``expected`` accepts any size."""
    if len(value.shape) == len(expected) and all(
        want is None or want == got for want, got in zip(expected, value.shape, strict=True)
    ):
        return
    sizes = "" if None in expected else f" = {tuple(expected)}"
    fail(op, f"{name} must have shape {symbols}{sizes}, got {tuple(value.shape)}")


def check_operand(
    op: str,
    name: str,
    value: Any,
    dtype: torch.dtype,
    device: torch.device,
    symbols: str,
    shape: tuple[int | None, ...],
) -> None:
    """All of the above for one operand; a single comparison where there is nothing to say."""
    if (
        isinstance(value, Tensor)
        and value.dtype == dtype
        and value.shape == shape
        and value.device == device
    ):
        return
    check_tensor(op, name, value)
    check_dtype(op, name, value, dtype)
    check_device(op, name, value, device)
    check_shape(op, name, value, symbols, shape)


def check_feature_shape(
    op: str,
    name: str,
    value: Tensor,
    symbols: str,
    expected: tuple[int | None, ...],
    given: str,
) -> None:
    """As :func:`check_shape`; where ``symbols`` says ``H|1``, a 1 may stand for the features.

    ``given`` is what the expectation comes from, as ``"C (2, 512, 32)"``.
    """
    got = tuple(value.shape)
    tied = "H|1" in symbols and len(got) == len(expected) and got[-2] == 1
    wanted = (*expected[:-2], 1, expected[-1]) if tied else expected
    if len(got) != len(wanted) or any(
        want not in (None, size) for want, size in zip(wanted, got, strict=True)
    ):
        fail(op, f"{name} must have shape {symbols} for {given}, got {got}")


def check_length(op: str, L: int) -> None:
    if L < 1:
        fail(op, f"L must be at least 1, got {L}")


def wide_like(value: Tensor) -> torch.dtype:
    """complex128 or float64."""
    return torch.complex128 if value.is_complex() else torch.float64


def has_plan(n: int) -> bool:
    """Whether the kernels' Fourier transforms know the length: no prime factor above 7."""
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1


def dense(value: Tensor) -> Tensor:
    """The tensor as the kernels read it: contiguous, lazy conjugation and negation carried out."""
    if not torch.compiler.is_compiling():  # the compiler cannot ask the questions
        lazy = value.is_conj() or value.is_neg()
        if value.is_contiguous() and not lazy:
            return value
    return value.resolve_conj().resolve_neg().contiguous()


def fake_gradients(inputs: tuple[Tensor, ...], wanted: list[bool]) -> tuple[Tensor, ...]:
    """What a backward op returns: a tensor like each input, empty where nobody wants it."""
    return tuple(
        torch.empty_like(x) if want else x.new_empty((0,))
        for x, want in zip(inputs, wanted, strict=True)
    )


def wanted_gradients(grads: tuple[Tensor, ...], wanted: list[bool]) -> tuple[Tensor | None, ...]:
    return tuple(g if want else None for g, want in zip(grads, wanted, strict=True))


def register_autograd(
    name: str, backward: Callable[..., Any], setup_context: Callable[..., None]
) -> Callable[..., Any]:
    """Give ``ecgcore::<name>`` its derivative; returns the op as eager code should call it.

    That takes the same two functions through a ``torch.autograd.Function`` of its own: a call costs
    60 us less, of 120, than through ``torch.library``, which goes from Python to the dispatcher and
    back twice. Transforms of ``torch.func`` know no functions of ``torch.library`` at all, and none
    of this form: they get a third. While torch traces, and where nothing needs a gradient, it is
    the op itself.
    """
    torch.library.register_autograd(f"ecgcore::{name}", backward, setup_context=setup_context)
    op = getattr(torch.ops.ecgcore, name).default

    # Not with setup_context apart from forward: torch then inspects forward's signature every time.
    def forward(ctx: Any, *args: Any) -> Any:
        output = op(*args)
        setup_context(ctx, args, output)
        return output

    def function(**members: Any) -> Any:
        members = {"backward": staticmethod(backward), **members}
        return type(name, (torch.autograd.Function,), members)

    eager = function(forward=staticmethod(forward))
    transformed = function(
        forward=staticmethod(lambda *args: op(*args)),
        setup_context=staticmethod(setup_context),
        generate_vmap_rule=True,
    )

    def call(*args: Any) -> Any:
        if not torch.compiler.is_compiling():
            if torch._C._are_functorch_transforms_active():
                return transformed.apply(*args)
            if torch.is_grad_enabled():
                for value in args:
                    if isinstance(value, Tensor) and value.requires_grad:
                        return eager.apply(*args)
        return op(*args)

    return call


def refuse_double_backward(op: str) -> Callable[..., Any]:
    """Make a second derivative through ``ecgcore::<op>`` an error that names the way out; returns
    its backward op as eager code should call it."""

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        raise RuntimeError(
            f"ecgcore::{op}: double backward is not implemented; use ecgcore.ops.reference.{op}"
        )

    return register_autograd(f"{op}_backward", backward, setup_context)
