"""S4D in one layer, as state-spaces/s4 offers it for copying: diagonal kernel, gelu, GLU.

Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal State Space Models"
(2022): the initialisation S4D-Lin under zero-order hold.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore import ops
from ecgcore.nn import recurrence
from ecgcore.nn.s4 import PointwiseConv, S4Core, dropout_module, output_map, two_sided_spectrum
from ecgcore.nn.ssm_common import as_complex, as_real, register
from ecgcore.nn.streaming import Recurrent


class S4DKernel(Recurrent):
    r"""Kernel of ``x' = A x + u``, ``y = 2 Re(C x)``: ``2 Re sum_n C_n (e^d_n - 1)/A_n e^(d_n l)``.

    With ``d = dt A``. Of every conjugate pair of the ``N`` states one is stored; ``B`` is 1.

    Args:
        d_model: features ``H``.
        N: state size, even.
        dt_min, dt_max: the steps are drawn log-uniformly between these.
        lr: learning rate noted in ``_optim`` of all parameters but ``C``, beside weight decay 0;
            exactly 0 makes them buffers.

    Draws, in this order: the steps, ``C``.

    Raises:
        ValueError: for sizes or steps out of range.
    """

    C: Tensor
    log_dt: Tensor
    log_A_real: Tensor
    A_imag: Tensor

    def __init__(
        self,
        d_model: int,
        N: int = 64,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        lr: float | None = None,
    ) -> None:
        super().__init__()
        if d_model < 1:
            raise ValueError(f"S4D: d_model must be at least 1, got {d_model}")
        if N < 2 or N % 2:
            raise ValueError(f"S4D: d_state must be even and at least 2, got {N}")
        if not 0 < dt_min <= dt_max < math.inf:
            raise ValueError(f"S4D: 0 < dt_min <= dt_max expected, got {dt_min} and {dt_max}")
        self.H, self.N = d_model, N // 2
        log_dt = torch.rand(d_model) * (math.log(dt_max) - math.log(dt_min)) + math.log(dt_min)
        C = torch.randn(d_model, N // 2, dtype=torch.complex64)
        imaginary = math.pi * torch.arange(N // 2)
        self.C = nn.Parameter(as_real(C, log_dt.dtype))
        for name, value in (
            ("log_dt", log_dt),
            ("log_A_real", torch.full(C.shape, 0.5).log()),
            ("A_imag", imaginary.expand(C.shape).clone()),
        ):
            register(self, name, value, trains=lr != 0.0, note="_optim", lr=lr)

    def forward(self, L: int) -> Tensor:
        """The kernel, ``(H, L)``."""
        A, B, C = self.matrices()
        dt = torch.exp(self.log_dt)
        return ops.diag_kernel(A, B[None], C, dt, L, discretization="zoh")[0, 0]

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """``A (H, n)``, ``B (1, n)``, ``C (1, H, n)``, complex."""
        A = torch.complex(-torch.exp(self.log_A_real), self.A_imag)
        return A, torch.ones_like(A[:1]), as_complex(self.C)[None]

    def make_recurrence(self, mode: str) -> recurrence.Recurrence:
        """Diagonal already, so that all modes are one: its state is ``(B, H, n)``."""
        return recurrence.diagonal(*self.matrices(), torch.exp(self.log_dt.double()), "zoh")

    def advance(self, u: Tensor, state: Tensor) -> Tensor:
        A, B, _ = self.matrices()
        dt = torch.exp(self.log_dt.double())
        return recurrence.diagonal_state(A, B, dt, "zoh", u, state)

    def extra_repr(self) -> str:
        H, n, _ = self.C.shape
        return f"d_model={H}, N={2 * n}"


class S4D(S4Core):
    """Long convolution with a diagonal kernel, skip, gelu, and a gated map between features.

    Args:
        d_model: features ``H``.
        d_state: state size ``N``, even.
        dropout: rate at which whole features are dropped.
        transposed: layout ``(B, H, L)``, else ``(B, L, H)``.
        **kernel_args: ``dt_min``, ``dt_max`` and ``lr`` of :class:`S4DKernel`.

    The state dict is that of the layer in state-spaces/s4: ``D``, ``kernel.C``, ``kernel.log_dt``,
    ``kernel.log_A_real``, ``kernel.A_imag``, ``output_linear.0.weight`` and ``.bias``. Draws at
    construction, in this order: ``D``, the kernel, the output map. In ``eval()`` without gradients
    the kernel's spectrum is remembered.

    Raises:
        ValueError: for options out of range.
    """

    kernel: S4DKernel

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        dropout: float = 0.0,
        transposed: bool = True,
        **kernel_args: Any,
    ) -> None:
        super().__init__()
        self.h, self.n, self.d_output = d_model, d_state, d_model
        self.channels, self.bidirectional, self.transposed = 1, False, transposed
        self.hyper, self.activation = None, "gelu"
        self.D = nn.Parameter(torch.randn(d_model))
        self.kernel = S4DKernel(d_model, N=d_state, **kernel_args)
        self.dropout = dropout_module(nn.Dropout1d, dropout)
        self.output_linear = output_map(PointwiseConv, d_model, d_model, activation="glu")

    def make_spectrum(self, L: int) -> Tensor:
        return two_sided_spectrum(self.kernel(L)[None], L, bidirectional=False)

    def forward(self, u: Tensor) -> tuple[Tensor, None]:
        """``(B, H, L) -> (B, H, L)``, or ``(B, L, H)`` for both if not ``transposed``.

        Returns:
            The output, and ``None`` where other layers return a state.
        """
        self.check_input(u, self.h)
        y = self.convolve(u if self.transposed else u.transpose(-1, -2))
        y = self.output_linear(self.dropout(y))
        return (y if self.transposed else y.transpose(-1, -2)), None

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One sample ``(B, H)``, whatever ``transposed``, and the next state; without dropout.

        Raises:
            ValueError: for wrong shapes and dtypes.
            RuntimeError: before :meth:`setup_step`, or if a parameter has changed since.
        """
        y, state = self.convolve_step(u, state)
        return self.output_linear(y.unsqueeze(-1)).squeeze(-1), state
