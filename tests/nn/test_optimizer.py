"""Parameter groups: S4's parameters by their notes, everything else by the arguments."""

from __future__ import annotations

import copy

import pytest
import torch

from ecgcore import nn


def model() -> torch.nn.ModuleDict:
    return torch.nn.ModuleDict(
        {
            "linear": torch.nn.Linear(4, 4),
            "first": nn.S4(4, d_state=4, l_max=8, trainable=True, lr=0.002),
            "second": nn.elsm.S4(4, d_state=4, l_max=8, lr={"dt": 0.005, "A": 0.002, "B": None}),
            "diagonal": nn.S4D(4, d_state=4, lr=0.002),
        }
    )


def named(model: torch.nn.Module, group: dict) -> list[str]:
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(p)] for p in group["params"]]


def test_groups_follow_the_notes_in_a_stable_order():
    m = model()
    groups = nn.optimizer_groups(m, lr=0.01, weight_decay=0.1)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [
        (0.01, 0.1),
        (0.002, 0.0),
        (0.005, 0.0),
        (0.01, 0.0),
    ]
    plain, slow, steps, undecayed = (named(m, g) for g in groups)
    assert slow == [
        *(f"first.kernel.kernel.{k}" for k in ("log_dt", "B", "P", "w", "Q")),
        *(f"second.kernel.kernel.{k}" for k in ("P", "inv_w_real", "w_imag")),
        *(f"diagonal.kernel.{k}" for k in ("log_dt", "log_A_real", "A_imag")),
    ]
    assert steps == ["second.kernel.kernel.log_dt"]
    assert undecayed == ["second.kernel.kernel.B"]
    assert {"linear.weight", "first.D", "first.kernel.kernel.C", "diagonal.kernel.C"} <= set(plain)
    every = [p for g in groups for p in g["params"]]
    assert len(every) == len({id(p) for p in every}) == len(list(m.parameters()))


@pytest.mark.parametrize("moved", [copy.deepcopy, lambda m: m.double(), lambda m: m.to("meta")])
def test_copies_and_conversions_keep_the_notes(moved):
    def shape(m):
        return [(g["lr"], named(m, g)) for g in nn.optimizer_groups(m, 0.01, 0.1)]

    assert shape(moved(model())) == shape(model())


def test_frozen_and_shared_parameters_are_in_exactly_one_group():
    m = model()
    m["twin"] = torch.nn.Linear(4, 4)
    m["twin"].weight = m["linear"].weight
    m["again"] = m["diagonal"].kernel
    m["linear"].weight.requires_grad_(False)
    groups = nn.optimizer_groups(m, 0.01, 0.1)
    every = [id(p) for g in groups for p in g["params"]]
    assert sorted(every) == sorted(id(p) for p in m.parameters())
    assert id(m["linear"].weight) in every


def test_a_step_of_adamw_uses_each_groups_rate_and_decay():
    layer = nn.S4D(4, d_state=4, lr=1e-3)
    before = {k: v.detach().clone() for k, v in layer.named_parameters()}
    optimizer = torch.optim.AdamW(nn.optimizer_groups(layer, lr=0.1, weight_decay=0.5))
    layer(torch.randn(2, 4, 20))[0].square().mean().backward()
    optimizer.step()
    for name, parameter in layer.named_parameters():
        own = name.startswith("kernel.") and name != "kernel.C"
        rate, decay = (1e-3, 0.0) if own else (0.1, 0.5)
        step = rate * parameter.grad / (parameter.grad.abs() + 1e-8)  # Adam's first step
        expected = before[name] * (1 - rate * decay) - step
        assert torch.allclose(parameter, expected, atol=1e-6), name


def test_only_settings_that_are_understood_are_taken():
    linear = torch.nn.Linear(2, 2)
    linear.weight._optim = {"lr": 0.1, "momentum": 0.9}
    with pytest.raises(ValueError, match="weight notes momentum; lr and weight_decay"):
        nn.optimizer_groups(linear, 0.01, 0.1)
    with pytest.raises(ValueError, match="model has no parameters"):
        nn.optimizer_groups(torch.nn.GELU(), 0.01, 0.1)
