"""Order and scale read off the numbers, on real records and on each of the usual mistakes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgcore.data import LEADS, REFERENCE_LEADS, check_leads, read_record, reorder_leads
from ecgcore.errors import DataError


@pytest.fixture(scope="module", params=["ptbxl_real_100hz", "ludb_100hz", "cinc2021_100hz"])
def real(request, shared):
    """Real records of three collections, ``(n, 12, 1000)`` float32 mV."""
    stored = np.load(shared / "data" / f"{request.param}.npz", allow_pickle=False)
    return (stored["x_uV"] / 1000).astype(np.float32)


def test_real_records_pass_together_and_one_by_one(real):
    check = check_leads(real, LEADS, 100)
    assert check.broken == ()
    assert check.residual_mv.shape == (len(real),)
    assert check.residual_mv.max() < 0.004
    for record in real:
        check_leads(record, LEADS, 100)
        check_leads(torch.from_numpy(record))


def test_published_synthetic_records_pass(shared):
    stored = np.load(shared / "data" / "reference_synthetic_100hz.npz", allow_pickle=False)
    check_leads(stored["sssd_turing_mV"], LEADS, 100)


def test_reference_order_is_recognised_from_all_and_from_one(real):
    stored = reorder_leads(real, LEADS, REFERENCE_LEADS)
    check_leads(stored, REFERENCE_LEADS, 100)
    message = r"Looks like the reference npy order, I, II, V1\.\.V6, III, aVR, aVL, aVF"
    with pytest.raises(DataError, match=message):
        check_leads(stored, LEADS, 100)
    for record in stored:
        with pytest.raises(DataError, match=message):
            check_leads(record, LEADS, 100)
    with pytest.raises(DataError, match="Looks like the PTB-XL order"):
        check_leads(real, REFERENCE_LEADS, 100)


def test_a_few_records_in_another_order_are_found(real):
    mixed = real[:20].copy()
    mixed[3] = reorder_leads(mixed[3], LEADS, REFERENCE_LEADS)
    with pytest.raises(
        DataError, match=r"1 of 20 records is not in the lead order .* reference npy order"
    ):
        check_leads(mixed, LEADS, 100)


def test_exchanged_augmented_leads_are_recognised(real):
    with pytest.raises(DataError, match="Looks like the MIMIC-IV-ECG order"):
        check_leads(real[:, [0, 1, 2, 3, 5, 4, *range(6, 12)]], LEADS, 100)


@pytest.mark.parametrize(
    ("spoil", "looks"),
    [
        (lambda x: x * 1000, "microvolt or raw ADC units"),
        (lambda x: x * 200, "microvolt or raw ADC units"),
        (lambda x: x / 1000, "Looks like volt"),
        (lambda x: (x - x.mean()) / x.std(), "Looks standardised"),
        (
            lambda x: (x - x.mean((0, 2), keepdims=True)) / x.std((0, 2), keepdims=True),
            "Looks standardised",
        ),
        (lambda x: x / np.abs(x).max((1, 2), keepdims=True), "Looks scaled record by record"),
    ],
    ids=["microvolt", "adc200", "volt", "standardised", "standardised-by-lead", "peak-1"],
)
def test_wrong_scale_is_recognised(real, spoil, looks):
    with pytest.raises(DataError, match=looks):
        check_leads(spoil(real), LEADS, 100)


def test_wrong_scale_of_a_single_record_is_recognised(real):
    for record in real:
        with pytest.raises(DataError, match="microvolt or raw ADC units"):
            check_leads(record * 1000, LEADS, 100)


def test_wrong_order_wins_over_wrong_scale(real):
    with pytest.raises(DataError, match="reference npy order"):
        check_leads(reorder_leads(real, LEADS, REFERENCE_LEADS) * 1000, LEADS, 100)


def test_leads_scaled_one_by_one_are_explained(real):
    whole = real[[np.ptp(record, axis=-1).all() for record in real]]
    with pytest.raises(DataError, match="Looks scaled lead by lead"):
        check_leads(whole / np.abs(whole).max(-1, keepdims=True), LEADS, 100)
    centred = whole - whole.mean(-1, keepdims=True)
    with pytest.raises(DataError, match="Looks standardised lead by lead"):
        check_leads(centred / centred.std(-1, keepdims=True), LEADS, 100)


def test_gains_of_ludb_headers_are_noticed_and_raw_integers_pass(shared):
    for header in sorted((shared / "data" / "ludb_native_500hz").glob("*.hea")):
        record = read_record(header)
        check_leads(record.adc / 1000, record.names, record.fs)
        with pytest.raises(DataError, match="LUDB's own headers"):
            check_leads(record.millivolts(), record.names, record.fs)


def test_flat_leads_are_not_accused(shared):
    stored = np.load(shared / "data" / "cinc2021_100hz.npz", allow_pickle=False)
    flat = stored["x_uV"][list(stored["record"]).index("JS20008")] / 1000
    assert not np.ptp(flat[[7, 9, 11]], axis=-1).any()
    assert check_leads(flat, LEADS, 100).broken == ()
    for dead in range(6):  # a dead limb lead leaves relations without it
        x = flat.copy()
        x[dead] = 0.0
        assert check_leads(x, LEADS, 100).broken == ()


def test_one_bad_electrode_among_many_is_reported_not_refused(real):
    x = real[:20].copy()
    x[7, 1] *= 1.5
    assert check_leads(x, LEADS, 100).broken == (7,)
    with pytest.raises(DataError, match=r"the record is not an ECG .* no known order fits"):
        check_leads(x[7], LEADS, 100)
    assert check_leads(x[7], LEADS, 100, max_broken=1.0).broken == (0,)


def test_noise_is_no_ecg():
    noise = 0.2 * np.random.default_rng(0).standard_normal((10, 12, 1000))
    with pytest.raises(DataError, match="or is this no ECG"):
        check_leads(noise, LEADS, 100)


def test_nan_is_located(real):
    x = real.copy()
    x[3, 4, 5] = np.nan
    with pytest.raises(DataError, match=rf"1 of {len(x)} records .*record 3, lead aVL, sample 5"):
        check_leads(x, LEADS, 100)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((4, 12, 100)), DataError, "every lead of every record is flat"),
        (
            np.ones((4, 1000, 12)),
            ValueError,
            r"\(n, 12, L\), got \(4, 1000, 12\); the last two axes look exchanged",
        ),
        (
            np.ones((8, 1000)),
            ValueError,
            r"must have shape \(12, L\) or \(n, 12, L\), got \(8, 1000\)",
        ),
        (np.ones((12, 0)), ValueError, "at least one sample"),
        (np.ones((12, 100), np.int16), TypeError, "int16, which looks like ADC units or microvolt"),
        (np.ones((12, 100), complex), TypeError, "got complex128"),
    ],
)
def test_bad_arrays_are_named(x, error, message):
    with pytest.raises(error, match=message):
        check_leads(x, LEADS, 100)
