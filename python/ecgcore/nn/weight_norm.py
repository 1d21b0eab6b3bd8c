"""Weight normalisation with torch's state dict keys, in modules that can be pickled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_OLD_NAMES = {"weight_g": "original0", "weight_v": "original1"}


class _LengthAndDirection(nn.Module):
    """``g`` and ``v`` of ``w = g v / |v|``, named as torch's parametrization names them."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        weight = weight.detach()
        self.original0 = nn.Parameter(torch.norm_except_dim(weight, 2, 0))
        self.original1 = nn.Parameter(weight.clone())

    def forward(self) -> Tensor:
        return torch._weight_norm(self.original1, self.original0, 0)


class WeightNormed(nn.Module):
    """Holds a bias, and a weight as the length and direction of each output row.

    Salimans, Kingma, "Weight Normalization" (2016). The keys are those of
    ``torch.nn.utils.parametrizations.weight_norm``; torch's own modules of that kind refuse to be
    pickled. The keys of the older ``torch.nn.utils.weight_norm``, ``weight_g`` and ``weight_v``,
    load too.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach())
        self.parametrizations = nn.ModuleDict({"weight": _LengthAndDirection(weight)})

    @property
    def weight(self) -> Tensor:
        """The effective weight."""
        w: Tensor = self.parametrizations["weight"]()
        return w

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for old, new in _OLD_NAMES.items():
            if prefix + old in state_dict:
                key = f"{prefix}parametrizations.weight.{new}"
                state_dict[key] = state_dict.pop(prefix + old)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
