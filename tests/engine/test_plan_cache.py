"""When a plan is remembered, when it is dropped, and which models have none."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from ecgcore import engine
from ecgcore.models.wavenet import Denoiser
from ecgcore.nn.conv import WeightNormConv1d
from ecgcore.nn.s4 import TransposedLinear
from ecgcore.testing.compare import relative_error
from engine_checks import LIMIT, differences, dsat, inputs, prepared, sssd

MAKES = [sssd, dsat]


def plan_of(model: Any, **options: Any) -> object:
    x, y = inputs(model, 2, options.pop("length", 40))
    evaluate: Any = prepared(model, x, y, [1.0, 0.0], **options)
    return evaluate.plan


def settled(make: Callable[[], Denoiser]) -> tuple[Denoiser, object]:
    """A model and its plan, its kernels at their final length."""
    model = make()
    plan_of(model)
    return model, plan_of(model)


@pytest.mark.parametrize("make", MAKES)
def test_one_plan_serves_all_labels_times_and_batches(make):
    model, plan = settled(make)
    assert plan_of(model) is plan
    x, y = inputs(model, 5, 40)
    evaluate: Any = prepared(model, x, y, [3.0])
    assert evaluate.plan is plan
    assert plan_of(model, length=39) is not plan
    assert plan_of(model, precision="bf16") is not plan


def _write(model: Any) -> None:
    with torch.no_grad():
        model.residual_layer.residual_blocks[1].skip_conv.bias.add_(0.5)


def _step(model: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def _load(model: Any) -> None:
    state = model.state_dict()
    state["final_conv.2.conv.weight"] = state["final_conv.2.conv.weight"] + 1
    model.load_state_dict(state)


def _replace(model: Any) -> None:
    model.final_conv[2].conv.weight = nn.Parameter(model.final_conv[2].conv.weight + 1)


def _wider_norm(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 0.3


@pytest.mark.parametrize("change", [_write, _step, _load, _replace, _wider_norm])
@pytest.mark.parametrize("make", MAKES)
def test_a_change_of_the_model_drops_the_plan(make, change):
    model, plan = settled(make)
    x, y = inputs(model, 2, 40)
    index = torch.tensor([1])
    evaluate = prepared(model, x, y, [1.0, 0.0])
    before = evaluate(index, x).clone()
    change(model)
    assert plan_of(model) is not plan
    assert max(differences(model, 2, 40)) <= LIMIT
    # What was prepared before is of the model as it was.
    assert torch.equal(evaluate(index, x), before)
    after = prepared(model, x, y, [1.0, 0.0])(index, x)
    assert relative_error(after, before) > 100 * LIMIT


@pytest.mark.parametrize("make", MAKES)
def test_another_dtype_and_training_drop_the_plan(make):
    model, plan = settled(make)
    model.double()
    assert max(differences(model, 2, 40, dtype=torch.float64)) <= 1e-12
    model.float()
    assert plan_of(model) is not plan
    plan = plan_of(model)
    model.train()
    x, y = inputs(model, 2, 40)
    assert not hasattr(prepared(model, x, y, [1.0]), "plan")
    model.eval()
    assert plan_of(model) is not plan


def test_other_switches_of_the_kernels_drop_the_plan():
    model, plan = settled(sssd)
    for block in model.residual_layer.residual_blocks:
        block.S41.s4_layer.kernel.kernel.conjugate_pairs = False
    assert plan_of(model) is not plan
    assert max(differences(model, 2, 40)) <= LIMIT
    model, plan = settled(dsat)
    model.residual_layer.residual_blocks[0].spade_1.s4_weight = 0.9
    assert plan_of(model) is not plan
    assert max(differences(model, 2, 40)) <= LIMIT


@pytest.mark.parametrize("make", MAKES)
def test_writing_through_data_wants_clear(make):
    model, plan = settled(make)
    model.init_conv[0].conv.bias.data.add_(1.0)
    assert plan_of(model) is plan
    engine.clear(model)
    assert plan_of(model) is not plan
    assert max(differences(model, 2, 40)) <= LIMIT


@pytest.mark.parametrize("make", MAKES)
def test_copies_and_pickles_hold_no_plan(make):
    model, _ = settled(make)
    keys = set(model.state_dict())
    size = len(pickle.dumps(make()))
    assert len(pickle.dumps(model)) < 1.2 * size
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert set(twin.state_dict()) == keys
        assert twin.compiled._entry is None
        assert model.compiled._entry is not None
        x, y = inputs(model, 2, 40)
        index = torch.tensor([0])
        expected = prepared(model, x, y, [1.0])(index, x)
        assert torch.equal(prepared(twin, x, y, [1.0])(index, x), expected)


def _hooked(model: Any, register: str) -> list[str]:
    called: list[str] = []
    part = model.residual_layer.residual_blocks[1]
    getattr(part, register)(lambda *_: called.append(register))
    return called


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize("make", MAKES)
def test_hooks_run_with_the_module(make, register):
    model, _ = settled(make)
    called = _hooked(model, register)
    assert "residual_layer.residual_blocks.1 has a forward hook" in str(engine.obstacle(model))
    x, y = inputs(model, 2, 40)
    prepared(model, x, y, [1.0])(torch.tensor([0]), x)
    assert called == [register]


class _Louder(nn.Conv1d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def _louder_end(model: Any) -> None:
    old = model.final_conv[2].conv
    model.final_conv[2].conv = _Louder(old.in_channels, old.out_channels, 1)


def _longer_end(model: Any) -> None:
    model.final_conv.append(nn.Tanh())


def _own_forward(model: Any) -> None:
    model.init_conv.forward = lambda x: nn.Sequential.forward(model.init_conv, x) + 1


def _dilated(model: Any) -> None:
    conv = model.residual_layer.residual_blocks[0].conv_layer.conv
    conv.dilation = conv.padding = 2


def _wider_start(model: Any) -> None:
    model.init_conv[0].conv = WeightNormConv1d(8, 6, kernel_size=3)


def _wider_conv(model: Any) -> None:
    model.residual_layer.residual_blocks[1].conv_layer.conv = WeightNormConv1d(6, 12, kernel_size=5)


def _end_without_bias(model: Any) -> None:
    model.final_conv[2].conv = nn.Conv1d(4, 8, 1, bias=False)


def _subclass(model: Any) -> None:
    class Mine(type(model)):
        def forward(self, *args: Any) -> torch.Tensor:
            return 3 * super().forward(*args)

    model.__class__ = Mine


def _no_gelu(model: Any) -> None:
    model.residual_layer.residual_blocks[0].S41.s4_layer.activation = "tanh"


def _two_maps(model: Any) -> None:
    layer = model.residual_layer.residual_blocks[0].S42.s4_layer
    layer.output_linear = nn.Sequential(layer.output_linear, TransposedLinear(12, 12))


SURGERY: dict[Any, list[Callable[[Any], None]]] = {
    sssd: [
        _louder_end,
        _longer_end,
        _own_forward,
        _dilated,
        _wider_start,
        _wider_conv,
        _end_without_bias,
        _subclass,
        _no_gelu,
        _two_maps,
    ],
    dsat: [_louder_end, _longer_end, _own_forward, _dilated, _subclass],
}


@pytest.mark.parametrize(
    ("make", "change"), [(make, change) for make, all_ in SURGERY.items() for change in all_]
)
def test_a_model_changed_by_hand_runs_as_it_is(make, change):
    model, _ = settled(make)
    change(model)
    assert engine.obstacle(model) is not None
    x, y = inputs(model, 2, 40)
    eps = prepared(model, x, y, [1.0])(torch.tensor([0]), x)
    with torch.no_grad():
        assert torch.equal(eps, model(x, y, torch.ones(2, 1)))


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("options", [{"bias": False}, {"elementwise_affine": False}])
def test_layer_norms_without_weights_are_compiled(make, options):
    model = make()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.LayerNorm):
                setattr(module, name, nn.LayerNorm(child.normalized_shape, **options))
    assert engine.obstacle(model.eval()) is None
    assert max(differences(model, 2, 40)) <= LIMIT


def test_a_global_hook_counts_too():
    model = sssd()
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert engine.obstacle(model) == "all modules have a forward hook"
    finally:
        handle.remove()
    assert engine.obstacle(model) is None
