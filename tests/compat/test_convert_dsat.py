"""DSAT-ECG checkpoints: recorded, in the foreign layout, of published size, our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import ecgcore
from ecgcore import compat, diffusion, models
from ecgcore.data.classes import SCP_CODES, SUPERCLASSES
from ecgcore.errors import CheckpointError, ConfigError
from ecgcore.testing.compare import relative_error
from support import Recorded, need_shared, recorded, recorded_names
from tiny import SPADE, noise_of, tiny_dsat

FIRST = "residual_layer.residual_blocks.0"
KERNEL = f"{FIRST}.spade_1.s4_module.s4.kernel.kernel"
NAMES = recorded_names("dsat__*")


def untold(r: Recorded) -> dict[str, Any]:
    """The settings that no tensor shows."""
    names = ("decoder.attention_heads", "local_radius")
    return {k: v for k, v in r.config["spade_cfg"].items() if k in names}


def states(r: Recorded) -> dict[str, dict[str, torch.Tensor]]:
    return {p: r.under(p) for p in ("state", "state_pre") if r.under(p)}


@pytest.mark.parametrize("name", NAMES)
def test_recorded_models_come_out_of_their_tensors(name: str) -> None:
    r = recorded(name)
    for prefix, state in states(r).items():
        # Kernels that nothing has run through do not tell their length.
        spade = untold(r) | ({} if prefix == "state" else {"max_target_positions": 1024})
        assert torch.equal(state[f"{KERNEL}.L"], torch.tensor(0)) == (prefix == "state_pre")
        model_name, config, converted, report = compat.convert_state_dict(
            state, config={"spade_cfg": spade}
        )
        assert model_name == "DSATECG"
        assert config["model"] == r.config["kwargs"]
        expected = models.DSATECG(**r.config["kwargs"], spade_cfg=r.config["spade_cfg"])
        assert config["spade_cfg"] == expected.config["spade_cfg"]
        assert report.kept == len(state)
        assert not report.dropped
        assert set(report.renamed) == {k for k in state if k.endswith(("weight_g", "weight_v"))}

        model = models.from_config(config).eval()
        model.load_state_dict(converted)
        with torch.no_grad():
            eps = model(r["in/x"], r["in/y"], r["in/t"])
        assert relative_error(eps, r["out64/eps"]) <= 5e-6


@pytest.mark.parametrize("name", NAMES)
def test_recorded_checkpoints(tmp_path: Path, name: str) -> None:
    r = recorded(name)
    for prefix, state in states(r).items():
        path = tmp_path / f"{prefix}.pkl"
        torch.save({"model_state_dict": state, "optimizer_state_dict": {}}, path)
        config = {"spade_cfg": untold(r), "diffusion": {"T": 30}}
        model: Any = ecgcore.load(path, config=config)
        with torch.no_grad():
            eps = model(r["in/x"], r["in/y"], r["in/t"])
        assert relative_error(eps, r["out64/eps"]) <= 5e-6
        classes = r.config["kwargs"]["label_embed_classes"]
        assert model.card.class_names == (SCP_CODES if classes == 71 else SUPERCLASSES)
        assert (model.card.length, model.card.fs) == (1000, 100.0)
        assert model.card.diffusion == {"T": 30, "beta_0": 1e-4, "beta_T": 0.02}

        ecgcore.save(model, tmp_path / "ours.safetensors")  # after a forward: corrected by now
        again = ecgcore.load(tmp_path / "ours.safetensors")
        assert torch.equal(again(r["in/x"], r["in/y"], r["in/t"]), eps)


def test_recorded_trajectory_from_a_checkpoint(tmp_path: Path) -> None:
    r = recorded("dsat__res16_L256_local15_traj")
    torch.save({"model_state_dict": r.under("state")}, tmp_path / "1.pkl")
    beside = {"diffusion": {"T": r.config["traj_T"]}, "spade_cfg": untold(r)}
    (tmp_path / "config.json").write_text(json.dumps(beside))
    model: Any = ecgcore.load(tmp_path / "1.pkl")
    noise = r["in/traj_noise"]
    schedule = diffusion.NoiseSchedule.linear(**model.card.diffusion)
    shape: Any = tuple(noise.shape[1:])
    x0 = diffusion.sample(model, shape, r["in/y"], schedule, noise=noise)
    assert relative_error(x0, r["out/traj_x0"]) <= 1e-5


@pytest.mark.parametrize("name", ["DSAT_ECG", "DSAT_Sinusoid"])
def test_published_sizes_are_read_off_the_shapes(name: str) -> None:
    path = need_shared("fixtures", "full_size_state_dict_shapes.json")
    entry = json.loads(path.read_text(encoding="utf-8"))[name]
    state = {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (shape, dtype, _) in entry["state_dict"].items()
    }
    _, config, converted, _ = compat.convert_state_dict(state)
    assert config["model"] == entry["kwargs"]
    with torch.device("meta"):
        assert config["spade_cfg"] == models.DSATECG().config["spade_cfg"]
    assert len(converted) == entry["n_keys"] == 257


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("spade", "changes"),
    [
        ({}, {}),
        ({}, {"label_embed_classes": 0}),
        ({"s4_local_combine": "concat", "scale_fc": True}, {"in_channels": 12}),
        ({"s4_local_combine": "stack", "scale_attn": True, "scale_resids": True}, {}),
        ({"s4_n_ssm": 4, "max_target_positions": 37}, {}),
    ],
)
def test_our_own_model_in_the_foreign_layout(
    spade: dict[str, Any], changes: dict[str, Any], prefix: str, corrected: bool
) -> None:
    model = tiny_dsat(spade=spade, **changes)
    if corrected:
        noise_of(model)
    exported = compat.export_state_dict(model, weight_norm="old")
    assert sum(key.endswith(("weight_g", "weight_v")) for key in exported) == 16
    assert int(exported[f"{KERNEL}.L"]) == (
        model.config["spade_cfg"]["max_target_positions"] if corrected else 0
    )
    told = {k: SPADE[k] for k in ("decoder.attention_heads", "local_radius")}
    if not corrected:
        told["max_target_positions"] = model.config["spade_cfg"]["max_target_positions"]
    foreign = {"model_state_dict": {prefix + k: v for k, v in exported.items()}}
    _, config, state, _ = compat.convert_state_dict(foreign, config={"spade_cfg": told})
    assert config["spade_cfg"] == model.config["spade_cfg"]
    again = models.from_config(config).eval()
    again.load_state_dict(state)
    assert isinstance(again, models.DSATECG)
    assert torch.equal(noise_of(again, 31), noise_of(model, 31))


def test_what_the_tensors_contradict() -> None:
    model = tiny_dsat()
    noise_of(model)
    state = compat.export_state_dict(model, weight_norm="old")
    for config, error, message in [
        ({"model": {"res_channels": 8}}, CheckpointError, "model.res_channels is 8, the tensors s"),
        (
            {"spade_cfg": {"s4_state_dim": 64}},
            CheckpointError,
            "spade_cfg.s4_state_dim is 64, ",
        ),
        (
            {"spade_cfg": {"max_target_positions": 64}},
            CheckpointError,
            "is 64, .* show 48",
        ),
        ({"spade_cfg": {"s4_local_combine": "concat"}}, CheckpointError, "'concat', .* show add"),
        ({"spade_cfg": {"local_radios": 3}}, ConfigError, "did you mean 'local_radius'"),
        ({"spade_cfg": {"decoder.attention_heads": 5}}, ConfigError, "multiple of num_heads"),
        ({"model": {"s4_lmax": 3}}, ConfigError, "unknown key 's4_lmax'"),
    ]:
        with pytest.raises(error, match=message):
            compat.convert_state_dict(state, config=config)


def test_half_of_a_state_dict_and_too_much_of_one() -> None:
    state = compat.export_state_dict(tiny_dsat(), weight_norm="old")
    del state[f"{FIRST}.spade_2.fc1.bias"]
    state["extra"] = torch.zeros(2)
    config = {"spade_cfg": {"decoder.attention_heads": 3}}
    with pytest.raises(CheckpointError) as caught:
        compat.convert_state_dict(state, config=config)
    for part in (f"{FIRST}.spade_2.fc1.bias (10,) is missing", "extra (2,) has no place"):
        assert part in str(caught.value)
    del state[f"{KERNEL}.C"]
    with pytest.raises(CheckpointError, match=r"DSAT-ECG checkpoint: .*kernel\.C is missing"):
        compat.convert_state_dict(state, config=config)


def test_our_own_file(tmp_path: Path) -> None:
    model = tiny_dsat(T=7, spade={"dropout": 0.0}, exact_nodes=False)
    path = tmp_path / "model.safetensors"
    ecgcore.save(model, path)  # before any forward
    again: Any = ecgcore.load(path)
    assert again.config == model.config
    assert not again.training
    assert torch.equal(noise_of(again), noise_of(model))
    batch = again.sample("MI+CD", n=2, seed=3, length=30)
    assert batch.x.shape == (2, 12, 30)
    other = {"spade_cfg": {"local_radius": 9}}
    with pytest.raises(CheckpointError, match=r"spade_cfg\.local_radius is 9, .* has 7"):
        ecgcore.load(path, config=other)
    same = {"spade_cfg": {"local_radius": 7}, "diffusion": {"T": 5}}
    assert ecgcore.load(path, config=same).card.diffusion["T"] == 5  # type: ignore[index, call-overload]
