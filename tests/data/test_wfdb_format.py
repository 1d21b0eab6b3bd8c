"""WFDB format 16: byte for byte what the data sets hold, and every kind of damage refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from ecgcore.data import LEADS, MissingDataError, read_record, wfdb_format, write_record
from ecgcore.errors import DataError

FIRST = "ptbxl_mini/records100/00000/00001_lr"


@pytest.fixture
def record(shared, tmp_path):
    """A copy of PTB-XL's first record, free to be spoiled."""
    for suffix in (".hea", ".dat"):
        shutil.copy(shared / "data" / f"{FIRST}{suffix}", tmp_path)
    return tmp_path / "00001_lr"


def edit(record, old, new, count=1):
    header = record.with_suffix(".hea")
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new, count))


@pytest.mark.parametrize(
    "kind", ["ptbxl_mini/records100", "ptbxl_mini/records500", "ludb_ptbxl_layout"]
)
def test_values_written_again_are_byte_identical(shared, tmp_path, kind):
    for header in sorted((shared / "data" / kind).rglob("*.hea"))[:20]:
        record = read_record(header)
        write_record(tmp_path, header.stem, record.millivolts(), record.fs, leads=record.names)
        for path in (header, header.with_suffix(".dat")):
            assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_own_gains_and_signed_checksums_survive_rewriting(shared, tmp_path):
    for header in sorted((shared / "data" / "ludb_native_500hz").glob("*.hea")):
        wfdb_format.write_adc(tmp_path, read_record(header))
        assert (tmp_path / header.with_suffix(".dat").name).read_bytes() == header.with_suffix(
            ".dat"
        ).read_bytes()
        assert (tmp_path / header.name).read_text().split() == header.read_text().split()


def test_reads_as_the_wfdb_package_does(shared):
    wfdb = pytest.importorskip("wfdb")
    for path in ("ludb_native_500hz/23", FIRST):
        theirs = wfdb.rdrecord(str(shared / "data" / path))
        ours = read_record(shared / "data" / path)
        np.testing.assert_allclose(ours.millivolts(), theirs.p_signal.T, rtol=1e-6, atol=0)
        assert list(ours.names) == theirs.sig_name
        assert ours.fs == theirs.fs


def test_the_wfdb_package_reads_what_is_written(tmp_path):
    wfdb = pytest.importorskip("wfdb")
    x = np.random.default_rng(0).standard_normal((12, 300))
    write_record(tmp_path, "a_1", x, 500, gain=200, comments=["synthetic"])
    theirs = wfdb.rdrecord(str(tmp_path / "a_1"))
    np.testing.assert_allclose(theirs.p_signal.T, x, atol=0.00251)
    assert theirs.comments == ["synthetic"]
    assert tuple(theirs.sig_name) == LEADS


def test_writing_rounds_to_the_nearest_unit_and_marks_missing_samples(tmp_path):
    x = torch.tensor([[0.0004, 0.0006, -0.0006, float("nan"), 32.767]])
    write_record(tmp_path, "r", x, 100, leads=["I"])
    record = read_record(tmp_path / "r.hea")
    assert record.adc.tolist() == [[0, 1, -1, -32768, 32767]]
    np.testing.assert_allclose(record.millivolts()[0], [0, 0.001, -0.001, np.nan, 32.767])


def test_units_other_than_millivolt_are_converted_or_refused(record):
    volts = read_record(record).millivolts()
    edit(record, "1000.0(0)/mV", "1.0(0)/uV", 12)
    assert np.array_equal(read_record(record).millivolts(), volts)
    edit(record, "/uV", "/mmHg")
    with pytest.raises(DataError, match="lead I is in mmHg, not a voltage"):
        read_record(record).millivolts()


def test_truncated_samples_are_refused(record):
    samples = record.with_suffix(".dat")
    samples.write_bytes(samples.read_bytes()[:-2])
    with pytest.raises(
        DataError,
        match=(
            r"00001_lr.dat is truncated: 12 leads x 1000 samples x 2 bytes = 24000 bytes"
            r" expected, got 23998"
        ),
    ):
        read_record(record)
    samples.write_bytes(samples.read_bytes() + b"\0" * 10)
    with pytest.raises(DataError, match="is too long"):
        read_record(record)


def test_a_flipped_bit_is_found_by_its_lead(record):
    samples = bytearray(record.with_suffix(".dat").read_bytes())
    samples[24 * 7 + 2 * 2] ^= 4  # sample 7 of the third lead
    record.with_suffix(".dat").write_bytes(samples)
    with pytest.raises(DataError, match=r"checksum of lead III is \d+, the header says 64758"):
        read_record(record)


def test_missing_files_are_both_kinds_of_error(record):
    record.with_suffix(".dat").unlink()
    with pytest.raises(MissingDataError, match=r"00001_lr\.dat does not exist"):
        read_record(record)
    with pytest.raises(FileNotFoundError, match=r"00002\.hea does not exist"):
        read_record(record.with_name("00002"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("00001_lr.dat 16 ", "00001_lr.dat 212 ", "signal format 212 is not supported, only 16"),
        ("00001_lr.dat 16 ", "00001_lr.dat 16x2 ", "signal format 16x2 is not supported"),
        (
            "00001_lr.dat 16 ",
            "../00001_lr.dat 16 ",
            "samples must lie beside the header, got '../00001_lr.dat'",
        ),
        ("00001_lr 12", "00001_lr/2 12", "records of several segments are not supported"),
        ("00001_lr 12", "00001_lr 11", "announces 11 signals and describes 12"),
        (" 100 1000", " 0 1000", "must be positive"),
        (" 100 1000", " nan 1000", "sampling rate must be a number, got 'nan'"),
        (" 100 1000", "", "the first line must give name, signals"),
        ("1000.0(0)/mV", "abc(0)/mV", "gain must be a number, got 'abc'"),
        ("1000.0(0)/mV", "1000.0(x)/mV", "baseline must be a whole number, got 'x'"),
        ("-119 1508 0 I", "-119", "signal line without a checksum"),
    ],
)
def test_headers_of_another_kind_are_refused(record, old, new, message):
    edit(record, old, new)
    with pytest.raises(DataError, match=message):
        read_record(record)


def test_a_binary_or_empty_header_is_refused(record):
    record.with_suffix(".hea").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a text file"):
        read_record(record)
    record.with_suffix(".hea").write_text("# nothing\n")
    with pytest.raises(DataError, match="it is empty"):
        read_record(record)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": np.ones((12, 5), int)}, TypeError, "must be floating point in mV, got int64"),
        ({"x": np.ones((8, 5))}, ValueError, r"must have shape \(12, L\), got \(8, 5\)"),
        (
            {"x": np.full((12, 5), 40.0)},
            DataError,
            "40 mV in lead I at sample 0 does not fit 16 bits",
        ),
        ({"name": "../x"}, ValueError, "record name must be letters, digits, _ and -, got '../x'"),
        ({"gain": 0}, ValueError, "gain must be positive"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, arguments, error, message):
    call = {"folder": tmp_path, "name": "r", "x": np.ones((12, 5)), "fs": 100} | arguments
    with pytest.raises(error, match=message):
        write_record(**call)
    assert list(tmp_path.iterdir()) == []
