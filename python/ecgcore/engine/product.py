"""Linear maps on rows of features, by the fastest matrix product for device and precision."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ecgcore import ops
from ecgcore.engine.workspace import Workspace


def frozen(value: Tensor) -> Tensor:
    """A copy of its own: what is compiled does not change with the model."""
    return value.detach().clone()


class Product(ABC):
    """``out (+)= act(x W^T + b)`` on ``x (B, L, K)``, ``out (B, L, N)``.

    The rows of ``x`` may overlap: a convolution of width 3 is a product with neighbouring rows of a
    padded signal, ``K`` three times its channels.
    """

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
    """By torch: cuBLAS on a GPU, and oneDNN on a CPU that multiplies tiles of bfloat16.

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


def make_product(weight: Tensor, bias: Tensor | None, precision: str) -> Product:
    """Of ``weight (N, K)`` and ``bias (N,)``, which are copied and whose dtype is that of
    ``precision="fp32"``."""
    weight, bias = frozen(weight), None if bias is None else frozen(bias)
    dtype = torch.bfloat16 if precision == "bf16" else weight.dtype
    own = weight.device.type == "cpu" and not (precision == "bf16" and multiplies_tiles())
    return (PackedProduct if own else TorchProduct)(weight, bias, dtype)


def multiplies_tiles() -> bool:
    """Whether the CPU has AMX, whose products of bfloat16 no vectors keep up with: oneDNN knows
    them, ``packed_linear`` does not."""
    return bool(torch.cpu._is_amx_tile_supported())
