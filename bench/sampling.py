"""Times one step of sampling, ``eps(x, t)``, of models of published size:
``python bench/sampling.py [--model sssd] [--batch 1] [--blocks 4] [--json PATH]``.

The plan of ``ecgcore.engine`` against our module with remembered kernels, against the same model in
plain torch (``plain``) with kernels remembered and, with ``--recompute``, made in every step as the
references do; and against nothing but the step's matrix products, of as many distinct weights. As
in ``ops.py``, variants run interleaved in one process after their numbers were compared; medians.
The plan is timed anew before each of the others: ratios are medians of such pairs.
``prepare`` is what a run costs before its first step, with nothing remembered. What a run of 200
steps costs is not timed but multiplied from them, and said to be.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import anchors
from ecgcore import engine, models
from ecgcore.models.wavenet import Denoiser
from ecgcore.nn import S4Layer, SpadeDecoderLayer
from ecgcore.testing.compare import relative_error
from measure import beside, peak_memory
from ops import environment
from plain import PlainDenoiser

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MODELS = ("sssd", "dsat")
LENGTH = 1000
STEPS = 200
PREPARE = "prepare"
TURN = 0.4
"""Seconds of steps that follow each other, as in sampling: the first behind something else finds
threads asleep and caches full of that."""
CEILING = 1e-3
"""Plain kernels have rounded nodes where DSAT-ECG's are exact. More is another function."""
BF16_CEILING = 5e-2


@dataclass
class Way:
    """One way to make a step; ``whole`` is the same with its buffers, to take its memory."""

    run: Callable[[], Any]
    whole: Callable[[], Any] | None = None


@dataclass
class Timed:
    model: str
    batch: int
    blocks: int
    variant: str
    ms: float
    ratio: float
    """How many times longer than the plan in fp32, timed right before it: median over rounds."""
    peak_mb: float
    """Most memory handed out during a step, the buffers of an evaluation included."""
    difference: float | None
    """From the plan in fp32, relative; ``None`` for products alone."""
    run_s: float | None
    """``STEPS`` times ``ms``, not timed."""


def built(name: str, blocks: int | None, device: str) -> Denoiser:
    config = json.loads((CONFIGS / f"{name}_ecg.json").read_text(encoding="utf-8"))
    if blocks is not None:
        config["model"]["num_res_layers"] = blocks
    torch.manual_seed(0)
    model = models.from_config(config)
    assert isinstance(model, Denoiser)
    nn.init.normal_(model.final_conv[2].conv.weight, std=0.05)
    return model.to(device).eval()


def products(model: Denoiser, batch: int, dtype: torch.dtype, *, rows: bool) -> Callable[[], None]:
    """The matrix products of a step and nothing else, into buffers that are there.

    ``rows``: on rows of features, by ``torch.mm``, the convolutions as products with rows three
    times as wide. Else channels first, by ``torch.matmul`` and ``conv1d``.
    """
    device = next(model.parameters()).device
    calls: list[Callable[[], object]] = []
    kept: dict[tuple[int, ...], Tensor] = {}

    def buffer(*shape: int) -> Tensor:
        if shape not in kept:
            kept[shape] = torch.randn(shape, device=device).to(dtype)
        return kept[shape]

    def linear(outputs: int, inputs: int, width: int = 1) -> None:
        weight = torch.randn(outputs, inputs * width, device=device).to(dtype)
        if rows:
            x, y = buffer(batch * LENGTH, inputs * width), buffer(batch * LENGTH, outputs)
            calls.append(lambda: torch.mm(x, weight.t(), out=y))
        elif width > 1:
            kernel, signal = weight.view(outputs, inputs, width), buffer(batch, inputs, LENGTH)
            calls.append(lambda: F.conv1d(signal, kernel, padding=width // 2))
        else:
            x, y = buffer(batch, inputs, LENGTH), buffer(batch, outputs, LENGTH)
            calls.append(lambda: torch.matmul(weight, x, out=y))

    def attention(layer: SpadeDecoderLayer) -> None:
        a = layer.self_attn
        T, d = a.block_length, a.embed_dim // a.num_heads
        blocks = batch * a.num_heads * -(-LENGTH // T)
        q, k, scores = buffer(blocks, T, d), buffer(blocks, 3 * T, d), buffer(blocks, T, 3 * T)
        calls.append(lambda: torch.bmm(q, k.mT, out=scores))
        calls.append(lambda: torch.bmm(scores, k, out=q))

    R = model.config["model"]["res_channels"]
    S = model.config["model"]["skip_channels"]
    linear(R, model.in_channels)
    blocks = list(model.residual_layer.residual_blocks)
    for block in blocks:
        linear(2 * R, R, 3)
        for layer in block.children():
            if isinstance(layer, S4Layer):
                linear(2 * R, 2 * R)
            if isinstance(layer, SpadeDecoderLayer):
                linear(6 * R, 2 * R)
                attention(layer)
                linear(2 * R, 2 * R)
                linear(layer.fc1.out_features, 2 * R)
                linear(2 * R, layer.fc1.out_features)
        linear(S if block is blocks[-1] else R + S, R)
    linear(S, S)
    linear(model.out_channels, S)

    def run() -> None:
        for call in calls:
            call()

    return run


def variants(
    model: Denoiser, batch: int, *, recompute: bool, bf16: bool, keops: bool
) -> Iterator[tuple[str, Way]]:
    device = next(model.parameters()).device
    x = torch.randn(batch, model.in_channels, LENGTH, device=device)
    labels = torch.eye(5, device=device)[torch.arange(batch) % 5]
    steps, index = torch.full((batch, 1), 70.0, device=device), torch.zeros(1, dtype=torch.int64)
    index = index.to(device)

    def prepared(precision: str) -> engine.Evaluation:
        shape = (batch, model.in_channels, LENGTH)
        kinds: dict[str, Any] = {"device": device, "dtype": x.dtype, "precision": precision}
        return engine.prepare(model, labels, [70.0], shape, **kinds)

    def plan(precision: str) -> Way:
        evaluate = prepared(precision)
        return Way(lambda: evaluate(index, x), lambda: prepared(precision)(index, x))

    def anew() -> None:
        model.compiled.clear()
        prepared("fp32")

    yield "plan", plan("fp32")
    yield PREPARE, Way(anew)
    yield "module", Way(lambda: model(x, labels, steps))
    ways: dict[str, dict[str, Any]] = {"plain torch, kernels cached": {"remember": True}}
    if recompute:
        ways["plain torch, naive kernels"] = {"remember": False}
        if keops:
            ways["plain torch, KeOps kernels"] = {
                "remember": False,
                "cauchy": anchors.keops_cauchy,
            }
    for name, options in ways.items():
        denoise = PlainDenoiser(model, **options)
        yield name, Way(lambda denoise=denoise: denoise(x, labels, steps))
    for rows, way in ((True, "mm"), (False, "conv1d and matmul")):
        yield f"products alone, {way}", Way(products(model, batch, torch.float32, rows=rows))
    if bf16:
        yield "plan, bf16", plan("bf16")
        yield "products alone, bf16", Way(products(model, batch, torch.bfloat16, rows=True))


def measured(
    name: str, model: Denoiser, batch: int, rounds: int, device: str, **chosen: bool
) -> list[Timed]:
    ways = dict(variants(model, batch, **chosen))
    truth = ways["plan"].run().clone()
    differences: dict[str, float | None] = {}
    for variant, way in ways.items():
        found = way.run()
        difference = None if found is None else relative_error(found, truth)
        limit = BF16_CEILING if "bf16" in variant else CEILING
        if difference is not None and not difference < limit:
            raise RuntimeError(f"{name}, {variant}: off by {difference:.1e}")
        differences[variant] = difference
    peaks = {}
    for variant, way in ways.items():
        if way.whole is not None:
            way.whole()  # makes a plan that was forgotten, whose weights are not a step's memory
        peaks[variant] = peak_memory(way.whole or way.run, device)
    runs = {variant: way.run for variant, way in ways.items()}
    seconds = beside("plan", runs, rounds, device, TURN)
    blocks = len(model.residual_layer.residual_blocks)
    return [
        Timed(
            name,
            batch,
            blocks,
            variant,
            1e3 * s,
            ratio,
            peaks[variant],
            differences[variant],
            None if variant == PREPARE else STEPS * s,
        )
        for variant, (s, ratio) in seconds.items()
    ]


def table(
    models: Mapping[str, Denoiser],
    batches: Sequence[int],
    rounds: int,
    device: str,
    **chosen: bool,
) -> list[Timed]:
    """Times every model at every size of batch and prints a row as soon as it is known."""
    head = f"{STEPS} steps, s (not timed)"
    print(f"| model | B | blocks | variant | ms | x plan | peak MB | difference | {head} |")
    print("|-|-:|-:|-|-:|-:|-:|-:|-:|")
    timed: list[Timed] = []
    for name, model in models.items():
        for batch in batches:
            with torch.no_grad():
                found = measured(name, model, batch, rounds, device, **chosen)
            timed += found
            for t in found:
                difference = "" if t.difference is None else f"{t.difference:.0e}"
                run = "" if t.run_s is None else f"{t.run_s:.3g}"
                print(
                    f"| {t.model} | {t.batch} | {t.blocks} | {t.variant} | {t.ms:.4g} | "
                    f"{t.ratio:.2f} | {t.peak_mb:.3g} | {difference} | {run} |",
                    flush=True,
                )
    return timed


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", choices=MODELS, help="only this one")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--blocks", type=int, help="cut the model to so many blocks")
    parser.add_argument("--recompute", action="store_true", help="plain torch without its memory")
    parser.add_argument("--keops", action="store_true", help="with --recompute, also by KeOps")
    parser.add_argument("--bf16", action="store_true", help="the products in bfloat16, too")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of every row")
    parser.add_argument("--json", metavar="PATH", help="write figures and surroundings to PATH")
    arguments = parser.parse_args(argv)
    stamp = environment(arguments.device)
    print(", ".join(f"{k} {v}" for k, v in stamp.items()), file=sys.stderr)
    names = MODELS if arguments.model is None else (arguments.model,)
    timed = table(
        {name: built(name, arguments.blocks, arguments.device) for name in names},
        arguments.batch,
        arguments.rounds,
        arguments.device,
        recompute=arguments.recompute,
        bf16=arguments.bf16,
        keops=arguments.keops,
    )
    if arguments.json:
        report = {"environment": stamp, "rows": [asdict(t) for t in timed]}
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
