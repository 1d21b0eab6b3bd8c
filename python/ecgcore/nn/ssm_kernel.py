"""The convolution kernel of a state-space model in NPLR form, first generation (``S4Model``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ecgcore import ops
from ecgcore.nn import half_sum, hippo, recurrence
from ecgcore.nn.ssm_common import (
    COMPLEX_OF,
    as_complex,
    as_real,
    check_output,
    check_rate,
    check_state,
    check_switches,
    corrected,
    reference_nodes,
    register,
    spread,
    state_as_input,
)
from ecgcore.nn.streaming import Recurrent, RecurrentThrough


class SSKernelNPLR(Recurrent):
    r"""Kernel of ``x' = A x + B u``, ``y = 2 Re(C x)`` with ``A = diag(w) - sum_r P_r Q_r^T``.

    Of every conjugate pair of the ``N`` states one is stored, ``n = N/2``. The parameter ``C`` is
    the *length-corrected* ``C (I - Abar^L)`` for the internal length ``L``, so that the truncated
    generating function is a rational function of the node (Gu, Goel, Ré 2022, appendix C.3). ``L``
    is no part of the state dict; on loading it is read off the stored nodes.

    Args:
        L: internal length.
        w: diagonal part, ``(n,)`` or ``(H|1, n)`` complex.
        P: low-rank factor, ``(rank, n)`` or ``(rank, H|1, n)`` complex; ``Q`` starts as its
            conjugate.
        B: input vector, ``(n,)`` or ``(H|1, n)`` complex.
        C: output vectors, ``(channels, H, n)`` complex. Stored conjugated, as the reference does.
        log_dt: logarithm of the step, ``(H,)`` real. Its dtype is that of all parameters.
        hurwitz: keep ``Re w < 0`` by storing ``log(-Re w)``, and ``Q = conj(P)`` always.
        trainable: what trains beside ``C``: a bool for all, or a mapping with keys ``dt``, ``A``,
            ``B`` (any of them) and ``P``, which governs ``Q`` too. ``log_w_real`` trains only where
            a mapping says so. What does not train is a buffer.
        lr: learning rate noted in ``_optim`` of the trained parameters, beside weight decay 0.
        tie_state: one ``w, P, B`` for all features, not one each.
        length_correction: multiply ``C`` by ``I - Abar^L`` here; ``False`` takes it as corrected.
        verbose: accepted for the reference's sake, without effect.
        exact_nodes: evaluate at the exact roots of unity. ``False`` uses the buffer ``omega``, the
            rounded nodes that the reference stores and its weights were trained with.
        odd_length: ``"exact"``, or ``"reference"`` for the reference's kernel at odd ``L``, which
            is one sample short and slightly wrong.
        conjugate_pairs: ``False`` is the wrong sum of :mod:`ecgcore.nn.half_sum`, for models that
            were trained with it; no recurrence agrees with it.

    Raises:
        ValueError: for shapes that do not fit, or options out of range.
    """

    # Parameters or buffers, as `trainable` says; w, Q or log_w_real, w_imag, as `hurwitz` says.
    log_dt: Tensor
    B: Tensor
    P: Tensor
    w: Tensor
    Q: Tensor
    log_w_real: Tensor
    w_imag: Tensor
    omega: Tensor
    z: Tensor

    def __init__(
        self,
        L: int,
        w: Tensor,
        P: Tensor,
        B: Tensor,
        C: Tensor,
        log_dt: Tensor,
        hurwitz: bool = False,
        trainable: bool | Mapping[str, bool] | None = None,
        lr: float | None = None,
        tie_state: bool = False,
        length_correction: bool = True,
        verbose: bool = False,
        *,
        exact_nodes: bool = False,
        odd_length: str = "exact",
        conjugate_pairs: bool = True,
    ) -> None:
        super().__init__()
        check_switches("SSKernelNPLR", odd_length)
        if L < 1:
            raise ValueError(f"SSKernelNPLR: L must be at least 1, got {L}")
        check_output("SSKernelNPLR", C, log_dt)
        _, H, n = C.shape
        copies = 1 if tie_state else H
        w = spread("SSKernelNPLR", "w", w, (copies, n), 1)
        B = spread("SSKernelNPLR", "B", B, (1, copies, n), 1)
        P = spread("SSKernelNPLR", "P", P, (None, copies, n), 2)

        self.H, self.N, self.rank, self.channels = H, n, P.shape[0], C.shape[0]
        self.L = self.l_max = L
        self.hurwitz, self.tie_state = hurwitz, tie_state
        self.exact_nodes, self.odd_length = exact_nodes, odd_length
        self.conjugate_pairs = conjugate_pairs

        dtype = log_dt.dtype
        self.C = nn.Parameter(as_real(C.conj(), dtype))
        self._set_nodes(*reference_nodes(L, dtype, log_dt.device))
        flags = trainable if isinstance(trainable, Mapping) else {}
        unknown = set(flags) - {"dt", "A", "B", "P"}
        if unknown:
            raise ValueError(
                f"SSKernelNPLR: trainable has keys dt, A, B, P, got {', '.join(sorted(unknown))}"
            )
        default = trainable is True

        def add(name: str, value: Tensor, key: str, fallback: bool = default) -> None:
            register(self, name, value, trains=flags.get(key, fallback), note="_optim", lr=lr)

        add("log_dt", log_dt.clone(), "dt")
        add("B", as_real(B, dtype), "B")
        add("P", as_real(P, dtype), "P")
        if hurwitz:
            add("log_w_real", torch.log(-w.real + 1e-3).to(dtype), "A", fallback=False)
            add("w_imag", w.imag.to(dtype).contiguous(), "A")
        else:
            add("w", as_real(w, dtype), "A")
            add("Q", as_real(P.conj(), dtype), "P")
        if length_correction and not self.C.is_meta:
            self._scale_output(-1)

    def matrices(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``w (H|1, n)``, ``B (1, H|1, n)``, ``P`` and ``Q (rank, H|1, n)``, complex."""
        if self.hurwitz:
            w = torch.complex(-torch.exp(self.log_w_real), self.w_imag)
        else:
            w = as_complex(self.w)
        P = as_complex(self.P)
        Q = P.conj() if self.hurwitz else as_complex(self.Q)
        return w, as_complex(self.B), P, Q

    def forward(
        self, state: Tensor | None = None, rate: float | None = 1.0, L: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The kernel, and the response to initial states.

        Args:
            state: states before the first sample, ``(S, H, n)`` complex.
            rate: step of the samples in units of ``dt``; ``None`` spreads the whole internal length
                over the ``L`` samples asked for.
            L: samples, by default all there are at this rate. More samples than the internal length
                holds double that length for good, as :meth:`double_length` says.

        Returns:
            ``K (channels, H, L)``, and ``K_state (S, channels, H, L)`` or ``None``.

        Raises:
            ValueError: for ``L < 1``, a rate that is no positive number, a wrong state.
        """
        if L is not None and L < 1:
            raise ValueError(f"SSKernelNPLR: L must be at least 1, got {L}")
        if rate is None:
            L = L or self.L
            rate, samples = self.L / L, L
        else:
            check_rate("SSKernelNPLR", rate)
            L = L or _floor(self.L / rate)
            while rate * L > self.L * (1 + 1e-9):
                self.double_length()
            samples = _floor(self.L / rate)
        if samples < 1:
            raise ValueError(
                f"SSKernelNPLR: at rate {rate} the internal length {self.L} holds no sample"
            )

        w, B, P, Q = self.matrices()
        dt = torch.exp(self.log_dt) * rate
        if state is not None:
            check_state("SSKernelNPLR", state, self.H, self.N)
            B = torch.cat([state_as_input(state, w, P, Q, dt), B.expand(1, self.H, self.N)])
        stored = rate == 1.0 and not self.exact_nodes
        C, omega = as_complex(self.C), as_complex(self.omega) if stored else None
        sums = ops if self.conjugate_pairs else half_sum
        if samples % 2 and self.odd_length == "reference" and samples > 1:
            # The reference leaves the length of the inverse transform to be guessed: one too short.
            K = torch.fft.irfft(
                sums.nplr_spectrum(w, B, C, P, dt, samples, Q=Q, omega=omega),
                n=samples - 1,
            )
        else:
            K = sums.nplr_kernel(w, B, C, P, dt, samples, Q=Q, omega=omega)
        K = K[..., :L]
        return K[-1], None if state is None else K[:-1]

    def double_length(self) -> None:
        """Double the internal length: ``C (I - Abar^L)(I + Abar^L)``, and nodes for ``2L``.

        Changes the parameter ``C`` and the shape of the buffers, for good. :meth:`forward` does it
        where more samples are asked for; an optimiser's state stays valid.
        """
        # The new buffers must be of the old ones' kind, whatever mode forward runs in: training
        # could not use inference tensors.
        with torch.inference_mode(self.omega.is_inference()), self._steps.kept(self):
            self._scale_output(+1)
            self.L *= 2
            self._set_nodes(*reference_nodes(self.L, self.omega.dtype, self.omega.device))

    @torch.no_grad()
    def _scale_output(self, sign: int) -> None:
        """``C <- C (I + sign Abar^L)``."""
        w, _, P, Q = self.matrices()
        C = corrected(as_complex(self.C), w, P, Q, self.log_dt, self.L, sign)
        self.C.copy_(torch.view_as_real(C))

    def make_recurrence(self, mode: str) -> recurrence.Recurrence:
        w, B, P, Q = self.matrices()
        dt = torch.exp(self.log_dt.double())
        return recurrence.nplr(mode, w, B[0], as_complex(self.C), P, Q, dt, self.L)

    def advance(self, u: Tensor, state: Tensor) -> Tensor:
        w, B, P, Q = self.matrices()
        return recurrence.nplr_state(w, B[0], P, Q, torch.exp(self.log_dt.double()), u, state)

    def _set_nodes(self, omega: Tensor, z: Tensor) -> None:
        self.register_buffer("omega", omega)
        self.register_buffer("z", z)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take over the internal length of the stored nodes first, so that they fit."""
        omega = state_dict.get(prefix + "omega")
        L = None if omega is None else nodes_length(omega)
        if L is not None and L != self.L:
            self.L = L
            empty = self.omega.new_empty((L // 2 + 1, 2))
            self._set_nodes(empty, empty.clone())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        return (
            f"H={self.H}, N={2 * self.N}, L={self.L}, channels={self.channels}, rank={self.rank}"
            + (", hurwitz" if self.hurwitz else "")
            + (", tie_state" if self.tie_state else "")
        )


class HippoSSKernel(RecurrentThrough):
    """:class:`SSKernelNPLR` started from a HiPPO matrix: see there for the options not named here.

    Args:
        H: features.
        N: state size, even.
        L: internal length; ``None`` or 0 is 1.
        measure: ``"legs"``, ``"legt"``, ``"lagt"``, ``"fourier"`` or ``"random"``.
        rank: of the correction; 2 at least for legt and fourier.
        channels: kernels per feature.
        dt_min, dt_max: the steps are drawn log-uniformly between these.
        precision: 2 keeps parameters and nodes in double precision.
        resample: kernels of any length cover the same stretch of time.

    Draws, in this order, from torch's default generator: the steps, what the measure draws, ``C``.

    Raises:
        ValueError: for an unknown measure, odd ``N``, too small a rank.
    """

    def __init__(
        self,
        H: int,
        N: int = 64,
        L: int | None = 1,
        measure: str = "legs",
        rank: int = 1,
        channels: int = 1,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        trainable: bool | Mapping[str, bool] | None = None,
        lr: float | None = None,
        length_correction: bool = True,
        hurwitz: bool = False,
        tie_state: bool = False,
        precision: int = 1,
        resample: bool = False,
        verbose: bool = False,
        *,
        exact_nodes: bool = False,
        odd_length: str = "exact",
        conjugate_pairs: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("H", H), ("channels", channels), ("rank", rank)):
            if value < 1:
                raise ValueError(f"HippoSSKernel: {name} must be at least 1, got {value}")
        if not 0 < dt_min <= dt_max < math.inf:
            raise ValueError(
                f"HippoSSKernel: 0 < dt_min <= dt_max expected, got {dt_min} and {dt_max}"
            )
        if precision not in (1, 2):
            raise ValueError(f"HippoSSKernel: precision must be 1 or 2, got {precision}")
        dtype = torch.float64 if precision == 2 else torch.float32
        log_dt = torch.rand(H, dtype=dtype) * (math.log(dt_max) - math.log(dt_min))
        log_dt = log_dt + math.log(dt_min)
        w, P, B = hippo.nplr(measure, N, rank)
        C = torch.randn(channels, H, N // 2, dtype=COMPLEX_OF[dtype])
        self.rate = None if resample else 1.0
        self.kernel = SSKernelNPLR(
            L=L or 1,
            w=w,
            P=P,
            B=B,
            C=C,
            log_dt=log_dt,
            hurwitz=hurwitz,
            trainable=trainable,
            lr=lr,
            tie_state=tie_state,
            length_correction=length_correction,
            exact_nodes=exact_nodes,
            odd_length=odd_length,
            conjugate_pairs=conjugate_pairs,
        )

    def forward(self, L: int | None = None, rate: float = 1.0) -> Tensor:
        """The kernel ``(channels, H, L)``, real, in the precision of the parameters.

        Args:
            L: samples, as of :meth:`SSKernelNPLR.forward`.
            rate: step of the samples in units of what it is without.

        Raises:
            ValueError: for a rate that is no positive number, or not 1 with ``resample``, where the
                length alone decides.
        """
        check_rate("HippoSSKernel", rate)
        if self.rate is None and rate != 1.0:
            raise ValueError(f"HippoSSKernel: rate must be 1 with resample, got {rate}")
        K: Tensor = self.kernel(rate=None if self.rate is None else self.rate * rate, L=L)[0]
        return K

    def recurrent(self) -> SSKernelNPLR:
        return self.kernel


def nodes_length(omega: Tensor) -> int | None:
    """The length whose nodes ``omega (nodes, 2)`` are; ``None`` where they are no such nodes.

    Their number leaves an even length and the next odd one open; the angle of the first decides.
    """
    if omega.dim() != 2 or omega.shape[1] != 2 or omega.shape[0] < 1 or omega.is_meta:
        return None
    if omega.shape[0] == 1:
        return 1
    real, imag = omega[1].tolist()
    angle = abs(math.atan2(imag, real))
    if not angle > 0:
        return None
    L = round(2 * math.pi / angle)
    return L if omega.shape[0] == L // 2 + 1 else None


def _floor(samples: float) -> int:
    """Whole samples, where a quotient that rounding left just below an integer counts as one."""
    return math.floor(samples * (1 + 1e-9))
