"""The loop: reproducible, stoppable anywhere, honest about divergence."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from ecgcore import checkpoint
from ecgcore.errors import CheckpointError, ConfigError
from ecgcore.train import EMA, Progress, RunFolder, TrainingDiverged, read_log
from ecgcore.train.keeper import Keeper
from ecgcore.train.launch import Plan, build_model, train
from train_checks import assert_same_run, state, stop_at


def weights(run: Path) -> dict[str, torch.Tensor]:
    return state(run)["model"]


def test_a_seed_decides_everything(plan: Plan, tmp_path: Path) -> None:
    train(plan, tmp_path / "a")
    torch.manual_seed(123)  # the global generator plays no part
    state = torch.random.get_rng_state()
    train(plan, tmp_path / "b")
    assert torch.equal(state, torch.random.get_rng_state())
    assert_same_run(tmp_path / "a", tmp_path / "b")
    train(plan.replace(seed=1), tmp_path / "c")
    assert not torch.equal(
        weights(tmp_path / "a")["init_conv.0.conv.bias"],
        weights(tmp_path / "c")["init_conv.0.conv.bias"],
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_continues_to_the_same_weights(
    plan: Plan, tmp_path: Path, number: int
) -> None:
    plan = plan.replace(log_interval=4)
    _, whole = train(plan, tmp_path / "whole")
    assert (whole.step, whole.fraction, whole.interrupted) == (12, 1.0, False)
    for step in (2, 7):  # stopped twice
        _, part = train(plan, tmp_path / "parts", callback=stop_at(step, number))
        assert part.interrupted
        assert part.step == step + 1  # the step in progress is finished
    _, rest = train(plan, tmp_path / "parts")
    assert not rest.interrupted
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert [line["step"] for line in read_log(tmp_path / "parts")] == [4, 8, 12]


def test_a_run_stopped_by_an_exception_continues_from_the_last_checkpoint(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill: nothing is saved at the end, steps and log lines are made again."""
    # A checkpoint whenever an epoch is over, however slowly the disk writes: after steps 3 and 6.
    monkeypatch.setattr(Keeper, "WRITING_SHARE", 1e9)

    def fail(progress: Progress) -> None:
        if progress.step == 8:
            raise RuntimeError("power cut")

    train(plan, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        train(plan, tmp_path / "cut", callback=fail)
    assert torch.load(tmp_path / "cut" / "train_state.pt", weights_only=True)["step"] < 8
    assert read_log(tmp_path / "cut")[-1]["step"] == 8
    train(plan, tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_finished_run_is_left_alone_and_a_longer_one_goes_on(plan: Plan, tmp_path: Path) -> None:
    train(plan, tmp_path)
    before = weights(tmp_path)
    _, again = train(plan, tmp_path)
    assert again.step == 12
    assert all(torch.equal(before[k], v) for k, v in weights(tmp_path).items())
    _, longer = train(plan.replace(max_steps=15), tmp_path)
    assert longer.step == 15
    _, anew = train(plan.replace(max_steps=5), tmp_path, resume=False)
    assert anew.step == 5
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3, 4, 5]


def test_another_config_does_not_continue_a_run(plan: Plan, tmp_path: Path) -> None:
    train(plan.replace(max_steps=1), tmp_path)
    with pytest.raises(ConfigError, match=r"train\.learning_rate = 0\.003, not 0\.1; choose anoth"):
        train(plan.replace(learning_rate=0.1), tmp_path)
    assert weights(tmp_path)  # still there


def test_an_unreadable_state_is_an_error_not_a_fresh_start(plan: Plan, tmp_path: Path) -> None:
    train(plan.replace(max_steps=1), tmp_path)
    state = tmp_path / "train_state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable training state"):
        train(plan, tmp_path)


def test_the_sampled_weights_are_the_averaged_ones(plan: Plan, tmp_path: Path) -> None:
    model, _ = train(plan, tmp_path)
    state = torch.load(tmp_path / "train_state.pt", weights_only=True)
    sampled = checkpoint.load(tmp_path).state_dict()
    name = "final_conv.2.conv.weight"
    assert torch.equal(sampled[name], state["average"][name])
    assert torch.equal(model.state_dict()[name], state["average"][name])
    assert not torch.equal(sampled[name], state["model"][name])
    card = checkpoint.load(tmp_path).card
    assert card.class_names == ("CD", "HYP", "MI", "NORM", "STTC")
    assert (card.fs, card.length, card.scale) == (100, 100, 4.0)
    assert card.lead_names == ("I", "V1", "V2", "V3", "V4", "V5", "V6", "aVF")


def test_divergence_stops_the_run_and_keeps_the_last_checkpoint(plan: Plan, tmp_path: Path) -> None:
    train(plan.replace(max_steps=4), tmp_path)
    good = weights(tmp_path)
    poisoned = torch.load(tmp_path / "train_state.pt", weights_only=True)
    poisoned["model"]["final_conv.2.conv.bias"][0] = float("inf")
    torch.save(poisoned, tmp_path / "train_state.pt")
    bad = (tmp_path / "train_state.pt").read_bytes()
    with pytest.raises(
        TrainingDiverged, match=r"diverged at step 5.*checkpoint is that of step 4.*learning_rate"
    ):
        train(plan, tmp_path)
    assert (tmp_path / "train_state.pt").read_bytes() == bad
    assert checkpoint.load(tmp_path) is not None
    assert good.keys() == weights(tmp_path).keys()


def test_init_starts_from_the_weights_of_a_file(plan: Plan, tmp_path: Path) -> None:
    train(plan, tmp_path / "first")
    start = plan.replace(init=str(tmp_path / "first"), max_steps=1, learning_rate=1e-9)
    trained, _ = train(start, tmp_path / "second")
    first = checkpoint.load(tmp_path / "first").state_dict()
    for key, value in trained.state_dict().items():
        torch.testing.assert_close(value, first[key], rtol=0, atol=1e-7)
    other = plan.to_dict()
    other["model"]["res_channels"] = 12
    other["train"]["init"] = str(tmp_path / "first")
    with pytest.raises(ConfigError, match=r"do not fit the config's model.*there.*by the config"):
        build_model(Plan.read(other))


def test_time_ends_a_run_and_bends_the_learning_rate(plan: Plan, tmp_path: Path) -> None:
    timed = Plan(
        plan.model, dataclasses.replace(plan.train, max_steps=None, max_minutes=0.01), plan.data
    )
    _, progress = train(timed, tmp_path)
    assert progress.fraction == 1.0
    assert progress.seconds >= 0.6
    rates = [line["learning_rate"] for line in read_log(tmp_path)]
    assert rates[-1] < 0.5 * max(rates)


def test_a_run_s_own_config_repeats_it(plan: Plan, tmp_path: Path) -> None:
    train(plan, tmp_path / "a")
    saved = json.loads((tmp_path / "a" / "config.json").read_text())
    train(saved, tmp_path / "b")
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_averaged_weights_follow_and_leave_the_model_s_own_alone() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    average = EMA(layer, decay=0.5)
    nn.init.constant_(layer.weight, 3.0)
    average.update()  # decay (1 + 0) / (10 + 0) at first
    with average.applied():
        assert layer.weight.item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    assert layer.weight.item() == 3.0
    restored = EMA(layer, decay=0.5)
    restored.load_state_dict(average.state_dict())
    assert restored.updates == 1


def test_the_log_drops_what_a_kill_cut_short(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.begin({}, 0)
    run.log(step=1, loss=1.0)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert read_log(tmp_path) == [{"step": 1, "loss": 1.0}]
