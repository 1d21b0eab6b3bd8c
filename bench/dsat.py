"""Times DSAT-ECG against the same model in plain torch, written from its description:
``python bench/dsat.py [--quick] [--task TASK] [--json PATH]``.

The plain model is ``plain.PlainDenoiser``, with the naive S4 kernel of ``anchors`` (right numbers,
all terms in memory). As in ``ops.py``, variants run interleaved in one process after their numbers
were held against float64; medians, ratios to ecgcore, memory.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore import models
from ecgcore.nn.s4 import reserve_lengths
from measure import Measured, Row, Variant, measure
from ops import environment, table
from plain import PlainDenoiser


def _built(quick: bool) -> tuple[models.DSATECG, int]:
    """The reference's model with a last layer that is not zero, and the length of its signals."""
    small: dict[str, Any] = {"res_channels": 32, "num_res_layers": 1} if quick else {}
    torch.manual_seed(0)
    model = models.DSATECG(label_embed_classes=5, **small)
    nn.init.normal_(model.final_conv[2].conv.weight, std=0.05)
    L = 250 if quick else 1000
    reserve_lengths(model, L)
    return model.eval(), L


def _gradient(denoise: Any, model: nn.Module) -> Any:
    """A step of training without the optimiser: the gradient of the first layer's weight, through
    the whole model; the others' are made as well."""
    first = model.get_parameter("init_conv.0.conv.bias")

    def step(x: Tensor, label: Tensor, steps: Tensor) -> Tensor:
        with torch.enable_grad():
            denoise(x, label, steps).square().mean().backward()
        assert first.grad is not None
        gradient = first.grad.clone()
        model.zero_grad()
        return gradient

    return step


def rows(device: str, quick: bool, batch: int) -> Iterable[Row]:
    """One noise prediction in ``eval()``, and one step of training."""
    model, L = _built(quick)
    # In double precision on the CPU, with nodes rounded as the plain kernels have them.
    exact = copy.deepcopy(model).double()
    model.to(device)
    inputs = {
        "x": torch.randn(batch, model.in_channels, L),
        "label": torch.eye(5)[torch.arange(batch) % 5],
        "steps": torch.arange(batch) * 7,
    }
    inputs = {name: value.to(device) for name, value in inputs.items()}
    shape = f"B={batch} L={L} width={model.config['spade_cfg']['decoder.embed_dim']}"
    ways = {
        "ecgcore": model,
        "plain torch": PlainDenoiser(model, remember=False),
        "plain torch, kernels cached": PlainDenoiser(model, remember=True),
    }
    variants = [Variant(name, way, inputs, exact) for name, way in ways.items()]
    yield Row("DSAT-ECG", shape, "denoise", variants)
    variants = [
        Variant(name, _gradient(ways[name], model), inputs, _gradient(exact, exact))
        for name in ("ecgcore", "plain torch")
    ]
    yield Row("DSAT-ECG", shape, "train", variants)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=4, help="records at a time")
    parser.add_argument("--task", choices=("denoise", "train"), help="only this one")
    parser.add_argument("--rounds", type=int, help="timed rounds of every row")
    parser.add_argument("--quick", action="store_true", help="a small model: a smoke test")
    parser.add_argument("--json", metavar="PATH", help="write figures and surroundings to PATH")
    arguments = parser.parse_args(argv)
    rounds = arguments.rounds or (3 if arguments.quick else 5)
    stamp = environment(arguments.device)
    print(", ".join(f"{k} {v}" for k, v in stamp.items()), file=sys.stderr)
    measured: list[Measured] = []
    for row in rows(arguments.device, arguments.quick, arguments.batch):
        if arguments.task in (None, row.task):
            measured += measure(row, rounds, arguments.device)
    print(table(measured))
    if arguments.json:
        report = {"environment": stamp, "rows": [asdict(m) for m in measured]}
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
