"""Every op's cases, declared once for the tests, the self-check on a GPU and the benchmarks.

A case knows its sizes and how to draw its inputs, nothing about how they are judged
(``compare.py``). Inputs are a dictionary of keyword arguments, so that ``getattr(ecgcore.ops,
case.op)(**case.inputs())`` is the call. They are drawn on the CPU in double precision from a seed
made of the case itself and then rounded, so every device sees the same numbers, and a double
precision run sees parameters with all their bits.
"""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

COMPLEX = {
    torch.float32: torch.complex64,
    torch.float64: torch.complex128,
    torch.float16: torch.complex64,
    torch.bfloat16: torch.complex64,
}
"""The complex type that goes with a real one; spectra of half precision signals are complex64."""


@dataclass(frozen=True, kw_only=True)
class Case(ABC):
    """One call of one op. ``tags``: ``quick`` (the two-second self-test), ``bench`` (timed; too
    large for the unfused reference in a unit test), ``gradcheck`` (small enough for finite
    differences)."""

    op: ClassVar[str] = ""
    note: str = ""
    tags: frozenset[str] = field(default_factory=frozenset)
    limit: float | None = None
    """Absolute ceiling on the relative error of the float32 output, where one is promised."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Sizes and switches in one word; with the op, the seed of the inputs."""

    @property
    @abstractmethod
    def wrt(self) -> tuple[str, ...]:
        """Arguments whose gradients are compared."""

    @abstractmethod
    def draw(self, draw: Draw) -> dict[str, Any]:
        """The inputs in double precision on the CPU."""

    def inputs(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> dict[str, Any]:
        """Keyword arguments of the op in the precision ``dtype`` (a real dtype) on ``device``."""
        seed = zlib.crc32(f"{self.op} {self.name}".encode())
        return {
            name: _cast(value, dtype, self, name).to(device) if isinstance(value, Tensor) else value
            for name, value in self.draw(Draw(seed)).items()
        }

    def __str__(self) -> str:
        return self.name


def _cast(value: Tensor, dtype: torch.dtype, case: Case, name: str) -> Tensor:
    if value.is_complex():
        return value.to(COMPLEX[dtype])
    if not value.is_floating_point():
        return value
    if dtype.itemsize < 4 and not (case.op == "s4_conv" and name == "u"):
        return value.to(torch.float32)  # only the signal itself is ever stored in half precision
    return value.to(dtype)


class Draw:
    """Seeded numbers in double precision."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.from_numpy(np.asarray(self.rng.standard_normal(shape)))

    def complex_normal(self, *shape: int) -> Tensor:
        """Circular, unit variance."""
        return torch.complex(self.normal(*shape), self.normal(*shape)) / math.sqrt(2)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(np.asarray(self.rng.uniform(low, high, shape)))


# --------------------------------------------------------------------------------------------------
# cauchy


def stored_omega(L: int) -> Tensor:
    """The FFT nodes as S4 checkpoints hold them: ``exp(-2 pi i / L)`` rounded to complex64, then
    raised in complex64.

    They lie up to 5e-6 off the unit circle. ``(L//2 + 1,)`` complex128 with complex64 values.
    """
    base = torch.tensor(np.exp(-2j * np.pi / L), dtype=torch.complex64)
    return (base ** torch.arange(L // 2 + 1)).to(torch.complex128)


@dataclass(frozen=True, kw_only=True)
class CauchyCase(Case):
    """``v_rows + (modes,)``, ``w_rows + (modes,)``, ``nodes`` points ``z`` of the named kind."""

    op: ClassVar[str] = "cauchy"
    v_rows: tuple[int, ...]
    w_rows: tuple[int, ...]
    modes: int
    nodes: int
    conjugate_pairs: bool = True
    z: str = "axis"
    """``axis``: on the imaginary axis; ``plane``: anywhere right of the poles; ``fft``: the nodes
    of an S4 checkpoint with the almost-pole at Nyquist; ``near_pole``: within 1e-3 of a pole."""

    @property
    def name(self) -> str:
        rows = "x".join(map(str, self.v_rows)) or "0d"
        other = (
            "" if self.w_rows == self.v_rows else "_w" + ("x".join(map(str, self.w_rows)) or "0d")
        )
        kind = "pairs" if self.conjugate_pairs else "plain"
        return f"{kind}_{rows}{other}_N{self.modes}_L{self.nodes}_{self.z}"

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("v", "z", "w")

    def draw(self, draw: Draw) -> dict[str, Any]:
        L = self.nodes
        shape = (*self.w_rows, self.modes)
        w = torch.complex(-draw.uniform(0.05, 0.5, *shape), draw.uniform(0.0, 12.0, *shape))
        if self.z == "axis":
            z = torch.complex(torch.zeros(L, dtype=torch.float64), draw.uniform(-15.0, 15.0, L))
        elif self.z == "plane":
            z = torch.complex(draw.uniform(0.0, 2.0, L), draw.uniform(-15.0, 15.0, L))
        elif self.z == "near_pole":
            angle = draw.uniform(-math.pi, math.pi, L)
            poles = w.reshape(-1)
            z = poles[torch.arange(L) % poles.numel()] + torch.polar(
                torch.full_like(angle, 1e-3), angle
            )
        elif self.z == "fft":
            omega = stored_omega(2 * (L - 1))
            z = 2 * (1 - omega) / (1 + omega)
        else:
            raise ValueError(f"CauchyCase: z must be axis, plane, fft or near_pole, got {self.z!r}")
        v = draw.complex_normal(*self.v_rows, self.modes)
        return {"v": v, "z": z, "w": w, "conjugate_pairs": self.conjugate_pairs}


def _cauchy(
    rows: tuple[int, ...], modes: int, nodes: int, *tags: str, **options: Any
) -> CauchyCase:
    w_rows = options.pop("w_rows", rows)
    return CauchyCase(
        v_rows=rows, w_rows=w_rows, modes=modes, nodes=nodes, tags=frozenset(tags), **options
    )


CAUCHY = (
    _cauchy((1,), 1, 1, "gradcheck"),
    _cauchy((), 1, 2, "gradcheck", note="no leading dimension"),
    _cauchy((2,), 7, 3, "gradcheck", "quick", z="plane"),
    _cauchy((2,), 3, 5, "gradcheck", z="plane", conjugate_pairs=False),
    _cauchy((2, 1, 3), 2, 3, "gradcheck", w_rows=(2, 1), note="broadcast both ways"),
    _cauchy((3,), 7, 37),
    _cauchy((3,), 32, 64, "quick", conjugate_pairs=False),
    _cauchy((3,), 7, 129, note="odd everything: SIMD and block tails"),
    _cauchy((3,), 7, 129, conjugate_pairs=False, z="plane"),
    _cauchy((4,), 32, 501, "quick", z="fft", note="S4 nodes with the almost-pole at Nyquist"),
    _cauchy((4,), 32, 33, z="fft"),
    _cauchy((2, 3, 4), 7, 37, w_rows=(4,)),
    _cauchy((2, 1, 4), 5, 64, w_rows=(3, 1), z="plane"),
    _cauchy((4,), 32, 1000, z="near_pole", note="|z - w| = 1e-3"),
    _cauchy((4,), 32, 129, z="near_pole", conjugate_pairs=False),
    _cauchy((3,), 1, 1009, note="prime"),
    _cauchy((512,), 1, 3),
    _cauchy((512,), 32, 2, z="plane", note="more rows than work in a row: split over threads"),
    _cauchy((0,), 7, 5, note="empty batch"),
    _cauchy((512,), 32, 501, "bench", note="one product of an SSSD-ECG layer"),
)


# --------------------------------------------------------------------------------------------------
# nplr_spectrum, nplr_kernel


def legs(modes: int) -> tuple[Tensor, Tensor, Tensor]:
    """HiPPO-LegS of state size ``2 modes`` as ``diag(A) - P P*``: ``A``, ``B``, ``P``, each
    ``(modes,)`` complex128.

    ``A + P P^T = -1/2 + skew`` with ``P_i = sqrt(i + 1/2)`` (Gu, Goel, Ré 2022, appendix C.1):
    normal, so its eigenvectors are orthogonal and the eigenvalues come in conjugate pairs, of which
    the upper one is kept.
    """
    b = np.sqrt(2 * np.arange(2 * modes) + 1.0)
    skew = np.tril(-0.5 * np.outer(b, b), -1)
    imag, V = np.linalg.eigh(-1j * (skew - skew.T))
    V = V[:, imag > 0]
    A = torch.from_numpy(-0.5 + 1j * imag[imag > 0])
    return A, torch.from_numpy(V.conj().T @ b), torch.from_numpy(V.conj().T @ (b / math.sqrt(2)))


@dataclass(frozen=True, kw_only=True)
class NplrCase(Case):
    """A HiPPO-LegS layer: ``rows`` is S, ``tied`` shares A, B, P over the features (their H is
    1)."""

    op: ClassVar[str] = "nplr_spectrum"
    H: int
    modes: int
    L: int
    rank: int = 1
    rows: int = 1
    channels: int = 1
    tied: bool = False
    explicit_q: bool = False
    omega: bool = False
    length_correction: bool = False
    frozen: bool = False
    """Only ``C`` is trained, as in SSSD-ECG."""

    @property
    def name(self) -> str:
        words = [f"H{self.H}_N{self.modes}_L{self.L}"]
        words += [f"R{self.rank}"] * (self.rank != 1) + [f"S{self.rows}"] * (self.rows != 1)
        words += [f"C{self.channels}"] * (self.channels != 1)
        switches = ("tied", "explicit_q", "omega", "length_correction", "frozen")
        return "_".join(words + [s.replace("_", "-") for s in switches if getattr(self, s)])

    @property
    def wrt(self) -> tuple[str, ...]:
        if self.frozen:
            return ("C",)
        return ("A", "B", "C", "P", "dt", *(("Q",) if self.explicit_q else ()))

    def draw(self, draw: Draw) -> dict[str, Any]:
        H, N = 1 if self.tied else self.H, self.modes
        a, b, p = legs(N)
        scale = 1 + 0.05 * draw.normal(H, 1)  # so that no two features agree
        A = a * scale.abs()
        B = torch.cat([(b * scale)[None], draw.complex_normal(self.rows - 1, H, N)])
        P = torch.cat([(p * scale)[None], draw.complex_normal(self.rank - 1, H, N)])
        dt = torch.exp(draw.uniform(math.log(1e-3), math.log(1e-1), self.H))
        C = draw.complex_normal(self.channels, self.H, N)
        inputs = {"A": A, "B": B, "C": C, "P": P, "dt": dt, "L": self.L}
        if self.explicit_q:
            inputs["Q"] = P.conj().resolve_conj() * (1 + 0.1 * draw.complex_normal(*P.shape))
        if self.omega:
            inputs["omega"] = stored_omega(self.L)
        if self.length_correction:
            inputs["length_correction"] = True
        return inputs


@dataclass(frozen=True, kw_only=True)
class NplrKernelCase(NplrCase):
    op: ClassVar[str] = "nplr_kernel"


def _nplr(H: int, modes: int, L: int, *tags: str, **options: Any) -> dict[str, Any]:
    return {"H": H, "modes": modes, "L": L, "tags": frozenset(tags), **options}


_NPLR = (
    _nplr(1, 1, 1, "gradcheck"),
    _nplr(1, 1, 2, "gradcheck", note="one mode, DC and Nyquist only"),
    _nplr(2, 2, 3, "gradcheck", "quick", rows=2, channels=2),
    _nplr(2, 2, 6, "gradcheck", rank=2, explicit_q=True),
    _nplr(2, 2, 5, "gradcheck", rank=3, tied=True, rows=2),
    _nplr(2, 2, 4, "gradcheck", omega=True, explicit_q=True),
    _nplr(2, 1, 6, "gradcheck", length_correction=True),
    _nplr(3, 7, 37, note="odd everything"),
    _nplr(3, 7, 64, rank=2, channels=2, tied=True),
    _nplr(3, 32, 64, "quick", rank=3, rows=3, channels=2),
    _nplr(3, 7, 129, rank=2, rows=3, explicit_q=True),
    _nplr(3, 7, 64, omega=True, rank=2, rows=3),
    _nplr(3, 32, 129, omega=True, tied=True),
    _nplr(3, 7, 37, length_correction=True, rows=3, rank=2),
    _nplr(3, 32, 64, length_correction=True, tied=True, channels=2),
    _nplr(3, 32, 1000, "quick", channels=2, length_correction=True, limit=5e-6),
    _nplr(3, 32, 1000, omega=True, channels=2, note="a checkpoint's nodes"),
    _nplr(3, 32, 1000, channels=2, frozen=True),
    _nplr(3, 1, 1009, note="prime"),
    _nplr(3, 32, 1009, rows=3),
    _nplr(512, 1, 3, note="split over threads"),
    _nplr(512, 7, 2, channels=2, tied=True, note="parameter gradients summed over 512 features"),
    _nplr(512, 32, 1000, "bench", channels=2, frozen=True, note="an SSSD-ECG layer, C trains"),
    _nplr(512, 32, 1000, "bench", channels=2, note="an SSSD-ECG layer, everything trains"),
)
NPLR_SPECTRUM = tuple(NplrCase(**options) for options in _NPLR)
NPLR_KERNEL = tuple(NplrKernelCase(**options) for options in _NPLR)


# --------------------------------------------------------------------------------------------------
# s4_conv


@dataclass(frozen=True, kw_only=True)
class S4ConvCase(Case):
    """``u (B, H, L)`` against the spectrum of a two-sided kernel of ``n`` samples (``None``: ``2
    L``)."""

    op: ClassVar[str] = "s4_conv"
    B: int
    H: int
    L: int
    channels: int = 1
    n: int | None = None
    skip: bool = True
    activation: str | None = None
    causal: bool = False

    @property
    def name(self) -> str:
        words = [f"B{self.B}_H{self.H}_L{self.L}"] + [f"C{self.channels}"] * (self.channels != 1)
        words += [f"n{self.n}"] * (self.n is not None) + ["noD"] * (not self.skip)
        words += [self.activation or "", "causal" * self.causal]
        return "_".join(filter(None, words))

    @property
    def wrt(self) -> tuple[str, ...]:
        return ("u", "spectrum", *(("D",) if self.skip else ()))

    def draw(self, draw: Draw) -> dict[str, Any]:
        n = 2 * self.L if self.n is None else self.n
        u = draw.normal(self.B, self.H, self.L)
        kernel = torch.zeros(self.channels, self.H, n, dtype=torch.float64)
        decay = torch.exp(-torch.arange(self.L) / max(1.0, self.L / 5)) / math.sqrt(self.L)
        kernel[..., : self.L] = draw.normal(self.channels, self.H, self.L) * decay
        if not self.causal:
            kernel[..., n - self.L :] += (draw.normal(self.channels, self.H, self.L) * decay).flip(
                -1
            )
        return {
            "u": u,
            "spectrum": torch.fft.rfft(kernel),
            "D": draw.normal(self.channels, self.H) if self.skip else None,
            "activation": self.activation,
        }


def _conv(B: int, H: int, L: int, *tags: str, **options: Any) -> S4ConvCase:
    return S4ConvCase(B=B, H=H, L=L, tags=frozenset(tags), **options)


S4_CONV = (
    _conv(1, 1, 1, "gradcheck"),
    _conv(2, 1, 2, "gradcheck", activation="gelu"),
    _conv(2, 2, 3, "gradcheck", "quick", channels=2, activation="gelu"),
    _conv(1, 2, 5, "gradcheck", skip=False),
    _conv(2, 2, 4, "gradcheck", n=10, activation="gelu", skip=False),
    _conv(3, 3, 37, activation="gelu"),
    _conv(1, 17, 64, channels=2, causal=True),
    _conv(2, 3, 64, "quick", n=256, activation="gelu"),
    _conv(2, 9, 129, skip=False, activation="gelu"),
    _conv(3, 3, 129, n=262, channels=2),
    _conv(2, 17, 1000, "quick", activation="gelu", note="2000 = 2^4 5^3"),
    _conv(2, 17, 1000, n=2048, activation="gelu"),
    _conv(1, 9, 1000, channels=2),
    _conv(1, 3, 1009, activation="gelu", note="prime: 2018 = 2 x 1009"),
    _conv(1, 3, 2500, activation="gelu", note="500 Hz, 5 s"),
    _conv(2, 512, 3, activation="gelu", note="split over threads"),
    _conv(1, 512, 1000, "bench", activation="gelu", note="an SSSD-ECG layer"),
    _conv(8, 512, 1000, "bench", activation="gelu", note="an SSSD-ECG layer"),
)


CASES: dict[str, tuple[Case, ...]] = {
    "cauchy": CAUCHY,
    "nplr_spectrum": NPLR_SPECTRUM,
    "nplr_kernel": NPLR_KERNEL,
    "s4_conv": S4_CONV,
}
"""Op name to its cases."""

HALF_OPS = frozenset({"s4_conv"})
"""Ops that take bfloat16 and float16 signals."""


def cases(op: str | None = None, *tags: str, without: str | None = None) -> list[Case]:
    """Cases of ``op`` (``None``: all) that have every one of ``tags`` and not the tag
    ``without``."""
    if op is not None and op not in CASES:
        raise ValueError(f"testing: no op named {op!r}; there are {', '.join(CASES)}")
    chosen = [case for name, row in CASES.items() if op in (None, name) for case in row]
    return [c for c in chosen if c.tags.issuperset(tags) and without not in c.tags]
