"""Parameter groups in which state-space parameters keep a learning rate of their own."""

from __future__ import annotations

from typing import Any

from torch import nn

from ecgcore.nn.ssm_common import OPTIMIZER_NOTES

_NOTES = ("_optim", "_s4_optimizer")
"""Where the two generations of S4 note what an optimiser should know about a parameter."""


def optimizer_groups(model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for ``torch.optim.AdamW`` and its kind: S4's parameters by their notes, then no decay.

    The parameters of a state matrix want a smaller step than the layers around them and no decay
    towards zero, which is no neutral value for them (Gu, Goel, Ré 2022, appendix D). Kernels note
    both at their parameters, as the references do: in the attribute ``_optim`` (first generation,
    S4D) or ``_s4_optimizer`` (second). Nothing but the kernel's argument ``lr`` and ``trainable``
    decides what is noted.

    Args:
        model: any module.
        lr: learning rate of all parameters that note none.
        weight_decay: of all parameters that note none.

    Returns:
        ``[{"params": [...], "lr": ..., "weight_decay": ...}, ...]``: the parameters without notes
        first, then one group for each distinct note in the order in which they appear. Every
        parameter of ``model`` is in exactly one group, frozen and shared ones too, in the order of
        ``model.parameters()``.

    Raises:
        ValueError: for a model without parameters, or a note that holds other settings.
    """
    groups: dict[tuple[float, float] | None, dict[str, Any]] = {
        None: {"params": [], "lr": lr, "weight_decay": weight_decay}
    }
    copied = {
        getattr(module, name): note
        for module in model.modules()
        for name, note in getattr(module, OPTIMIZER_NOTES, {}).items()
    }
    for name, parameter in model.named_parameters():
        notes = (getattr(parameter, attribute, None) for attribute in _NOTES)
        note = next(filter(None, notes), copied.get(parameter))
        if note is None:
            groups[None]["params"].append(parameter)
            continue
        unknown = set(note) - {"lr", "weight_decay"}
        if unknown:
            raise ValueError(
                f"optimizer_groups: {name} notes {', '.join(sorted(unknown))}; "
                "lr and weight_decay are understood"
            )
        settings = {"lr": lr, "weight_decay": weight_decay, **note}
        key = (settings["lr"], settings["weight_decay"])
        groups.setdefault(key, {"params": [], **settings})["params"].append(parameter)
    filled = [group for group in groups.values() if group["params"]]
    if not filled:
        raise ValueError("optimizer_groups: model has no parameters")
    return filled
