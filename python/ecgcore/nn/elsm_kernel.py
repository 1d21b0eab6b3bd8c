"""The convolution kernel of a state-space model in NPLR form, second generation (ELSM)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.nn import half_sum, hippo_elsm, recurrence
from ecgcore.nn.elsm_parameters import LearningRate, SharedStateKernel, positive_real_part
from ecgcore.nn.ssm_common import (
    as_complex,
    as_real,
    check_state,
    check_switches,
    corrected,
    reference_nodes,
    spread,
    state_as_input,
)
from ecgcore.nn.ssm_kernel_diag import SSKernelDiag
from ecgcore.nn.streaming import RecurrentThrough


class SSKernelNPLR(SharedStateKernel):
    r"""Kernel of ``x' = A x + B u``, ``y = 2 Re(C x)`` with ``A = diag(w) - sum_r P_r P_r^*``.

    Of every conjugate pair of the ``N`` states one is stored, ``n = N/2``. ``n_ssm`` systems serve
    ``H`` features, feature ``h`` having system ``h % n_ssm``. The buffer ``L`` is the internal
    length that the parameter ``C`` is corrected for, ``C (I - Abar^L)``; it is 0 and ``C`` is plain
    until the first :meth:`forward`, which corrects it, in place and for good. State dicts from
    before and after load alike.

    Args:
        w: diagonal part, ``(n_ssm, n)`` complex.
        P: low-rank factor, ``(rank, n_ssm, n)`` complex.
        B: input vectors, ``(n_ssm, n)`` or ``(1, n_ssm, n)`` complex.
        C: output vectors, ``(channels, H, n)`` complex. Stored conjugated, as the reference does.
        log_dt: logarithm of the step, ``(H,)`` real. Its dtype is that of all parameters.
        L: internal length from the first forward on; ``None`` or 0 takes what is asked for then.
        lr: learning rate noted in ``_s4_optimizer`` of all parameters but ``C``, beside weight
            decay 0: a number, or a mapping with keys dt, A (``P`` too), B. What has exactly 0 is a
            buffer.
        verbose, keops: accepted for the reference's sake, without effect: what sums are evaluated
            with is the choice of :func:`ecgcore.backend`.
        real_type: how ``Re w = -f(p)`` is stored: ``"exp"``, ``"none"`` (identity), ``"relu"``,
            ``"sigmoid"`` or ``"softplus"``.
        real_tolerance: real parts start at most at minus this.
        bandlimit: leave out modes of this frequency and above, in units of the Nyquist frequency.
        exact_nodes: evaluate at the exact roots of unity. ``False`` rounds them as the reference
            does, which moves a kernel of 1024 samples by up to 3e-4.
        odd_length: as in the first generation; here the reference is right at odd lengths, so that
            ``"exact"`` and ``"reference"`` are the same.
        conjugate_pairs: ``False`` is the wrong sum of :mod:`ecgcore.nn.half_sum`, for models that
            were trained with it; no recurrence agrees with it.

    Raises:
        ValueError: for shapes that do not fit, or options out of range.
    """

    # Parameters or buffers, as `lr` says; L is a buffer.
    B: Tensor
    P: Tensor
    inv_w_real: Tensor
    w_imag: Tensor
    L: Tensor

    def __init__(
        self,
        w: Tensor,
        P: Tensor,
        B: Tensor,
        C: Tensor,
        log_dt: Tensor,
        L: int | None = None,
        lr: LearningRate = None,
        verbose: bool = False,
        keops: bool = False,
        real_type: str = "exp",
        real_tolerance: float = 1e-3,
        bandlimit: float | None = None,
        *,
        exact_nodes: bool = True,
        odd_length: str = "exact",
        conjugate_pairs: bool = True,
    ) -> None:
        check_switches("SSKernelNPLR", odd_length)
        super().__init__(w, C, log_dt, lr, real_type, bandlimit)
        if L is not None and L < 0:
            raise ValueError(f"SSKernelNPLR: L must be at least 1, or 0 or None, got {L}")
        if not real_tolerance > 0:
            raise ValueError(f"SSKernelNPLR: real_tolerance must be positive, got {real_tolerance}")
        self.l_max, self.exact_nodes = L or None, exact_nodes
        self.conjugate_pairs = conjugate_pairs
        B = spread("SSKernelNPLR", "B", B, (1, self.n_ssm, self.N), 1)
        P = spread("SSKernelNPLR", "P", P, (None, self.n_ssm, self.N), 2)
        self.rank = P.shape[0]
        self.add("B", as_real(B, log_dt.dtype), "B")
        self.add("P", as_real(P, log_dt.dtype), "A")
        self.add_state_matrix("inv_w_real", "w_imag", w, real_tolerance)
        self.register_buffer("L", torch.tensor(0))
        self._known_length: tuple[object, int] = (None, 0)

    def matrices(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``w (H|1, n)``, ``B (1, H|1, n)``, ``P`` and ``Q (rank, H|1, n)``, complex."""
        B, P = self.tiled(as_complex(self.B)), self.tiled(as_complex(self.P))
        w = torch.complex(-positive_real_part(self.inv_w_real, self.real_type), self.w_imag)
        return self.tiled(w), B, P, P.conj()

    @property
    def internal_length(self) -> int:
        """The buffer ``L`` as a number; 0 means that ``C`` is not corrected yet.

        Reading a buffer waits for its device, so the number is kept as long as the buffer stays as
        it is.
        """
        if torch.compiler.is_compiling():
            return self._known_length[1]
        stamp = _stamp(self.L)
        if stamp is None or stamp != self._known_length[0]:
            self._known_length = (stamp, int(self.L))
        return self._known_length[1]

    def forward(
        self, state: Tensor | None = None, rate: float = 1.0, L: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The kernel, and the response to initial states.

        Args:
            state: states before the first sample, ``(S, H, n)`` complex.
            rate: step of the samples in units of ``dt``.
            L: samples, by default all there are at this rate. More samples than the internal length
                holds double that length for good.

        Returns:
            ``K (channels, H, L)``, and ``K_state (S, channels, H, L)`` or ``None``.

        Raises:
            ValueError: for ``L < 1``, no length at all, a rate that is no positive number, a wrong
                state.
        """
        self.check_request(rate, L)
        L, samples = self.reserve(rate, L)
        w, B, P, Q = self.matrices()
        dt = torch.exp(self.log_dt) * rate
        if state is not None:
            check_state("SSKernelNPLR", state, self.H, self.N)
            B = torch.cat([state_as_input(state, w, P, Q, dt), B.expand(1, self.H, self.N)])
        omega = None
        if not self.exact_nodes:
            omega = as_complex(reference_nodes(samples, dt.dtype, dt.device)[0])
        sums = ops if self.conjugate_pairs else half_sum
        K = sums.nplr_kernel(w, B, self.output(w), P, dt, samples, Q=Q, omega=omega)[..., :L]
        return K[-1], None if state is None else K[:-1]

    def reserve(self, rate: float = 1.0, L: int | None = None) -> tuple[int, int]:
        """Bring the internal length to hold ``L`` samples; the lengths of kernel and transform.

        Corrects ``C`` on the first call, for the constructor's length if there was one, and doubles
        the length while it is too short. Changes ``C`` and ``L`` in place; an optimiser's state
        stays valid.
        """
        length = self.internal_length
        if length == 0 and self.l_max is not None:
            length = self._rescale(-1, self.l_max)
        if L is None:
            if length == 0:
                raise ValueError("SSKernelNPLR: L must be given where the constructor had none")
            samples = max(round(length / rate), 1)
            return samples, samples
        if length == 0:
            length = self._rescale(-1, max(round(rate * L), 1))
        while round(rate * L) > length or round(length / rate) < L:
            length = self._rescale(+1, length)
        return L, round(length / rate)

    def _rescale(self, sign: int, length: int) -> int:
        """``C <- C (I + sign Abar^length)``: minus corrects a plain ``C`` for ``length``, plus
        doubles that. Returns the new internal length."""
        held = length if sign < 0 else 2 * length
        if torch.compiler.is_compiling():
            self._rescale_to(held, sign, length)
            self._known_length = (None, held)
            return held
        # Inference tensors change in their own mode only.
        with torch.inference_mode(self.C.is_inference()), self._steps.kept(self):
            self._rescale_to(held, sign, length)
        self._known_length = (_stamp(self.L), held)
        return held

    @torch.no_grad()
    def _rescale_to(self, held: int, sign: int, length: int) -> None:
        w, _, P, Q = self.matrices()
        C = corrected(as_complex(self.C), w, P, Q, self.log_dt, length, sign)
        self.C.copy_(torch.view_as_real(C))
        self.L.fill_(held)

    def make_recurrence(self, mode: str) -> recurrence.Recurrence:
        w, B, P, Q = self.matrices()
        dt = torch.exp(self.log_dt.double())
        return recurrence.nplr(mode, w, B[0], self.output(w), P, Q, dt, self.internal_length)

    def advance(self, u: Tensor, state: Tensor) -> Tensor:
        w, B, P, Q = self.matrices()
        return recurrence.nplr_state(w, B[0], P, Q, torch.exp(self.log_dt.double()), u, state)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if not self.L.is_meta:
            self._known_length = (_stamp(self.L), int(self.L))


class SSKernel(RecurrentThrough):
    """:class:`SSKernelNPLR` or :class:`SSKernelDiag`, with its initial state: see there for the
    options not named here.

    Args:
        H: features.
        N: state size, even.
        L: internal length; ``None`` or 0 takes the first one asked for.
        measure: what the systems start from, see :func:`ecgcore.nn.hippo_elsm.systems`.
        rank: of the low-rank part; 2 at least for legt.
        channels: kernels per feature.
        dt_min, dt_max: the steps are drawn log-uniformly between these.
        deterministic: draw neither steps nor ``C``: steps of equal ratio from ``dt_min`` to
            ``dt_max``, and a ``C`` that reads the first state (the first mode of a diagonal
            measure). ``"reference"`` exponentiates the logarithms of the steps once more, as the
            reference does.
        lr: see the kernels.
        mode: ``"nplr"``, or ``"diag"``, which leaves the low-rank part out (S4D).
        n_ssm: independent systems, a divisor of ``H``; ``H`` of them by default.
        verbose: accepted for the reference's sake, without effect.
        measure_args: for :func:`ecgcore.nn.hippo_elsm.diagonal`.
        **kernel_args: for the kernel.

    Draws, in this order, from torch's default generator: the steps, what the measure draws, ``C``.

    Raises:
        ValueError: for unknown names, odd ``N``, sizes that do not fit.
    """

    kernel: SSKernelNPLR | SSKernelDiag

    def __init__(
        self,
        H: int,
        N: int = 64,
        L: int | None = None,
        measure: str | Sequence[str] = "legs",
        rank: int = 1,
        channels: int = 1,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        deterministic: bool | str = False,
        lr: LearningRate = None,
        mode: str = "nplr",
        n_ssm: int | None = None,
        verbose: bool = False,
        measure_args: Mapping[str, Any] | None = None,
        **kernel_args: Any,
    ) -> None:
        super().__init__()
        for name, value in (("H", H), ("channels", channels), ("rank", rank)):
            if value < 1:
                raise ValueError(f"SSKernel: {name} must be at least 1, got {value}")
        copies = H if n_ssm is None else n_ssm
        if copies < 1 or H % copies:
            raise ValueError(f"SSKernel: n_ssm must be a divisor of H = {H}, got {n_ssm}")
        if not 0 < dt_min <= dt_max < math.inf:
            raise ValueError(f"SSKernel: 0 < dt_min <= dt_max expected, got {dt_min} and {dt_max}")
        if mode not in ("nplr", "diag"):
            raise ValueError(f"SSKernel: mode must be 'nplr' or 'diag', got {mode!r}")
        if deterministic not in (False, True, "reference"):
            raise ValueError(
                f"SSKernel: deterministic must be False, True or 'reference', got {deterministic!r}"
            )
        if mode == "diag" and hippo_elsm.has_low_rank(measure):
            warnings.warn(
                f"SSKernel: mode='diag' leaves out the low-rank part of measure {measure!r}",
                stacklevel=2,
            )
        low, high = math.log(dt_min), math.log(dt_max)
        if deterministic:
            log_dt = torch.linspace(low, high, H)
            log_dt = torch.exp(log_dt) if deterministic == "reference" else log_dt
        else:
            log_dt = torch.rand(H) * (high - low) + low
        w, P, B, V = hippo_elsm.systems(measure, N, rank, copies, measure_args)
        if deterministic:
            # Stored conjugated, and the row that reads a state is V itself.
            C = V.conj().repeat(H // copies, 1).expand(channels, H, N // 2)
        else:
            C = torch.randn(channels, H, N // 2, dtype=torch.complex64)
        self.mode = mode
        if mode == "nplr":
            self.kernel = SSKernelNPLR(w, P, B, C, log_dt, L=L, lr=lr, **kernel_args)
        else:
            # B enters C here and the kernel once more, so that it acts squared, as in the
            # reference.
            C = C * B.repeat(H // copies, 1)
            self.kernel = SSKernelDiag(w, B, C, log_dt, L=L or None, lr=lr, **kernel_args)

    def forward(
        self, state: Tensor | None = None, rate: float = 1.0, L: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The kernel ``(channels, H, L)``, and the response to initial states or ``None``."""
        K: tuple[Tensor, Tensor | None] = self.kernel(state=state, rate=rate, L=L)
        return K

    def recurrent(self) -> SSKernelNPLR | SSKernelDiag:
        return self.kernel


def _stamp(buffer: Tensor) -> object:
    """What changes when the buffer does; ``None`` for inference tensors, which keep no count."""
    return None if buffer.is_inference() else (buffer.data_ptr(), buffer._version)
