"""SSSD-ECG and DSAT-ECG in plain torch, written from their descriptions, on the parameters of ours.

The layers are laid out as the papers' code has them, with the kernels of ``anchors``, the long
convolution by torch.fft, and attention over copied neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import anchors
from ecgcore.models.wavenet import Denoiser, GatedBlock
from ecgcore.nn import S4Layer, SpadeDecoderLayer
from ecgcore.nn.embedding import diffusion_step_embedding

Mixer = Callable[[Tensor], Tensor]


class PlainS4:
    """``K * u + D u`` on ``(B, H, L)``, then its activation.

    Args:
        s4: of the first or the second generation.
        cauchy: sums the kernel up: :func:`anchors.naive_cauchy` or :func:`anchors.keops_cauchy`.
        remember: use a spectrum that is there, as only sampling may: the module's own, which spares
            minutes of sums.
    """

    def __init__(self, s4: Any, *, cauchy: anchors.Sum, remember: bool) -> None:
        self.s4, self.cauchy, self.remember = s4, cauchy, remember
        self.spectra: dict[int, Tensor] = {}

    def __call__(self, u: Tensor) -> Tensor:
        L = u.shape[-1]
        if self.remember and L not in self.spectra:
            self.spectra[L] = self.s4.make_spectrum(L)
        spectrum = self.spectra[L] if self.remember else self.spectrum(L)
        return anchors.fft_conv(u, spectrum, self.s4.D, activation=self.s4.activation)[:, 0]

    def spectrum(self, L: int) -> Tensor:
        K = self.kernel()[..., :L]
        if self.s4.bidirectional:
            K = F.pad(K[:1], (0, L)) + F.pad(K[1:].flip(-1), (L, 0))
        return torch.fft.rfft(K, 2 * L)

    def kernel(self) -> Tensor:
        kernel: Any = self.s4.kernel.kernel
        A, B, P, _ = kernel.matrices()
        H, n = kernel.H, kernel.N
        length = kernel.internal_length if hasattr(kernel, "internal_length") else kernel.L
        C, dt = torch.view_as_complex(kernel.C), torch.exp(kernel.log_dt)
        # Rounded nodes, as the reference has them: at exact ones its formula has a pole.
        root = torch.exp(torch.tensor(-2j * math.pi / length, dtype=torch.complex128)).to(C.dtype)
        omega = root ** torch.arange(length // 2 + 1)
        A, B, P = A.expand(H, n), B.expand(1, H, n), P.expand(-1, H, n)
        return anchors.nplr_kernel(A, B, C, P, dt, length, omega=omega, cauchy=self.cauchy)[0]


class PlainS4Layer:
    """An S4 layer of SSSD-ECG, on ``(L, B, F)``."""

    def __init__(self, layer: S4Layer, **kernel: Any) -> None:
        self.layer, self.s4 = layer, PlainS4(layer.s4_layer, **kernel)

    def __call__(self, x: Tensor) -> Tensor:
        linear: Any = self.layer.s4_layer.output_linear
        x = x.permute(1, 2, 0)
        y = torch.einsum("...ul,vu->...vl", self.s4(x), linear.weight) + linear.bias
        z: Tensor = self.layer.norm_layer((y + x).transpose(1, 2))
        return z.transpose(0, 1)


class PlainSpade:
    """A SPADE layer with "add" and layer norms behind the residuals, on ``(L, B, F)``."""

    def __init__(self, layer: SpadeDecoderLayer, **kernel: Any) -> None:
        assert layer.s4_module is not None
        self.layer, self.s4 = layer, PlainS4(layer.s4_module.s4, **kernel)

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


_PLAIN: dict[type, Callable[..., Mixer]] = {S4Layer: PlainS4Layer, SpadeDecoderLayer: PlainSpade}


class PlainDenoiser:
    """The noise predicted by one of our models, by other means.

    Args:
        model: an SSSD-ECG or a DSAT-ECG.
        cauchy, remember: see :class:`PlainS4`.
    """

    def __init__(
        self, model: Denoiser, *, remember: bool, cauchy: anchors.Sum = anchors.naive_cauchy
    ) -> None:
        self.model = model
        self.layers = {
            layer: _PLAIN[type(layer)](layer, cauchy=cauchy, remember=remember)
            for layer in model.modules()
            if type(layer) in _PLAIN
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
        first, second = (self.layers[b.get_submodule(name)] for name in (b.first, b.second))
        h = b.conv_layer(x + b.fc_t(step)[:, :, None])
        h = first(h.permute(2, 0, 1)).permute(1, 2, 0)
        h = h + b.fc_label(label)[:, :, None]
        h = second(h.permute(2, 0, 1)).permute(1, 2, 0)
        C = x.shape[1]
        out = torch.tanh(h[:, :C]) * torch.sigmoid(h[:, C:])
        return (x + b.res_conv(out)) * math.sqrt(0.5), b.skip_conv(out)
