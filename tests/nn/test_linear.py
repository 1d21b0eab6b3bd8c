"""The linear map is torch's, whatever it runs on."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ecgcore.nn.linear import Linear, linear
from ecgcore.testing.compare import relative_error
from s4_checks import copies


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 3, 5), (1, 5), (5,), (2, 1, 5), (4, 0, 5), (300, 5)])
@pytest.mark.parametrize("features", [1, 6])
def test_is_torch_s(shape, features, bias):
    x = torch.randn(shape, requires_grad=True)
    weight = torch.randn(features, 5, requires_grad=True)
    b = torch.randn(features, requires_grad=True) if bias else None
    leaves = [x, weight, *([b] if bias else [])]
    found, expected = [], []
    for results, function in ((found, linear), (expected, F.linear)):
        y = function(x, weight, b)
        results += [y, *torch.autograd.grad(y.square().sum(), leaves)]
    for a, e in zip(found, expected, strict=True):
        assert a.shape == e.shape
        assert relative_error(a, e) <= 1e-6


def test_strided_rows_and_one_feature():
    x = torch.randn(6, 4, 9).permute(2, 0, 1)
    weight = torch.randn(3, 4)
    assert relative_error(linear(x, weight), F.linear(x, weight)) <= 1e-6
    assert (
        relative_error(linear(x[..., :1], weight[:, :1]), F.linear(x[..., :1], weight[:, :1]))
        <= 1e-6
    )
    assert linear(x, weight).is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_and_autocast(dtype):
    x, weight = torch.randn(5, 4, dtype=dtype), torch.randn(3, 4, dtype=dtype)
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x.float(), weight.float()).dtype == torch.bfloat16
    with pytest.raises(RuntimeError):
        linear(x, weight.to(torch.float32))


def test_module():
    torch.manual_seed(3)
    ours = Linear(4, 3)
    torch.manual_seed(3)
    theirs = torch.nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    x = torch.randn(5, 4)
    assert relative_error(ours(x), theirs(x)) <= 1e-6
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    assert relative_error(compiled(x), theirs(x)) <= 1e-6
    for other in copies(ours):
        assert torch.equal(other(x), ours(x))


def test_second_derivatives():
    x = torch.randn(3, 4, requires_grad=True)
    weight = torch.randn(2, 4, requires_grad=True)
    y = linear(x, weight).square().sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    g.square().sum().backward()
    assert weight.grad.abs().sum() > 0
