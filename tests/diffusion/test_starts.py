from __future__ import annotations

import pytest
import torch

from ecgcore import diffusion
from ecgcore.diffusion import ClassMoments, Moments, NoiseSchedule, class_moments
from ecgcore.diffusion.starts import class_starts, gaussian_like

SCHEDULE = NoiseSchedule.linear(20, 1e-4, 0.2)


def test_draws_have_the_mean_and_covariance_of_the_segments() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, 3, generator=g) @ torch.randn(3, 3, generator=g) + 5
    drawn = gaussian_like(x, 200_000, g).flatten(1)
    torch.testing.assert_close(drawn.mean(0), x.flatten(1).mean(0), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.T.cov(), x.flatten(1).T.cov(), rtol=0.03, atol=0.05)


def test_each_label_starts_from_its_class_noised_to_the_step() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.cat([torch.full((5, 1, 4), 3.0), torch.full((5, 1, 4), -3.0), torch.zeros(1, 1, 4)])
    y = torch.eye(3)[[0] * 5 + [1] * 5 + [2]]
    labels = torch.eye(3)[torch.arange(3000) % 3]
    for t in (0, 12, 19):
        starts = class_starts(x, y, labels, t, SCHEDULE, g)
        for c, value in ((0, 3.0), (1, -3.0)):
            mine = starts[labels[:, c] > 0]
            mean = SCHEDULE.alpha_bar[t].sqrt() * value
            torch.testing.assert_close(mine.mean(), mean, rtol=0, atol=0.05)
            spread = (1 - SCHEDULE.alpha_bar[t]).sqrt()
            torch.testing.assert_close(mine.std(), spread, rtol=0.05, atol=0)
        alone = starts[labels[:, 2] > 0]  # one segment has no covariance: all are taken
        assert alone.std() > (1 - SCHEDULE.alpha_bar[t]).sqrt() + 0.1 * SCHEDULE.alpha_bar[t]


def test_sampling_from_a_start_is_the_rest_of_the_whole_way() -> None:
    def model(x: torch.Tensor, label: torch.Tensor | None, steps: torch.Tensor) -> torch.Tensor:
        return 0.1 * x + 0.01 * steps[:, :, None]

    seen: list[tuple[int, torch.Tensor]] = []
    noise = torch.randn(20, 2, 3, 8, generator=torch.Generator().manual_seed(1))
    whole = diffusion.sample(
        model,
        (2, 3, 8),
        None,
        SCHEDULE,
        noise=noise,
        callback=lambda i, t, x, eps: seen.append((t, x)),
    )
    t, x = seen[7]
    rest = diffusion.sample(model, (2, 3, 8), None, SCHEDULE, noise=noise, start=(t, x))
    assert torch.equal(rest, whole)
    for start in ((20, x), (-1, x), (3, x[:1])):
        with pytest.raises(ValueError, match=r"start must be a step in 0 .. 19"):
            diffusion.sample(model, (2, 3, 8), None, SCHEDULE, start=start)


# --- moments --------------------------------------------------------------------------------------


def records() -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes, of which the last has no record; the first two overlap."""
    g = torch.Generator().manual_seed(3)
    x = torch.randn(600, 2, 7, generator=g) * torch.tensor([[1.0], [0.2]]) + 4
    x[:200] += torch.randn(200, 1, 1, generator=g)
    y = torch.zeros(600, 3)
    y[:300, 0] = 1
    y[200:, 1] = 0.5  # any weight above 0 counts in full
    return x, y


def test_moments_of_each_class_of_several_labels_and_of_none() -> None:
    x, y = records()
    found = class_moments(x, y)
    assert found.mean.shape == found.std.shape == (4, 2)
    assert found.mean.dtype == found.std.dtype == torch.float32
    for row, of_class in enumerate((x[:300], x[200:], x, x)):  # no record: as all together
        by_channel = of_class.double().transpose(0, 1).flatten(1)
        torch.testing.assert_close(found.mean[row].double(), by_channel.mean(1), rtol=1e-6, atol=0)
        spread = by_channel.std(1, correction=0)
        torch.testing.assert_close(found.std[row].double(), spread, rtol=1e-6, atol=0)


def test_moments_keep_their_digits_far_from_zero() -> None:
    x, y = records()
    near, far = class_moments(x.double(), y), class_moments(x.double() + 1e5, y)
    torch.testing.assert_close(far.std, near.std, rtol=1e-6, atol=0)


def test_mixed_labels_take_the_mixture_of_their_classes() -> None:
    x, _ = records()
    parts = (x[:200], x[200:300], x[300:600])
    y = torch.eye(3)[[0] * 200 + [1] * 100 + [2] * 300]
    labels = torch.tensor([[0.0, 1, 0], [2, 2, 0], [0.25, 0, 0.75], [0, 0, 0]])
    mixed = class_moments(x, y).of(labels)
    assert mixed.mean.shape == mixed.std.shape == (4, 2, 1)
    for i, weights in enumerate([(0, 1, 0), (0.5, 0.5, 0), (0.25, 0, 0.75), (1 / 3, 1 / 6, 1 / 2)]):
        first, second = (
            sum(w * (p.double() ** k).mean((0, 2)) for w, p in zip(weights, parts, strict=True))
            for k in (1, 2)
        )
        assert isinstance(first, torch.Tensor)
        torch.testing.assert_close(mixed.mean[i, :, 0].double(), first, rtol=1e-6, atol=0)
        spread = (second - first**2).sqrt()
        torch.testing.assert_close(mixed.std[i, :, 0].double(), spread, rtol=1e-5, atol=0)


def test_moments_without_classes() -> None:
    x, _ = records()
    found = class_moments(x, torch.zeros(600, 0)).of(None)
    torch.testing.assert_close(found.mean[0, :, 0], x.mean((0, 2)))
    torch.testing.assert_close(
        found.std[0, :, 0], x.transpose(0, 1).flatten(1).std(1), rtol=1e-3, atol=0
    )


def test_a_matched_start_has_the_moments_of_noised_data() -> None:
    g = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(200_000, 2, 1, generator=g) + torch.tensor([[0.5], [-2.0]])
    alpha_bar = 0.132
    noised = alpha_bar**0.5 * x + (1 - alpha_bar) ** 0.5 * torch.randn(x.shape, generator=g)
    own = Moments(torch.tensor([[0.5], [-2.0]], dtype=torch.float64), torch.tensor(0.3))
    start = own.start(torch.randn(x.shape, generator=g), alpha_bar)
    assert start.dtype == torch.float32
    torch.testing.assert_close(start.mean(0), noised.mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(start.std(0), noised.std(0), rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            torch.zeros(3, 4),
            torch.zeros(3, 1),
            r"x must have shape \(m, channels, L\).*got \(3, 4\)",
        ),
        (torch.zeros(0, 4, 5), torch.zeros(0, 1), r"x must have shape .*got \(0, 4, 5\)"),
        (
            torch.zeros(3, 4, 5),
            torch.zeros(2, 1),
            r"y must have shape \(3, classes\), got \(2, 1\)",
        ),
        (torch.full((1, 1, 2), torch.nan), torch.zeros(1, 1), "x must be finite"),
    ],
)
def test_moments_of_what_is_no_data(x: torch.Tensor, y: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_moments(x, y)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(2, 2), r"labels must have shape \(n, 3\), got \(2, 2\)"),
        (torch.zeros(3), r"labels must have shape \(n, 3\), got \(3,\)"),
        (torch.tensor([[1.0, -0.5, 0]]), "labels must be finite and not negative.*got -0.5"),
        (torch.tensor([[1.0, torch.inf, 0]]), "labels must be finite"),
    ],
)
def test_labels_that_are_no_weights(labels: torch.Tensor, message: str) -> None:
    moments = ClassMoments(torch.zeros(4, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match=message):
        moments.of(labels)
