"""`fastrnn.torch` on the CUDA engine: tensors of torch's CPU build stand for those on a GPU.

The emulated device takes them for its own, and all above it is what runs on a GPU: the driver
with torch as its library, autograd, the compiler's operators, 16-bit dtypes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch as ft  # noqa: E402
from fastrnn import cuda  # noqa: E402
from fastrnn.cuda import _arrays, _driver  # noqa: E402
from fastrnn.torch import _engine  # noqa: E402
from tolerances import NARROW_GRADIENT, NARROW_OUTPUT, NARROW_ROUNDING  # noqa: E402

CLASSES = ("RNN", "LSTM", "GRU")


@pytest.fixture(autouse=True)
def gpu(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """torch's CPU tensors are on the emulated GPU; yields the products that torch made."""
    made: list[str] = []

    class Torch(_arrays._Torch):
        def index(self, array: Any) -> int:
            return 0

        def stream(self, array: Any) -> int:
            made.append("stream")
            return 0

        def quiet(self) -> contextlib.AbstractContextManager[Any]:
            return torch.no_grad()

    library = Torch()
    monkeypatch.setattr(_arrays, "is_device_array", lambda a: isinstance(a, torch.Tensor))
    monkeypatch.setattr(_arrays, "library_of", lambda op, array: library)
    monkeypatch.setattr(_engine, "for_device", lambda call, device: _driver)
    monkeypatch.setattr(_engine, "computes", lambda dtype, device: True)
    emulated.take_host_arrays(True)
    torch.manual_seed(0)
    yield made
    emulated.take_host_arrays(False)


def pair(name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    theirs = getattr(torch.nn, name)(*args, **options)
    ours = getattr(ft, name)(*args, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def flat(results: Any) -> list[Any]:
    y, state = results
    return [y, *(state if isinstance(state, tuple) else (state,))]


def step(layer: Any, x: Any, hx: Any) -> list[Any]:
    """Results, and gradients of everything."""
    inputs = [x, *(hx if isinstance(hx, tuple) else () if hx is None else (hx,))]
    results = flat(layer(x, hx))
    loss = sum((r.float() * (i + 1)).sin().sum() for i, r in enumerate(results))
    return [*results, *torch.autograd.grad(loss, [*inputs, *layer.parameters()])]


@pytest.mark.parametrize("mode", ["grid", "stepwise"])
@pytest.mark.parametrize("name", CLASSES)
def test_numbers_and_gradients_are_torchs(name: str, mode: str, gpu: list[str]) -> None:
    for options in (
        {},
        {"bidirectional": True, "num_layers": 2, "batch_first": True},
        {"bias": False},
    ):
        ours, theirs = pair(name, 4, 7, **options)
        D, L = 1 + options.get("bidirectional", 0), options.get("num_layers", 1)
        x = torch.randn(3, 5, 4, requires_grad=True)
        B = 3 if options.get("batch_first") else 5
        states = tuple(torch.randn(D * L, B, 7, requires_grad=True) for _ in range(2))
        hx = states if name == "LSTM" else states[0]
        for given in (hx, None):
            with cuda.mode(mode):
                got = step(ours, x, given)
            for a, b in zip(got, step(theirs, x, given), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert gpu, "the driver must have run"


def test_unbatched_double_and_reset(gpu: list[str]) -> None:
    ours, theirs = pair("LSTM", 4, 5, bidirectional=True)
    x = torch.randn(6, 4)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    ours, theirs = ours.double(), theirs.double()
    for a, b in zip(step(ours, *doubles()), step(theirs, *doubles()), strict=True):
        torch.testing.assert_close(a, b)
    resets = torch.zeros(6, 2, dtype=torch.bool)
    resets[3] = True
    layer = ft.GRU(4, 5)
    x = torch.randn(6, 2, 4)
    y, _ = layer(x, resets=resets)
    torch.testing.assert_close(y[3:], layer(x[3:])[0])


def doubles() -> tuple[Any, Any]:
    torch.manual_seed(1)
    return torch.randn(4, 3, 4, dtype=torch.float64, requires_grad=True), None


def test_packed_sequences_and_lengths(gpu: list[str]) -> None:
    ours, theirs = pair("GRU", 4, 6, bidirectional=True)
    x, lengths = torch.randn(7, 3, 4), torch.tensor([2, 7, 4])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    (y, hn), (y2, hn2) = ours(packed), theirs(packed)
    torch.testing.assert_close(y.data, y2.data)
    torch.testing.assert_close(hn, hn2)
    torch.testing.assert_close(ours(x, lengths=lengths)[1], hn2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", CLASSES)
def test_narrow_dtypes(name: str, dtype: str, gpu: list[str]) -> None:
    """In that dtype, against torch's layer in float64 on the same rounded numbers."""
    kind = getattr(torch, dtype)
    ours, theirs = pair(name, 4, 6, 2, bidirectional=True)
    ours, theirs = ours.to(kind), theirs.to(kind).double()
    x = torch.randn(5, 3, 4).to(kind).requires_grad_()
    wide = x.detach().double().requires_grad_()
    got, wanted = step(ours, x, None), step(theirs, wide, None)
    results = 3 if name == "LSTM" else 2
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert a.dtype == kind
        bound = (NARROW_OUTPUT if i < results else NARROW_GRADIENT) * NARROW_ROUNDING[dtype]
        # torch's cn has the dtype of hn: one rounding more than the engine's.
        error = (a.double() - b).abs().max() / max(1.0, b.abs().max())
        assert error <= bound, (i, float(error))


def test_autocast(gpu: list[str]) -> None:
    for name in CLASSES:
        layer = getattr(ft, name)(4, 6)
        x = torch.randn(5, 3, 4, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, _ = layer(x)
        assert y.dtype == (torch.float32 if name == "GRU" else torch.bfloat16)
        (dx,) = torch.autograd.grad(y.float().sum(), x)
        assert dx.dtype == torch.float32


def test_gradients_of_second_order(gpu: list[str]) -> None:
    layer = ft.LSTM(3, 4).double()
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], (x,))
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))
    half = ft.LSTM(3, 4).bfloat16()
    x16 = x.detach().bfloat16().requires_grad_()
    (dx,) = torch.autograd.grad(half(x16)[0].sum(), x16, create_graph=True)
    (ddx,) = torch.autograd.grad(dx.float().square().sum(), x16)
    assert ddx.dtype == torch.bfloat16
    assert torch.isfinite(ddx).all()


def test_compile_and_the_operators(gpu: list[str]) -> None:
    """One graph, whose fake tensors have the shapes and dtypes of the engine's."""
    for dtype in (torch.float32, torch.bfloat16):
        layer = ft.LSTM(3, 4, 2, bidirectional=True).to(dtype)
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        x = torch.randn(5, 2, 3, dtype=dtype, requires_grad=True)
        for a, b in zip(step_of(compiled, layer, x), step(layer, x, None), strict=True):
            torch.testing.assert_close(a, b)
        call = layer._call()
        inputs = (x.detach(), None, None, [], [], [p.detach() for p in layer.parameters()])
        options = (call.cell, call.layers, call.directions, False, 2, False)
        results = torch.ops.fastrnn.forward(*inputs, *options)
        for name in ("layer", "forward"):
            torch.library.opcheck(getattr(torch.ops.fastrnn, name).default, (*inputs, *options))
        assert [r.dtype for r in results[:3]] == [dtype, dtype, torch.float32]


def step_of(compiled: Any, layer: Any, x: Any) -> list[Any]:
    results = flat(compiled(x))
    loss = sum((r.float() * (i + 1)).sin().sum() for i, r in enumerate(results))
    return [*results, *torch.autograd.grad(loss, [x, *layer.parameters()])]


def test_frozen_layers_keep_what_they_were(gpu: list[str]) -> None:
    layer, x = ft.GRU(3, 4), torch.randn(5, 2, 3)
    with torch.no_grad():
        before = layer(x)[0]
        layer.freeze()
        layer.weight_hh_l0.zero_()
        assert torch.equal(layer(x)[0], before)
        layer.unfreeze()
        assert not torch.equal(layer(x)[0], before)


def test_cells_and_recompute(gpu: list[str]) -> None:
    for name in ("LSTMCell", "GRUCell", "RNNCell"):
        ours, theirs = pair(name, 3, 4)
        x = torch.randn(2, 3)
        a, b = ours(x), theirs(x)
        for one, other in zip(
            a if isinstance(a, tuple) else (a,), b if isinstance(b, tuple) else (b,), strict=True
        ):
            torch.testing.assert_close(one, other)
    whole, again = ft.LSTM(3, 4), ft.LSTM(3, 4, recompute=3)
    again.load_state_dict(whole.state_dict())
    x = torch.randn(7, 2, 3, requires_grad=True)
    for a, b in zip(step(whole, x, None), step(again, x, None), strict=True):
        assert torch.equal(a, b)


def test_states_of_every_step(gpu: list[str]) -> None:
    ours = ft.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    y, (hn, cn), cells = ours(x, return_cells=True)
    torch.testing.assert_close(cells[0, -1], cn[0])
    assert y.shape == (5, 2, 4)
    assert hn.shape == (1, 2, 4)


def test_errors_have_torchs_classes(gpu: list[str]) -> None:
    layer = ft.GRU(3, 4)
    with pytest.raises(RuntimeError, match=r"\[gru\] x must have 3 features"):
        layer(torch.randn(5, 2, 4))
    with pytest.raises(ValueError, match=r"\[gru\] x must have shape \(T, B, I\)"):
        layer(torch.randn(3))
    with pytest.raises(ValueError, match=r"\[gru\] x must be float32"):
        layer(torch.randn(5, 2, 3).double())
    layer(torch.randn(5, 2, 3), lengths=torch.tensor([5, 9]))
    with pytest.raises(RuntimeError, match=r"\[gru\] lengths must be within 0..T, got 9 for row 1"):
        layer(torch.randn(5, 2, 3))
