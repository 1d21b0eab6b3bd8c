"""Distances of two sets of records, over all pairs of one of each."""

from __future__ import annotations

import torch
from torch import Tensor

from ecgcore.metrics.arrays import Array, rows


def squared_distances(x: Array, y: Array) -> Tensor:
    """Squared Euclidean distances of all pairs: ``(n, ...)``, ``(m, ...)`` to ``(n, m)``."""
    return _squared_distances(*rows(x, y, "squared_distances"))


def mmd(x: Array, y: Array, *, sigma: float | None = None, clamp: bool = True) -> float:
    r"""Unbiased squared maximum mean discrepancy of a Gaussian kernel; no square root.

    .. math:: \frac{\sum_{i \ne j} k(x_i, x_j)}{n (n - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{m (m
        - 1)} - \frac{2}{n m} \sum_{i, j} k(x_i, y_j), \qquad k(a, b) = e^{-|a - b|^2 / 2 \sigma^2}

    Args:
        x, y: ``(n, ...)`` and ``(m, ...)``, at least two records each: signals, spectra, features.
        sigma: of the kernel; by default the lower median of the distances between the sets.
        clamp: at 0, below which the estimate may fall.

    Source: Gretton et al. 2012, "A Kernel Two-Sample Test", equation 3; median and clamp as in
    SynthECG's evaluation.

    Raises:
        ValueError: shapes, or a ``sigma`` that is not positive.
        DataError: NaN or infinite values.
    """
    a, b = rows(x, y, "mmd", least=2)
    across = _squared_distances(a, b)
    width = float(across.sqrt().flatten().median()) if sigma is None else float(sigma)
    if not width > 0:
        what = (
            "the median distance of x and y is 0: give sigma" if sigma is None else f"got {sigma}"
        )
        raise ValueError(f"metrics.mmd: sigma must be positive; {what}")

    def within(z: Tensor) -> Tensor:
        k = torch.exp(-_squared_distances(z, z) / (2 * width**2))
        return (k.sum() - k.diagonal().sum()) / (len(z) * (len(z) - 1))

    found = within(a) + within(b) - 2 * torch.exp(-across / (2 * width**2)).mean()
    return max(0.0, float(found)) if clamp else float(found)


def prd(x: Array, y: Array) -> float:
    r"""Percent root mean square difference, the symmetric form, mean over all pairs.

    .. math:: 100 \sqrt{\frac{\sum (x - y)^2}{(\sum x^2 + \sum y^2) / 2 + 10^{-6}}}

    Independent recordings lie at :math:`100 \sqrt 2 = 141.4` whatever their quality: signals below
    have collapsed towards each other. ``(n, ...)`` and ``(m, ...)``.
    """
    a, b = rows(x, y, "prd")
    power = (a.square().sum(1)[:, None] + b.square().sum(1)) / 2 + 1e-6
    return float(100 * (_squared_distances(a, b) / power).sqrt().mean())


def rmse(x: Array, y: Array) -> float:
    """Root mean square difference over leads and time, mean over all pairs, in the unit of the
    signals. It falls when signals collapse to their mean: look at that of two real sets beside it.
    """
    a, b = rows(x, y, "rmse")
    return float((_squared_distances(a, b) / a.shape[1]).sqrt().mean())


def frechet_distance(x: Array, y: Array) -> float:
    r"""Of two Gaussians with the means and covariances of the features ``x (n, d)`` and ``y (m,
    d)``.

    .. math:: |\mu_x - \mu_y|^2 + \mathrm{tr}\big(S_x + S_y - 2 (S_x S_y)^{1/2}\big)

    Covariances with ``n - 1``. The estimate grows as n falls: compare sets of equal sizes.

    Source: Dowson and Landau 1982; with features of a classifier it is the FID of Heusel et al.
    2017.
    """
    a, b = rows(x, y, "frechet_distance", least=2)
    S, T = (torch.atleast_2d(torch.cov(z.T)) for z in (a, b))
    values, basis = torch.linalg.eigh(S)
    root = basis * values.clamp(min=0).sqrt() @ basis.T
    # tr (S T)^1/2: S T and S^1/2 T S^1/2 have the same eigenvalues, the second is symmetric.
    mixed = torch.linalg.eigvalsh(root @ T @ root).clamp(min=0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, float(shift + S.trace() + T.trace() - 2 * mixed))


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    # About a common center: differences of large squares lose digits.
    center = a.mean(0)
    a, b = a - center, b - center
    squares = a.square().sum(1)[:, None] + b.square().sum(1)
    return torch.addmm(squares, a, b.T, alpha=-2).clamp_(min=0)
