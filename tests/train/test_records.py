from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ecgcore import data
from ecgcore.errors import ConfigError, DataError
from ecgcore.train import DataConfig, load_records, open_dataset
from ecgcore.train.records import Records


def numbered(n: int = 5, length: int = 40) -> Records:
    """Record ``i`` is ``100 i + time`` on every channel."""
    x = torch.arange(float(length)).expand(n, 2, -1) + 100 * torch.arange(float(n))[:, None, None]
    y = torch.eye(n)
    starts = torch.arange(length - 7).expand(n, -1)
    return Records(x, y, tuple("abcde"[:n]), ("I", "II"), 100.0, 1.0, 8, starts)


def test_every_record_is_visited_equally_often_whatever_the_batch() -> None:
    records = numbered()
    for size in (1, 3, 4, 7):
        seen = torch.cat([records.batch(k, size, seed=0)[1] for k in range(5)]).argmax(1)
        for epoch in seen[: len(seen) // 5 * 5].view(-1, 5):
            assert sorted(epoch.tolist()) == [0, 1, 2, 3, 4]
    orders = {tuple(records.batch(e, 5, seed=0)[1].argmax(1).tolist()) for e in range(6)}
    assert len(orders) > 3


def test_windows_belong_to_their_record_and_label() -> None:
    records = numbered()
    starts = []
    for k in range(20):
        x, y = records.batch(k, 4, seed=1)
        assert x.shape == (4, 2, 8)
        record, time = x[:, 0, 0] // 100, x[:, 0, 0] % 100
        assert torch.equal(record, y.argmax(1).float())
        assert torch.equal(x[:, 1] - x[:, 1, :1], torch.arange(8.0).expand(4, -1))
        starts += time.tolist()
    assert min(starts) >= 0
    assert max(starts) <= 32
    assert len(set(starts)) > 15
    again = records.batch(3, 4, seed=1)[0]
    assert torch.equal(again, records.batch(3, 4, seed=1)[0])


def test_beat_windows_start_before_an_r_peak() -> None:
    config = DataConfig(
        records=6, segment_length=250, window="beat", lead_in=0.35, jitter=0.02, spread=0.4
    )
    records = load_records(open_dataset(config), config, channels=8, classes=5)
    for k in range(6):
        for x in records.batch(k, 4, seed=0)[0]:
            slope = x.diff(dim=-1).pow(2).mean(0)
            first = slope[15:60].argmax() + 15
            assert abs(int(first) - 35) <= 5


def test_eight_channels_are_the_basis_and_twelve_the_reference_s_order() -> None:
    config = DataConfig(records=2, segment_length=1000, scale=4.0)
    dataset = open_dataset(config)
    x, _ = dataset[1]
    eight = load_records(dataset, config, channels=8, classes=5)
    assert torch.equal(eight.x[1, 7], 4 * x[data.LEADS.index("aVF")])
    twelve = load_records(dataset, config, channels=12, classes=5)
    assert twelve.lead_names == tuple(data.REFERENCE_LEADS)
    assert torch.equal(twelve.x[1, 2], 4 * x[data.LEADS.index("V1")])
    limb = replace(config, basis="I-II")
    assert torch.equal(
        load_records(dataset, limb, channels=8, classes=5).x[1, 1], 4 * x[data.LEADS.index("II")]
    )
    assert load_records(dataset, config, channels=8, classes=0).y.shape == (2, 0)


def test_a_model_that_does_not_fit_the_data_is_told_so() -> None:
    config = DataConfig(records=2, segment_length=1000)
    dataset = open_dataset(config)
    with pytest.raises(
        ConfigError, match=r"label_embed_classes is 71 but the data has 5 classes \(CD"
    ):
        load_records(dataset, config, channels=8, classes=71)
    with pytest.raises(ConfigError, match="model: training on ECGs needs 8 or 12 channels"):
        load_records(dataset, config, channels=3, classes=5)
    with pytest.raises(
        ConfigError, match="segment_length is 2000 samples, but the records have 1000"
    ):
        load_records(dataset, replace(config, segment_length=2000), channels=8, classes=5)
    with pytest.raises(ConfigError, match=r"sampling_rate is 500\.0 Hz but the data has 100"):
        load_records(dataset, replace(config, sampling_rate=500.0), channels=8, classes=5)


def test_a_limit_takes_records_spread_over_the_data_set() -> None:
    config = DataConfig(records=10, segment_length=1000)
    dataset = open_dataset(config)
    told: list[tuple[int, int]] = []
    records = load_records(
        dataset, config, channels=8, classes=5, limit=4, progress=lambda *done: told.append(done)
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for i, j in enumerate((0, 2, 5, 7)):
        assert torch.equal(records.x[i, 0], dataset[j][0][data.LEADS.index("I")])


def test_values_that_are_not_finite_are_found() -> None:
    x = torch.zeros(3, 12, 10)
    x[1, 6, 3] = float("nan")
    dataset = data.ArrayDataset(x, torch.eye(3), leads=data.LEADS, fs=100, class_names="abc")
    with pytest.raises(DataError, match="record 1 holds values that are not finite"):
        load_records(dataset, DataConfig(segment_length=10), channels=8, classes=3)


def test_a_folder_is_recognised_or_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none does not exist"):
        open_dataset(DataConfig(data_directory=str(tmp_path / "none")))
    with pytest.raises(DataError, match="holds neither PTB-XL"):
        open_dataset(DataConfig(data_directory=str(tmp_path)))
    with pytest.raises(ConfigError, match="no folder is given; use --data"):
        open_dataset(DataConfig(source="ptbxl"))
    (tmp_path / "ptbxl_database.csv").touch()
    with pytest.raises(ValueError, match=r"100.*500"):
        open_dataset(DataConfig(data_directory=str(tmp_path), sampling_rate=250))
