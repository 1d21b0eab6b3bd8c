"""As state-spaces/s4 (third version) and SPADE call it: shapes broadcast, N is no power of two."""

import torch
from extensions.kernels.cauchy import cauchy_mult


class Kernel(torch.nn.Module):
    """Rows (B, P) against columns (C, Q), then Woodbury, all through one call."""

    def __init__(self, features: int, modes: int, length: int):
        super().__init__()
        self.length = length
        position = torch.arange(modes)
        self.w = torch.nn.Parameter(torch.complex(-torch.ones(modes) / 2, torch.pi * position))
        self.rows = torch.nn.Parameter(torch.randn(2, 1, modes, dtype=torch.cfloat))
        self.columns = torch.nn.Parameter(torch.randn(2, features, modes, dtype=torch.cfloat))
        self.log_dt = torch.nn.Parameter(torch.linspace(-4, -2, features))
        omega = torch.exp(-2j * torch.pi * torch.arange(length // 2 + 1) / length)
        self.register_buffer("omega", omega.to(torch.cfloat))

    def forward(self) -> torch.Tensor:
        dt = self.log_dt.exp()[:, None]
        z = 2 * (1 - self.omega) / (1 + self.omega)
        v = self.rows[:, None] * self.columns[None]
        r = cauchy_mult(v, z, self.w * dt, symmetric=True) * dt
        k = r[0, 0] - r[0, 1] * r[1, 0] / (1 + r[1, 1])
        return torch.fft.irfft(k * 2 / (1 + self.omega), n=self.length)


def model() -> torch.nn.Module:
    return Kernel(features=3, modes=5, length=31)


def target(kernel: torch.nn.Module) -> torch.Tensor:
    time = torch.linspace(0, 1, kernel.length)
    return torch.exp(-3 * time) * torch.cos(9 * time)
