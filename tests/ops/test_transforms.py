"""What torch makes of the ops: ``opcheck``, ``torch.compile``, the transforms of ``torch.func``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.testing import CASES, COMPOSED, INFERENCE, Case, cases
from ecgcore.testing.compare import cotangent, evaluate, native, relative_error
from layouts import same
from op_calls import record_calls

OPS = tuple(CASES)
DIFFERENTIABLE = [op for op in OPS if op not in INFERENCE]


def quick(op: str) -> Case:
    return cases(op, "quick")[0]


@pytest.mark.one_isa
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_transforms_of_torch_func_give_the_gradients_of_autograd(op: str) -> None:
    case = quick(op)
    inputs = case.inputs()
    if op == "conditional_batch_norm":  # nobody may change running statistics inside a transform
        inputs["training"] = False
    expected = evaluate(native(op), inputs, case.wrt)
    leaves = [inputs[name] for name in case.wrt]

    def function(*values: Tensor) -> Tensor:
        return native(op)(**{**inputs, **dict(zip(case.wrt, values, strict=True))})

    output, pullback = torch.func.vjp(function, *leaves)
    gradients = pullback(cotangent(output.shape, output.dtype))
    found = {f"grad {name}": g for name, g in zip(case.wrt, gradients, strict=True)}
    same({"output": output, **found}, expected)
    if op not in COMPOSED:  # torch.library would give tangents of zero
        with pytest.raises(NotImplementedError, match="jvp"):
            torch.func.jvp(function, tuple(leaves), tuple(leaves))


@pytest.mark.one_isa
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_gradients_of_each_sample_by_vmap() -> None:
    u, spectrum = torch.randn(3, 2, 8), torch.fft.rfft(torch.randn(1, 2, 8), n=16)

    def loss(spectrum: Tensor, u: Tensor) -> Tensor:
        return ops.s4_conv(u.unsqueeze(0), spectrum).pow(2).sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(spectrum, u)
    for b in range(3):
        leaf = spectrum.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(leaf, u[b]), leaf)
        assert relative_error(found[b], expected) < 1e-6


@pytest.mark.one_isa
@pytest.mark.parametrize("op", [op for op in OPS if op not in COMPOSED])
def test_opcheck_is_clean_for_every_native_op_called(op: str) -> None:
    """opcheck on the exact calls that the public function and its backward make of
    ``torch.ops.ecgcore``."""
    for case in cases(op, "gradcheck")[1::2]:  # every kind of argument; a call takes a second
        calls = record_calls(case)
        assert calls, f"{op} calls no native op"
        for function, args in calls:
            torch.library.opcheck(function, args)


@pytest.mark.one_isa
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("op", OPS)
def test_compiles_without_a_graph_break_forward_and_backward(op: str) -> None:
    case = quick(op)
    inputs = case.inputs()
    torch.compiler.reset()
    compiled = torch.compile(native(op), fullgraph=True, backend="aot_eager")
    expected, found = (evaluate(f, inputs, case.wrt) for f in (native(op), compiled))
    for name, value in expected.items():
        assert relative_error(found[name], value) < 1e-6, name


@pytest.mark.one_isa
@pytest.mark.no_sanitizer
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
def test_compiles_with_inductor_and_dynamic_batch() -> None:
    torch.compiler.reset()
    compiled = torch.compile(ops.cauchy, fullgraph=True, dynamic=True)
    for rows in (2, 5):
        v, w = (
            torch.randn(rows, 7, dtype=torch.complex64),
            torch.randn(rows, 7, dtype=torch.complex64),
        )
        z = torch.randn(11, dtype=torch.complex64) * 5
        assert relative_error(compiled(v, z, w), ops.cauchy(v, z, w)) < 1e-6
