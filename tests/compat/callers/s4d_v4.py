"""As state-spaces/s4 (fourth version) calls it: the diagonal kernel, and the state of a signal."""

import torch
from extensions.kernels.vandermonde import log_vandermonde_cuda, log_vandermonde_transpose


class Kernel(torch.nn.Module):
    """Zero-order hold; the response to a state that has seen a signal is added."""

    def __init__(self, features: int, modes: int, length: int):
        super().__init__()
        self.length = length
        self.log_dt = torch.nn.Parameter(torch.linspace(-4, -2, features))
        self.C = torch.nn.Parameter(torch.randn(1, features, modes, dtype=torch.cfloat))
        self.inv_A_real = torch.nn.Parameter(torch.full((features, modes), 0.5).log())
        self.A_imag = torch.nn.Parameter(torch.pi * torch.arange(modes).repeat(features, 1).float())
        self.past = torch.sin(torch.arange(20.0)).repeat(features, 1)

    def forward(self) -> torch.Tensor:
        A = -self.inv_A_real.exp() + 1j * self.A_imag
        dtA = A * self.log_dt.exp()[:, None]
        C = self.C * (torch.exp(dtA) - 1) / A
        K = log_vandermonde_cuda(C, dtA, self.length)
        state = log_vandermonde_transpose(self.past.flip(-1), torch.ones_like(dtA), dtA, 20)
        return (K + 0.01 * log_vandermonde_cuda(C * state, dtA, self.length))[0]


def model() -> torch.nn.Module:
    return Kernel(features=3, modes=5, length=31)


def target(kernel: torch.nn.Module) -> torch.Tensor:
    time = torch.linspace(0, 1, kernel.length)
    return torch.exp(-3 * time) * torch.cos(9 * time)
