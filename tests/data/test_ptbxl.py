"""PTB-XL in its own layout: labels, folds, order, and clear words where something is wrong."""

from __future__ import annotations

import logging
import pickle
import shutil

import numpy as np
import pytest
import torch

from ecgcore.data import LEADS, PTBXL, SCP_CODES, SUPERCLASSES, MissingDataError
from ecgcore.errors import DataError


@pytest.fixture
def root(shared, tmp_path):
    """A copy of the small PTB-XL, 100 Hz, free to be spoiled."""
    source = shared / "data" / "ptbxl_mini"
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        shutil.copy(source / name, tmp_path)
    shutil.copytree(source / "records100", tmp_path / "records100")
    return tmp_path


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_signals_and_labels_equal_the_stored_arrays(shared):
    stored = np.load(shared / "data" / "ptbxl_real_100hz.npz", allow_pickle=False)
    records = PTBXL(shared / "data" / "ptbxl_mini")
    assert (records.leads, records.fs, records.class_names) == (LEADS, 100, SUPERCLASSES)
    assert len(records) == 18
    assert records.ecg_ids.tolist() == stored["ecg_id"][:18].tolist()
    assert records.folds.tolist() == stored["strat_fold"][:18].tolist()
    for i, (x, y) in enumerate(records):
        assert x.dtype == y.dtype == torch.float32
        assert np.array_equal(x.numpy(), (stored["x_uV"][i] / 1000).astype(np.float32))
        assert y.tolist() == stored["y"][i].tolist()
    x, y = records.load()
    assert x.shape == (18, 12, 1000)
    assert torch.equal(x[-1], records[-1][0])
    assert torch.equal(y, records.labels)


def test_records_without_a_class_are_dropped_and_counted_unless_kept(shared, caplog):
    caplog.set_level(logging.INFO)
    root = shared / "data" / "ludb_ptbxl_layout"
    records = PTBXL(root)
    assert (len(records), records.unlabelled) == (147, 3)
    assert "3 of 150 records have no superclass class and are dropped" in caplog.text
    kept = PTBXL(root, keep_unlabelled=True)
    assert (len(kept), kept.unlabelled) == (150, 3)
    assert (kept.labels.sum(1) == 0).sum() == 3
    stored = np.load(shared / "data" / "ludb_100hz.npz", allow_pickle=False)
    assert np.array_equal(kept.labels.numpy(), stored["y"])


def test_folds_partition_the_records(shared):
    root = shared / "data" / "ludb_ptbxl_layout"
    train, val, test = (PTBXL(root, folds=f) for f in (range(1, 9), [9], [10]))
    assert set(train.folds) == set(range(1, 9))
    ids = [*train.ecg_ids, *val.ecg_ids, *test.ecg_ids]
    assert sorted(ids) == sorted(PTBXL(root).ecg_ids)
    assert len(PTBXL(root, folds=9)) == len(val)


def test_all_statements_are_71_sorted_classes(shared):
    records = PTBXL(shared / "data" / "ptbxl_mini", task="all")
    assert records.class_names == SCP_CODES == tuple(sorted(SCP_CODES))
    first = {name for name, value in zip(SCP_CODES, records.labels[0], strict=True) if value}
    assert first == {"NORM", "LVOLT", "SR"}  # two of them with likelihood 0


def test_records500(shared):
    root = shared / "data" / "ptbxl_mini"
    records = PTBXL(root, fs=500)
    assert records.fs == 500
    assert len(records.missing()) == 12
    x, _ = records[list(records.ecg_ids).index(6002)]
    assert x.shape == (12, 5000)
    with pytest.raises(MissingDataError, match=r"00001_hr\.hea does not exist"):
        records[0]
    with pytest.raises(MissingDataError, match="12 of 18 records do not exist"):
        records.load()


def test_works_in_a_data_loader_with_workers(shared):
    records = PTBXL(shared / "data" / "ptbxl_mini")
    loader = torch.utils.data.DataLoader(records, batch_size=5, num_workers=1)
    assert sum(len(x) for x, _ in loader) == 18
    assert torch.equal(pickle.loads(pickle.dumps(records))[3][0], records[3][0])


def test_leads_are_taken_by_name(root):
    header = root / "records100/00000/00001_lr.hea"
    lines = header.read_text().splitlines()
    samples = np.fromfile(header.with_suffix(".dat"), "<i2").reshape(1000, 12)
    turned = [lines[0], *reversed(lines[1:])]
    expected, _ = PTBXL(root)[0]
    header.write_text("\n".join(turned))
    samples[:, ::-1].tofile(header.with_suffix(".dat"))
    assert torch.equal(PTBXL(root)[0][0], expected)


def test_wrong_order_under_right_names_is_noticed(root):
    header = root / "records100/00000/00001_lr.hea"
    lines = header.read_text().splitlines()
    names = [line.rsplit(" ", 1)[1] for line in lines[1:]]
    wrong = [names[i] for i in (0, 1, 6, 7, 8, 9, 10, 11, 2, 3, 4, 5)]
    named = [
        f"{line.rsplit(' ', 1)[0]} {name}" for line, name in zip(lines[1:], wrong, strict=True)
    ]
    header.write_text("\n".join([lines[0], *named]))
    with pytest.raises(DataError, match=r"00001_lr.hea: the record is not in the lead order"):
        PTBXL(root)[0]


def test_wrong_gain_is_noticed(root):
    edit(root / "records100/00000/00001_lr.hea", "1000.0(0)/mV", "1.0(0)/mV")
    with pytest.raises(DataError, match=r"00001_lr.hea: .* Looks like microvolt"):
        PTBXL(root)[0]


def test_missing_files_are_counted_then_raise(root, caplog):
    (root / "records100/00000/00003_lr.dat").unlink()
    records = PTBXL(root)
    assert "1 of 18 records are missing at 100 Hz" in caplog.text
    assert [path.name for path in records.missing()] == ["00003_lr.dat"]
    with pytest.raises(FileNotFoundError, match=r"00003_lr\.dat does not exist"):
        records[1]
    with pytest.raises(DataError, match=r"1 of 18 records do not exist \(first: .*00003_lr\.dat\)"):
        records.load()
    shutil.rmtree(root / "records100")
    with pytest.raises(MissingDataError, match="none of the 18 records exists at 100 Hz"):
        PTBXL(root)


def test_truncated_samples_raise_with_the_file(root):
    samples = root / "records100/00000/00001_lr.dat"
    samples.write_bytes(samples.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"00001_lr\.dat is truncated"):
        PTBXL(root)[0]
    with pytest.raises(DataError, match="truncated"):
        PTBXL(root).load()


@pytest.mark.parametrize("name", ["ptbxl_database.csv", "scp_statements.csv"])
def test_missing_tables(root, name):
    (root / name).unlink()
    with pytest.raises(MissingDataError, match=f"{name} does not exist"):
        PTBXL(root)


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("ptbxl_database.csv", "'LVOLT': 0.0", "'LVOLT'", r"line 2: scp_codes|line 2: cannot read"),
        (
            "ptbxl_database.csv",
            "'LVOLT': 0.0",
            "'XYZ': 0.0",
            "record 1 carries the statement 'XYZ'",
        ),
        (
            "ptbxl_database.csv",
            "{'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0}",
            "__import__('os').getcwd()",
            "line 2: cannot read ecg_id '1'",
        ),
        (
            "ptbxl_database.csv",
            "{'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0}",
            "['NORM']",
            "scp_codes must be a dict",
        ),
        ("ptbxl_database.csv", "scp_codes", "codes", "column 'scp_codes' is missing"),
        (
            "ptbxl_database.csv",
            "records100/00000/00001_lr",
            "../00001_lr",
            "filename_lr must lie in the folder",
        ),
        ("scp_statements.csv", "diagnostic_class", "class", "column 'diagnostic_class' is missing"),
    ],
)
def test_malformed_tables_name_the_line(root, table, old, new, message):
    edit(root / table, old, new)
    with pytest.raises(DataError, match=message):
        PTBXL(root)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fs": 250}, ValueError, "fs must be 100 or 500, got 250"),
        ({"task": "rhythm"}, ValueError, "task must be 'superclass' or 'all', got 'rhythm'"),
        ({"folds": [0]}, ValueError, "folds run from 1 to 10, got 0"),
        ({"folds": []}, ValueError, "folds is empty"),
        ({"folds": ["1"]}, TypeError, "folds must be whole numbers, got '1'"),
        ({"folds": [1], "root": "/nowhere"}, MissingDataError, "folder /nowhere does not exist"),
    ],
)
def test_bad_arguments_are_named(shared, arguments, error, message):
    with pytest.raises(error, match=message):
        PTBXL(**{"root": shared / "data" / "ptbxl_mini"} | arguments)


def test_index_outside_raises(shared):
    records = PTBXL(shared / "data" / "ptbxl_mini")
    with pytest.raises(IndexError, match="record 18 of 18"):
        records[18]
