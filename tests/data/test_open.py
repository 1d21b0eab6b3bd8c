"""What ``--data PATH`` opens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgcore.data import (
    LEADS,
    PTBXL,
    REFERENCE_LEADS,
    ArrayDataset,
    NpyDataset,
    open_dataset,
    simulate,
)
from ecgcore.errors import DataError


def test_folders_are_recognised(shared, tmp_path):
    ptbxl = open_dataset(shared / "data" / "ludb_ptbxl_layout", "val")
    assert isinstance(ptbxl, PTBXL)
    assert set(ptbxl.folds) == {9}
    assert set(open_dataset(shared / "data" / "ludb_ptbxl_layout").folds) == set(range(1, 9))
    x, y = simulate(8, 0)
    order = [LEADS.index(lead) for lead in REFERENCE_LEADS]
    np.save(tmp_path / "val_data.npy", x[:, order].numpy())
    np.save(tmp_path / "val_labels.npy", y.numpy())
    npy = open_dataset(tmp_path, "val")
    assert isinstance(npy, NpyDataset)
    assert torch.equal(npy[5][0], x[5])


def test_simulations_differ_between_splits():
    train, val = (
        open_dataset("simulate", split, n=6, seconds=2.5, seed=1) for split in ("train", "val")
    )
    assert isinstance(train, ArrayDataset)
    assert (train.leads, train.fs, len(train)) == (LEADS, 100, 6)
    assert torch.equal(train.load()[0], simulate(6, 1, seconds=2.5)[0])
    assert not torch.equal(train[0][0], val[0][0])


def test_other_folders_and_words_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds neither PTB-XL .* it has nothing"):
        open_dataset(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"it has a\.txt"):
        open_dataset(tmp_path)
    with pytest.raises(FileNotFoundError, match="simulated does not exist; give a folder"):
        open_dataset("simulated")
    with pytest.raises(ValueError, match="split must be train, val, test or all, got 'training'"):
        open_dataset("simulate", "training")
    with pytest.raises(ValueError, match="source must be one of ptbxl, npy, simulate, got 'csv'"):
        open_dataset(tmp_path, source="csv")


def test_array_data_sets_check_what_they_hold():
    x, y = torch.zeros(4, 12, 10), torch.zeros(4, 5)
    names = {"leads": LEADS, "fs": 100, "class_names": "ABCDE"}
    with pytest.raises(TypeError, match=r"x must be float32, got torch\.float64"):
        ArrayDataset(x.double(), y, **names)
    with pytest.raises(ValueError, match=r"x must have shape \(4, 12, L\)"):
        ArrayDataset(x[:3], y, **names)
    with pytest.raises(ValueError, match="y has 4 columns for 5 class names"):
        ArrayDataset(x, y[:, :4], **names)
    with pytest.raises(IndexError, match="record -5 of 4"):
        ArrayDataset(x, y, **names)[-5]
