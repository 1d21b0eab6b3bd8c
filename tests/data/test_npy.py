"""The npy folders of SynthECG and SSSD-ECG."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgcore.data import (
    LEADS,
    REFERENCE_LEADS,
    SCP_CODES,
    SUPERCLASSES,
    MissingDataError,
    NpyDataset,
    reorder_leads,
)
from ecgcore.errors import DataError


@pytest.fixture
def records(shared):
    """``(x (25, 12, 1000) mV in the order of LEADS, y (25, 5))``."""
    stored = np.load(shared / "data" / "ptbxl_real_100hz.npz", allow_pickle=False)
    return (stored["x_uV"] / 1000).astype(np.float32), stored["y"].astype(np.int64)


def save(folder, x, y, stem="train"):
    np.save(folder / f"{stem}_data.npy", x)
    np.save(folder / f"{stem}_labels.npy", y)


@pytest.mark.parametrize("prefix", ["", "ptbxl_"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_name_families_come_back_in_lead_order(tmp_path, records, prefix, dtype):
    x, y = records
    save(tmp_path, reorder_leads(x, LEADS, REFERENCE_LEADS).astype(dtype), y, f"{prefix}val")
    dataset = NpyDataset(tmp_path, "val")
    assert (dataset.leads, dataset.fs, dataset.class_names) == (LEADS, 100, SUPERCLASSES)
    assert len(dataset) == 25
    signal, label = dataset[-1]
    assert signal.dtype == label.dtype == torch.float32
    assert np.array_equal(signal, x[-1])
    assert label.tolist() == y[-1].tolist()
    everything, labels = dataset.load()
    assert np.array_equal(everything, x)
    assert np.array_equal(labels, y)
    assert torch.equal(dataset[3][0], everything[3])


def test_class_names_follow_the_columns(tmp_path, records):
    x, _ = records
    stored = reorder_leads(x, LEADS, REFERENCE_LEADS)
    save(tmp_path, stored, np.ones((25, 71)))
    assert NpyDataset(tmp_path).class_names == SCP_CODES
    save(tmp_path, stored, np.ones((25, 44)))
    assert NpyDataset(tmp_path).class_names[:2] == ("class0", "class1")
    with pytest.raises(ValueError, match="2 class names for the 44 columns"):
        NpyDataset(tmp_path, class_names=["a", "b"])


def test_another_order_must_be_said(tmp_path, records):
    x, y = records
    save(tmp_path, x, y)
    with pytest.raises(DataError, match=r"train_data.npy: .* Looks like the PTB-XL order"):
        NpyDataset(tmp_path)
    assert np.array_equal(NpyDataset(tmp_path, leads=LEADS)[0][0], x[0])


def test_another_scale_is_refused(tmp_path, records):
    x, y = records
    stored = reorder_leads(x, LEADS, REFERENCE_LEADS)
    save(tmp_path, stored * 1000, y)
    with pytest.raises(DataError, match="Looks like microvolt"):
        NpyDataset(tmp_path)
    save(tmp_path, (stored * 1000).astype(np.int16), y)
    with pytest.raises(DataError, match="int16, which looks like ADC units"):
        NpyDataset(tmp_path)


def test_nan_beyond_the_sampled_records_is_found_on_access(tmp_path, records):
    x, y = records
    stored = np.tile(reorder_leads(x, LEADS, REFERENCE_LEADS), (8, 1, 1))
    stored[102, 2, 3] = np.nan
    save(tmp_path, stored, np.tile(y, (8, 1)))
    dataset = NpyDataset(tmp_path)
    dataset[101]
    with pytest.raises(DataError, match="record 102 holds NaN"):
        dataset[102]
    with pytest.raises(DataError, match="record 102 holds NaN"):
        dataset.load()


def test_missing_files_say_what_is_there(tmp_path, records):
    with pytest.raises(
        MissingDataError,
        match=r"holds neither train_data\.npy nor ptbxl_train_data\.npy; it has no npy",
    ):
        NpyDataset(tmp_path)
    x, y = records
    save(tmp_path, reorder_leads(x, LEADS, REFERENCE_LEADS), y)
    with pytest.raises(FileNotFoundError, match=r"it has train_data\.npy, train_labels\.npy"):
        NpyDataset(tmp_path, "test")
    (tmp_path / "train_labels.npy").unlink()
    with pytest.raises(MissingDataError, match=r"train_labels\.npy does not exist"):
        NpyDataset(tmp_path)
    with pytest.raises(MissingDataError, match=r"folder .* does not exist"):
        NpyDataset(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            np.ones((4, 8, 100)),
            np.ones((4, 5)),
            r"train_data.npy: must have shape \(n, 12, L\), got \(4, 8, 100\)",
        ),
        (
            np.ones((4, 12, 100)),
            np.ones((3, 5)),
            r"train_labels.npy: must have shape \(4, classes\)",
        ),
        (np.ones((4, 12, 100)), np.full((4, 5), np.nan), "holds NaN"),
        (np.ones((4, 12, 100)), np.full((4, 5), "a"), "must be numbers"),
    ],
)
def test_arrays_of_another_kind(tmp_path, x, y, message):
    save(tmp_path, x, y)
    with pytest.raises(DataError, match=message):
        NpyDataset(tmp_path)


def test_pickles_and_torn_files_are_refused(tmp_path, records):
    x, y = records
    save(tmp_path, reorder_leads(x, LEADS, REFERENCE_LEADS), y)
    np.save(tmp_path / "train_labels.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="not a numeric npy array"):
        NpyDataset(tmp_path)
    data = (tmp_path / "train_data.npy").read_bytes()
    (tmp_path / "train_data.npy").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"train_data\.npy is not a numeric npy array"):
        NpyDataset(tmp_path)
