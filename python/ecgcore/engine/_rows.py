"""Stand-ins in plain torch for the native ops on rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgcore import ops


def pack_linear(weight: Tensor) -> Tensor:
    return weight.contiguous().clone().reshape(-1)


def packed_linear(x, packed, out, *, features, bias=None, shift=None, relu=False, accumulate=False):
    y = F.linear(x, packed.view(features, -1), bias)
    if shift is not None:
        y = y + shift[:, None]
    if accumulate:
        y = y + out
    out.copy_(F.relu(y) if relu else y)


def add_layer_norm(
    y,
    out,
    *,
    residual=None,
    weight=None,
    bias=None,
    shift=None,
    eps=1e-5,
    gate=False,
    scale=1.0,
    accumulate=False,
):
    n = y if residual is None else y + residual
    if eps is not None:
        n = F.layer_norm(n, n.shape[-1:], weight, bias, eps)
    if shift is not None:
        n = n + shift[:, None]
    if gate:
        value, g = n.chunk(2, -1)
        n = torch.tanh(value) * torch.sigmoid(g)
    n = scale * n
    out.copy_(out + n if accumulate else n)


def residual_update(rs, x, skip, *, padded=None, step=None, first=False):
    R = x.shape[-1]
    x.copy_((x + rs[..., :R]) * math.sqrt(0.5))
    skip.copy_(rs[..., R:] if first else skip + rs[..., R:])
    if padded is not None:
        padded[:, 1:-1] = x if step is None else x + step[:, None]


def s4_conv_table(spectrum, D):
    return spectrum, D


def s4_conv_rows(u, table, out, *, gelu):
    spectrum, D = table
    y = ops.s4_conv(u.transpose(1, 2), spectrum, D, activation="gelu" if gelu else None)
    out.copy_(y.flatten(1, 2).transpose(1, 2))


def local_attention_into(q, k, v, out, block_length, *, bias=None):
    y = ops.local_attention(q, k, v, block_length, bias=bias)
    out.copy_(y.permute(0, 2, 1, 3).flatten(2))
