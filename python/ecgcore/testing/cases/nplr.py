"""Cases of ``nplr_spectrum`` and ``nplr_kernel``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ecgcore.testing.cases.base import Case, Draw, stored_omega


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
    _nplr(3, 8, 46, rank=3, rows=2, channels=3, explicit_q=True, note="a system of condition 84"),
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
