from __future__ import annotations

import pytest
import torch

from ecgcore import diffusion
from ecgcore.diffusion import NoiseSchedule
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
