"""Starting points that know the data: the moments of each class, and the Gaussian of its segments.

A reverse process begins with ``x_T``, whose distribution is white noise only where ``alpha_bar_T``
is 0. The references' schedule ends at 0.132: ``x_T`` of real data has the mean
``sqrt(alpha_bar_T) mean`` and the variance ``alpha_bar_T std^2 + 1 - alpha_bar_T``, and a start
from N(0, 1) is wrong by construction. :class:`Moments` starts from the right mean and variance,
:func:`class_moments` finds them in training data.

``class_starts`` goes further, for small networks. These decide rhythm poorly at the noisiest steps,
where hardly anything of the signal is left to see. There the best denoiser is nearly that of a
Gaussian with the data's mean and covariance (Wang, Vastola, "The unreasonable effectiveness of
Gaussian score approximation", 2024), and its part of the way needs no steps: draw from the
Gaussian, noise it to a middle step, go on from there with the network. What such a start gives away
must be said with the result: class and place of the first beat come from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ecgcore.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and standard deviation of the data that records are to look like: a matched start.

    Two floating tensors that broadcast to the signals ``(B, channels, L)``, in the model's units.
    """

    mean: Tensor
    std: Tensor

    def start(self, noise: Tensor, alpha_bar: float) -> Tensor:
        """``x_T`` with the first two moments that noised data has, from white noise like the
        signals: ``sqrt(alpha_bar) mean + sqrt(alpha_bar std^2 + 1 - alpha_bar) noise``.
        """
        mean, std = self.mean.to(noise), self.std.to(noise)
        return alpha_bar**0.5 * mean + torch.sqrt(alpha_bar * std**2 + (1 - alpha_bar)) * noise


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Mean and standard deviation of each channel, for each class and for all records together.

    Attributes:
        mean, std: float32 ``(classes + 1, channels)``; the last row is that of all records.
    """

    mean: Tensor
    std: Tensor

    def of(self, labels: Tensor | None) -> Moments:
        """The moments of records with the labels ``(n, classes)``, ``(n, channels, 1)`` each.

        A record of several classes is drawn from the mixture of their distributions, by weight: the
        means and the second moments are averaged, so that the spread between the classes is part of
        the deviation. A row of zeros, and ``None`` for a model without classes (which gives one
        row), take the moments of all records.

        Raises:
            ValueError: labels of another shape, or weights that are negative or not finite.
        """
        classes = len(self.mean) - 1
        if labels is None:
            labels = torch.zeros(1, classes)
        if labels.dim() != 2 or labels.shape[1] != classes:
            raise ValueError(
                f"ClassMoments.of: labels must have shape (n, {classes}), got {tuple(labels.shape)}"
            )
        weight = labels.detach().to("cpu", torch.float64)
        if not (torch.isfinite(weight) & (weight >= 0)).all():
            raise ValueError(
                "ClassMoments.of: labels must be finite and not negative, since they are weights "
                f"of a mixture, got {float(weight.min())} as the least"
            )
        total = weight.sum(1, keepdim=True)
        weight = torch.cat([weight, (total == 0).double()], 1)
        weight = weight / weight.sum(1, keepdim=True)
        class_mean = self.mean.double()
        mean = weight @ class_mean
        # Around the mixture's mean: as a difference of second moments it would cancel.
        off = class_mean - mean.unsqueeze(1)
        variance = (weight.unsqueeze(-1) * (self.std.double() ** 2 + off**2)).sum(1)
        return Moments(mean.float().unsqueeze(-1), variance.sqrt().float().unsqueeze(-1))


_ROWS = 256  # records whose float64 copy exists at a time


def class_moments(x: Tensor, y: Tensor) -> ClassMoments:
    """Mean and standard deviation of each channel over the records and samples of each class.

    Args:
        x: training signals ``(m, channels, L)`` in model units.
        y: their classes ``(m, classes)``. A record counts in full for each class whose weight is
            above 0. A class without records takes the moments of all.

    Raises:
        ValueError: shapes that do not fit, no record, or signals that are not finite.
    """
    if x.dim() != 3 or x.numel() == 0:
        raise ValueError(
            f"class_moments: x must have shape (m, channels, L), none of them 0, got "
            f"{tuple(x.shape)}"
        )
    if y.dim() != 2 or len(y) != len(x):
        raise ValueError(
            f"class_moments: y must have shape ({len(x)}, classes), got {tuple(y.shape)}"
        )
    moments = [torch.var_mean(part.double(), -1, correction=0) for part in x.split(_ROWS)]
    record_var, record_mean = (torch.cat(m).cpu() for m in zip(*moments, strict=True))
    if not torch.isfinite(record_var).all():
        raise ValueError("class_moments: x must be finite")
    everyone = torch.ones(len(y), 1, dtype=torch.bool)
    member = torch.cat([y.cpu() > 0, everyone], 1)
    member = (member | ~member.any(0)).double()
    weight = (member / member.sum(0)).T
    mean = weight @ record_mean
    # Within the records, and of their means around the class's.
    off = record_mean - mean.unsqueeze(1)
    variance = weight @ record_var + (weight.unsqueeze(-1) * off**2).sum(1)
    return ClassMoments(mean.float(), variance.sqrt().float())


def class_starts(
    x: Tensor,
    y: Tensor,
    labels: Tensor,
    t: int,
    schedule: NoiseSchedule,
    generator: torch.Generator,
) -> Tensor:
    """One ``x_t`` for each row of ``labels (n, classes)``, one-hot: ``(n, channels, L)``.

    Args:
        x: training segments ``(m, channels, L)``, aligned at a beat, in model units.
        y: their classes ``(m, classes)``. A class of fewer than two segments starts from all.
        t: 0-based diffusion step to noise the starts to.
    """
    starts = torch.empty(len(labels), *x.shape[1:])
    for c in range(labels.shape[1]):
        rows = labels[:, c] > 0
        of_class = x[y[:, c] > 0]
        starts[rows] = gaussian_like(
            of_class if len(of_class) > 1 else x, int(rows.sum()), generator
        )
    noise = torch.randn(starts.shape, generator=generator)
    alpha_bar = schedule.alpha_bar[t]
    return torch.sqrt(alpha_bar) * starts + torch.sqrt(1 - alpha_bar) * noise


def gaussian_like(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """``n`` draws from the Gaussian with the mean and covariance of ``x (m, ...)``.

    ``mean + z (x - mean) / sqrt(m - 1)``, ``z ~ N(0, 1)`` of shape ``(n, m)``, has exactly that
    covariance, which is never formed.
    """
    mean = x.mean(0)
    mix = torch.randn(n, len(x), generator=generator) / max(1, len(x) - 1) ** 0.5
    return mean + torch.tensordot(mix, x - mean, dims=1)
