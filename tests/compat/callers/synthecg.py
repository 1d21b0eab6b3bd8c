"""As SynthECG calls it: the other spelling of the folder, double precision, and the KeOps name."""

import torch
from extension.cauchy.cauchy import cauchy_conj, cauchy_mult


class Spectrum(torch.nn.Module):
    def __init__(self, modes: int):
        super().__init__()
        self.v = torch.nn.Parameter(torch.randn(1, 2, 3, modes, dtype=torch.cdouble))
        decay = torch.full((3, modes), -0.3).double()
        self.w = torch.nn.Parameter(torch.complex(decay, torch.rand(3, modes).double() * 4))
        self.z = 1j * torch.linspace(0, 4, 25).double()

    def forward(self) -> torch.Tensor:
        fast = cauchy_mult(self.v, self.z, self.w)
        assert torch.equal(fast, cauchy_conj(self.v, self.z, self.w))
        return fast.abs()


def model() -> torch.nn.Module:
    return Spectrum(modes=7)


def target(spectrum: torch.nn.Module) -> torch.Tensor:
    return 1 + spectrum.z.imag
