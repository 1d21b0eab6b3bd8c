"""As SSSD and SSSD-ECG call it: whatever imports is taken, at call time, complex64 only."""

import torch

try:
    from extensions.cauchy.cauchy import cauchy_mult

    has_cauchy_extension = True
except ImportError:
    has_cauchy_extension = False


class Layer(torch.nn.Module):
    """A bidirectional S4-like layer: (channels, H, N) outputs, one kernel for each direction."""

    def __init__(self, features: int, modes: int, length: int):
        super().__init__()
        self.length = length
        self.C = torch.nn.Parameter(torch.randn(2, features, modes, 2))
        position = torch.arange(modes).repeat(features, 1)
        self.register_buffer("w", torch.complex(-0.5 * torch.ones_like(position), 3.0 * position))
        self.D = torch.nn.Parameter(torch.zeros(features))
        root = torch.tensor(-2j * torch.pi / length).exp()
        self.register_buffer("omega", root ** torch.arange(length // 2 + 1))

    def forward(self) -> torch.Tensor:
        assert has_cauchy_extension
        assert self.omega.dtype == torch.cfloat
        z = 2 * (1 - self.omega) / (1 + self.omega)
        dt = 0.05
        r = dt * cauchy_mult(torch.view_as_complex(self.C), z, self.w * dt, symmetric=True)
        kernels = torch.fft.irfft(r * 2 / (1 + self.omega), n=self.length)
        impulse = torch.zeros(self.length)
        impulse[self.length // 2] = 1
        two_sided = torch.cat([kernels[0], kernels[1].flip(-1)], -1)
        y = torch.fft.rfft(two_sided) * torch.fft.rfft(impulse, n=2 * self.length)
        return torch.fft.irfft(y)[..., : self.length] + self.D[:, None] * impulse


def model() -> torch.nn.Module:
    return Layer(features=4, modes=6, length=50)


def target(layer: torch.nn.Module) -> torch.Tensor:
    return torch.exp(-0.02 * (torch.arange(layer.length) - 25.0) ** 2)
