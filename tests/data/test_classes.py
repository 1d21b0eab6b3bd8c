"""Class names and the ways to write labels."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from ecgcore.data import SCP_CODES, SUPERCLASSES, default_class_names, parse_labels
from ecgcore.errors import DataError


def test_names_are_those_of_the_published_table(shared):
    with (shared / "data/ptbxl_mini/scp_statements.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(sorted(row[""] for row in rows)) == SCP_CODES
    assert tuple(sorted({row["diagnostic_class"] for row in rows} - {""})) == SUPERCLASSES
    assert default_class_names(5) == SUPERCLASSES
    assert default_class_names(71) == SCP_CODES
    assert default_class_names(2) == ("class0", "class1")


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        (None, np.eye(5)),
        ("MI", [[0, 0, 1, 0, 0]]),
        ("MI+CD", [[1, 0, 1, 0, 0]]),
        (["NORM", "MI + CD"], [[0, 0, 0, 1, 0], [1, 0, 1, 0, 0]]),
        ([2, 0], [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]),
        (torch.tensor([4]), [[0, 0, 0, 0, 1]]),
        (np.array(["CD", "MI"]), [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]]),
        (torch.full((2, 5), 0.25), np.full((2, 5), 0.25)),
        (np.full((1, 5), 0.5), np.full((1, 5), 0.5)),
    ],
)
def test_every_accepted_form(labels, rows):
    got = parse_labels(labels)
    assert got.dtype == np.float32
    assert got.tolist() == np.asarray(rows, np.float32).tolist()


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            "NROM",
            DataError,
            (
                r"label 'NROM' does not exist; classes are CD, HYP, MI, NORM, STTC; did you mean"
                r" NORM\?"
            ),
        ),
        (["MI", "xyz"], DataError, "label 'xyz' does not exist"),
        ("MI+", DataError, "label '' does not exist"),
        ([5], DataError, r"class index 5 outside 0..4"),
        ([-1], DataError, "class index -1 outside"),
        ([], DataError, "labels are empty"),
        (np.ones((2, 4)), ValueError, r"must have shape \(k, 5\), got \(2, 4\)"),
        (np.full((1, 5), np.nan), DataError, "NaN"),
        (np.ones((2, 5), int), TypeError, "integer indices"),
        ({"MI"}, TypeError, "labels must be class names"),
        (["MI", 3], DataError, "label '3' does not exist"),
    ],
)
def test_bad_labels_are_named(labels, error, message):
    with pytest.raises(error, match=message):
        parse_labels(labels)
