"""The convolution kernel of a diagonal state-space model, S4D."""

from __future__ import annotations

import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.nn import recurrence
from ecgcore.nn.elsm_parameters import LearningRate, SharedStateKernel, positive_real_part
from ecgcore.nn.ssm_common import as_complex, as_real, check_state, spread

DISCRETIZATIONS = ("bilinear", "zoh", "dss")
_LEAST_DECAY = 1e-4


class SSKernelDiag(SharedStateKernel):
    r"""Kernel of ``x' = A x + B u``, ``y = 2 Re(C x)`` with a diagonal ``A``.

    Gupta, Gu, Berant, "Diagonal State Spaces are as Effective as Structured State Spaces" (2022),
    for ``dss``; Gu, Goel, Gupta, Ré, "On the Parameterization and Initialization of Diagonal State
    Space Models" (2022), for the others. The formulas stand at :func:`ecgcore.ops.diag_kernel`. No
    length is built in: any number of samples may be asked for.

    The reference stores one more parameter, ``A``, which it never uses. There is none here; its key
    is accepted on loading and dropped.

    Args:
        A: state matrices, ``(n_ssm, n)`` complex.
        B: input vectors, ``(n_ssm, n)`` complex.
        C: output vectors, ``(channels, H, n)`` complex. Stored conjugated, as the reference does.
        log_dt: logarithm of the step, ``(H,)`` real. Its dtype is that of all parameters.
        L: samples where :meth:`forward` is not told, at rate 1.
        disc: ``"bilinear"``, ``"zoh"`` or ``"dss"``.
        real_type: how ``Re A = -f(p)`` is stored: ``"exp"``, ``"none"`` (identity), ``"relu"``
            (which stays 1e-4 below zero), ``"sigmoid"`` or ``"softplus"``. Real parts start at most
            at -1e-4.
        lr: learning rate noted in ``_s4_optimizer`` of all parameters but ``C``, beside weight
            decay 0: a number, or a mapping with keys dt, A, B. What has exactly 0 is a buffer.
        bandlimit: leave out modes of this frequency and above, in units of the Nyquist frequency.
        verbose: accepted for the reference's sake, without effect.

    Raises:
        ValueError: for shapes that do not fit, or options out of range.
    """

    # Parameters or buffers, as `lr` says.
    B: Tensor
    inv_A_real: Tensor
    A_imag: Tensor

    def __init__(
        self,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        log_dt: Tensor,
        L: int | None = None,
        disc: str = "bilinear",
        real_type: str = "exp",
        lr: LearningRate = None,
        bandlimit: float | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(A, C, log_dt, lr, real_type, bandlimit)
        if disc not in DISCRETIZATIONS:
            raise ValueError(
                f"SSKernelDiag: disc must be one of {', '.join(DISCRETIZATIONS)}, got {disc!r}"
            )
        self.disc, self.l_max = disc, L
        B = spread("SSKernelDiag", "B", B, (self.n_ssm, self.N), 1)
        self.add("B", as_real(B, log_dt.dtype), "B")
        self.add_state_matrix("inv_A_real", "A_imag", A, _LEAST_DECAY)

    def stored_matrix(self) -> Tensor:
        """``A (n_ssm, n)``, complex: the diagonals that the features share."""
        decay = positive_real_part(self.inv_A_real, self.real_type)
        if self.real_type == "relu":
            decay = decay + _LEAST_DECAY
        return torch.complex(-decay, self.A_imag)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """``A (H|1, n)`` and ``B (1, H|1, n)``, complex."""
        B = self.tiled(as_complex(self.B))[None]  # first: it refuses half precision
        return self.tiled(self.stored_matrix()), B

    def forward(
        self, state: Tensor | None = None, rate: float = 1.0, L: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The kernel, and the response to initial states.

        Args:
            state: states before the first sample, ``(S, H, n)`` complex; not with ``dss``.
            rate: step of the samples in units of ``dt``.
            L: samples, by default the constructor's over ``rate``.

        Returns:
            ``K (channels, H, L)``, and ``K_state (S, channels, H, L)`` or ``None``.

        Raises:
            ValueError: for ``L < 1``, no ``L`` at all, a rate that is no positive number, a wrong
                state, a state with ``dss``.
        """
        self.check_request(rate, L)
        if L is None:
            if self.l_max is None:
                raise ValueError("SSKernelDiag: L must be given where the constructor had none")
            L = max(round(self.l_max / rate), 1)
        A, B = self.matrices()
        dt = torch.exp(self.log_dt) * rate
        if state is not None:
            check_state("SSKernelDiag", state, self.H, self.N)
            B = torch.cat([self._as_input(state, A, dt), B.expand(1, self.H, self.N)])
        K = ops.diag_kernel(A, B, self.output(A), dt, L, discretization=self.disc)
        return K[-1], None if state is None else K[:-1]

    def _as_input(self, state: Tensor, A: Tensor, dt: Tensor) -> Tensor:
        """The input vector ``b`` whose impulse response is that of the state: ``Bbar = Abar s``."""
        if self.disc == "dss":
            raise ValueError("SSKernelDiag: state is not defined for disc='dss'")
        if self.disc == "bilinear":  # Bbar = dt b / (1 - dt A/2)
            return state / dt[:, None] + A * state / 2
        # Bbar = b (exp(dt A) - 1) / A, so b = s A / (1 - exp(-dt A)).
        return -state * A / torch.expm1(-dt[:, None] * A)

    def make_recurrence(self, mode: str) -> recurrence.Recurrence:
        """Diagonal already, so that all modes are one: its state is ``(B, H, n)``."""
        A, B = self.matrices()
        dt = torch.exp(self.log_dt.double())
        return recurrence.diagonal(A, B[0], self.output(A), dt, self.disc)

    def advance(self, u: Tensor, state: Tensor) -> Tensor:
        A, B = self.matrices()
        dt = torch.exp(self.log_dt.double())
        return recurrence.diagonal_state(A, B[0], dt, self.disc, u, state)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: object
    ) -> None:
        state_dict.pop(prefix + "A", None)
        super()._load_from_state_dict(state_dict, prefix, *rest)
