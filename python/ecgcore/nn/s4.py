"""What every S4 layer is made of: two-sided kernel, long convolution with skip, output map."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgcore import _backend, ops
from ecgcore.nn.parameter_cache import ParameterCache
from ecgcore.nn.streaming import Recurrent, RecurrentThrough
from ecgcore.nn.weight_norm import WeightNormed

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}
_IDENTITY = (None, "id", "identity", "linear")
_Gain = Literal["linear", "relu", "sigmoid", "tanh"]
_GAINS: dict[str | None, _Gain] = {
    **dict.fromkeys(_IDENTITY, "linear"),
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    **dict.fromkeys(("gelu", "swish", "silu"), "relu"),  # close enough for its gain
}
"""What the initializers call the activation that follows."""


def activation_module(name: str | None, dim: int = -1) -> nn.Module:
    """The reference's activations by name; ``"glu"`` halves axis ``dim``.

    Raises:
        ValueError: for a name that is none of them.
    """
    if name in _IDENTITY:
        return nn.Identity()
    if name == "glu":
        return nn.GLU(dim)
    if name not in _ACTIVATIONS:
        known = ", ".join([*_ACTIVATIONS, "glu", "identity"])
        raise ValueError(f"S4: activation must be one of {known}, got {name!r}")
    return _ACTIVATIONS[name]()


class TransposedLinear(nn.Module):
    """``W x + b`` over the features of ``(B, features, L)``: weight (out, in), bias (out, 1)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.bias = nn.Parameter(torch.empty(out_features, 1))
        bound = 1 / math.sqrt(in_features)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return _transposed_linear(x, self.weight, self.bias)


class PointwiseConv(nn.Conv1d):
    """``W x + b`` over the features of ``(B, features, L)``: weight (out, in, 1), bias (out,)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, kernel_size=1)


Pointwise = nn.Linear | TransposedLinear | PointwiseConv
"""The linear maps over features."""


class WeightNormLinear(WeightNormed):
    """A linear map without a kernel axis, its weight as the length and direction of each row."""

    def __init__(self, linear: Pointwise) -> None:
        if isinstance(linear, PointwiseConv):
            raise ValueError("S4: weight_norm does not go with a pointwise convolution")
        super().__init__(linear.weight, linear.bias)
        self.transposed = isinstance(linear, TransposedLinear)

    def forward(self, x: Tensor) -> Tensor:
        if self.transposed:
            return _transposed_linear(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)


def _transposed_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    # One matrix product per record: torch.matmul would transpose the signals to make it one in all,
    # at twice the time on a CPU.
    return torch.baddbmm(bias, weight.expand(x.shape[0], -1, -1), x)


def output_map(
    linear: Callable[[int, int], Pointwise],
    in_features: int,
    out_features: int,
    *,
    initializer: str | None = None,
    activation: str | None = None,
    weight_norm: bool = False,
) -> nn.Module:
    """A position-wise linear map, followed by its activation if there is one.

    Args:
        linear: makes the map from its two widths; ``nn.Linear`` has the features last, the others
            have them before the positions.
        initializer: ``None`` (torch's linear default), ``"uniform"``, ``"normal"``, ``"xavier"``,
            ``"zero"`` or ``"one"``.
        activation: by name; ``"glu"`` doubles the features first.
        weight_norm: reparametrise the weight by direction and length of each row.

    Raises:
        ValueError: for names that are unknown, or an initializer together with ``"glu"``.
    """
    width = 2 * out_features if activation == "glu" else out_features
    made = linear(in_features, width)
    if initializer is not None:
        _initialize(made.weight, initializer, activation)
    mapped = WeightNormLinear(made) if weight_norm else made
    if activation is None:
        return mapped
    axis = -1 if isinstance(made, nn.Linear) else 1
    return nn.Sequential(mapped, activation_module(activation, dim=axis))


def dropout_module(kind: type[nn.Module], rate: float) -> nn.Module:
    """``kind(rate)``, or nothing for rate 0.

    Raises:
        ValueError: for a rate outside [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"S4: dropout must be in [0, 1), got {rate}")
    return kind(rate) if rate > 0.0 else nn.Identity()


def _initialize(weight: Tensor, initializer: str, activation: str | None) -> None:
    if activation not in _GAINS:
        raise ValueError(f"S4: initializer does not go with the activation {activation!r}")
    if initializer == "uniform":
        nn.init.kaiming_uniform_(weight, nonlinearity=_GAINS[activation])
    elif initializer == "normal":
        nn.init.kaiming_normal_(weight, nonlinearity=_GAINS[activation])
    elif initializer == "xavier":
        nn.init.xavier_normal_(weight)
    elif initializer in ("zero", "one"):
        nn.init.constant_(weight, float(initializer == "one"))
    else:
        raise ValueError(
            "S4: initializer must be uniform, normal, xavier, zero, one or None, "
            f"got {initializer!r}"
        )


def two_sided_spectrum(K: Tensor, L: int, *, bidirectional: bool, gap: int | None = None) -> Tensor:
    """Spectrum, as :func:`ecgcore.ops.s4_conv` takes it, for signals of ``L`` samples.

    Args:
        K: kernels ``(channels, H, Lk)``, ``Lk <= L``; when ``bidirectional`` the first half of the
            channels runs forward and the second half backward.
        gap: zeros between the end of the forward and the start of the backward half. By default
            as many as make the backward half meet time 0 from the left.

    Returns:
        ``(C, H, L + 1)`` complex, ``rfft(k2, 2 L)`` with ``k2[j] = k0[j]`` and
        ``k2[2L - 1 - j] = k1[j]``.
    """
    if not bidirectional:
        return torch.fft.rfft(K, n=2 * L)
    forward, backward = K.chunk(2, dim=0)
    zeros = 2 * (L - K.shape[-1]) if gap is None else gap
    pieces = [F.pad(forward, (0, zeros)) if zeros else forward, backward.flip(-1)]
    return torch.fft.rfft(torch.cat(pieces, dim=-1), n=2 * L)


class S4Core(RecurrentThrough):
    """Kernel, convolution, skip and activation of an S4 layer, on ``(B, H, L)``; the same as a
    recurrence.

    A subclass says which parameters there are and in what order they are made, and sets
    ``D (C, H)``, ``kernel``, ``channels``, ``bidirectional``, ``transposed``, ``hyper`` and
    ``activation``.
    """

    D: Tensor
    kernel: Recurrent | RecurrentThrough
    channels: int
    bidirectional: bool
    transposed: bool
    hyper: str | None
    activation: str | None

    def __init__(self) -> None:
        super().__init__()
        self._cache: ParameterCache[Tensor] = ParameterCache()

    def clear_cache(self) -> None:
        """Forget the kernel's spectrum. Needed only after writing through ``.data`` or numpy."""
        self._cache.clear()

    def train(self, mode: bool = True) -> S4Core:
        self._cache.clear()
        return super().train(mode)

    def make_spectrum(self, L: int) -> Tensor:
        """Two-sided spectrum ``(C, H, L + 1)`` of the kernel for ``L`` samples, never cached."""
        raise NotImplementedError

    @torch.no_grad()
    def reserve(self, L: int) -> None:
        """Change the kernel now as the first forward on ``L`` samples would, for good.

        That corrects ``C`` for its length (second generation) or doubles a length that is too
        short.
        """
        self.make_spectrum(L)

    def spectrum(self, L: int) -> Tensor:
        """:meth:`make_spectrum`, remembered in ``eval()`` where no gradient is wanted."""
        return self._remembered((L,), lambda: self.make_spectrum(L))

    def _remembered(self, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        sources = [*self.kernel.parameters(), *self.kernel.buffers()]
        wants_grad = torch.is_grad_enabled() and any(t.requires_grad for t in sources)
        if self.training or wants_grad or torch.compiler.is_compiling():
            return make()
        key = (*key, _backend.current_backend(), *self._cache_key())
        return self._cache.get(key, sources, make)

    def _cache_key(self) -> tuple[object, ...]:
        """Settings beside tensors and length that the spectrum depends on."""
        return ()

    def check_input(self, u: Tensor, features: int) -> None:
        """Refuse anything but ``(B, features, L)``, or ``(B, L, features)`` if not transposed."""
        axis = -2 if self.transposed else -1
        if u.dim() != 3 or u.shape[axis] != features or u.shape[-3 - axis] < 1:
            layout = f"(B, {features}, L)" if self.transposed else f"(B, L, {features})"
            raise ValueError(f"S4: u must have shape {layout} with L >= 1, got {tuple(u.shape)}")

    def convolve(
        self, u: Tensor, spectrum: Tensor | None = None, extra: Tensor | None = None
    ) -> Tensor:
        """``activation(K * u + D u + extra)``, channel-major.

        Args:
            u: signals, ``(B, H, L)``.
            spectrum: of the kernel, by default :meth:`spectrum` for ``L`` samples.
            extra: response to initial states, ``(B, C, H, L)``.

        Returns:
            ``(B, channels * H, L)``.
        """
        spectrum, D = self.spectrum(u.shape[-1]) if spectrum is None else spectrum, self.D
        # Half precision inputs are convolved in single precision: see ops.s4_conv.
        wide = u.dtype if u.dtype == torch.float64 else torch.float32
        spectrum = spectrum.to(torch.complex128 if wide == torch.float64 else torch.complex64)
        D = D.to(wide).reshape(-1, u.shape[1])  # one channel may be stored as (H,)
        plain = self.hyper is None and extra is None
        fused = "gelu" if plain and self.activation == "gelu" else None
        y = ops.s4_conv(u, spectrum, D, activation=fused)
        if extra is not None:
            y = y + extra.to(y.dtype)
        return y.flatten(1, 2) if fused else self._activate(y)

    def _activate(self, y: Tensor) -> Tensor:
        """``(B, C, H, ...) -> (B, channels * H, ...)``."""
        if self.hyper is not None:
            value, gate = y.chunk(2, dim=1)
            y = activation_module(self.hyper)(gate) * value
        return activation_module(self.activation)(y.flatten(1, 2))

    def recurrent(self) -> Recurrent | RecurrentThrough:
        if self.bidirectional:
            raise ValueError(
                f"{type(self).__name__}: a bidirectional layer hears the future, it cannot step"
            )
        return self.kernel

    def convolve_step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`convolve` for one sample ``(B, H)``: ``(B, channels * H)`` and the next state."""
        y, state = self.recurrent().step(u, state)
        return self._activate(y + self.D * u.unsqueeze(1)), state

    def map_sample(self, linear: nn.Module, x: Tensor) -> Tensor:
        """A map over features, made for the layer's layout, of one sample ``(B, features)``."""
        y: Tensor = linear(x.unsqueeze(-1)).squeeze(-1) if self.transposed else linear(x)
        return y

    def forward_state(self, u: Tensor, state: Tensor) -> Tensor:
        """The state after a signal, as :meth:`Recurrent.forward_state` has it.

        Args:
            u: what :meth:`forward` takes, in its layout.
            state: before the first sample, ``(B, H, N/2)`` complex.
        """
        return super().forward_state(u if self.transposed else u.transpose(-1, -2), state)


def reserve_lengths(model: nn.Module, L: int) -> None:
    """:meth:`S4Core.reserve` of every S4 in ``model``.

    A forward may change ``C`` in place. Whoever keeps copies of the parameters, such as their
    moving average, calls this first: a copy from before would be mixed with what it is no more.
    """
    for module in model.modules():
        if isinstance(module, S4Core):
            module.reserve(L)
