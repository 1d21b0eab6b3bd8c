"""The recurrent mode: every form against recordings, against the convolution, and its set-up."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

from ecgcore.nn import S4, HippoSSKernel, S4Layer
from ecgcore.nn.recurrence import DenseRecurrence
from ecgcore.testing.compare import relative_error
from recurrent import MODES, convolved, having, run
from s4_checks import first_generation
from support import recorded


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("name", having("in/u_steps", "s4nplr__*"))
def test_first_generation_as_recorded(name, dtype, mode):
    r = recorded(name)
    kernel = first_generation(r, exact_nodes=True).to(dtype)
    u = r["in/u_steps"].to(dtype)
    kernel.setup_step(mode)
    state = kernel.default_state(len(u))
    assert not state.any()
    y, state = run(kernel, u, state)
    # The diagonal mode is as good as its eigenvectors, whatever the precision.
    limit = 1e-10 if dtype == torch.float64 and mode != "diagonal" else 1e-5
    assert y.dtype == dtype
    assert relative_error(y, r["out64/conv_y"]) <= limit
    for key in {f"step_{mode}", "step_dense"}:
        if f"out64/{key}_y" in r:
            assert relative_error(y, r[f"out64/{key}_y"]) <= limit
            assert relative_error(y, r[f"out/{key}_y"]) <= 1e-4
    if mode == "dense":
        assert relative_error(state, r["out64/step_dense_state"]) <= limit
    elif mode == "linear":
        assert relative_error(state, r["out64/step_dense_state"][..., : kernel.N]) <= limit


@pytest.mark.parametrize("name", having("out/step_dense_dA", "s4nplr__*"))
def test_dense_matrices_as_recorded(name):
    r = recorded(name)
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        dense = first_generation(r, exact_nodes=True).to(dtype).make_recurrence("dense")
        assert isinstance(dense, DenseRecurrence)
        for key in ("dA", "dB", "dC"):
            assert relative_error(getattr(dense, key), r[f"out64/step_dense_{key}"]) <= limit, key


SIGNALS = {
    "noise": lambda *shape: torch.randn(*shape),
    "constant": lambda *shape: torch.ones(*shape),
    "slow": lambda *shape: torch.sin(torch.arange(shape[-1]) / 200).expand(*shape),
}


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("mode", MODES)
def test_agrees_with_the_convolution_over_a_thousand_samples(mode, signal):
    """HiPPO-LegS of size 64 as SSSD-ECG has it. A slow signal shows what rounding adds up to."""
    kernel = HippoSSKernel(24, N=64, L=1000, channels=2, exact_nodes=True).kernel
    u = SIGNALS[signal](2, 24, 1000).contiguous()
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        kernel = kernel.to(dtype)
        kernel.setup_step(mode)
        y, _ = run(kernel, u.to(dtype), kernel.default_state(2))
        if dtype == torch.float64 and mode == "diagonal":
            limit = 1e-6  # of the eigenbasis, whose condition is 1e9
        assert relative_error(y, convolved(kernel()[0], u)) <= limit


OPTIONS = [
    {"measure": "legt", "rank": 2},
    {"measure": "fourier", "rank": 2},
    {"measure": "lagt"},
    {"measure": "random", "rank": 3},
    {"L": 37},
    {"L": 1},
    {"tie_state": True},
    {"hurwitz": True},
    {"hurwitz": True, "tie_state": True, "rank": 2, "channels": 2},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_agrees_with_the_convolution_for_every_option(options, mode):
    kernel = HippoSSKernel(**{"H": 3, "N": 8, "L": 64, "exact_nodes": True} | options).kernel
    u = torch.randn(2, 3, kernel.L)
    # The kernel in double precision: undamped modes of Fourier are 8e-5 off it in single.
    K = copy.deepcopy(kernel).double()()[0]
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        kernel = kernel.to(dtype)
        kernel.setup_step(mode)
        y, _ = run(kernel, u.to(dtype), kernel.default_state(2))
        if dtype == torch.float64 and mode == "diagonal":
            limit = 1e-7  # of the eigenbasis
        assert relative_error(y, convolved(K, u)) <= limit


def test_goes_on_beyond_the_internal_length():
    """What a longer kernel would give: length doubling and recurrence agree."""
    kernel = HippoSSKernel(3, N=16, L=50, exact_nodes=True, precision=2).kernel
    kernel.setup_step("linear")
    u = torch.randn(1, 3, 170, dtype=torch.float64)
    y, _ = run(kernel, u, kernel.default_state(1))
    assert relative_error(y, convolved(kernel(L=170)[0], u)) <= 1e-10


@pytest.mark.parametrize("T", [0, 1, 5, 63, 64, 65, 200])
def test_forward_state_is_many_steps(T):
    kernel = HippoSSKernel(3, N=8, L=64, rank=2, tie_state=True, precision=2).kernel
    kernel.setup_step("linear")
    state = torch.randn(2, 3, 4, dtype=torch.complex128)
    u = torch.randn(2, 3, T, dtype=torch.float64)
    expected = run(kernel, u, state)[1] if T else state
    found = kernel.forward_state(u, state)
    assert relative_error(found, expected) <= 1e-12
    narrow = kernel.float().forward_state(u.float(), state.to(torch.complex64))
    assert narrow.dtype == torch.complex64
    assert relative_error(narrow, expected) <= 1e-6


@pytest.mark.parametrize("mode", ["dense", "linear"])  # the third has a basis of its own
def test_steps_answer_an_initial_state(mode):
    kernel = HippoSSKernel(3, N=8, L=20, channels=2, precision=2, exact_nodes=True).kernel
    state = torch.randn(4, 3, 4, dtype=torch.complex128)
    expected = kernel(state=state)[1]  # (S, C, H, L)
    kernel.setup_step(mode)
    if mode == "dense":
        state = torch.cat([state, state.conj()], -1)
    y, _ = run(kernel, torch.zeros(4, 3, 20, dtype=torch.float64), state)
    assert relative_error(y, expected) <= 1e-10


def test_an_eigenbasis_that_is_none_is_refused():
    kernel = HippoSSKernel(2, N=4, L=16).kernel
    # A Jordan block: x0' = -x0, x1' = -x1 + x0, as real parts of two kept modes.
    with torch.no_grad():
        kernel.w.copy_(torch.tensor([[-1.0, 0.0], [-1.0, 0.0]]).expand(2, 2, 2))
        kernel.P.copy_(torch.tensor([[0.0, 0.0], [-1.0, 0.0]]).expand(1, 2, 2, 2))
        kernel.Q.copy_(torch.tensor([[0.5, 0.0], [0.0, 0.0]]).expand(1, 2, 2, 2))
    kernel.setup_step("linear")
    with pytest.raises(ValueError, match=r"mode 'diagonal' is off by .*use 'linear' or 'dense'"):
        kernel.setup_step("diagonal")


# --- layers


LAYERS = [
    {},
    {"transposed": False},
    {"channels": 2, "postact": "glu"},
    {"hyper_act": "sigmoid", "activation": "relu"},
    {"weight_norm": True, "activation": None, "transposed": False, "postact": "tanh"},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", LAYERS, ids=str)
def test_a_layer_streams_what_it_convolves(options, mode):
    layer = S4(6, d_state=8, l_max=40, exact_nodes=True, dropout=0.3, **options).eval()
    u = torch.randn(2, 6, 40)
    with torch.no_grad():
        whole = layer(u if layer.transposed else u.mT)[0]
        layer.setup_step(mode)
        y, _ = run(layer, u, layer.default_state(2))
    assert relative_error(y, whole if layer.transposed else whole.mT) <= 1e-5


def test_a_residual_layer_streams_what_it_convolves():
    layer = S4Layer(6, 40, N=8, bidirectional=False, exact_nodes=True).eval()
    x = torch.randn(40, 2, 6)
    with torch.no_grad():
        layer.setup_step("linear")
        y, _ = run(layer, x.permute(1, 2, 0), layer.default_state(2))
        assert relative_error(y.permute(2, 0, 1), layer(x)) <= 1e-5


def test_chunks_give_the_bits_of_one_go():
    layer = S4(6, d_state=8, l_max=40).eval()
    layer.setup_step("linear")
    u = torch.randn(3, 6, 30)
    with torch.no_grad():
        whole, last = run(layer, u, layer.default_state(3))
        state, pieces = layer.default_state(3), []
        for chunk in u.split([7, 1, 22], -1):
            y, state = run(layer, chunk, state)
            pieces.append(y)
    assert torch.equal(torch.cat(pieces, -1), whole)
    assert torch.equal(state, last)


def test_the_state_given_is_left_as_it_is():
    for mode in MODES:
        layer = S4(6, d_state=8, l_max=40).eval()
        layer.setup_step(mode)
        state = torch.randn_like(layer.default_state(2))
        before = state.clone()
        layer.step(torch.randn(2, 6), state)
        assert torch.equal(state, before)


@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("mode", MODES)
def test_every_batch_size(batch, mode):
    layer = S4(6, d_state=8, l_max=40, channels=2).eval()
    layer.setup_step(mode)
    state = layer.default_state(batch)
    assert state.shape == (batch, 6, 4 if mode == "linear" else 8)
    u = torch.randn(batch, 6)
    y, state = layer.step(u, state)
    assert y.shape == (batch, 6)
    for i in range(batch):
        one, _ = layer.step(u[i : i + 1], layer.default_state(1))
        assert relative_error(one, y[i : i + 1]) <= 2e-6


def test_same_bits_on_one_and_two_threads(threads):
    layer = S4(512, d_state=64, l_max=64).kernel.kernel
    layer.setup_step("linear")
    u = torch.randn(2, 512, 5)
    runs = []
    for count in (1, 2):
        threads(count)
        runs.append(run(layer, u, layer.default_state(2)))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_samples_and_states(mode):
    kernel = HippoSSKernel(2, N=4, L=8, channels=2, precision=2).kernel
    kernel.setup_step(mode)
    state = torch.randn_like(kernel.default_state(2)).requires_grad_()
    u = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u, x: run(kernel, u, x), (u, state))


# --- set-up


def ready(mode: str = "linear") -> S4:
    layer = S4(6, d_state=8, l_max=40).eval()
    layer.setup_step(mode)
    return layer


def changed_in_place(layer: S4) -> None:
    with torch.no_grad():
        layer.kernel.kernel.C.mul_(1.5)


def reloaded(layer: S4) -> None:
    layer.load_state_dict(layer.state_dict())


def assigned(layer: S4) -> None:
    layer.load_state_dict({k: v.clone() for k, v in layer.state_dict().items()}, assign=True)


def frozen_buffer(layer: S4) -> None:
    layer.kernel.kernel.w += 0.1


@pytest.mark.parametrize("change", [changed_in_place, reloaded, assigned, frozen_buffer])
def test_a_stale_setup_is_refused(change):
    layer = ready()
    state = layer.default_state(2)
    layer.step(torch.randn(2, 6), state)
    change(layer)
    with pytest.raises(RuntimeError, match=r"a parameter has changed since setup_step\(\)"):
        layer.step(torch.randn(2, 6), state)
    layer.setup_step("linear")
    layer.step(torch.randn(2, 6), state)


def test_a_longer_kernel_keeps_the_setup():
    """Doubling changes C and the nodes, not the system."""
    layer = ready()
    u = torch.randn(2, 6)
    before, _ = layer.step(u, layer.default_state(2))
    layer(torch.randn(1, 6, 50))
    assert layer.kernel.kernel.L == 80
    after, _ = layer.step(u, layer.default_state(2))
    assert torch.equal(after, before)
    changed_in_place(layer)
    layer(torch.randn(1, 6, 100))  # doubles again, but what was stale stays so
    with pytest.raises(RuntimeError, match="a parameter has changed"):
        layer.step(u, layer.default_state(2))


def test_a_single_precision_state_in_the_eigenbasis():
    kernel = ready("diagonal").kernel
    zero = kernel.default_state(2)
    assert zero.dtype == torch.complex128
    u = torch.randn(2, 6)
    y, state = kernel.step(u, zero.to(torch.complex64))
    assert state.dtype == torch.complex128
    assert torch.equal(y, kernel.step(u, zero)[0])


def through_pickle(layer: S4) -> S4:
    stream = io.BytesIO()
    torch.save(layer, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


@pytest.mark.parametrize(
    "forget",
    [
        lambda layer: layer.train(),
        lambda layer: layer.double(),
        lambda layer: layer.to("cpu", torch.float64),
        copy.deepcopy,
        lambda layer: pickle.loads(pickle.dumps(layer)),
        through_pickle,
    ],
)
def test_setup_is_forgotten(forget):
    layer = ready()
    state = layer.default_state(2)
    other = forget(layer)
    with pytest.raises(RuntimeError, match=r"SSKernelNPLR: call setup_step\(\) before the first"):
        other.step(torch.randn(2, 6), state)
    if other is not layer:  # a copy leaves the original alone
        layer.step(torch.randn(2, 6), state)


def test_setup_survives_eval_and_is_in_no_state_dict():
    layer = S4(6, d_state=8, l_max=40)
    keys = set(layer.state_dict())
    layer.setup_step()
    layer.eval()
    layer.step(torch.randn(2, 6), layer.default_state(2))
    assert set(layer.state_dict()) == keys


def test_inference_mode():
    layer = S4(6, d_state=8, l_max=40).eval()
    with torch.inference_mode():
        layer.setup_step("linear")
        y, _ = layer.step(torch.ones(1, 6), layer.default_state(1))
    again, _ = layer.step(torch.ones(1, 6), layer.default_state(1))
    assert torch.equal(y, again)


def test_bidirectional_layers_refuse():
    layer = S4(6, d_state=8, l_max=40, bidirectional=True)
    message = "S4: a bidirectional layer hears the future, it cannot step"
    state = torch.zeros(2, 6, 4, dtype=torch.complex64)
    for call in (
        lambda: layer.setup_step("linear"),
        lambda: layer.default_state(2),
        lambda: layer.step(torch.zeros(2, 6), state),
        lambda: S4Layer(6, 40).setup_step(),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_wrong_mode():
    with pytest.raises(ValueError, match="mode must be one of dense, linear, diagonal, got 'fast'"):
        S4(6, d_state=8, l_max=40).setup_step("fast")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("u", "state", "message"),
    [
        ((2, 5), (2, 6, 0), r"u must be float32 \(B, 6\), got float32 \(2, 5\)"),
        ((6,), (2, 6, 0), r"u must be float32 \(B, 6\), got float32 \(6,\)"),
        ((3, 6), (2, 6, 0), r"state must be complex.* \(3, 6, .*got complex.* \(2, 6"),
        ((2, 6), (2, 6, 1), r"state must be complex.* \(2, 6, .*\), got complex.* \(2, 6"),
    ],
)
def test_wrong_shapes(mode, u, state, message):
    kernel = ready(mode).kernel
    *sizes, extra = state
    states = kernel.default_state(1).shape[-1] + extra
    dtype = kernel.default_state(1).dtype
    with pytest.raises(ValueError, match=message):
        kernel.step(torch.zeros(u), torch.zeros(*sizes, states, dtype=dtype))


@pytest.mark.parametrize("mode", MODES)
def test_wrong_dtypes(mode):
    kernel = ready(mode).kernel
    state = kernel.default_state(2)
    with pytest.raises(ValueError, match=r"u must be float32 \(B, 6\), got float16"):
        kernel.step(torch.zeros(2, 6, dtype=torch.float16), state)
    with pytest.raises(ValueError, match=r"state must be complex.*, got float"):
        kernel.step(torch.zeros(2, 6), state.real)


@pytest.mark.parametrize(
    ("u", "state", "message"),
    [
        ((2, 6), (2, 6, 4), r"u must be real \(B, 6, T\), got torch.float32 \(2, 6\)"),
        (
            (2, 6, 3),
            (3, 6, 4),
            r"state must be complex \(2, 6, 4\), got torch.complex64 \(3, 6, 4\)",
        ),
        (
            (2, 6, 3),
            (2, 6, 8),
            r"state must be complex \(2, 6, 4\), got torch.complex64 \(2, 6, 8\)",
        ),
    ],
)
def test_errors_of_forward_state(u, state, message):
    layer = S4(6, d_state=8, l_max=40)
    with pytest.raises(ValueError, match=message):
        layer.forward_state(torch.zeros(u), torch.zeros(state, dtype=torch.complex64))


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("mode", MODES)
def test_compiles_without_a_break(mode):
    layer = ready(mode)
    step = torch.compile(layer.step, fullgraph=True, backend="aot_eager")
    u, state = torch.randn(3, 6), layer.default_state(3)
    with torch.no_grad():
        for found, expected in zip(step(u, state), layer.step(u, state), strict=True):
            assert relative_error(found, expected) <= 1e-6
