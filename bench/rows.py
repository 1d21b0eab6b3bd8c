"""What is timed: a row for each op, shape and task, with every way to compute it, and the series of
sizes over which time should grow in proportion."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

import anchors
from attention_rows import attention_rows
from ecgcore import ops
from ecgcore.testing.cases import (
    Case,
    CauchyCase,
    DiagCase,
    NplrKernelCase,
    S4ConvCase,
    VandermondeCase,
    stored_omega,
)
from ecgcore.testing.compare import native
from engine_rows import convolution_rows, product_rows
from engine_rows import norm_rows as layer_norm_rows
from gan_rows import norm_rows, shuffle_rows, upsample_rows
from measure import Row, Series, Variant
from warp_rows import warp_rows

OPS = (
    "add_layer_norm",
    "cauchy",
    "conditional_batch_norm",
    "diag_kernel",
    "local_attention",
    "nplr_kernel",
    "packed_conv",
    "packed_linear",
    "phase_shuffle",
    "s4_conv",
    "upsample_conv1d",
    "vandermonde",
    "warp_paths",
)


def _sums(keops: bool) -> dict[str, anchors.Sum]:
    return {
        "naive torch": anchors.naive_cauchy,
        **({"KeOps": anchors.keops_cauchy} if keops else {}),
    }


def _powers(keops: bool) -> dict[str, anchors.Powers]:
    return {
        "naive torch": anchors.naive_vandermonde,
        **({"KeOps": anchors.keops_vandermonde} if keops else {}),
    }


def nplr_rows(device: str, keops: bool, H: int, N: int, L: int) -> Iterable[Row]:
    case = NplrKernelCase(H=H, modes=N, L=L, channels=2)
    inputs = case.inputs(torch.float32, device)
    omega = stored_omega(L).to(torch.complex64).to(device)
    slices = {"A": 0, "B": 1, "C": 1, "P": 1, "dt": 0}
    variants = [Variant("ecgcore", ops.nplr_kernel, inputs, ops.reference.nplr_kernel)]
    for name, cauchy in _sums(keops).items():

        def function(cauchy: anchors.Sum = cauchy, **given: Any) -> Tensor:
            return anchors.nplr_kernel(cauchy=cauchy, **given)

        theirs = {**inputs, "omega": omega}
        variants.append(Variant(name, function, theirs, ops.reference.nplr_kernel))
    shape = f"H={H} N={N} L={L} R=1 C=2"
    yield Row("nplr_kernel", shape, "forward", variants, (), slices)
    trained = [v for v in variants if v.backend != "KeOps"]  # its derivative takes minutes on a CPU
    yield Row("nplr_kernel", shape, "forward + backward, C", trained, ("C",), slices)
    yield Row("nplr_kernel", shape, "forward + backward, all", trained, case.wrt, slices)


def conv_rows(device: str, H: int, L: int, batches: Sequence[int]) -> Iterable[Row]:
    for B in batches:
        base = S4ConvCase(B=B, H=H, L=L, activation="gelu").inputs(torch.float32, device)
        kernel = torch.fft.irfft(
            base["spectrum"], 2 * L
        )  # first half forward, second half backward
        n = 1 << (2 * L - 1).bit_length()
        wide = torch.cat([kernel[..., :L], kernel.new_zeros(1, H, n - 2 * L), kernel[..., L:]], -1)
        padded = {**base, "spectrum": torch.fft.rfft(wide)}
        variants = [
            Variant("ecgcore", ops.s4_conv, base, ops.reference.s4_conv),
            Variant(f"torch.fft n={2 * L}", anchors.fft_conv, base, ops.reference.s4_conv),
            Variant(f"torch.fft n={n}", anchors.fft_conv, padded, ops.reference.s4_conv),
        ]
        slices = {"u": 1, "spectrum": 1, "D": 1}
        shape = f"B={B} H={H} L={L} gelu"
        yield Row("s4_conv", shape, "forward", variants, (), slices)
        yield Row("s4_conv", shape, "forward + backward", variants, ("u", "spectrum", "D"), slices)


def cauchy_rows(device: str, keops: bool, H: int, N: int, L: int) -> Iterable[Row]:
    case = CauchyCase(v_rows=(H,), w_rows=(H,), modes=N, nodes=L)
    inputs = case.inputs(torch.float32, device)
    inputs.pop("conjugate_pairs")
    variants = [Variant("ecgcore", ops.cauchy, inputs, ops.reference.cauchy)]
    variants += [
        Variant(name, function, inputs, ops.reference.cauchy)
        for name, function in _sums(keops).items()
    ]
    shape = f"rows={H} N={N} L={L}"
    slices = {"v": 0, "w": 0}
    yield Row("cauchy", shape, "forward", variants, (), slices)
    trained = [v for v in variants if v.backend != "KeOps"]
    yield Row("cauchy", shape, "forward + backward, v and w", trained, ("v", "w"), slices)


def vandermonde_rows(device: str, keops: bool, H: int, N: int, L: int) -> Iterable[Row]:
    case = VandermondeCase(v_rows=(H,), x_rows=(H,), modes=N, L=L)
    inputs = case.inputs(torch.float32, device)
    inputs.pop("conjugate_pairs")
    variants = [Variant("ecgcore", ops.vandermonde, inputs, ops.reference.vandermonde)]
    variants += [
        Variant(name, function, inputs, ops.reference.vandermonde)
        for name, function in _powers(keops).items()
    ]
    shape = f"rows={H} N={N} L={L}"
    slices = {"v": 0, "log_x": 0}
    yield Row("vandermonde", shape, "forward", variants, (), slices)
    yield Row("vandermonde", shape, "forward + backward", variants, case.wrt, slices)


def diag_rows(device: str, keops: bool, H: int, N: int, L: int) -> Iterable[Row]:
    case = DiagCase(H=H, modes=N, L=L, channels=2)
    inputs = case.inputs(torch.float32, device)
    inputs.pop("discretization")
    variants = [Variant("ecgcore", ops.diag_kernel, inputs, ops.reference.diag_kernel)]
    for name, powers in _powers(keops).items():

        def function(powers: anchors.Powers = powers, **given: Any) -> Tensor:
            return anchors.diag_kernel(powers=powers, **given)

        variants.append(Variant(name, function, inputs, ops.reference.diag_kernel))
    slices = {"A": 0, "B": 1, "C": 1, "dt": 0}
    shape = f"H={H} N={N} L={L} C=2 zoh"
    yield Row("diag_kernel", shape, "forward", variants, (), slices)
    yield Row("diag_kernel", shape, "forward + backward, all", variants, case.wrt, slices)


def rows(op: str | None, device: str, quick: bool, keops: bool) -> Iterable[Row]:
    H, N, L = (64, 32, 250) if quick else (512, 32, 1000)
    if op in (None, "nplr_kernel"):
        yield from nplr_rows(device, keops, H, N, L)
    if op in (None, "s4_conv"):
        yield from conv_rows(device, H, L, (1, 8))
    if op in (None, "cauchy"):
        yield from cauchy_rows(device, keops, H, N, L // 2 + 1)
    if op in (None, "vandermonde"):
        yield from vandermonde_rows(device, keops, H, N, L)
    if op in (None, "diag_kernel"):
        yield from diag_rows(device, keops, H, N, L)
    for name, made in (
        ("phase_shuffle", shuffle_rows),
        ("conditional_batch_norm", norm_rows),
        ("upsample_conv1d", upsample_rows),
        ("packed_conv", convolution_rows),
        ("packed_linear", product_rows),
        ("add_layer_norm", layer_norm_rows),
        ("warp_paths", warp_rows),
    ):
        if op in (None, name):
            yield from itertools.islice(made(device), 2 if quick else None)
    if op in (None, "local_attention"):
        yield from attention_rows(device, **({"B": 1, "L": 250} if quick else {}))


def series(op: str | None, device: str) -> Iterable[Series]:
    """Forward time in each size, the others as in one layer."""

    def call(name: str, case: Case) -> Callable[[], Tensor]:
        inputs = case.inputs(torch.float32, device)
        return lambda: native(name)(**inputs)

    def over(
        name: str, size: str, sizes: tuple[int, ...], case: Callable[..., Case], axes: Iterable[str]
    ) -> Series:
        letter = {"modes": "N"}.get(size, size)
        least = call(name, case(**dict.fromkeys(axes, 1)))
        return Series(
            f"{name} in {letter}", sizes, lambda value: call(name, case(**{size: value})), least
        )

    def nplr(**size: int) -> Case:
        return NplrKernelCase(**{"H": 256, "modes": 32, "L": 1000, "channels": 2, **size})

    def conv(**size: int) -> Case:
        return S4ConvCase(**{"B": 2, "H": 256, "L": 1000, "activation": "gelu", **size})

    # Over L as many pairs of feature and mode as in a layer of 512 x 32, but results below 32 MB:
    # larger ones glibc hands back to the system, and the next call faults in every page anew.
    def quick(size: dict[str, int]) -> dict[str, int]:
        layer = {"H": 32, "modes": 512} if "L" in size else {"H": 256, "modes": 64}
        return {**layer, "L": 1000, **size}

    def vandermonde(**size: int) -> Case:
        given = quick(size)
        rows = (given.pop("H"),)
        return VandermondeCase(v_rows=rows, x_rows=rows, **given)

    def diag(**size: int) -> Case:
        return DiagCase(channels=2, **quick(size))

    H, N, L = (128, 256, 512, 1024), (16, 32, 64, 128), (500, 1000, 2000, 4000)
    wide, long = (32, 64, 128, 256), (1024, 4096, 16384, 65536)
    table: dict[str, tuple[Callable[..., Case], dict[str, tuple[int, ...]]]] = {
        "nplr_kernel": (nplr, {"H": H, "modes": N, "L": L}),
        "s4_conv": (conv, {"B": (1, 2, 4, 8), "H": H, "L": L}),
        "vandermonde": (vandermonde, {"H": H, "modes": wide, "L": long}),
        "diag_kernel": (diag, {"H": H, "modes": wide, "L": long}),
    }
    for name, (case, axes) in table.items():
        if op in (None, name):
            for size, sizes in axes.items():
                yield over(name, size, sizes, case, axes)
