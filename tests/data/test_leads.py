"""Lead names, orders and the eight-lead bases."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ecgcore import data
from ecgcore.errors import DataError


def test_rebuilding_twelve_leads_equals_the_reference(shared):
    fixture = np.load(shared / "fixtures" / "lead_rebuild_8to12.npz", allow_pickle=False)
    x8, x12 = fixture["in/x8"], fixture["out/x12"]
    config = json.loads(str(fixture["config"]))
    assert np.array_equal(data.to_twelve_leads(x8), x12)
    assert np.array_equal(data.to_twelve_leads(torch.from_numpy(x8)).numpy(), x12)
    assert np.array_equal(data.to_eight_leads(x12), x12[:, config["select_8_of_12"]])


@pytest.mark.parametrize("basis", ["I-aVF", "I-II"])
@pytest.mark.parametrize(
    ("order", "names"), [("reference", data.REFERENCE_LEADS), ("ptbxl", data.LEADS)]
)
def test_every_basis_and_order_satisfies_the_lead_relations(basis, order, names):
    x8 = np.random.default_rng(0).standard_normal((2, 8, 50))
    x12 = data.to_twelve_leads(x8, basis=basis, order=order)
    lead = dict(zip(names, np.moveaxis(x12, -2, 0), strict=True))
    for name, row in zip(data.BASES[basis], np.moveaxis(x8, -2, 0), strict=True):
        assert np.array_equal(lead[name], row)
    for got, want in {
        "III": lead["II"] - lead["I"],
        "aVR": -(lead["I"] + lead["II"]) / 2,
        "aVL": lead["I"] - lead["II"] / 2,
        "aVF": lead["II"] - lead["I"] / 2,
    }.items():
        np.testing.assert_allclose(lead[got], want, atol=1e-14)
    assert np.array_equal(data.to_eight_leads(x12, basis=basis, order=order), x8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_keep_dtype_and_gradient(dtype):
    x = torch.randn(8, 5, dtype=dtype, requires_grad=True)
    y = data.to_twelve_leads(x)
    assert y.dtype == dtype
    assert y.shape == (12, 5)
    y.sum().backward()
    # I enters itself, II, III, aVR and aVL with 1 + .5 - .5 - .75 + .75; aVF with 1 + 1 + 1 - .5 -
    # .5.
    assert x.grad[0].tolist() == [1.0] * 5
    assert x.grad[7].tolist() == [2.0] * 5
    assert data.to_eight_leads(y).dtype == dtype


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_keep_dtype_and_extra_axes(dtype):
    x = np.ones((2, 3, 8, 4), dtype)
    assert data.to_twelve_leads(x).dtype == dtype
    assert data.to_twelve_leads(x).shape == (2, 3, 12, 4)
    assert data.to_eight_leads(np.ones((12, 4), np.int16)).dtype == np.int16


def test_names_are_read_in_any_case():
    assert data.parse_leads([name.upper() for name in data.LEADS]) == data.LEADS
    assert data.parse_leads([name.lower() for name in data.LEADS]) == data.LEADS
    assert data.parse_lead("DII") == "II"
    with pytest.raises(DataError, match=r"'V7' is not one of the twelve leads I, II, III, aVR"):
        data.parse_lead("V7")
    with pytest.raises(DataError, match="lead aVR is named 2 times"):
        data.parse_leads(["I", "aVR", "AVR"])
    with pytest.raises(TypeError, match="lead name must be a str, got int"):
        data.parse_lead(3)


def test_reordering_follows_names():
    x = np.arange(12.0)[:, None] * np.ones((12, 3))
    y = data.reorder_leads(x, data.LEADS, data.REFERENCE_LEADS)
    assert y[:, 0].tolist() == [data.LEADS.index(lead) for lead in data.REFERENCE_LEADS]
    assert np.array_equal(data.reorder_leads(y, data.REFERENCE_LEADS, data.LEADS), x)
    with pytest.raises(DataError, match="V6 not among the given leads"):
        data.reorder_leads(x[:11], data.LEADS[:11], data.LEADS)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: data.to_twelve_leads(np.ones((12, 5))),
            ValueError,
            r"\(\.\.\., 8, L\), got \(12, 5\)",
        ),
        (
            lambda: data.to_eight_leads(np.ones((8, 5))),
            ValueError,
            r"\(\.\.\., 12, L\), got \(8, 5\)",
        ),
        (lambda: data.to_eight_leads(np.ones(12)), ValueError, r"got \(12,\)"),
        (
            lambda: data.to_twelve_leads(np.ones((8, 5)), basis="II"),
            ValueError,
            "basis must be 'I-aVF' or 'I-II', got 'II'",
        ),
        (
            lambda: data.to_twelve_leads(np.ones((8, 5)), order="x"),
            ValueError,
            "order must be 'reference' or 'ptbxl', got 'x'",
        ),
        (lambda: data.to_twelve_leads(np.ones((8, 5), int)), TypeError, "must be floating"),
        (lambda: data.to_twelve_leads([[1.0]] * 8), TypeError, "array or a tensor, got list"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
