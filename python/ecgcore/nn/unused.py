"""Layers that a reference builds and stores but never uses."""

from __future__ import annotations

from typing import Any

from torch import nn


class LeavesOut(nn.Module):
    """A module without the layers that the reference's has and never uses.

    They get no gradient there, and no optimiser moves them. Here they have no place: their initial
    numbers are drawn and dropped, so that seeds agree, and their keys in a state dict are accepted
    and dropped. ``unused`` maps those keys to shapes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unused: dict[str, tuple[int, ...]] = {}

    def leave_out(self, name: str, layer: nn.Module) -> None:
        """Note ``layer``, just built, as one that the reference would keep under ``name``."""
        for key, tensor in layer.state_dict().items():
            self.unused[f"{name}.{key}"] = tuple(tensor.shape)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for key in self.unused:
            state_dict.pop(prefix + key, None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def unused_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of all that ``module`` and the modules in it leave out."""
    return {
        f"{name}.{key}" if name else key: shape
        for name, part in module.named_modules()
        if isinstance(part, LeavesOut)
        for key, shape in part.unused.items()
    }
