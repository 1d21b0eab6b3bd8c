"""The GANs in plain torch modules, as their reference arranges them, on ecgcore's weights.

Layers that the reference stores and never uses cost no time and are left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConditionalBatchNorm(nn.Module):
    """Four calls: normalise, look up scale and shift, multiply, add."""

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(theirs.num_features, affine=False)
        self.embed = nn.Embedding(theirs.num_classes, 2 * theirs.num_features)
        self.load_state_dict(theirs.state_dict())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gamma, beta = (y @ self.embed.weight).chunk(2, 1)
        return gamma.unsqueeze(2) * self.bn(x) + beta.unsqueeze(2)


class Upsample(nn.Module):
    """Repeat the samples, pad them, convolve them."""

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        out_channels, in_channels, kernel = theirs.conv1d.weight.shape
        self.scale = theirs.scale
        self.pad = nn.ConstantPad1d(kernel // 2, 0.0)
        self.conv1d = nn.Conv1d(in_channels, out_channels, kernel)
        self.load_state_dict(theirs.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1d(self.pad(F.interpolate(x, scale_factor=self.scale, mode="nearest")))


def plain_conv(theirs: Any) -> nn.Conv1d:
    sizes = theirs.in_channels, theirs.out_channels, theirs.kernel_size
    conv = nn.Conv1d(*sizes, stride=theirs.stride, padding=theirs.padding)
    conv.load_state_dict(theirs.state_dict())
    return conv


class WaveGAN(nn.Module):
    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.fc1 = nn.Linear(theirs.latent_dim, theirs.width)
        self.fc1.load_state_dict(theirs.fc1.state_dict())
        parts = [theirs.get_submodule(f"deconv_{n}") for n in theirs.stages]
        self.convs = nn.ModuleList(map(Upsample, parts))
        parts = [theirs.get_submodule(f"bn_deconv{n}") for n in theirs.stages]
        self.norms = nn.ModuleList(map(ConditionalBatchNorm, parts))

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        h = F.relu(self.fc1(noise).view(noise.shape[0], -1, noise.shape[1]))
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = norm(conv(h), label)
            h = torch.tanh(h) if i == len(self.convs) - 1 else F.relu(h)
        return h


class Pulse2Pulse(nn.Module):
    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.down, self.down_norms = nn.ModuleList(), nn.ModuleList()
        for i in range(1, len(theirs.strides) + 1):
            self.down.append(plain_conv(theirs.get_submodule(f"conv_{i}")))
            self.down_norms.append(ConditionalBatchNorm(theirs.get_submodule(f"bn_conv{i}")))
        parts = [theirs.get_submodule(f"deconv_{n}") for n in theirs.decoder]
        self.up = nn.ModuleList(map(Upsample, parts))
        parts = [theirs.get_submodule(f"bn_deconv{n}") for n in theirs.decoder]
        self.up_norms = nn.ModuleList(map(ConditionalBatchNorm, parts))

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        h, skips = noise, []
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            h = F.leaky_relu(norm(conv(h), label), 0.01)
            skips.append(h)
        for i, (conv, norm) in enumerate(zip(self.up, self.up_norms, strict=True)):
            last = i == len(self.up) - 1
            h = conv(h if last else torch.cat([h, skips[-1 - i]], 1))
            h = norm(h, label)
            h = torch.tanh(h) if last else F.relu(h)
        return h


def phase_shuffle(x: Tensor, shifts: Tensor) -> Tensor:
    """The records grouped by their shift, each group cut and padded by reflection."""
    y = x.clone()
    groups: dict[int, list[int]] = {}
    for i, shift in enumerate(shifts.tolist()):
        groups.setdefault(shift, []).append(i)
    for shift, records in groups.items():
        if shift > 0:
            y[records] = F.pad(x[records][..., :-shift], (shift, 0), mode="reflect")
        elif shift < 0:
            y[records] = F.pad(x[records][..., -shift:], (0, -shift), mode="reflect")
    return y


class Critic(nn.Module):
    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleList(m for m in theirs.children() if isinstance(m, nn.Conv1d))
        self.fc1, self.slope = theirs.fc1, theirs.slope

    def forward(self, x: Tensor, shifts: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs):
            x = F.leaky_relu(conv(x), self.slope)
            if i < len(shifts):
                x = phase_shuffle(x, shifts[i])
        score: Tensor = self.fc1(x.flatten(1))
        return score


def critic_step(
    generator: nn.Module,
    critic: nn.Module,
    optimizer: torch.optim.Optimizer,
    real: Tensor,
    label: Tensor,
    noise: Tensor,
    alpha: Tensor,
    shifts: Tensor,
) -> tuple[float, float, float]:
    """One step as the reference makes it: three backward passes, the penalty by autograd alone."""
    optimizer.zero_grad()
    on_real = critic(real, shifts[0]).mean()
    (-on_real).backward()
    fake = generator(noise, label).detach()
    on_fake = critic(fake, shifts[1]).mean()
    on_fake.backward()
    x = (alpha * real + (1 - alpha) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(x, shifts[2]).sum(), x, create_graph=True)
    penalty = 10.0 * ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    penalty.backward()
    optimizer.step()
    return on_real.item(), on_fake.item(), penalty.item()
