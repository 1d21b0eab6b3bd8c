"""From a denoiser to what a sampler calls at every step."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore import _backend, _native
from ecgcore.engine.mixers import Setting
from ecgcore.engine.plan import Plan, PlanEvaluation
from ecgcore.engine.structure import obstacle
from ecgcore.models.wavenet import Denoiser
from ecgcore.nn.s4 import S4Core
from ecgcore.nn.ssm_common import check_rate

Evaluation = Callable[[Tensor, Tensor], Tensor]
"""``evaluation(i, x) -> eps``: the noise predicted in ``x (B, channels, L)`` at the ``i``-th of the
times that were prepared, ``i`` int64 ``(1,)`` on the device of ``x``, so that a captured step can
be replayed. The result is valid until the next call."""

PRECISIONS = ("fp32", "bf16")


def prepare(
    model: Callable[..., Any],
    labels: Tensor | None,
    times: Sequence[float],
    shape: tuple[int, int, int],
    *,
    device: torch.device,
    dtype: torch.dtype,
    precision: str = "fp32",
    rate: float = 1.0,
) -> Evaluation:
    """What depends on weights, labels and times alone is computed here, once.

    An :class:`~ecgcore.models.SSSDECG` or :class:`~ecgcore.models.DSATECG` in ``eval()`` is
    compiled to a plan, which it remembers for as long as its weights and settings stay as they are;
    any other model, or one that :func:`~.structure.obstacle` objects to, is called as it is. What
    the plan computes is fixed: later changes of the model are for the next :func:`prepare`.

    Args:
        model: predicts the noise, ``model(x, labels, steps)``.
        labels: class weights ``(B, classes)`` on ``device``; ``None`` for a model without classes.
        times: the 0-based diffusion steps that will be asked for.
        shape: ``(B, channels, L)``.
        device, dtype: of the signals, and of the model's weights.
        precision: of the matrix products, ``"fp32"``, which in a float64 model are float64, or
            ``"bf16"``.
        rate: step of the samples in units of the one the model was trained with: 0.2 draws signals
            of 100 Hz at 500 Hz.

    Raises:
        ValueError: for another precision, a rate that is no positive number, ``"bf16"`` or a rate
            for a model that is not compiled, ``"bf16"`` in float64, weights of another dtype or
            device than the signals', shapes that do not fit.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"engine.prepare: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}"
        )
    check_rate("engine.prepare", rate)
    reason = obstacle(model)
    if reason is None:
        assert isinstance(model, Denoiser)
        setting = Setting(shape[2], float(rate), precision, dtype)
        _check_home(model, shape, device, setting)
        # Nothing made here may be bound to the mode of the caller.
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            plan = _plan_of(model, setting)
            return PlanEvaluation(plan, model, labels, times, shape[0], device)
    for name, value, default in (("precision", precision, "fp32"), ("rate", rate, 1.0)):
        if value != default:
            raise ValueError(
                f"engine.prepare: {name}={value!r} needs a compiled model, and this one is not "
                f"compiled: {reason}"
            )
    steps = torch.tensor(list(times), device=device, dtype=dtype)

    def evaluate(i: Tensor, x: Tensor) -> Tensor:
        eps: Tensor = model(x, labels, steps.index_select(0, i).expand(shape[0]).unsqueeze(1))
        return eps

    return evaluate


def clear(model: nn.Module) -> None:
    """Forget what was compiled of ``model``, and its kernels' spectra. Needed only after writing
    to weights through ``.data`` or numpy."""
    for module in model.modules():
        if isinstance(module, Denoiser):
            module.compiled.clear()
        if isinstance(module, S4Core):
            module.clear_cache()


def _check_home(
    model: Denoiser, shape: tuple[int, int, int], device: torch.device, setting: Setting
) -> None:
    weight = next(model.parameters())
    if setting.dtype not in (torch.float32, torch.float64) or weight.dtype != setting.dtype:
        raise ValueError(
            "engine.prepare: dtype must be float32 or float64, and the model's weights of it, "
            f"got {setting.dtype} and {weight.dtype}"
        )
    if weight.device != torch.empty(0, device=device).device:
        raise ValueError(
            f"engine.prepare: device must be that of the model's weights, {weight.device}, "
            f"got {device}"
        )
    if setting.precision == "bf16" and setting.dtype == torch.float64:
        raise ValueError("engine.prepare: precision='bf16' does not go with a float64 model")
    if len(shape) != 3 or min(shape) < 1 or shape[1] != model.in_channels:
        raise ValueError(
            f"engine.prepare: shape must be (B, {model.in_channels}, L) with B and L at least 1, "
            f"got {tuple(shape)}"
        )


def _plan_of(model: Denoiser, setting: Setting) -> Plan:
    # Packed weights lie as one level of the CPU wants them; backends make the spectra.
    key = (setting, _backend.current_backend(), _native.cpu_isa(), _settings(model))
    sources = [*model.parameters(), *model.buffers()]
    plan: Plan = model.compiled.get(key, sources, lambda: Plan(model, setting))
    return plan


def _settings(model: nn.Module) -> Hashable:
    """Every number, word and flag among the attributes of the modules: what a plan may have read
    off beside the tensors."""
    return tuple(
        (name, type(module), *sorted((k, v) for k, v in vars(module).items() if _is_setting(v)))
        for name, module in model.named_modules()
    )


def _is_setting(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))
