"""Parts of a record that are given and kept: in leads, in the model's channels, from words."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from ecgcore import data
from ecgcore.data.leads import BASES
from ecgcore.sampling import keep
from ecgcore.sampling.channels import to_channels
from tiny import loaded_sssd

LIMB = data.LEADS[:6]


def an_ecg(n: int = 3, length: int = 40) -> torch.Tensor:
    """Twelve leads ``(n, 12, length)`` that satisfy Einthoven's relations."""
    x = torch.randn(n, 8, length, generator=torch.Generator().manual_seed(7))
    return data.to_twelve_leads(x, basis="I-II", order="ptbxl")


def mask_of(*leads: str, span: slice = slice(None), length: int = 40) -> torch.Tensor:
    mask = torch.zeros(12, length, dtype=torch.bool)
    for lead in leads or data.LEADS:
        mask[data.LEADS.index(lead), span] = True
    return mask


def model_with(basis: str) -> Any:
    """Eight channels by the name of their basis, or twelve in the reference's order."""
    channels = 12 if basis == "12" else 8
    model = loaded_sssd(in_channels=channels, out_channels=channels)
    names = BASES.get(basis, model.card.lead_names)
    # Steps large enough for the model to matter.
    steps = {"T": 5, "beta_0": 0.01, "beta_T": 0.6}
    model.card = dataclasses.replace(model.card, lead_names=names, scale=4.0, diffusion=steps)
    return model


@pytest.mark.parametrize("basis", ["I-aVF", "I-II", "12"])
@pytest.mark.parametrize(
    ("leads", "span"),
    [(("I", "III", "V2"), slice(None)), ((), slice(0, 20)), (("aVR", "aVL", "V6"), slice(5, 9))],
)
def test_what_is_kept_is_kept(basis: str, leads: tuple[str, ...], span: slice) -> None:
    model, known = model_with(basis), an_ecg()
    mask = mask_of(*leads, span=span)
    batch = model.sample(known=known, mask=mask, seed=1)
    assert len(batch) == 3  # one record for each given
    kept = mask.expand(3, 12, 40)
    assert torch.equal(batch.x[kept], known[kept])
    free = model.sample(n=3, seed=1)
    drawn = ~mask[10]
    assert (batch.x - free.x)[:, 10, drawn].abs().max() > 1e-4  # what is kept tells on the rest
    if basis != "12":  # all twelve leads of a record belong together
        i, ii, iii = batch.x[:, :3].unbind(1)
        assert (ii - i - iii).abs().max() < 1e-5


def test_what_is_drawn_follows_the_seed_and_what_is_kept() -> None:
    model, known = model_with("I-aVF"), an_ecg(5)
    mask = mask_of("I", "II")
    whole = model.sample(known=known, mask=mask, seed=1)
    parts = model.sample(known=known, mask=mask, seed=1, batch_size=2)
    assert (whole.x - parts.x).abs().max() <= 1e-5 * whole.x.abs().max()
    chest = slice(6, 12)
    others = (model.sample(known=k, mask=mask, seed=s) for k, s in ((known, 2), (-known, 1)))
    assert all((whole.x - other.x)[:, chest].abs().max() > 0.01 for other in others)


@pytest.mark.parametrize("basis", sorted(BASES))
def test_any_two_limb_leads_tell_both_channels(basis: str) -> None:
    known = an_ecg()
    eight = known[:, [data.LEADS.index(name) for name in BASES[basis]]]
    limb = [name in LIMB for name in BASES[basis]]
    for count in (2, 3, 6):
        for leads in combinations(LIMB, count):
            mask = mask_of(*leads).expand(3, 12, 40)
            x, given = to_channels(torch.where(mask, known, 0), mask, BASES[basis])
            assert given[:, limb].all()
            assert not given[:, [not one for one in limb]].any()
            torch.testing.assert_close(x[:, limb], eight[:, limb], rtol=1e-5, atol=1e-5)


def test_limb_leads_are_told_sample_by_sample() -> None:
    """Two leads here, one that is a channel there, none elsewhere."""
    known = an_ecg(1)
    mask = mask_of("II", "aVL", span=slice(0, 10)) | mask_of("aVF", "V1", span=slice(20, 30))
    x, given = to_channels(known, mask[None], BASES["I-aVF"])
    i, v1, avf = 0, 1, 7
    assert given[0, i].nonzero().flatten().tolist() == list(range(10))
    assert given[0, avf].nonzero().flatten().tolist() == [*range(10), *range(20, 30)]
    assert given[0, v1].nonzero().flatten().tolist() == list(range(20, 30))
    torch.testing.assert_close(x[0, i, :10], known[0, 0, :10])
    assert torch.equal(x[0, avf, 20:30], known[0, 5, 20:30])


def test_rounded_leads_are_kept_as_they_are() -> None:
    """Recordings are stored in whole microvolt and miss the relations by a few."""
    known = (an_ecg() * 1000).round() / 1000
    mask = mask_of(*LIMB[1:])
    batch = model_with("I-aVF").sample(known=known, mask=mask, seed=1)
    assert torch.equal(batch.x[:, 1:6], known[:, 1:6])
    assert (batch.x[:, 0] - known[:, 0]).abs().max() < 0.002


@pytest.mark.parametrize(
    ("basis", "alone", "fails"), [("I-aVF", ("I", "aVF"), "II"), ("I-II", ("I", "II"), "aVF")]
)
def test_a_single_limb_lead_is_a_channel_or_refused(
    basis: str, alone: tuple[str, ...], fails: str
) -> None:
    model, known = model_with(basis), an_ecg()
    for lead in alone:
        row = data.LEADS.index(lead)
        batch = model.sample(known=known, mask=mask_of(lead), seed=1)
        assert torch.equal(batch.x[:, row], known[:, row])
    channels = " and ".join(alone)
    message = (
        rf"only {fails} is kept \(record 0, sample 4\), .*channels {channels} do not follow; keep "
        rf"a second limb lead with it, or keep {alone[0]} or {alone[1]} alone"
    )
    with pytest.raises(ValueError, match=message):
        model.sample(known=known, mask=mask_of(fails, span=slice(4, 6)), seed=1)


def test_leads_that_contradict_each_other_are_refused() -> None:
    known = an_ecg(300)
    known[299, 2, 17] += 0.5
    mask = mask_of("I", "II", "III")
    message = r"contradict each other at record 299, sample 17: I = .*, II = .*, III = .* mV miss"
    with pytest.raises(ValueError, match=message):
        model_with("I-aVF").sample(known=known, mask=mask)
    two = model_with("I-aVF").sample(known=known[299:], mask=mask_of("I", "III"), seed=1)
    assert torch.equal(two.x[0, 2], known[299, 2])


def test_shapes_that_stand_for_the_whole() -> None:
    model, known = loaded_sssd(), an_ecg(2)
    whole = torch.zeros(2, 12, 40, dtype=torch.bool)
    whole[:, 6:8] = True
    reference = model.sample(known=known, mask=whole, seed=1).x
    for mask in (whole[0], whole[:, :, :1], whole[:1], whole[0, :, :1].numpy()):
        assert torch.equal(model.sample(known=known, mask=mask, seed=1).x, reference)
    nan = torch.where(whole, known.double(), torch.nan).numpy()
    assert torch.equal(model.sample(known=nan, mask=whole, seed=1).x, reference)

    one = model.sample(["MI", "NORM", "CD"], known=known[0], mask=whole[0], seed=1)
    assert torch.equal(one.x[:, 6:8], known[:1, 6:8].expand(3, 2, 40))
    assert len(model.sample(known=known[:1], mask=whole[0], seed=1)) == 1
    assert len(model.sample(["MI", "NORM"], known=known[:1], mask=whole[0], seed=1)) == 2
    assert len(model.sample("MI", known=known, mask=whole[0], seed=1)) == 2


def test_other_lengths_and_no_ecg() -> None:
    known = an_ecg(1, 55)
    batch = loaded_sssd().sample(known=known, mask=mask_of("V1", length=55), seed=1)
    assert torch.equal(batch.x[:, 6], known[:, 6])
    model = loaded_sssd(in_channels=3, out_channels=3)
    mask = torch.tensor([[True], [False], [False]])
    batch = model.sample(known=known[:, :3], mask=mask, seed=1)
    assert torch.equal(batch.x[:, 0], known[:, 0])
    assert batch.leads == ("ch0", "ch1", "ch2")


YES = torch.ones(12, 40, dtype=torch.bool)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"known": an_ecg()}, ValueError, "known and mask go together, mask is missing"),
        ({"mask": YES}, ValueError, "known and mask go together, known is missing"),
        ({"known": an_ecg().int(), "mask": YES}, TypeError, "known must be floating.*got int32"),
        (
            {"known": an_ecg()[:, :8], "mask": YES},
            ValueError,
            r"\(n, 12, L\), leads in the .*I, II",
        ),
        ({"known": an_ecg(), "mask": YES.float()}, TypeError, "mask must be boolean.*float32"),
        (
            {"known": an_ecg(), "mask": YES[:, :39]},
            ValueError,
            r"mask must have the shape \(n, 12, 4",
        ),
        ({"known": an_ecg(), "mask": YES[0]}, ValueError, r"mask must have the shape.*got \(40,\)"),
        ({"known": an_ecg(), "mask": YES, "n": 4}, ValueError, "known must hold n = 4 records, or"),
        (
            {"known": an_ecg(1), "mask": YES.expand(3, 12, 40), "n": 4},
            ValueError,
            "mask must hold n = 4 records, or one for all; got 3",
        ),
        (
            {"known": an_ecg(), "mask": YES, "length": 50},
            ValueError,
            "length is 50, but known has 40 samples",
        ),
        (
            {"known": an_ecg() / 0, "mask": YES},
            ValueError,
            "known must be finite where it is kept, got -?inf in record 0, I, sample 0",
        ),
    ],
)
def test_what_cannot_be_kept(options: dict[str, Any], error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        loaded_sssd().sample(**options)


def test_a_mask_from_words() -> None:
    def at(what: str) -> list[list[int]]:
        mask = keep(what, length=1000, fs=100)
        assert mask.shape == (12, 1000)
        return [
            sorted(set(np.flatnonzero(mask.any(1)).tolist())),
            np.flatnonzero(mask.any(0)).tolist(),
        ]

    every, always = list(range(12)), list(range(1000))
    assert at("I,II") == [[0, 1], always]
    assert at("avf, V1") == [[5, 6], always]
    assert at("0-2.5s") == [every, list(range(250))]
    assert at("V6,-1s,9.5-s") == [[11], [*range(100), *range(950, 1000)]]
    for wrong, message in (
        ("I,X", "expected leads .*I, II.* and seconds .*got 'X'"),
        ("", "got ''"),
        ("5-11s", "'5-11s' is no span of a record of 10 s"),
        ("5-5s", "no span"),
    ):
        with pytest.raises(ValueError, match=message):
            at(wrong)
