"""Drawing samples: the reverse process, as one function."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ecgcore import engine
from ecgcore.diffusion import solvers
from ecgcore.diffusion.loss import Denoiser
from ecgcore.diffusion.noise import KEPT, Noise, RecordNoise, host_noise
from ecgcore.diffusion.process import Process
from ecgcore.diffusion.schedule import NoiseSchedule
from ecgcore.diffusion.starts import Moments

Callback = Callable[[int, int, Tensor, Tensor], None]
"""``callback(i, t, x, eps)``: evaluation ``i``, at step ``t``, took ``x`` and gave ``eps``."""

SAMPLERS = ("ddpm", "ddim", "dpm++")


@torch.no_grad()
def sample(
    model: Denoiser,
    shape: tuple[int, int, int],
    labels: Tensor | None,
    schedule: NoiseSchedule,
    *,
    sampler: str = "ddpm",
    steps: int | None = None,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    noise: Tensor | Noise | RecordNoise | None = None,
    start: tuple[int, Tensor] | Moments | None = None,
    callback: Callback | None = None,
    guidance: float = 1.0,
    known: Tensor | None = None,
    mask: Tensor | None = None,
    precision: str = "fp32",
    rate: float = 1.0,
    eager: bool = False,
) -> Tensor:
    """Draw signals by running the diffusion backward.

    Call it with the model in ``eval()``, where S4 layers remember their kernels. It can be
    interrupted anywhere: nothing outlives a call but the state of the generator.

    Args:
        model: predicts the noise, ``model(x, labels, steps)``.
        shape: ``(B, channels, L)`` in the model's channels.
        labels: class weights ``(B, classes)``, floating; ``None`` for a model without classes.
        sampler: ``"ddpm"``, the reference's ancestral sampling (Ho et al., 2020, algorithm 2);
            ``"ddim"`` (Song et al., 2021); ``"dpm++"``, DPM-Solver++ 2M (Lu et al., 2022). See
            ``diffusion.solvers`` for the formulas and docs/samplers.md for what they are good for.
        steps: number of model evaluations; ``None`` takes all, which is all that ``"ddpm"`` takes.
        eta: of ``"ddim"``, in [0, 1]: part of the noise of ``"ddpm"`` that is added.
        generator: source of all noise, on the CPU; torch's default one if there is none. ``x_T`` is
            drawn first, then one array for each step but the last that adds noise: with ``"ddpm"``
            the reference's order, so that its seeded samples come out again.
        noise: the draws themselves instead, ``(draws, B, channels, L)``, row 0 is ``x_T``, with T
            draws for ``"ddpm"``, ``steps`` for ``"ddim"`` with eta, else 1; or a function that
            makes them, ``noise(k) -> (B, channels, L)``, called once per ``k`` in order; or a
            :class:`RecordNoise`, by which a record does not depend on its batch.
        start: ``Moments`` of the data, from which ``x_T`` gets its mean and variance
            (``class_moments``); or ``(t, x_t)``: begin at step ``t``, 0-based, with ``x_t (B,
            channels, L)`` in place of noise at the last step, as SDEdit does (Meng et al., 2022);
            ``steps`` are then spread below ``t``. Draws of ``"ddpm"`` keep their numbers: what
            comes before step ``t`` is drawn and not used.
        callback: sees input and output of each evaluation, its own copies, before the update.
        guidance: weight ``w`` of the labels, ``eps_0 + w (eps - eps_0)`` with ``eps_0`` predicted
            for a label of zeros; other than 1 it doubles the cost. It means something for models
            that were trained with such labels among theirs.
        known, mask: inpainting. Where ``mask (B, channels, L)``, bool, is true, ``known`` of the
            same shape is kept: noised to its level before each evaluation, exact in the result.
            Its noise has draws of its own: evaluation ``k`` takes ``k + 2^31`` of a function or a
            ``RecordNoise``, row ``draws + k`` of a tensor, the generator's next array.
        precision: of matrix products, ``"fp32"`` or ``"bf16"``.
        rate: step of the samples in units of the one the model was trained with.
        eager: on a GPU, launch the kernels of each step one by one. Otherwise the steps of a model
            that is compiled (``engine.prepare``) are recorded in CUDA graphs and replayed.

    Returns:
        ``(B, channels, L)`` on the model's device, float32 (float64 for a float64 model).

    Raises:
        ValueError: for unknown samplers, numbers of steps the sampler cannot take, shapes that do
            not fit, options that do not go together.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(
            f"diffusion.sample: shape must be (B, channels, L), each at least 1, got {shape}"
        )
    if labels is not None and (labels.dim() != 2 or labels.shape[0] != shape[0]):
        raise ValueError(
            f"diffusion.sample: labels must have shape ({shape[0]}, classes), "
            f"got {tuple(labels.shape)}"
        )
    if not math.isfinite(guidance) or (guidance != 1.0 and labels is None):
        raise ValueError(
            "diffusion.sample: guidance must be a finite number, and 1 without labels, "
            f"got {guidance}"
        )
    first = _checked_start(start, shape, schedule)
    table = _table(sampler, schedule, steps, eta, first)
    _check_kept(known, mask, shape)
    if noise is not None and generator is not None:
        raise ValueError("diffusion.sample: give a generator or noise, not both")
    by_record = noise if isinstance(noise, RecordNoise) else None
    if by_record is not None and len(by_record.records) != shape[0]:
        raise ValueError(
            f"diffusion.sample: noise must name {shape[0]} records, got {len(by_record.records)}"
        )
    on_host = None
    if not isinstance(noise, RecordNoise):
        kept = 0 if mask is None else len(table.times)
        on_host = host_noise(shape, table.draws, kept, generator, noise)

    device, dtype = _home(model, labels)
    if by_record is not None:
        by_record = by_record.on(device)
    batch = shape
    if labels is not None:
        labels = labels.to(device, dtype)
        if guidance != 1.0:
            labels = torch.cat([labels, torch.zeros_like(labels)])
            batch = (2 * shape[0], *shape[1:])
    evaluation = engine.prepare(
        model, labels, table.times, batch,
        device=device, dtype=dtype, precision=precision, rate=rate,
    )  # fmt: skip
    process = Process(
        evaluation,
        table,
        shape,
        device=device,
        dtype=dtype,
        noise=by_record,
        guidance=guidance,
        known=None if known is None else known.to(device, dtype),
        mask=None if mask is None else mask.to(device),
    )

    if by_record is not None:
        by_record.into(process.x, process.i)
    elif on_host is not None:
        process.x.copy_(on_host(0))
        for k in range(1, table.first_draw):
            on_host(k)
    if isinstance(start, Moments):
        process.begin(start.start(process.x, float(schedule.alpha_bar[-1])))
    else:
        process.begin(process.x if start is None else start[1])
    plain = eager or engine.obstacle(model) is not None
    evaluate = engine.Replay(process.evaluate, device, eager=plain)
    update = engine.Replay(process.update, device, eager=plain)
    last = len(table.times) - 1
    for k, t in enumerate(table.times):
        if on_host is not None and mask is not None:
            process.kept_noise.copy_(on_host(KEPT + k))
        evaluate()
        if callback is not None:
            callback(k, t, process.x.clone(), process.eps.clone())
        if on_host is not None and table.stochastic and k < last:
            process.fresh.copy_(on_host(table.first_draw + k))
        update()
    return process.end()


def _table(
    sampler: str, schedule: NoiseSchedule, steps: int | None, eta: float, first: int
) -> solvers.Table:
    if sampler not in SAMPLERS:
        raise ValueError(
            f"diffusion.sample: sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}"
        )
    if sampler != "ddim" and eta != 0.0:
        raise ValueError(f"diffusion.sample: {sampler} has no eta, got {eta}")
    if sampler == "ddpm":
        if steps not in (None, schedule.T) or isinstance(steps, bool):
            raise ValueError(
                f"diffusion.sample: ddpm takes all T = {schedule.T} steps, got steps={steps!r}"
            )
        return solvers.ddpm(schedule, first)
    if sampler == "ddim":
        return solvers.ddim(schedule, steps, eta, first)
    return solvers.dpmpp(schedule, steps, first)


def _checked_start(
    start: tuple[int, Tensor] | Moments | None,
    shape: tuple[int, int, int],
    schedule: NoiseSchedule,
) -> int:
    """The step at which to begin."""
    if isinstance(start, Moments):
        for name, value in (("mean", start.mean), ("std", start.std)):
            fits = value.dim() <= 3 and all(
                n in (1, m) for n, m in zip(reversed(value.shape), reversed(shape), strict=False)
            )
            if not fits:
                raise ValueError(
                    f"diffusion.sample: start.{name} must broadcast to {shape}, "
                    f"got {tuple(value.shape)}"
                )
            if not torch.isfinite(value).all():
                raise ValueError(f"diffusion.sample: start.{name} must be finite")
        if (start.std < 0).any():
            raise ValueError(
                "diffusion.sample: start.std must not be negative, got "
                f"{float(start.std.min())} as the least"
            )
        return schedule.T - 1
    if start is None:
        return schedule.T - 1
    first, given = start
    if not 0 <= first < schedule.T or tuple(given.shape) != tuple(shape):
        raise ValueError(
            f"diffusion.sample: start must be a step in 0 .. {schedule.T - 1} and a tensor of "
            f"shape {tuple(shape)}, got {first} and {tuple(given.shape)}"
        )
    return first


def _check_kept(known: Tensor | None, mask: Tensor | None, shape: tuple[int, int, int]) -> None:
    if known is None and mask is None:
        return
    if known is None or mask is None:
        there, missing = ("known", "mask") if mask is None else ("mask", "known")
        raise ValueError(f"diffusion.sample: {there} needs {missing} beside it, got None")
    for name, value in (("known", known), ("mask", mask)):
        if tuple(value.shape) != tuple(shape):
            raise ValueError(
                f"diffusion.sample: {name} must have shape {tuple(shape)}, got {tuple(value.shape)}"
            )
    if mask.dtype != torch.bool:
        raise ValueError(f"diffusion.sample: mask must be bool, true = kept, got {mask.dtype}")
    if not torch.isfinite(known[mask.to(known.device)]).all():
        raise ValueError("diffusion.sample: known must be finite where mask is true")


def _home(model: Denoiser, labels: Tensor | None) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of the model: its first parameter's, else the labels' device and float32."""
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            wide = parameter.dtype == torch.float64
            return parameter.device, torch.float64 if wide else torch.float32
    device = torch.device("cpu") if labels is None else labels.device
    return device, torch.float32
