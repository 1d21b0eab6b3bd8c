"""The whole way on real ECGs: read PTB-XL, train, stop, continue, sample; with a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ecgcore import checkpoint, data
from ecgcore.train import read_log
from ecgcore.train.launch import Plan, train
from support import need_shared
from train_checks import stop_at


def real(plan: Plan, folder: Path, **settings: object) -> Plan:
    section = {
        "source": "ptbxl",
        "data_directory": str(folder),
        "folds": None,
        "segment_length": 250,
        "window": "beat",
    }
    if plan.model["model_name"] == "SSSDECG":
        plan.model["model"] |= {"s4_dropout": 0.0, "s4_lmax": 250}
    return plan.replace(data=section, **settings)


def assert_einthoven(x: torch.Tensor) -> None:
    lead = {name: x[:, i] for i, name in enumerate(data.LEADS)}
    limit = 1e-5 * float(x.abs().max())
    for left, right in [
        (lead["III"], lead["II"] - lead["I"]),
        (lead["aVR"], -(lead["I"] + lead["II"]) / 2),
        (lead["aVL"], lead["I"] - lead["II"] / 2),
        (lead["aVF"], lead["II"] - lead["I"] / 2),
    ]:
        assert float((left - right).abs().max()) <= limit


@pytest.mark.parametrize("which", ["plan", "dsat_plan"])
@pytest.mark.parametrize(("name", "records"), [("ptbxl_mini", 15), ("ludb_ptbxl_layout", 100)])
def test_training_on_real_records(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, records: int, which: str
) -> None:
    plan = request.getfixturevalue(which)
    plan = real(plan, need_shared("data", name), max_steps=120, batch_size=8, learning_rate=0.01)

    read: list[int] = []
    _, first = train(
        plan, tmp_path, callback=stop_at(40), reading=lambda done, _: read.append(done)
    )
    assert first.interrupted
    assert read[-1] >= records
    _, rest = train(plan, tmp_path)
    assert rest.step == 120

    losses = [line["loss"] for line in read_log(tmp_path)]
    assert len(losses) == 120
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:10])

    model = checkpoint.load(tmp_path)
    batch = model.sample(labels=["MI", "NORM"], n=4, seed=1)
    assert batch.x.shape == (4, 12, 250)
    assert torch.isfinite(batch.x).all()
    assert batch.leads == data.LEADS
    assert_einthoven(batch.x)


def test_the_records_arrive_as_stored(plan: Plan) -> None:
    from ecgcore.train import load_records, open_dataset

    config = real(plan, need_shared("data", "ptbxl_mini")).data
    dataset = open_dataset(config)
    records = load_records(dataset, config, channels=8, classes=5)
    assert records.class_names == ("CD", "HYP", "MI", "NORM", "STTC")
    x, y = dataset[0]
    assert torch.equal(records.x[0, 0], 4 * x[data.LEADS.index("I")])
    assert torch.equal(records.y[0], y)
    assert len(records) == len(dataset)
