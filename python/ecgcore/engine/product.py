"""Linear maps on rows of features, by the fastest matrix product for device and precision."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ecgcore import _native, ops
from ecgcore.engine.workspace import Workspace


def frozen(value: Tensor) -> Tensor:
    """A copy of its own: what is compiled does not change with the model."""
    return value.detach().clone()


class Product(ABC):
    """``out (+)= act(x W^T + b)`` on ``x (B, L, K)``, ``out (B, L, N)``."""

    @abstractmethod
    def __call__(
        self,
        x: Tensor,
        out: Tensor,
        work: Workspace,
        *,
        relu: bool = False,
        accumulate: bool = False,
    ) -> None: ...


class PackedProduct(Product):
    """By :func:`ecgcore.ops.packed_linear`: on a CPU. A row's result does not depend on the rows
    beside it.

    Inputs and results are of the plan's precision; with weights in bfloat16 inputs are rounded to
    that on the way in, and the sums, which are float32, are not rounded.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.bias, self.packed = bias, ops.pack_linear(weight.to(dtype))

    def __call__(
        self,
        x: Tensor,
        out: Tensor,
        work: Workspace,
        *,
        relu: bool = False,
        accumulate: bool = False,
    ) -> None:
        ops.packed_linear(x, self.packed, out, bias=self.bias, relu=relu, accumulate=accumulate)


class TorchProduct(Product):
    """By torch: cuBLAS on a GPU.

    Inputs and results are of the plan's precision; in bfloat16 they are rounded on the way in and
    out, and the sums are float32.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight, self.bias = weight.to(dtype).t(), bias

    def __call__(
        self,
        x: Tensor,
        out: Tensor,
        work: Workspace,
        *,
        relu: bool = False,
        accumulate: bool = False,
    ) -> None:
        K, N = self.weight.shape
        if x.dtype != self.weight.dtype or not x.is_contiguous():
            gathered = work.rows("gathered", K, self.weight.dtype)
            gathered.copy_(x)
            x = gathered
        x, y = x.flatten(0, 1), out.flatten(0, 1)
        if out.dtype == self.weight.dtype and not accumulate and self.bias is not None:
            torch.addmm(self.bias, x, self.weight, out=y)
        else:
            product = work.rows("product", N, self.weight.dtype).flatten(0, 1)
            torch.mm(x, self.weight, out=product)
            # Sums of tensors of one dtype: torch makes copies to add others.
            if accumulate:
                wide = work.rows("wide", N).flatten(0, 1)
                wide.copy_(product)
                y.add_(wide)
            else:
                y.copy_(product)
            if self.bias is not None:
                y.add_(self.bias)
        if relu:
            y.relu_()


class Convolution(ABC):
    """Of width 3: ``out[:, l] = W_0 x[:, l] + W_1 x[:, l + 1] + W_2 x[:, l + 2] + b`` on ``x (B, L
    + 2, C)``, ``out (B, L, N)``."""

    @abstractmethod
    def __call__(self, x: Tensor, out: Tensor, work: Workspace) -> None: ...


class PackedConvolution(Convolution):
    """By :func:`ecgcore.ops.packed_conv`, with what :class:`PackedProduct` promises."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.bias, self.packed = bias, ops.pack_conv(weight, dtype)

    def __call__(self, x: Tensor, out: Tensor, work: Workspace) -> None:
        ops.packed_conv(x, self.packed, out, bias=self.bias)


class ProductConvolution(Convolution):
    """By a product with three neighbouring rows side by side."""

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: str) -> None:
        self.product = make_product(weight.permute(0, 2, 1).flatten(1), bias, precision)

    def __call__(self, x: Tensor, out: Tensor, work: Workspace) -> None:
        (B, rows, C), (batch, row, _) = x.shape, x.stride()
        neighbours = x.as_strided((B, rows - 2, 3 * C), (batch, row, 1))  # no copy
        self.product(neighbours, out, work)


def make_product(weight: Tensor, bias: Tensor | None, precision: str) -> Product:
    """Of ``weight (N, K)`` and ``bias (N,)``, which are copied and whose dtype is that of
    ``precision="fp32"``."""
    kind = PackedProduct if packs(weight.device) else TorchProduct
    return kind(frozen(weight), None if bias is None else frozen(bias), _dtype(weight, precision))


def make_convolution(weight: Tensor, bias: Tensor | None, precision: str) -> Convolution:
    """Of ``weight (N, C, 3)`` and ``bias (N,)``, likewise."""
    # Winograd's points spare half the products; of vectors, which tiles are far quicker than.
    in_tiles = precision == "bf16" and _native.cpu_isa() == "amx_bf16"
    if in_tiles or not packs(weight.device):
        return ProductConvolution(weight, bias, precision)
    bias = None if bias is None else frozen(bias)
    return PackedConvolution(frozen(weight), bias, _dtype(weight, precision))


def _dtype(weight: Tensor, precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else weight.dtype


def packs(device: torch.device) -> bool:
    """Whether the packed products exist there."""
    return device.type == "cpu"
