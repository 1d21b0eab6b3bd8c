"""What every op promises, over the case lists: accuracy, gradients, fake kernels, layouts, errors,
the same bits.

The cases come from ``ecgcore.testing``; what only one op does is tested in that op's own file.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import ecgcore
from ecgcore import ops
from ecgcore.testing import (
    ANY_ORDER,
    CASES,
    COMPOSED,
    CPU_ONLY,
    HALF_OPS,
    INFERENCE,
    Case,
    cases,
    check,
)
from ecgcore.testing.compare import cotangent, evaluate, native, reference, relative_error
from layouts import same, strided
from op_calls import record_calls
from support import ONE_BACKEND

OPS = tuple(CASES)
DIFFERENTIABLE = [op for op in OPS if op not in INFERENCE]
ONCE = [op for op in DIFFERENTIABLE if op not in ANY_ORDER]
LONGER_IS_AS_GOOD = {
    ("cauchy", "z"),  # more nodes
    ("s4_conv", "spectrum"),  # a longer period
    ("phase_shuffle", "x"),
    ("conditional_batch_norm", "x"),
    ("upsample_conv1d", "x"),
}
WITH_CASES = [pytest.param(c, id=f"{c.op}-{c}") for c in cases(without="bench")]
SMALL = [pytest.param(c, id=f"{c.op}-{c}") for c in cases(None, "gradcheck") if c.wrt]
QUICK = [pytest.param(c, id=f"{c.op}-{c}") for c in cases(None, "quick")]
MANY_ROWS = [p for p in WITH_CASES if "512" in str(p.values[0])]


def quick(op: str) -> Case:
    return cases(op, "quick")[0]


def tensors(inputs: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in inputs.items() if isinstance(value, Tensor)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("case", WITH_CASES)
def test_error_is_within_twice_the_references_own(
    case: Case, dtype: torch.dtype, device: str, op_backend: str
) -> None:
    if op_backend == "reference":  # float32 torch keeps to its own error, not to what ours promise
        case = dataclasses.replace(case, limit=None)
    bad = [r for r in check(case, dtype, device) if not r.ok]
    assert not bad, "\n".join(f"{r.quantity}: {r.error:.2e} > {r.limit:.2e}" for r in bad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize("case", [p for p in WITH_CASES if p.values[0].op in HALF_OPS])
def test_half_precision_loses_only_the_rounding(
    case: Case, dtype: torch.dtype, device: str
) -> None:
    bad = [r for r in check(case, dtype, device) if not r.ok]
    assert not bad, "\n".join(f"{r.quantity}: {r.error:.2e} > {r.limit:.2e}" for r in bad)


@pytest.mark.parametrize("case", SMALL)
def test_gradients_match_finite_differences(case: Case, op_backend: str) -> None:
    inputs = case.inputs(torch.float64)
    leaves = [inputs[name].requires_grad_() for name in case.wrt]

    def function(*values: Tensor) -> Tensor:
        return native(case.op)(**{**inputs, **dict(zip(case.wrt, values, strict=True))})

    assert torch.autograd.gradcheck(function, leaves, atol=1e-6, rtol=1e-4)


def test_only_the_gradients_asked_for_are_computed_and_they_do_not_change(op_backend: str) -> None:
    for op in DIFFERENTIABLE:
        case = quick(op)
        inputs = case.inputs()
        together = evaluate(native(op), inputs, case.wrt)
        for name in case.wrt:
            alone = evaluate(native(op), inputs, (name,))
            # One gradient alone may take a cheaper path: the numbers agree, not the bits.
            error = relative_error(alone[f"grad {name}"], together[f"grad {name}"])
            assert error < 5e-6, f"{op}: grad {name} alone differs by {error}"


@pytest.mark.parametrize("case", QUICK)
def test_strided_inputs_and_gradients_give_the_same_bits(case: Case) -> None:
    inputs = case.inputs()
    odd = {k: strided(v) if isinstance(v, Tensor) else v for k, v in inputs.items()}
    assert not all(v.is_contiguous() for v in tensors(odd).values())
    expected = evaluate(native(case.op), inputs, case.wrt)
    leaves = [odd[name].detach().requires_grad_() for name in case.wrt]
    output = native(case.op)(**{**odd, **dict(zip(case.wrt, leaves, strict=True))})
    dy = strided(cotangent(output.shape, output.dtype))
    gradients = torch.autograd.grad(output, leaves, dy) if leaves else ()
    found = {f"grad {name}": g for name, g in zip(case.wrt, gradients, strict=True)}
    same({"output": output.detach(), **found}, expected)


@pytest.mark.parametrize("case", QUICK)
def test_lazily_conjugated_and_negated_views_are_read_as_their_values(
    case: Case, op_backend: str
) -> None:
    inputs = case.inputs()
    lazy = {
        k: v.conj().resolve_conj().conj() if isinstance(v, Tensor) and v.is_complex() else v
        for k, v in inputs.items()
    }
    for k, v in lazy.items():
        if isinstance(v, Tensor) and v.is_floating_point():
            lazy[k] = torch._neg_view(-v)
    assert any(v.is_conj() or v.is_neg() for v in tensors(lazy).values())
    same(
        {"output": native(case.op)(**lazy)},
        {"output": native(case.op)(**inputs)},
    )


def test_expanded_inputs_collect_the_sum_of_their_gradients(op_backend: str) -> None:
    v = torch.randn(7, dtype=torch.complex128, requires_grad=True)
    z = torch.randn(5, dtype=torch.complex128)
    w = torch.randn(3, 7, dtype=torch.complex128)
    for function in (ops.cauchy, ops.reference.cauchy):
        (grad,) = torch.autograd.grad(function(v.expand(4, 3, 7), z, w).abs().sum(), v)
        (broadcast,) = torch.autograd.grad(function(v, z, w).abs().sum() * 4, v)
        assert relative_error(grad, broadcast) < 1e-13


def test_empty_batches_give_empty_results_and_zero_gradients(op_backend: str) -> None:
    case = quick("s4_conv")
    inputs = case.inputs()
    inputs["u"] = inputs["u"][:0]
    found = evaluate(ops.s4_conv, inputs, case.wrt)
    channels = inputs["spectrum"].shape[0]
    assert found["output"].shape == (0, channels, *inputs["u"].shape[1:])
    assert found["grad u"].shape == inputs["u"].shape
    for name in ("spectrum", "D"):
        assert torch.equal(found[f"grad {name}"], torch.zeros_like(inputs[name]))

    inputs = quick("cauchy").inputs()
    inputs["v"], inputs["w"] = inputs["v"][:0], inputs["w"][:0]
    found = evaluate(ops.cauchy, inputs, ("v", "z", "w"))
    assert found["output"].shape == (0, inputs["z"].numel())
    assert torch.equal(found["grad z"], torch.zeros_like(inputs["z"]))


@pytest.mark.parametrize(
    "case",
    MANY_ROWS + QUICK,
)
def test_same_bits_on_one_and_two_threads_and_again(case: Case, threads: Any) -> None:
    inputs = case.inputs()
    runs = []
    for count in (2, 2, 1, 3):
        threads(count)
        runs.append(evaluate(native(case.op), inputs, case.wrt))
    same(runs[1], runs[0])
    for run in runs[2:] if case.op not in COMPOSED else ():  # torch promises none of that
        same(run, runs[0])


@pytest.mark.parametrize("op", ONCE)
def test_second_derivatives_are_refused_with_the_way_out(op: str) -> None:
    case = cases(op, "gradcheck")[-1]
    inputs = case.inputs(torch.float64)
    leaf = inputs[case.wrt[0]].requires_grad_()
    output = native(op)(**inputs)
    (gradient,) = torch.autograd.grad(output.abs().square().sum(), leaf, create_graph=True)
    with pytest.raises(
        RuntimeError, match=r"double backward is not implemented; use ecgcore\.ops\.reference\."
    ):
        torch.autograd.grad(gradient.abs().sum(), leaf)


@pytest.mark.one_isa
@pytest.mark.parametrize("op", sorted(ANY_ORDER))
def test_second_derivatives_match_finite_differences(op: str) -> None:
    for case in cases(op, "gradcheck"):
        inputs = case.inputs(torch.float64)
        leaves = [inputs[name].requires_grad_() for name in case.wrt]

        def function(*values: Tensor, case: Case = case, inputs: dict[str, Any] = inputs) -> Tensor:
            # Squared, so that there is a second derivative in the one argument of a linear op.
            return native(op)(**{**inputs, **dict(zip(case.wrt, values, strict=True))}).square()

        assert torch.autograd.gradgradcheck(function, leaves, atol=1e-6, rtol=1e-4)


@pytest.mark.one_isa
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_the_reference_has_every_derivative(op: str) -> None:
    case = cases(op, "gradcheck")[-1]
    inputs = case.inputs(torch.float64)
    leaf = inputs[case.wrt[0]].requires_grad_()
    output = reference(op)(**inputs)
    (gradient,) = torch.autograd.grad(output.abs().square().sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(gradient.abs().sum(), leaf)
    assert torch.isfinite(second).all()


@pytest.mark.one_isa
@pytest.mark.parametrize("op", [op for op in OPS if op not in ONE_BACKEND])
def test_the_reference_backend_runs_the_reference(op: str) -> None:
    case = quick(op)
    inputs = case.inputs()
    with ecgcore.backend("reference"):
        assert torch.equal(native(op)(**inputs), reference(op)(**inputs))


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"native.*reference.*got 'fast'"), ecgcore.backend("fast"):
        pass


@pytest.mark.parametrize("case", QUICK)
def test_nans_pass_through_without_a_crash(case: Case, op_backend: str) -> None:
    for name in case.wrt or [
        k
        for k, v in tensors(case.inputs()).items()
        if k not in case.writes and (v.is_floating_point() or v.is_complex())
    ]:
        inputs = case.inputs()
        inputs[name] = torch.full_like(inputs[name], float("nan"))
        found = evaluate(native(case.op), inputs, case.wrt)
        assert torch.isnan(
            torch.view_as_real(found["output"]) if found["output"].is_complex() else found["output"]
        ).any()


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_wrong_dtypes_are_named(op: str) -> None:
    case = quick(op)
    for name in case.wrt:
        inputs = case.inputs()
        wrong = torch.complex128 if inputs[name].is_complex() else torch.float64
        inputs[name] = inputs[name].to(wrong)
        if op != "phase_shuffle":  # its x may have any precision, and is alone
            words = rf"ecgcore::{op}: .*must be .*(complex|float)"
            with pytest.raises((ValueError, RuntimeError), match=words) as error:
                native(op)(**inputs)
            assert "64" in str(error.value)
        inputs[name] = inputs[name].abs().to(torch.int64)
        with pytest.raises((ValueError, RuntimeError), match=rf"ecgcore::{op}: .*int64"):
            native(op)(**inputs)


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_arguments_that_are_no_tensors_are_type_errors(op: str) -> None:
    case = quick(op)
    for name in case.wrt:
        inputs = case.inputs()
        inputs[name] = inputs[name].tolist()
        with pytest.raises(TypeError, match=rf"ecgcore::{op}: {name} must be a tensor, got list"):
            native(op)(**inputs)


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_wrong_shapes_are_named_with_what_was_given(op: str) -> None:
    case = quick(op)
    for name in case.wrt:
        inputs = case.inputs()
        grown = inputs[name] = torch.cat([inputs[name], inputs[name][..., :1]], dim=-1)
        if (op, name) not in LONGER_IS_AS_GOOD:
            with pytest.raises((ValueError, RuntimeError), match=rf"ecgcore::{op}: ") as error:
                native(op)(**inputs)
            assert "shape" in str(error.value)
            if op != "s4_conv" or name != "u":  # a longer signal makes the spectrum too short
                assert str(tuple(grown.shape)) in str(error.value)
        if (op, name) == ("local_attention", "bias"):
            continue  # a single number is one for all
        inputs[name] = torch.zeros((), dtype=grown.dtype)
        with pytest.raises((ValueError, RuntimeError), match=rf"ecgcore::{op}: .*shape"):
            native(op)(**inputs)


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_wrong_devices_are_named(op: str) -> None:
    case = quick(op)
    for name in case.wrt[1:]:
        inputs = case.inputs()
        inputs[name] = inputs[name].to("meta")
        words = rf"ecgcore::{op}: \w+ must be on (cpu, got meta|meta, got cpu)"
        with pytest.raises((ValueError, RuntimeError), match=words):
            native(op)(**inputs)


@pytest.mark.parametrize("op", [op for op in OPS if "L" in quick(op).inputs()])
@pytest.mark.parametrize("L", [0, -3])
def test_lengths_below_one_are_named(op: str, L: int) -> None:
    inputs = quick(op).inputs()
    with pytest.raises((ValueError, RuntimeError), match=rf"ecgcore::{op}: L must be .*1.*{L}"):
        native(op)(**{**inputs, "L": L})


@pytest.mark.parametrize("op", OPS)
def test_the_native_ops_check_for_themselves(op: str) -> None:
    """Direct calls of ``torch.ops.ecgcore`` meet the same walls: no wrong shape or dtype reaches a
    kernel."""
    for function, args in record_calls(cases(op, "gradcheck")[0]):
        for i, value in enumerate(args):
            if not isinstance(value, Tensor) or value.numel() == 0:
                continue
            for wrong in (
                value.new_zeros(()),
                value.abs().to(torch.int32),
                value.new_zeros((9,) * 5),
            ):
                changed = [a.detach() if isinstance(a, Tensor) else a for a in args]
                changed[i] = wrong.detach()
                with pytest.raises(RuntimeError, match="ecgcore::"):
                    function(*changed)


def test_meta_tensors_only_carry_shapes() -> None:
    for op in OPS:
        inputs = quick(op).inputs()
        expected = native(op)(**inputs)
        found = native(op)(
            **{k: v.to("meta") if isinstance(v, Tensor) else v for k, v in inputs.items()}
        )
        assert (found.shape, found.dtype, found.device.type) == (
            expected.shape,
            expected.dtype,
            "meta",
        )


@pytest.mark.one_isa
def test_every_op_has_its_kernel_fake_and_gradient_on_each_device_built_for() -> None:
    built_for = ["CPU"] + ["CUDA"] * (ecgcore.backends()["build"]["cuda"] is not None)
    names = [n for n in torch._C._dispatch_get_all_op_names() if n.startswith("ecgcore::")]
    assert {"ecgcore::cauchy", "ecgcore::nplr_spectrum", "ecgcore::s4_conv"} <= set(names)
    for name in names:
        op = name.removeprefix("ecgcore::")
        keys = [key for key in built_for if key == "CPU" or op not in CPU_ONLY]
        # Whatever writes into tensors of the caller's is for inference.
        if not getattr(torch.ops.ecgcore, op).default._schema.is_mutable:
            keys.append("Autograd")
        for key in keys:
            assert torch._C._dispatch_has_kernel_for_dispatch_key(name, key), f"{name}: no {key}"
        assert torch._library.simple_registry.singleton.find(name).fake_impl.kernel, f"{name}: fake"
