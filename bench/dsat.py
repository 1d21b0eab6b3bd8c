"""Times DSAT-ECG against the same model in plain torch, written from its description:
``python bench/dsat.py [--quick] [--task TASK] [--json PATH]``.

``PlainDenoiser`` runs on the parameters of one of ours: SPADE layers as the papers and fairseq lay
them out, with the naive S4 kernel of ``anchors`` (right numbers, all terms in memory), long
convolution by torch.fft and attention over copied neighbours. ``remember=True`` makes each kernel's
spectrum once, as only sampling may. As in ``ops.py``, variants run interleaved in one process after
their numbers were held against float64; medians, ratios to ecgcore, memory.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import anchors
from ecgcore import models
from ecgcore.models.wavenet import GatedBlock
from ecgcore.nn import SpadeDecoderLayer
from ecgcore.nn.elsm import SSKernelNPLR
from ecgcore.nn.embedding import diffusion_step_embedding
from ecgcore.nn.s4 import reserve_lengths
from measure import Measured, Row, Variant, measure
from ops import environment, table


class PlainS4:
    """``K * u + D u`` on ``(B, H, L)``."""

    def __init__(self, s4: Any, *, remember: bool) -> None:
        self.s4, self.remember = s4, remember
        self.spectra: dict[int, Tensor] = {}

    def __call__(self, u: Tensor) -> Tensor:
        L = u.shape[-1]
        spectrum = self.spectra.get(L)
        if spectrum is None:
            spectrum = torch.fft.rfft(self.kernel()[..., :L], 2 * L)
            if self.remember:
                self.spectra[L] = spectrum
        return anchors.fft_conv(u, spectrum, self.s4.D, activation=None)[:, 0]

    def kernel(self) -> Tensor:
        kernel: SSKernelNPLR = self.s4.kernel.kernel
        A, B, P, _ = kernel.matrices()
        H, n, length = kernel.H, kernel.N, kernel.internal_length
        C, dt = torch.view_as_complex(kernel.C), torch.exp(kernel.log_dt)
        # Rounded nodes, as the reference has them: at exact ones its formula has a pole.
        root = torch.exp(torch.tensor(-2j * math.pi / length, dtype=torch.complex128)).to(C.dtype)
        omega = root ** torch.arange(length // 2 + 1)
        A, B, P = A.expand(H, n), B.expand(1, H, n), P.expand(-1, H, n)
        return anchors.nplr_kernel(
            A, B, C, P, dt, length, omega=omega, cauchy=anchors.naive_cauchy
        )[0]


class PlainSpade:
    """A SPADE layer with "add" and layer norms behind the residuals, on ``(L, B, F)``."""

    def __init__(self, layer: SpadeDecoderLayer, *, remember: bool) -> None:
        assert layer.s4_module is not None
        self.layer, self.s4 = layer, PlainS4(layer.s4_module.s4, remember=remember)

    def __call__(self, x: Tensor) -> Tensor:
        m = self.layer
        assert m.norm_global is not None
        assert m.norm_local is not None
        whole = self.s4(x.permute(1, 2, 0)).permute(2, 0, 1)
        mixed = m.s4_weight * m.norm_global(whole)
        mixed = mixed + (1 - m.s4_weight) * m.norm_local(self.attention(x))
        x = m.self_attn_layer_norm(x + F.dropout(mixed, m.dropout, m.training))
        hidden = F.relu(F.linear(x, m.fc1.weight, m.fc1.bias))
        fed = F.dropout(F.linear(hidden, m.fc2.weight, m.fc2.bias), m.dropout, m.training)
        y: Tensor = m.final_layer_norm(x + fed)
        return y

    def attention(self, x: Tensor) -> Tensor:
        a = self.layer.self_attn
        L, B, E = x.shape
        q, k, v = (
            F.linear(x, m.weight).view(L, B, a.num_heads, -1).permute(1, 2, 0, 3)
            for m in (a.q, a.k, a.v)
        )
        y = anchors.copied_attention(q, k, v, a.block_length)
        return F.linear(y.permute(2, 0, 1, 3).reshape(L, B, E), a.o.weight)


class PlainDenoiser:
    """The noise predicted by a :class:`ecgcore.models.DSATECG`, by other means."""

    def __init__(self, model: models.DSATECG, *, remember: bool) -> None:
        self.model = model
        self.layers = {
            layer: PlainSpade(layer, remember=remember)
            for layer in model.modules()
            if isinstance(layer, SpadeDecoderLayer)
        }

    def __call__(self, x: Tensor, label: Tensor, steps: Tensor) -> Tensor:
        model, group = self.model, self.model.residual_layer
        assert model.embedding is not None
        embedded = label.to(x.dtype) @ model.embedding.weight
        step = diffusion_step_embedding(steps, group.step_dim, x.dtype)
        step = F.silu(group.fc_t2(F.silu(group.fc_t1(step))))
        h, total = model.init_conv(x), 0.0
        for block in group.residual_blocks:
            h, skip = self.block(block, h, embedded, step)
            total = total + skip
        y: Tensor = model.final_conv(total * math.sqrt(1 / len(group.residual_blocks)))
        return y

    def block(self, b: Any, x: Tensor, label: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(b, GatedBlock)
        assert b.fc_label is not None
        h = b.conv_layer(x + b.fc_t(step)[:, :, None])
        h = self.layers[b.get_submodule("spade_1")](h.permute(2, 0, 1)).permute(1, 2, 0)
        h = h + b.fc_label(label)[:, :, None]
        h = self.layers[b.get_submodule("spade_2")](h.permute(2, 0, 1)).permute(1, 2, 0)
        C = x.shape[1]
        out = torch.tanh(h[:, :C]) * torch.sigmoid(h[:, C:])
        return (x + b.res_conv(out)) * math.sqrt(0.5), b.skip_conv(out)


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
