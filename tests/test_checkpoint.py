"""Saving and loading: our own files, and files that are none."""

from __future__ import annotations

import copy
import io
import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import ecgcore
from ecgcore import checkpoint
from ecgcore.data.classes import SCP_CODES, SUPERCLASSES
from ecgcore.data.leads import REFERENCE_LEADS
from ecgcore.errors import CheckpointError
from ecgcore.models.card import ModelCard
from tiny import BETAS, EIGHT, SETTINGS, foreign, noise_of, tiny_sssd

S41 = "residual_layer.residual_blocks.0.S41.s4_layer.kernel.kernel"


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    model = tiny_sssd(T=7)
    card = ModelCard(
        ("a", "b", "c", "d", "e"), ("I", "II", *EIGHT[1:7]), 500, 33, 2.5, {"T": 7} | BETAS
    )
    model.card = card  # type: ignore[assignment]
    path = tmp_path / "new" / "model.safetensors"
    ecgcore.save(model.train(), path)
    before = torch.get_rng_state()
    again: Any = ecgcore.load(path)
    assert torch.equal(torch.get_rng_state(), before)  # nobody's random numbers were used
    assert not again.training
    assert again.card == card
    assert again.config == model.config
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    trained = {key for key, p in model.named_parameters() if p.requires_grad}
    assert {key for key, p in again.named_parameters() if p.requires_grad} == trained
    assert torch.equal(noise_of(again), noise_of(model.eval()))
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_what_stands_in_the_metadata(tmp_path: Path) -> None:
    ecgcore.save(tiny_sssd(), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["ecgcore_format"] == "1"
    assert metadata["ecgcore_version"] == ecgcore.__version__
    assert metadata["model_name"] == "SSSDECG"
    assert metadata["units"] == "mV"
    assert json.loads(metadata["config"])["model"]["res_channels"] == 6
    card = json.loads(metadata["card"])
    assert card["class_names"] == list(SUPERCLASSES)
    assert card["lead_names"] == list(EIGHT)
    assert (card["fs"], card["length"], card["scale"]) == (100.0, 40, 1.0)
    assert card["diffusion"] == {"T": 4} | BETAS


def test_a_model_without_card_gets_the_one_its_config_implies(tmp_path: Path) -> None:
    model = tiny_sssd(in_channels=12, out_channels=12, label_embed_classes=71)
    model.config["dataset"] = {"segment_length": 30, "sampling_rate": 250, "scale": 4}
    ecgcore.save(model, tmp_path / "a.safetensors")
    card: Any = ecgcore.load(tmp_path / "a.safetensors").card
    assert card == ModelCard(SCP_CODES, REFERENCE_LEADS, 250, 30, 4, {"T": 4} | BETAS)


def test_a_doubled_model_comes_back(tmp_path: Path) -> None:
    model = tiny_sssd()
    expected = noise_of(model, 100)  # more than the 40 samples of its kernels
    assert model.state_dict()[f"{S41}.omega"].shape == (81, 2)
    ecgcore.save(model, tmp_path / "a.safetensors")
    again: Any = ecgcore.load(tmp_path / "a.safetensors")
    assert torch.equal(noise_of(again, 100), expected)
    assert again.card.length == 40


def test_tensors_that_share_memory_or_have_strides(tmp_path: Path) -> None:
    model = tiny_sssd()
    kernel: Any = model.get_submodule(S41)
    kernel.P = kernel.P[:, :1].expand_as(kernel.P)
    kernel.Q = kernel.P
    model.embedding.weight = torch.nn.Parameter(torch.randn(7, 5).t())  # type: ignore[union-attr]
    ecgcore.save(model, tmp_path / "a.safetensors")
    again = ecgcore.load(tmp_path / "a.safetensors").state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(again[key], tensor), key
    assert all(tensor.is_contiguous() for tensor in again.values())


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, partial(torch.compile, backend="eager")])
def test_wrappers_are_taken_off(tmp_path: Path, wrap: Any) -> None:
    model = tiny_sssd()
    ecgcore.save(wrap(model), tmp_path / "a.safetensors")
    assert set(load_file(tmp_path / "a.safetensors")) == set(model.state_dict())


def test_precision_is_kept_and_half_is_widened(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    ecgcore.save(tiny_sssd().double(), path)
    assert {t.dtype for t in ecgcore.load(path).state_dict().values()} == {torch.float64}
    ecgcore.save(tiny_sssd().bfloat16(), path)
    assert {t.dtype for t in ecgcore.load(path).state_dict().values()} == {torch.float32}


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    ecgcore.save(tiny_sssd(), path)
    before = path.read_bytes()

    def half(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(before[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        ecgcore.save(tiny_sssd(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        ecgcore.save(tiny_sssd(), tmp_path / "model.pt")
    with pytest.raises(TypeError, match="carry a config; got Linear"):
        ecgcore.save(torch.nn.Linear(1, 1), tmp_path / "a.safetensors")


def test_config_may_replace_the_schedule_of_one_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    ecgcore.save(tiny_sssd(), path)
    model: Any = ecgcore.load(path, config={"diffusion": {"T": 9}})
    assert model.card.diffusion == {"T": 9} | BETAS
    assert model.config["diffusion"] == {"T": 9} | BETAS
    same = {"model": SETTINGS}
    assert noise_of(ecgcore.load(path, config=same)).shape == (2, 8, 40)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"model\.res_channels is 8, the checkpoint has 6"):
        ecgcore.load(path, config={"model": {**SETTINGS, "res_channels": 8}})
    with pytest.raises(CheckpointError, match="for DSATECG, the checkpoint holds SSSDECG"):
        ecgcore.load(path, config={"model_name": "DSATECG"})


def test_a_run_folder(tmp_path: Path) -> None:
    ecgcore.save(tiny_sssd(), tmp_path / "run" / "checkpoint.safetensors")
    assert (
        ecgcore.load(tmp_path / "run").card
        == ecgcore.load(tmp_path / "run" / "checkpoint.safetensors").card
    )


def test_copies_and_pickles_have_their_own_sample(tmp_path: Path) -> None:
    ecgcore.save(tiny_sssd(), tmp_path / "a.safetensors")
    model: Any = ecgcore.load(tmp_path / "a.safetensors", device="cpu")
    assert model.sample.model is model
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
    ):
        assert twin.sample.model is twin
        assert twin.card == model.card
        assert torch.equal(twin.sample(n=2, seed=1).x, model.sample(n=2, seed=1).x)


# --- neither --------------------------------------------------------------------------------------


class Malicious:
    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.victim), "w"))


@pytest.mark.parametrize("protocol", ["torch", "torch legacy", "pickle"])
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, protocol: str) -> None:
    victim = tmp_path / "created"
    content = {"model_state_dict": {"weight": Malicious(victim)}}
    path = tmp_path / "1.pkl"
    if protocol == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=protocol == "torch")
    # The restricted reader stops at the name in torch's files, at the opcode in newer pickles.
    reason = "Unsupported operand" if protocol == "pickle" else r"refused.*io\.open"
    with pytest.raises(CheckpointError, match=f"{reason}.*nothing in it was executed") as e:
        ecgcore.load(path)
    assert not victim.exists()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 3000, -10])
def test_a_truncated_file(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"1{suffix}"
    model = tiny_sssd()
    if suffix == ".safetensors":
        ecgcore.save(model, path)
    else:
        foreign(path, model)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"1\.\w+ is truncated or no") as e:
        ecgcore.load(path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["a.pkl", "a.safetensors", "a.txt"])
def test_a_file_that_is_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Dear all, please find attached the checkpoint.\n" * 9)
    with pytest.raises(CheckpointError, match="no "):
        ecgcore.load(tmp_path / name)


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"checkpoint .*none\.pkl does not exist"):
        ecgcore.load(tmp_path / "none.pkl")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        ecgcore.load(tmp_path)


def test_other_things_that_torch_saves(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save([torch.zeros(2)], path)
    with pytest.raises(CheckpointError, match="holds list"):
        ecgcore.load(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match=r"refused.*torch\.nn\.modules\.linear\.Linear"):
        ecgcore.load(path)
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"a\.pt: no model known.*weight, bias"):
        ecgcore.load(path)


def rewritten(path: Path, metadata: dict[str, str], drop: str = "") -> Path:
    """A checkpoint of ours with other metadata, or without one tensor."""
    ecgcore.save(tiny_sssd(), path)
    with safe_open(path, framework="pt") as file:
        old = file.metadata()
    tensors = load_file(path)
    tensors.pop(drop, None)
    save_file(tensors, path, old | metadata)
    return path


@pytest.mark.parametrize(
    ("metadata", "drop", "match"),
    [
        ({"ecgcore_format": "2"}, "", "has format 2, this ecgcore reads up to 1"),
        ({"ecgcore_format": "x"}, "", "format x"),
        ({"config": "{"}, "", "unusable metadata"),
        ({"card": "[]"}, "", "unusable metadata.*expected an object"),
        (
            {"config": '{"model_name": "SSSD"}'},
            "",
            "unusable metadata: .*unknown model_name 'SSSD'",
        ),
        (
            {"config": '{"model_name": "SSSDECG", "model": {"res_channels": 8}}'},
            "",
            "size mismatch",
        ),
        ({}, "embedding.weight", "Missing key.*embedding.weight"),
    ],
)
def test_a_checkpoint_of_ours_that_does_not_fit(
    tmp_path: Path, metadata: dict[str, str], drop: str, match: str
) -> None:
    path = rewritten(tmp_path / "a.safetensors", metadata, drop)
    with pytest.raises(CheckpointError, match=match) as e:
        ecgcore.load(path)
    assert "\n" not in str(e.value)
