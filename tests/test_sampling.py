"""Drawing ECGs: labels, leads, units, noise that belongs to the record, and the files written."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import data, diffusion, random
from ecgcore.errors import DataError
from ecgcore.models.card import ModelCard
from ecgcore.sampling import ECGBatch, sample
from ecgcore.sampling.channels import leads_of, to_leads
from support import recorded
from tiny import EIGHT, tiny_sssd
from tiny import loaded_sssd as loaded

# --- noise ----------------------------------------------------------------------------------------


def test_record_i_depends_on_the_seed_and_i_alone() -> None:
    model = loaded()
    whole = model.sample(n=7, seed=3)
    for n, batch_size in ((7, 3), (7, 1), (4, 4), (1, 5)):
        part = model.sample(n=n, seed=3, batch_size=batch_size)
        assert (part.x - whole.x[:n]).abs().max() <= 1e-5 * whole.x.abs().max()
    assert not torch.allclose(model.sample(n=1, seed=4).x, whole.x[:1], atol=0.1)
    # Records 0 and 5 have the same label: only their number tells them apart.
    assert not torch.allclose(whole.x[0], whole.x[5], atol=0.1)


def test_it_is_the_reverse_process_on_that_noise() -> None:
    model = loaded(T=5)
    noise = torch.stack(
        [random.normal((8, 40), seed=9, records=range(3), draw=k) for k in range(5)]
    )
    schedule = diffusion.NoiseSchedule.linear(5, 1e-4, 0.02)
    x = diffusion.sample(model, (3, 8, 40), torch.eye(5)[:3], schedule, noise=noise)
    batch = model.sample(n=3, seed=9)
    assert torch.equal(batch.x, data.to_twelve_leads(x, basis="I-aVF", order="ptbxl"))


def test_no_seed_draws_one_and_keeps_it() -> None:
    model = loaded()
    state = torch.get_rng_state()
    a, b = model.sample(n=2), model.sample(n=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert a.seed != b.seed
    assert torch.equal(model.sample(n=2, seed=a.seed).x, a.x)


def test_diffusion_takes_its_noise_draw_by_draw() -> None:
    model = loaded()
    noise = torch.randn(4, 2, 8, 40)
    schedule = diffusion.NoiseSchedule.linear(4, 1e-4, 0.02)
    asked = []

    def draw(k: int) -> torch.Tensor:
        asked.append(k)
        return noise[k]

    arguments = (model, (2, 8, 40), torch.eye(5)[:2], schedule)
    lazy = diffusion.sample(*arguments, noise=draw)
    assert torch.equal(lazy, diffusion.sample(*arguments, noise=noise))
    assert asked == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"noise\(0\) must have shape \(2, 8, 40\), got \(2, 8\)"):
        diffusion.sample(*arguments, noise=lambda k: noise[k, :, :, 0])


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "n", "rows"),
    [
        (None, None, torch.eye(5).tolist()),
        (None, 2, [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]),
        ("MI", 2, [[0, 0, 1, 0, 0]] * 2),
        ("MI+CD", None, [[1, 0, 1, 0, 0]]),
        (["NORM", "MI+CD"], 3, [[0, 0, 0, 1, 0], [1, 0, 1, 0, 0], [0, 0, 0, 1, 0]]),
        (torch.tensor([4, 0]), None, [[0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]),
        (np.array([1]), 2, [[0, 1, 0, 0, 0]] * 2),
        ([2, 2], None, [[0, 0, 1, 0, 0]] * 2),
        (np.array([[0.5, 0, 0, 0, -2.0]]), 1, [[0.5, 0, 0, 0, -2]]),
        (torch.zeros(2, 5, dtype=torch.float64), None, [[0] * 5] * 2),
    ],
)
def test_forms_of_labels(labels: object, n: int | None, rows: list[list[float]]) -> None:
    batch = loaded(T=1).sample(labels, n, seed=0)
    assert batch.labels.dtype == torch.float32
    assert batch.labels.tolist() == rows
    assert len(batch) == len(rows)
    assert batch.class_names == ("CD", "HYP", "MI", "NORM", "STTC")


def test_labels_reach_the_model() -> None:
    model = loaded()
    a, b = model.sample("MI", seed=1), model.sample("NORM", seed=1)
    assert not torch.equal(a.x, b.x)


@pytest.mark.parametrize(
    ("labels", "error", "match"),
    [
        ("MY", DataError, "'MY' does not exist; classes are CD, HYP, MI, NORM, STTC.*MI"),
        (["MI", "NRM"], DataError, "'NRM' does not exist.*did you mean NORM"),
        ([5], DataError, "index 5"),
        (torch.zeros(2, 4), ValueError, r"\(k, 5\)"),
        (torch.full((1, 5), float("nan")), DataError, "NaN"),
        ([], DataError, "empty"),
        ({"MI": 1}, TypeError, "labels must be"),
    ],
)
def test_labels_that_do_not_exist(labels: object, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        loaded().sample(labels)


def test_a_model_without_classes() -> None:
    model = loaded(label_embed_classes=0)
    batch = model.sample(n=3, seed=1)
    assert batch.labels.shape == (3, 0)
    assert len(model.sample(seed=1)) == 1
    assert batch.names(0) == "no class"
    with pytest.raises(ValueError, match="has no classes"):
        model.sample("MI")


# --- leads and units ------------------------------------------------------------------------------


def test_eight_channels_are_completed() -> None:
    batch = loaded().sample(n=3, seed=1)
    assert batch.x.shape == (3, 12, 40)
    assert batch.x.dtype == torch.float32
    assert batch.leads == data.LEADS
    assert batch.fs == 100
    lead = dict(zip(batch.leads, batch.x.double().unbind(1), strict=True))
    scale = batch.x.abs().max()
    for residual in (
        lead["II"] - lead["I"] - lead["III"],
        lead["aVR"] + (lead["I"] + lead["II"]) / 2,
        lead["aVL"] - lead["I"] + lead["II"] / 2,
        lead["aVF"] - lead["II"] + lead["I"] / 2,
    ):
        assert residual.abs().max() <= 1e-6 * scale


def channels_of(model: Any, n: int = 1) -> torch.Tensor:
    """What the model draws for seed 1, in its own channels and units."""
    size = (model.out_channels, 40)
    noise = [random.normal(size, seed=1, records=range(n), draw=k) for k in range(4)]
    schedule = diffusion.NoiseSchedule.linear(4, 1e-4, 0.02)
    labels = torch.eye(5)[torch.arange(n) % 5]
    return diffusion.sample(model, (n, *size), labels, schedule, noise=torch.stack(noise))


@pytest.mark.parametrize(
    ("channels", "names", "leads"),
    [
        (8, ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"), data.LEADS),
        (12, data.REFERENCE_LEADS, data.LEADS),
        (12, data.LEADS, data.LEADS),
        (12, tuple(f"ch{i}" for i in range(12)), tuple(f"ch{i}" for i in range(12))),
        (8, tuple(reversed(EIGHT)), tuple(reversed(EIGHT))),
        (3, ("ch0", "ch1", "ch2"), ("ch0", "ch1", "ch2")),
    ],
)
def test_channels_become_leads(
    channels: int, names: tuple[str, ...], leads: tuple[str, ...]
) -> None:
    model = loaded(in_channels=channels, out_channels=channels)
    model.card = dataclasses.replace(model.card, lead_names=names, scale=4.0, fs=500)
    batch = model.sample(n=2, seed=1)
    assert batch.leads == leads
    assert batch.fs == 500
    drawn = channels_of(model, 2) / 4
    for i, name in enumerate(names):
        assert torch.equal(batch.x[:, leads.index(name)], drawn[:, i]), name


# --- options --------------------------------------------------------------------------------------


def test_other_lengths() -> None:
    model = loaded()
    assert model.sample(n=1, length=17).x.shape == (1, 12, 17)
    assert model.sample(n=1, length=90).x.shape == (1, 12, 90)  # beyond the kernels' own length
    model.card = dataclasses.replace(model.card, length=25)
    assert model.sample(n=1).x.shape == (1, 12, 25)


def test_the_mode_of_the_model_is_restored() -> None:
    model = loaded(s4_dropout=0.5)
    model.train()
    a = model.sample(n=1, seed=1)
    assert model.training
    assert torch.equal(model.eval().sample(n=1, seed=1).x, a.x)
    assert not a.x.requires_grad


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"n": 0}, ValueError, "n must be at least 1, got 0"),
        ({"n": 2.5}, TypeError, "n must be an integer, got 2.5"),
        ({"n": True}, TypeError, "n must be an integer, got True"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"length": -5}, ValueError, "length must be"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"seed": 2**64}, ValueError, "seed must be"),
        ({"seed": "1"}, TypeError, "seed must be an integer, got '1'"),
        ({"steps": 3}, ValueError, "ddpm takes all T = 4 steps"),
        ({"sampler": "heun"}, ValueError, "sampler must be one of ddpm"),
        ({"noise": torch.zeros(1)}, ValueError, "latent of a GAN"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], error: type, match: str) -> None:
    model = loaded()
    with pytest.raises(error, match=match):
        model.sample(**{"n": 1, **options})


def test_integers_of_numpy_are_integers() -> None:
    model = loaded()
    a = model.sample(n=np.int64(2), seed=np.uint64(5), length=np.int32(20))
    assert torch.equal(a.x, model.sample(n=2, seed=5, length=20).x)
    assert type(a.seed) is int


def test_a_model_that_nobody_described() -> None:
    model: Any = tiny_sssd()
    with pytest.raises(ValueError, match="SSSDECG has no card"):
        sample(model)
    model.card = ModelCard(("a",), EIGHT, 100, 40)
    with pytest.raises(ValueError, match="no noise schedule"):
        sample(model)


def test_the_bar_counts_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    model = loaded()
    model.sample(n=3, batch_size=2, progress=True)
    assert "8/8" in capsys.readouterr().err
    model.sample(n=3)
    assert capsys.readouterr().err == ""


def test_the_method_shows_the_arguments_of_the_function() -> None:
    shown = inspect.signature(loaded().sample)
    assert list(shown.parameters) == list(inspect.signature(sample).parameters)[1:]


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def batch() -> ECGBatch:
    drawn: ECGBatch = loaded().sample(["MI+CD", "NORM"], n=3, seed=8)
    # A tiny untrained model knows no millivolt, and a reader checks that these are some.
    return dataclasses.replace(drawn, x=drawn.x / drawn.x.abs().max())


def test_npy_files_are_the_reference_s(batch: ECGBatch, tmp_path: Path) -> None:
    files = batch.to_npy(tmp_path / "new")
    assert [f.name for f in files] == ["train_data.npy", "train_labels.npy"]
    x, y = (np.load(f) for f in files)
    assert (x.dtype, x.shape, y.dtype) == (np.float32, (3, 12, 40), np.float32)
    assert np.array_equal(x[:, 1], batch.x[:, 1])  # II is second in both orders
    assert np.array_equal(x[:, 8], batch.x[:, 2])  # III
    assert np.array_equal(x[:, 2], batch.x[:, 6])  # V1
    assert np.array_equal(y, batch.labels)
    read = data.NpyDataset(tmp_path / "new")
    assert torch.equal(torch.stack([read[i][0] for i in range(3)]), batch.x)
    assert batch.to_npy(tmp_path, "test")[0].name == "test_data.npy"
    with pytest.raises(ValueError, match="split must be"):
        batch.to_npy(tmp_path, "data")


def test_an_interrupted_write_leaves_nothing(
    batch: ECGBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def save(file: Path, array: np.ndarray) -> None:
        calls.append(file)
        file.write_bytes(b"half")
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(KeyboardInterrupt):
        batch.to_npy(tmp_path)
    assert len(calls) == 2
    assert list(tmp_path.iterdir()) == []


def test_wfdb_files(batch: ECGBatch, tmp_path: Path) -> None:
    headers = batch.to_wfdb(tmp_path / "wfdb")
    assert [h.name for h in headers] == ["00000.hea", "00001.hea", "00002.hea"]
    for i, header in enumerate(headers):
        record = data.read_record(header)
        assert record.names == data.LEADS
        assert record.fs == 100
        assert np.abs(record.millivolts() - batch.x[i].numpy()).max() <= 0.00051  # half a microvolt
    text = headers[0].read_text()
    assert "synthetic" in text
    assert "CD+MI" in text
    assert "seed 8, record 0" in text


def test_plots(batch: ECGBatch, tmp_path: Path) -> None:
    files = batch.plot(tmp_path / "sheet.svg")
    assert [f.name for f in files] == ["sheet.svg", "sheet_1.svg", "sheet_2.svg"]
    assert "<svg" in files[1].read_text()[:2000]
    folder = batch.plot(tmp_path / "sheets")
    assert [f.name for f in folder] == ["00000.png", "00001.png", "00002.png"]
    assert folder[2].read_bytes().startswith(b"\x89PNG")
    channels = dataclasses.replace(batch, x=batch.x[:1, :3], leads=("ch0", "ch1", "ch2"))
    assert channels.plot(tmp_path / "a.png") == [tmp_path / "a.png"]


def test_names_of_a_record(batch: ECGBatch) -> None:
    assert [batch.names(i) for i in range(3)] == ["CD+MI", "NORM", "CD+MI"]
    weights = torch.tensor([[0.25, 0, 1, 0, 0]])
    assert dataclasses.replace(batch, labels=weights).names(0) == "0.25 CD+MI"
    assert "3 records" in repr(batch)
    assert "seed 8" in repr(batch)


# --- against the reference ------------------------------------------------------------------------


def test_recorded_lead_completion() -> None:
    fixture = recorded("lead_rebuild_8to12")
    x = to_leads(fixture["in/x8"], EIGHT)
    wanted = data.reorder_leads(fixture["out/x12"], data.REFERENCE_LEADS, leads_of(EIGHT))
    assert (x - wanted).abs().max() <= 1e-6 * wanted.abs().max()
