"""How results are judged: against double precision truth, by a rule that grows with the problem and
not with hope.

``limit = 2 x (error of the float32 reference itself) + floor``: a fused kernel may lose no more
than the readable torch expression does, plus a few roundings. For float64 the reference's own error
is its float32 error times the ratio of the two machine epsilons, since nothing more precise is at
hand. Where a case promises an absolute accuracy (``Case.limit``), that holds as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from ecgcore import _backend, ops
from ecgcore.testing.cases import CASES, Case, cases

FLOOR = {
    torch.float32: 2e-6,
    torch.float64: 1e-12,
    torch.bfloat16: 2**-8,
    torch.float16: 2**-11,
}
"""Relative error that is always allowed; for the half types half a unit in the last place of the
largest value."""
FACTOR = 2.0
REFERENCE_DRAWS = 8

Op = Callable[..., Tensor]


@dataclass(frozen=True)
class Result:
    """Relative error of one quantity of one case: ``output``, or ``grad NAME``."""

    op: str
    case: str
    dtype: str
    quantity: str
    error: float
    limit: float

    @property
    def ok(self) -> bool:
        return self.error <= self.limit  # false for nan


def relative_error(a: Tensor, b: Tensor) -> float:
    """``max|a - b| / max|b|`` over the whole array, in double precision on the CPU; NaN where
    either holds a NaN.

    0 for empty arrays, infinite where ``b`` alone is all zeros. The shapes must agree.
    """
    if a.shape != b.shape:
        raise ValueError(
            f"relative_error: shapes must agree, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if a.numel() == 0:
        return 0.0
    a, b = widen(a), widen(b)
    difference, scale = (a - b).abs().max().item(), b.abs().max().item()
    if difference == 0.0:
        return 0.0
    return difference / scale if scale != 0.0 else math.inf


def widen(value: Tensor) -> Tensor:
    """The same numbers in double precision on the CPU, outside any graph."""
    return value.detach().to("cpu", torch.complex128 if value.is_complex() else torch.float64)


def upcast(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """``inputs`` of an op with every floating point tensor in double precision on the CPU."""
    return {
        name: widen(value)
        if isinstance(value, Tensor) and (value.is_complex() or value.is_floating_point())
        else value
        for name, value in inputs.items()
    }


def reference(op: str) -> Op:
    """The readable torch expression of ``op``."""
    return _one_output(op, CASES[op][0].function(ops.reference))


def native(op: str) -> Op:
    """The public function of ``op``, on whatever ``ecgcore.backend`` says."""
    return _one_output(op, CASES[op][0].function(ops))


def _one_output(op: str, function: Callable[..., Any]) -> Op:
    """``function`` as one of its arguments: what it writes, it writes to copies, which are its
    output; where there are several tensors, they come as one real vector."""
    writes = CASES[op][0].writes

    def run(*args: Any, **kwargs: Any) -> Tensor:
        copies = {
            name: kwargs[name].clone(memory_format=torch.contiguous_format)
            for name in writes
            if kwargs.get(name) is not None
        }
        output = function(*args, **{**kwargs, **copies})
        if writes:
            output = tuple(copies.values())
        if isinstance(output, Tensor):
            return output
        parts = [p for t in output for p in ((t.real, t.imag) if t.is_complex() else (t,))]
        return parts[0] if len(parts) == 1 else torch.cat([part.reshape(-1) for part in parts])

    return run


def cotangent(shape: torch.Size, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Seeded normal numbers, the same on every device, rounded to ``dtype`` from the same
    doubles."""
    generator = torch.Generator().manual_seed(1)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return torch.randn(shape, generator=generator, dtype=wide).to(dtype).to(device)


def evaluate(
    function: Op, inputs: Mapping[str, Any], wrt: Sequence[str], dy_dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """``{"output": ..., "grad NAME": ...}`` of ``function(**inputs)`` for the cotangent above.

    ``dy_dtype``: round the cotangent to that type first, so that a double precision run sees the
    numbers of another.
    """
    leaves = {name: inputs[name].detach().clone().requires_grad_() for name in wrt}
    output = function(**{**inputs, **leaves})
    found = {"output": output.detach()}
    if wrt:
        dy = cotangent(output.shape, dy_dtype or output.dtype).to(output.dtype).to(output.device)
        gradients = torch.autograd.grad(output, list(leaves.values()), dy)
        found |= {f"grad {name}": g for name, g in zip(wrt, gradients, strict=True)}
    return found


@lru_cache(maxsize=1024)
def truth(case: Case, dtype: torch.dtype, dy_dtype: torch.dtype) -> dict[str, Tensor]:
    """What the double precision reference makes of the ``dtype`` inputs of ``case``."""
    return evaluate(reference(case.op), upcast(case.inputs(dtype)), case.wrt, dy_dtype)


@cache
def reference_error(case: Case) -> dict[str, float]:
    """The error of the float32 reference itself, per quantity; 0 where it overflows, which grants
    nobody anything.

    The largest over a few problems that differ by 1e-5: where terms cancel, one float32 result may
    be lucky by a factor of ten, and luck is no bar to hold others to.
    """
    worst: dict[str, float] = {}
    for draw in range(REFERENCE_DRAWS):
        inputs = nudged(case.inputs(torch.float32), draw)
        own = evaluate(reference(case.op), inputs, case.wrt)
        exact = evaluate(reference(case.op), upcast(inputs), case.wrt, own["output"].dtype)
        for name, value in own.items():
            error = relative_error(value, exact[name])
            worst[name] = max(worst.get(name, 0.0), error if math.isfinite(error) else 0.0)
    return worst


def nudged(inputs: Mapping[str, Any], draw: int) -> dict[str, Any]:
    """``inputs`` with every number moved by about 1e-5 of itself; as they are for ``draw`` 0."""
    generator = torch.Generator().manual_seed(draw)

    def move(value: Any) -> Any:
        if not isinstance(value, Tensor) or draw == 0:
            return value
        if value.is_complex():
            return torch.view_as_complex(move(torch.view_as_real(value.resolve_conj())))
        if not value.is_floating_point():
            return value
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        return (value * (1 + 1e-5 * noise)).to(value.dtype)

    return {name: move(value) for name, value in inputs.items()}


def limit(case: Case, quantity: str, dtype: torch.dtype) -> float:
    """The largest relative error allowed of a quantity that is stored as ``dtype``."""
    real = dtype.to_real() if dtype.is_complex else dtype
    shrink = torch.finfo(real).eps / torch.finfo(torch.float32).eps if real.itemsize > 4 else 1.0
    allowed = FACTOR * reference_error(case)[quantity] * shrink + FLOOR[real]
    if quantity != "output" or case.limit is None or real != torch.float32:
        return allowed
    return min(allowed, case.limit) if _backend.current_backend() == "native" else allowed


def check(
    case: Case,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    function: Op | None = None,
) -> list[Result]:
    """Run ``case`` forward and backward and judge every quantity against double precision truth."""
    inputs = case.inputs(dtype, device)
    found = evaluate(function or native(case.op), inputs, case.wrt)
    for name in case.wrt:
        if found[f"grad {name}"].dtype != inputs[name].dtype:
            given = found[f"grad {name}"].dtype
            raise TypeError(f"{case.op}: grad {name} must be {inputs[name].dtype}, got {given}")
    exact = truth(case, dtype, found["output"].dtype)
    return [
        Result(
            case.op,
            case.name,
            str(dtype).removeprefix("torch."),
            name,
            relative_error(value, exact[name]),
            limit(case, name, value.dtype),
        )
        for name, value in found.items()
    ]


def check_all(
    chosen: Iterable[Case], dtypes: Sequence[torch.dtype], device: torch.device | str = "cpu"
) -> Iterator[Result]:
    for case in chosen:
        for dtype in dtypes:
            yield from check(case, dtype, device)


def quick_check() -> list[Result]:
    """A self-test of about two seconds: a few cases of every op, forward and backward, in
    float32."""
    return list(check_all(cases(None, "quick"), [torch.float32]))


def _strain(result: Result) -> float:
    """How much of its limit a result uses; a NaN uses all there is."""
    return result.error / result.limit if math.isfinite(result.error) else math.inf


def table(results: Iterable[Result]) -> str:
    """One row per case and precision: the output's error, and the gradient that comes nearest to
    its limit."""
    header = ("op", "case", "dtype", "output", "limit", "gradient", "limit", "of", "")
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.op, result.case, result.dtype), []).append(result)
    rows = [header]
    for key, (output, *gradients) in groups.items():
        worst = max(gradients, key=_strain, default=None)
        rows.append(
            (
                *key,
                f"{output.error:.1e}",
                f"{output.limit:.1e}",
                f"{worst.error:.1e}" if worst else "",
                f"{worst.limit:.1e}" if worst else "",
                worst.quantity.removeprefix("grad ") if worst else "",
                "ok" if output.ok and all(r.ok for r in gradients) else "FAIL",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join(lines)
