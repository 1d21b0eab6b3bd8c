"""Saving and loading: ours, other projects', and files that are neither."""

from __future__ import annotations

import copy
import dataclasses
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
from ecgcore import checkpoint, compat, diffusion, sampling
from ecgcore.data.classes import SCP_CODES, SUPERCLASSES
from ecgcore.data.leads import REFERENCE_LEADS
from ecgcore.errors import CheckpointError, ConfigError
from ecgcore.models.card import ModelCard
from support import recorded, recorded_names
from tiny import SETTINGS, noise_of, tiny_sssd

S41 = "residual_layer.residual_blocks.0.S41.s4_layer.kernel.kernel"
EIGHT = ("I", "V1", "V2", "V3", "V4", "V5", "V6", "aVF")


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def foreign(path: Path, model: torch.nn.Module, weight_norm: str = "new") -> Path:
    """Write a model as the references' training scripts do."""
    path.parent.mkdir(exist_ok=True)
    state = compat.export_state_dict(model, weight_norm=weight_norm)
    torch.save({"model_state_dict": state, "optimizer_state_dict": {"state": {}}}, path)
    return path


# --- ours -----------------------------------------------------------------------------------------


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


BETAS = {"beta_0": 1e-4, "beta_T": 0.02}


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


# --- other projects' ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recorded_names("sssd__*", "sssd_orig__*"))
def test_recorded_checkpoints(tmp_path: Path, name: str) -> None:
    fixture = recorded(name)
    for prefix in ("state", "state_pre"):
        if not (state := fixture.under(prefix)):
            continue
        path = tmp_path / f"{prefix}.pkl"
        torch.save({"model_state_dict": state, "optimizer_state_dict": {}}, path)
        model: Any = ecgcore.load(path)
        with torch.no_grad():
            eps = model(fixture["in/x"], fixture["in/y"], fixture["in/t"])
        assert relative_error(eps, fixture["out/eps"]) <= 5e-6
        classes = fixture.config["kwargs"]["label_embed_classes"]
        assert model.card.class_names == (SCP_CODES if classes == 71 else SUPERCLASSES)
        channels = fixture.config["kwargs"]["in_channels"]
        assert model.card.lead_names == (EIGHT if channels == 8 else REFERENCE_LEADS)
        assert model.card.diffusion == {"T": 200} | BETAS


def test_recorded_trajectory_from_a_checkpoint(tmp_path: Path) -> None:
    fixture = recorded("sssd__res16_L1000")
    torch.save({"model_state_dict": fixture.under("state")}, tmp_path / "1.pkl")
    T = fixture.config["traj_T"]
    model: Any = ecgcore.load(tmp_path / "1.pkl", config={"diffusion": {"T": T}})
    noise = fixture["in/traj_noise"]
    x0 = diffusion.sample(
        model,
        tuple(noise.shape[1:]),  # type: ignore[arg-type]
        fixture["in/y"],
        diffusion.NoiseSchedule.linear(**model.card.diffusion),
        noise=noise,
    )
    assert relative_error(x0, fixture["out/traj_x0"]) <= 1e-5


def test_recorded_seeded_samples_from_a_checkpoint(tmp_path: Path) -> None:
    fixture = recorded("sssd_orig__res16_L128_cls71")
    torch.save({"model_state_dict": fixture.under("state")}, tmp_path / "100000.pkl")
    config = {"diffusion_config": {"T": 5, "beta_0": 1e-4, "beta_T": 0.02}}
    model: Any = ecgcore.load(tmp_path / "100000.pkl", config=config)
    schedule = diffusion.NoiseSchedule.linear(**model.card.diffusion)
    torch.manual_seed(99)
    x = diffusion.sample(model, (2, 8, 128), fixture["in/y"], schedule)
    assert relative_error(x, fixture["out/sample_T5_seed99"]) <= 1e-5


@pytest.mark.parametrize("weight_norm", ["new", "old"])
@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".pth"])
def test_a_foreign_checkpoint_samples_in_three_lines(
    tmp_path: Path, weight_norm: str, suffix: str
) -> None:
    model = tiny_sssd()
    path = foreign(tmp_path / f"12{suffix}", model, weight_norm)
    again: Any = ecgcore.load(path, config={"diffusion": {"T": 4}})
    batch = again.sample("MI", n=2, seed=1)
    assert batch.x.shape == (2, 12, 40)
    model.card = again.card
    assert torch.equal(sampling.sample(model, "MI", n=2, seed=1).x, batch.x)


def test_a_foreign_state_dict_in_safetensors(tmp_path: Path) -> None:
    model = tiny_sssd()
    save_file(compat.export_state_dict(model, weight_norm="old"), tmp_path / "a.safetensors")
    assert torch.equal(noise_of(ecgcore.load(tmp_path / "a.safetensors")), noise_of(model))  # type: ignore[arg-type]


def test_odd_internal_length_is_computed_as_it_was_trained(tmp_path: Path) -> None:
    path = foreign(tmp_path / "1.pkl", tiny_sssd(s4_lmax=37))
    assert ecgcore.load(path).config["model"]["odd_length"] == "reference"  # type: ignore[index, call-overload]
    exact = {"model": {**SETTINGS, "s4_lmax": 37, "odd_length": "exact"}}
    a, b = (noise_of(ecgcore.load(path, config=c), 37) for c in (None, exact))  # type: ignore[arg-type]
    assert relative_error(a, b) > 1e-3


def test_a_config_beside_the_file_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "run_1"
    foreign(folder / "3.pkl", tiny_sssd())
    (folder / "notes.json").write_text("[1, 2]")
    config = {"diffusion": {"T": 11} | BETAS, "model": SETTINGS}
    (folder / "config_ECG_SSSD.json").write_text(json.dumps(config))
    assert ecgcore.load(folder / "3.pkl").card.diffusion["T"] == 11  # type: ignore[index, call-overload]

    (folder / "config_ECG_DSAT.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"several configs.*say which"):
        ecgcore.load(folder / "3.pkl")
    model: Any = ecgcore.load(folder / "3.pkl", config=folder / "config_ECG_DSAT.json")
    assert model.card.diffusion["T"] == 11
    (folder / "config.json").write_text(json.dumps({**config, "diffusion": {"T": 5}}))
    assert ecgcore.load(folder / "3.pkl").card.diffusion["T"] == 5  # type: ignore[index, call-overload]
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json, beside the checkpoint: not valid JSON"):
        ecgcore.load(folder / "3.pkl")
    other = {**config, "model": {**SETTINGS, "res_channels": 7}}
    (folder / "3.json").write_text(json.dumps(other))
    with pytest.raises(CheckpointError, match=r"res_channels is 7.*3\.json, beside it"):
        ecgcore.load(folder / "3.pkl")


def test_a_synthecg_run_folder_gives_its_last_checkpoint(tmp_path: Path) -> None:
    models = {n: tiny_sssd() for n in (2, 10, 9)}
    for n, model in models.items():
        foreign(tmp_path / "run_1" / f"{n}.pkl", model)
    (tmp_path / "run_1" / "best.pkl").write_bytes(b"")
    assert torch.equal(noise_of(ecgcore.load(tmp_path / "run_1")), noise_of(models[10]))  # type: ignore[arg-type]


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


# --- the card -------------------------------------------------------------------------------------


def test_card_survives_json() -> None:
    card = ModelCard(["a"], ("x", "y"), 250, 17, 0.5, {"T": 3} | BETAS)  # type: ignore[arg-type]
    assert ModelCard.from_json(card.to_json()) == card
    assert card.class_names == ("a",)
    assert ModelCard.from_json(ModelCard((), ("ch0",), 1, 1).to_json()).diffusion is None
    moments = {"mean": [[0.5, -1], [0, 0]], "std": [[1, 0.25], [2, 2]]}
    card = dataclasses.replace(card, moments=moments, label_dropout=0.1)
    assert ModelCard.from_json(card.to_json()) == card
    assert card.moments == {"mean": ((0.5, -1.0), (0.0, 0.0)), "std": ((1.0, 0.25), (2.0, 2.0))}


def test_a_card_of_an_older_version_is_read() -> None:
    card = ModelCard.from_json('{"class_names": [], "lead_names": ["x"], "fs": 1, "length": 1}')
    assert (card.moments, card.label_dropout) == (None, 0.0)


def test_card_of_other_channel_and_class_numbers() -> None:
    card = ModelCard.of_reference(channels=3, classes=2, length=10)
    assert card.lead_names == ("ch0", "ch1", "ch2")
    assert card.class_names == ("class0", "class1")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"class_names": "MI"}, "class_names must be a list of names"),
        ({"lead_names": ("I", "I")}, "lead_names holds a name twice"),
        ({"fs": 0}, "fs must be positive"),
        ({"fs": "100"}, "fs must be a number"),
        ({"scale": float("nan")}, "scale must be positive and finite"),
        ({"length": 0}, "length must be"),
        ({"length": 10.5}, "length must be"),
        ({"diffusion": {"T": 5}}, "diffusion must hold"),
        ({"moments": [[1.0]]}, "moments must hold mean and std"),
        ({"moments": {"mean": [[0.0]]}}, "moments must hold mean and std, got mean"),
        ({"moments": {"mean": [[0.0]], "std": [[1.0]]}}, r"\['mean'\] must be 2 rows .* of 1"),
        (
            {"moments": {"mean": [[0.0], [0.0]], "std": [[1.0], [1.0, 2.0]]}},
            r"\['std'\] must be 2 rows .* of 1 numbers",
        ),
        (
            {"moments": {"mean": [[0.0], [0.0]], "std": [[-1.0], [1.0]]}},
            "finite and not negative, got -1",
        ),
        (
            {"moments": {"mean": [["0"], [0.0]], "std": [[1.0], [1.0]]}},
            r"\['mean'\] must be finite, got '0'",
        ),
        ({"label_dropout": 1.1}, "label_dropout must be a number from 0 to 1, got 1.1"),
        ({"label_dropout": True}, "label_dropout must be a number from 0 to 1, got True"),
    ],
)
def test_card_values_are_checked(change: dict[str, Any], match: str) -> None:
    card = ModelCard(("a",), ("x",), 100, 10)
    with pytest.raises(ConfigError, match=match):
        dataclasses.replace(card, **change)


@pytest.mark.parametrize("text", ["", "3", '{"fs": 100}', '{"colour": 1}'])
def test_card_from_other_json(text: str) -> None:
    with pytest.raises(ConfigError, match="model card"):
        ModelCard.from_json(text)
