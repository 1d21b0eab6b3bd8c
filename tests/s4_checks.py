"""What the tests of both S4 generations share: sums term by term, runs of recordings, copies."""

from __future__ import annotations

import copy
import io
import pickle

import torch

from ecgcore.nn import HippoSSKernel, SSKernelNPLR, elsm
from ecgcore.testing.compare import relative_error
from support import Recorded


def plain_convolution(k0, k1, u):
    """``y_t = sum_j k0[j] u[t-j] + sum_j k1[j] u[t+1+j]``, term by term; ``k (C, H, Lk)``."""
    L = u.shape[-1]
    y = torch.zeros(u.shape[0], *k0.shape[:2], L, dtype=u.dtype)
    for t in range(L):
        for j in range(k0.shape[-1]):
            if t - j >= 0:
                y[..., t] += k0[..., j] * u[:, None, :, t - j]
            if k1 is not None and t + 1 + j < L:
                y[..., t] += k1[..., j] * u[:, None, :, t + 1 + j]
    return y


def response(Abar, state, C, length):
    """``C Abar^l state`` on the conjugate-extended state, one sample after the other."""
    out = []
    for _ in range(length):
        out.append(torch.einsum("chn,hn->ch", C, state))
        state = torch.einsum("hnm,hm->hn", Abar, state)
    samples = torch.stack(out, -1)
    assert samples.imag.abs().max() <= 1e-9 * samples.abs().max()
    return samples.real


def first_generation(r: Recorded, **switches) -> SSKernelNPLR:
    """The first generation's kernel as recorded."""
    c = r.config
    hippo = HippoSSKernel(
        c["H"],
        N=c["N"],
        L=c["L_init"],
        measure=c["measure"],
        rank=c["rank"],
        channels=c["channels"],
        hurwitz=c["hurwitz"],
        tie_state=c["tie_state"],
        trainable=True,
        odd_length="reference",
        **switches,
    )
    kernel = hippo.kernel
    kernel.load_state_dict(r.under("state"))
    return kernel


def second_generation(r: Recorded, state: str = "state", **switches) -> torch.nn.Module:
    """The second generation's kernel as recorded, S4D included."""
    c = r.config
    kernel = elsm.SSKernel(
        c["H"],
        N=c["N"],
        L=c["l_max"],
        measure=c["measure"],
        rank=c["rank"],
        channels=c["channels"],
        mode=c["mode"],
        n_ssm=c["n_ssm"],
        measure_args=c["measure_args"],
        **c["kernel_args"],
        **switches,
    ).kernel
    kernel.load_state_dict(r.under(state))
    return kernel


def run_kernel(kernel: torch.nn.Module, r: Recorded, dtype: torch.dtype):
    """``K``, ``K_state`` and gradients by the path they are recorded under."""
    kernel = kernel.to(dtype)
    state = None
    if "in/state" in r:
        state = r["in/state"].to(torch.complex128 if dtype == torch.float64 else torch.complex64)
        state.requires_grad_()
    K, K_state = kernel(state=state, rate=r.config["rate"], L=r.config["L_requested"])
    scalar = (K * r["in/cot_K"].to(dtype)).sum()
    if K_state is not None:
        scalar = scalar + (K_state * r["in/cot_K_state"].to(dtype)).sum()
    scalar.backward()
    grads = {f"state/{k}": p.grad for k, p in kernel.named_parameters()}
    if state is not None:
        grads["in/state"] = state.grad
    return K.detach(), K_state, grads


def check_kernel_grads(grads: dict, r: Recorded, key: str, limit: float, limit_C: float) -> None:
    wanted = r.under(key)
    assert wanted
    for path, expected in wanted.items():
        error = relative_error(grads[path], expected)
        assert error <= (limit_C if path == "state/C" else limit), (path, error)


def run_layer(module: torch.nn.Module, r: Recorded, dtype: torch.dtype, *rest):
    """The output, of a tuple the first, and gradients by the path they are recorded under."""
    module.to(dtype).eval()
    x = r["in/x"].to(dtype).requires_grad_()
    y = module(x, *rest)
    y = y[0] if isinstance(y, tuple) else y
    (y * r["in/cot"].to(dtype)).sum().backward()
    grads = {f"state/{k}": p.grad for k, p in module.named_parameters()} | {"in/x": x.grad}
    return y.detach(), grads


def check_layer_grads(grads: dict, r: Recorded, key: str, limit: float) -> None:
    wanted = r.under(key)
    assert set(wanted) == set(grads)
    for path, expected in wanted.items():
        a, b = grads[path].double(), expected.double()
        error = float(((a - b).norm() / b.norm()).item())
        assert error <= limit, (path, error)


def copies(module: torch.nn.Module) -> list[torch.nn.Module]:
    """By ``deepcopy``, ``pickle`` and ``torch.save``."""
    stored = io.BytesIO()
    torch.save(module, stored)
    stored.seek(0)
    return [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(stored, weights_only=False),
    ]


def check_compiled(module: torch.nn.Module, x: torch.Tensor) -> None:
    """``torch.compile(fullgraph=True)`` gives outputs, gradients and state of the module itself."""
    plain = copy.deepcopy(module)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        y = compiled(x)
        assert relative_error(y, plain(x)) <= 1e-6
    y.square().sum().backward()
    plain(x).square().sum().backward()
    for (name, a), b in zip(module.named_parameters(), plain.parameters(), strict=True):
        assert relative_error(a.grad, b.grad) <= 1e-5, name
    with torch.no_grad():
        assert relative_error(compiled.eval()(x), plain.eval()(x)) <= 1e-6
    for key, value in plain.state_dict().items():
        assert relative_error(module.state_dict()[key], value) <= 1e-5, key
