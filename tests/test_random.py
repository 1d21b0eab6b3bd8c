"""The counter-based generator: published test vectors, the distribution, and independence of
batches."""

from __future__ import annotations

import math

import pytest
import torch

from ecgcore.random import MAX_SEED, normal, philox4x32, uniform


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        # Known answers of the Random123 library (kat_vectors, philox4x32 10).
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            [0xFFFFFFFF] * 4,
            (0xFFFFFFFF, 0xFFFFFFFF),
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(counter: list[int], key: tuple[int, int], expected: list[int]) -> None:
    assert philox4x32(torch.tensor(counter), key).tolist() == expected
    # The same among other counters, whatever the shape around it, and the argument is left alone.
    many = torch.randint(0, 2**32, (4, 3, 5))
    many[:, 1, 2] = torch.tensor(counter)
    before = many.clone()
    assert philox4x32(many, key)[:, 1, 2].tolist() == expected
    assert torch.equal(many, before)


def test_normals_are_the_box_muller_transform_of_the_bits() -> None:
    x = normal((6,), seed=2**40 + 3, records=[5 + 2**33], draw=7)
    for block in range(2):
        words = philox4x32(torch.tensor([block, 7, 5, 2]), (3, 2**8)).tolist()
        for pair in range(2):
            radius = math.sqrt(-2.0 * math.log((words[2 * pair] + 0.5) / 2**32))
            angle = 2.0 * math.pi * words[2 * pair + 1] / 2**32
            for k, value in enumerate((radius * math.cos(angle), radius * math.sin(angle))):
                element = 4 * block + 2 * pair + k
                if element < 6:
                    assert x[0, element].item() == pytest.approx(value, rel=1e-6, abs=1e-7)


def test_a_record_is_the_same_in_every_batch() -> None:
    whole = normal((3, 37), seed=11, records=range(10), draw=4)
    assert whole.shape == (10, 3, 37)
    assert torch.equal(normal((3, 37), seed=11, records=[7], draw=4)[0], whole[7])
    assert torch.equal(
        normal((3, 37), seed=11, records=torch.tensor([9, 2]), draw=4), whole[[9, 2]]
    )
    assert torch.equal(normal((3, 37), seed=11, records=range(10), draw=4), whole)


def test_every_device_draws_the_same(device: str) -> None:
    x = normal((8, 100), seed=3, records=range(4), draw=2, device=device)
    assert x.device.type == device
    here = normal((8, 100), seed=3, records=range(4), draw=2)
    assert (x.cpu() - here).abs().max() <= 1e-6  # the bits agree, the logarithm may round otherwise


def test_distribution() -> None:
    x = normal((8, 12_500), seed=1, records=range(4), draw=0, dtype=torch.float64).flatten()
    n = x.numel()
    # Five standard deviations of each moment's estimate.
    assert abs(x.mean()) < 5 / n**0.5
    assert abs(x.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((x**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((x**4).mean() - 3) < 5 * (96 / n) ** 0.5
    # Kolmogorov and Smirnov: sqrt(n) times the largest gap exceeds 1.95 once in a thousand.
    cdf = torch.special.ndtr(x.sort().values)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    gap = torch.maximum((steps[1:] - cdf).max(), (cdf - steps[:-1]).max())
    assert gap * n**0.5 < 1.95
    assert 4.0 < x.abs().max() < 6.8


def test_seeds_draws_records_and_elements_are_uncorrelated() -> None:
    base = {"seed": 1, "records": [0], "draw": 0}
    others = [{"seed": 2}, {"seed": 1 + 2**32}, {"draw": 1}, {"records": [1]}, {"records": [2**32]}]
    n = 40_000
    x = normal((n,), **base)[0]
    for other in others:
        y = normal((n,), **{**base, **other})[0]
        assert abs((x * y).mean()) < 5 / n**0.5, other
    for lag in (1, 2, 3, 4, 8):
        assert abs((x[lag:] * x[:-lag]).mean()) < 5 / n**0.5, lag


def test_default_dtype_and_global_generator_are_left_alone() -> None:
    state = torch.get_rng_state()
    assert normal((5,), seed=MAX_SEED, records=[0, 1], draw=0).dtype == torch.float32
    assert torch.equal(torch.get_rng_state(), state)
    assert normal((0,), seed=0, records=[3], draw=0).shape == (1, 0)
    assert normal((2, 3), seed=0, records=[], draw=0).shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": -1}, "seed must be in"),
        ({"seed": 2**64}, "seed must be in"),
        ({"draw": 2**32}, "draw must be in"),
        ({"records": [[1]]}, "list of numbers"),
        ({"records": [-1]}, "must not be negative"),
    ],
)
def test_values_out_of_range(change: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        normal((4,), **{"seed": 0, "records": [0], "draw": 0, **change})


def test_counter_is_checked() -> None:
    with pytest.raises(TypeError, match="int64"):
        philox4x32(torch.zeros(4), (0, 0))
    with pytest.raises(ValueError, match="4"):
        philox4x32(torch.zeros(3, dtype=torch.int64), (0, 0))


def test_uniforms_are_the_bits() -> None:
    x = uniform((2, 3), seed=2**40 + 3, records=[5 + 2**33, 1], draw=7)
    assert x.shape == (2, 2, 3)
    words = [philox4x32(torch.tensor([block, 7, 5, 2]), (3, 2**8)).tolist() for block in range(2)]
    for element, value in enumerate(x[0].flatten().tolist()):
        word = words[element // 4][element % 4]
        assert value == pytest.approx((word + 0.5) / 2**31 - 1, abs=1e-7)
    assert torch.equal(uniform((2, 3), seed=2**40 + 3, records=[1], draw=7)[0], x[1])


def test_uniforms_fill_their_interval() -> None:
    x = uniform((40_000,), seed=0, records=range(2), draw=0).double()
    assert x.min() >= -1
    assert x.max() <= 1
    assert x.mean().abs() < 0.01
    assert (x.square().mean() - 1 / 3).abs() < 0.01
    assert (x[0] * x[1]).mean().abs() < 0.01
    with pytest.raises(ValueError, match="uniform: seed must be"):
        uniform((2,), seed=-1, records=[0], draw=0)
