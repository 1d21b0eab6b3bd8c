"""Rounding errors of products and of correlations of width 3: ``python bench/errors.py [--json
PATH]``.

Relative to float64 (L2), at the sizes of SSSD-ECG, on rows that have nothing in common with their
neighbours (``white``) and on rows that are like them (``smooth``). ``ops`` are errors of our ops
and of torch; ``points`` are those of Winograd's filtering with other points, summed by torch: what
those of ``packed_conv`` were chosen by (docs/decisions/0005-winograd.md).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore import ops
from ops import environment

L, C, N = 1000, 256, 512
ROOT = math.sqrt(0.5)
POINTS = {
    "F(2, 3): 0, ±1": (0.0, 1.0, -1.0),
    "F(3, 3): 0, ±1, 1/2": (0.0, 1.0, -1.0, 0.5),
    "F(4, 3): 0, ±1, ±2": (0.0, 1.0, -1.0, 2.0, -2.0),
    "F(4, 3): 0, ±3/4, ±3/2": (0.0, 0.75, -0.75, 1.5, -1.5),
    "F(4, 3): 0, ±√½, ±√2": (0.0, ROOT, -ROOT, 2 * ROOT, -2 * ROOT),
}


def rows(smooth: bool) -> Tensor:
    """``(1, L + 5, C)``, a few more than a tile may reach for."""
    if not smooth:
        return torch.randn(1, L + 5, C)
    window = torch.hann_window(32)[None, None].expand(C, 1, -1)
    return F.conv1d(torch.randn(1, C, L + 36), window, groups=C).mT.contiguous()


def error(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())


def by_points(x: Tensor, weight: Tensor, points: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    """The correlation by values at ``points`` and infinity, which are rounded to ``dtype``; the
    algorithm's matrices by inverting that of the points (Toom and Cook)."""
    n, m = len(points) + 1, len(points) - 1

    def values(degree: int) -> Tensor:
        table = torch.tensor([[p**k for k in range(degree)] for p in points], dtype=torch.float64)
        infinity = torch.zeros(1, degree, dtype=torch.float64)
        infinity[0, -1] = 1
        return torch.cat([table, infinity])

    back = torch.linalg.inv(values(n)).T.float()
    d = x.unfold(1, n, m)[:, : -(-L // m)].float() @ back.T  # (1, tiles, C, n)
    g = torch.einsum("pk,nck->pnc", values(3), weight.double())
    # Products of numbers of bfloat16 are exact in float32.
    sums = torch.stack([d[..., p].to(dtype).float() @ g[p].to(dtype).float().T for p in range(n)])
    y = torch.einsum("pbtn,pi->btin", sums, values(m).float())
    return y.flatten(1, 2)[:, :L]


def measured(smooth: bool) -> dict[str, dict[str, float]]:
    torch.manual_seed(0)
    whole = rows(smooth)
    x, weight = whole[:, : L + 2], torch.randn(N, C, 3) / math.sqrt(3 * C)
    truth = F.conv1d(x.mT.double(), weight.double()).mT
    neighbours = x.as_strided((1, L, 3 * C), (x.stride(0), C, 1))
    folded = weight.permute(0, 2, 1).flatten(1)
    out = torch.empty(1, L, N)
    found: dict[str, dict[str, float]] = {"ops": {}, "points": {}}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        packed, linear = ops.pack_conv(weight, dtype), ops.pack_linear(folded.to(dtype))
        found["ops"][f"packed_conv {name}"] = error(ops.packed_conv(x, packed, out), truth)
        plain = ops.packed_linear(neighbours, linear, out)
        found["ops"][f"packed_linear {name}"] = error(plain, truth)
        for points, values in POINTS.items():
            y = by_points(whole, weight, values, dtype)
            found["points"][f"{points} {name}"] = error(y, truth)
    found["ops"]["torch.mm"] = error(neighbours @ folded.T, truth)
    found["ops"]["torch conv1d"] = error(F.conv1d(x.mT, weight).mT, truth)
    return found


def products() -> dict[str, float]:
    """Of a map of ``K`` features by ``packed_linear``, ``torch.mm`` and a ``conv2d`` of width 1."""
    torch.manual_seed(0)
    found = {}
    for K in (512, 2048):
        x, weight = torch.randn(1, L, K), torch.randn(N, K) / math.sqrt(K)
        truth = x.double() @ weight.double().T
        own = ops.packed_linear(x, ops.pack_linear(weight), torch.empty(1, L, N))
        image = F.conv2d(x.mT.unsqueeze(2), weight[..., None, None]).squeeze(2).mT
        for name, y in (("packed_linear", own), ("torch.mm", x @ weight.T), ("conv2d", image)):
            found[f"{name} K={K}"] = error(y, truth)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    result: dict[str, Any] = environment("cpu")
    for name, smooth in (("white", False), ("smooth", True)):
        result[name] = measured(smooth)
    result["products"] = products()
    for kind in ("ops", "points"):
        for row, white in result["white"][kind].items():
            print(f"{row:40s} white {white:.2e}  smooth {result['smooth'][kind][row]:.2e}")
    for row, value in result["products"].items():
        print(f"{row:40s} white {value:.2e}")
    if arguments.json:
        text = json.dumps(result, indent=1, ensure_ascii=False)
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
