"""As wrappers over the compiled extension call it: raw rows inside an autograd.Function."""

import cauchy_mult
import structured_kernels
import torch


class Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, z, w):
        ctx.save_for_backward(v, z, w)
        return cauchy_mult.cauchy_mult_sym_fwd(v, z, w)

    @staticmethod
    def backward(ctx, dout):
        dv, dw = structured_kernels.cauchy_mult_sym_bwd(*ctx.saved_tensors, dout)
        return dv, None, dw


class Powers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, x, length):
        ctx.save_for_backward(v, x)
        return structured_kernels.vand_log_mult_sym_fwd(v, x, length)

    @staticmethod
    def backward(ctx, dout):
        return *structured_kernels.vand_log_mult_sym_bwd(*ctx.saved_tensors, dout), None


class Both(torch.nn.Module):
    """A spectrum by Cauchy sums beside a kernel by powers."""

    def __init__(self, rows: int, modes: int, length: int):
        super().__init__()
        self.length = length
        self.v = torch.nn.Parameter(torch.randn(2, rows, modes, dtype=torch.cfloat))
        decay = -torch.rand(2, rows, modes) - 0.05
        self.w = torch.nn.Parameter(torch.complex(decay, 2 * torch.rand(2, rows, modes)))
        self.z = 1j * torch.linspace(0, 3, length // 2 + 1)

    def forward(self) -> torch.Tensor:
        spectrum = Sum.apply(self.v[0], self.z, self.w[0])
        return torch.fft.irfft(spectrum, n=self.length) + Powers.apply(
            self.v[1], self.w[1], self.length
        )


def model() -> torch.nn.Module:
    return Both(rows=4, modes=3, length=20)


def target(both: torch.nn.Module) -> torch.Tensor:
    return torch.cos(torch.linspace(0, 6, both.length))
