"""Batch normalisation whose scale and shift depend on the class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore import ops
from ecgcore.nn import time_major
from ecgcore.nn.parameter_cache import ParameterCache


class ConditionalBatchNorm1d(nn.Module):
    """``gamma(y) (x - mean) / sqrt(var + eps) + beta(y)``, and an activation in the same pass.

    De Vries et al., "Modulating early visual processing by language" (2017). ``[gamma | beta]`` is
    ``y @ embed.weight``: the rows of a multi-hot label add up, and a label of zeros gives zeros.
    In training mean and variance are those of the batch, and the running ones move towards them.

    Args:
        num_features: channels ``F``.
        num_classes: columns of the label.
        activation: ``None``, ``"relu"``, ``"leaky_relu"`` (slope 0.01) or ``"tanh"``.
    """

    def __init__(
        self, num_features: int, num_classes: int, *, activation: str | None = None
    ) -> None:
        super().__init__()
        for name, value in (("num_features", num_features), ("num_classes", num_classes)):
            if value < 1:
                raise ValueError(f"ConditionalBatchNorm1d: {name} must be at least 1, got {value}")
        self.num_features, self.num_classes = num_features, num_classes
        self.activation = activation
        self._cache = ParameterCache[Tensor]()
        self.bn = nn.BatchNorm1d(num_features, affine=False)  # holds the running statistics
        self.embed = nn.Embedding(num_classes, 2 * num_features)
        nn.init.normal_(self.embed.weight[:, :num_features].detach(), 1.0, 0.02)
        nn.init.zeros_(self.embed.weight[:, num_features:].detach())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``x (B, F, L)``, ``y (B, classes)``: one-hot, multi-hot or soft.

        Raises:
            ValueError: for shapes that do not fit, or one value per channel in training.
        """
        if x.dim() != 3 or x.shape[1] != self.num_features:
            raise ValueError(
                f"ConditionalBatchNorm1d: x must have shape (B, {self.num_features}, L), "
                f"got {tuple(x.shape)}"
            )
        if y.shape != (x.shape[0], self.num_classes):
            raise ValueError(
                f"ConditionalBatchNorm1d: y must have shape (B, classes) = "
                f"({x.shape[0]}, {self.num_classes}), got {tuple(y.shape)}"
            )
        weight = self.embed.weight
        y = y.to(weight.dtype)
        if time_major.serves(self, x) and time_major.is_time_major(x):
            return self._time_major(x, y)
        gamma, beta = (y @ weight).chunk(2, dim=1)
        bn = self.bn
        assert bn.running_mean is not None
        assert bn.running_var is not None
        assert bn.num_batches_tracked is not None
        if self.training:
            bn.num_batches_tracked.add_(1)
        return ops.conditional_batch_norm(
            x,
            gamma,
            beta,
            bn.running_mean,
            bn.running_var,
            training=self.training,
            momentum=0.1,
            eps=bn.eps,
            activation=self.activation,
        )

    def _time_major(self, x: Tensor, y: Tensor) -> Tensor:
        """By the running statistics: one scale and one offset of each record and feature."""
        bn, weight = self.bn, self.embed.weight
        assert bn.running_mean is not None
        assert bn.running_var is not None
        sources = weight, bn.running_mean, bn.running_var
        table = self._cache.get(bn.eps, sources, lambda: _affine(*sources, bn.eps))
        scale, offset = (y @ table).chunk(2, dim=1)
        out = torch.addcmul(offset, x.permute(2, 0, 1), scale)
        if self.activation == "relu":
            out.relu_()
        elif self.activation == "leaky_relu":
            F.leaky_relu_(out, 0.01)
        elif self.activation == "tanh":
            out.tanh_()
        return out.permute(1, 2, 0)

    def extra_repr(self) -> str:
        return f"{self.num_features}, {self.num_classes}, activation={self.activation!r}"


def _affine(weight: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """``[gamma / sqrt(var + eps) | beta - gamma mean / sqrt(var + eps)]``, a row for each class.

    Both are linear in gamma and beta, so a label multiplies these rows as it does the weight's.
    Folded so, as in torch's own batch norm, a mean of n deviations costs n times the rounding.
    """
    gamma, beta = weight.chunk(2, dim=1)
    scale = gamma * torch.rsqrt(var + eps)
    return torch.cat([scale, beta - scale * mean], dim=1)
