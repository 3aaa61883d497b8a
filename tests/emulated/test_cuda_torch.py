"""`fastrnn.torch` on the CUDA engine: tensors of torch's CPU build stand for those on a GPU.

The emulated device takes them for its own, and all above it is what runs on a GPU: the driver
with torch as its library, autograd, the compiler's operators, 16-bit dtypes.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")

from torch._subclasses import FakeTensorMode  # noqa: E402

import fastrnn.torch as ft  # noqa: E402
import streams  # noqa: E402
import tiers  # noqa: E402
from fastrnn import _arrays, cuda  # noqa: E402
from fastrnn.cuda import _driver  # noqa: E402
from fastrnn.torch import _autograd, _engine, _narrow, _tracing  # noqa: E402
from on_gpu import MODES  # noqa: E402
from tolerances import NARROW_GRADIENT, NARROW_OUTPUT, NARROW_ROUNDING  # noqa: E402
from torch_streams import Streams  # noqa: E402
from torch_tags import Tags  # noqa: E402

CLASSES = ("RNN", "LSTM", "GRU")


class Card(NamedTuple):
    """The GPU that there is not: the calls of its stream, and whose each tensor is."""

    streams: list[int]
    tags: Tags
    queue: streams.Queue | None = None


# With work that waits in the streams of the GPU (tests/torch_streams.py), and as it comes.
queued_too = pytest.mark.parametrize(
    "gpu", tiers.thin(["at once", "queued"], ["queued"]), indirect=True
)


@pytest.fixture(autouse=True)
def gpu(
    request: pytest.FixtureRequest, device: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Card]:
    """torch's CPU tensors are on the emulated GPU, but for those that are tagged."""
    card = Card([], Tags(device))
    stack = contextlib.ExitStack()
    computing: Callable[[], Any] = contextlib.nullcontext
    if getattr(request, "param", "at once") == "queued":
        queue = stack.enter_context(streams.queued(device, "forward"))
        card = card._replace(queue=queue)
        computing = stack.enter_context(Streams(queue, card.tags)).entered
        monkeypatch.setattr(_tracing, "_dispatch_modes", lambda: 0)  # nobody sees it on a card

    class Torch(_arrays.Torch):
        def index(self, array: Any) -> int:
            return 0

        def stream(self, array: Any) -> int:
            card.streams.append(streams.work.stream)
            return streams.work.stream

        def on_stream(self, stream: int, array: Any) -> contextlib.AbstractContextManager[Any]:
            return contextlib.nullcontext()

        def no_grad(self, array: Any) -> contextlib.AbstractContextManager[Any]:
            stack = contextlib.ExitStack()
            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.autocast("cpu", enabled=False))
            # Autograd calls the driver from where no mode is seen.
            stack.enter_context(card.tags)
            stack.enter_context(computing())
            return stack

    library = Torch()
    from_numpy = torch.from_numpy  # which no mode sees
    monkeypatch.setattr(torch, "from_numpy", lambda values: card.tags.on_host(from_numpy(values)))
    monkeypatch.setattr(_arrays, "is_device_array", card.tags.is_on_gpu)
    monkeypatch.setattr(_arrays, "gpu_library_of", lambda op, array: library)
    monkeypatch.setattr(_engine, "name_for", lambda device: "cuda")
    device.take_host_arrays(True)
    torch.manual_seed(0)
    with stack:
        yield card
    device.take_host_arrays(False)


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


@queued_too
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CLASSES)
def test_numbers_and_gradients_are_torchs(name: str, mode: str, gpu: Card) -> None:
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
    assert gpu.streams, "the driver must have run"


@queued_too
def test_unbatched_double_and_reset(gpu: Card) -> None:
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


def test_packed_sequences_and_lengths(gpu: Card) -> None:
    ours, theirs = pair("GRU", 4, 6, bidirectional=True)
    x, lengths = torch.randn(7, 3, 4), torch.tensor([2, 7, 4])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    (y, hn), (y2, hn2) = ours(packed), theirs(packed)
    torch.testing.assert_close(y.data, y2.data)
    torch.testing.assert_close(hn, hn2)
    torch.testing.assert_close(ours(x, lengths=lengths)[1], hn2)


@queued_too
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CLASSES)
def test_lengths_of_the_host_are_brought_over(name: str, mode: str, gpu: Card) -> None:
    """A `PackedSequence`, whose batch sizes the host has by torch's rules, and ``lengths=``."""
    for options in (
        {"bidirectional": True, "num_layers": 2},
        {"batch_first": True, "num_layers": 2, "dropout": 0.5},
        {},
    ):
        batch_first = options.get("batch_first", False)
        ours, theirs = pair(name, 4, 6, **options)
        ours.eval(), theirs.eval()
        ours.recompute = 0 if options else 2
        x, lengths = torch.randn(7, 3, 4), gpu.tags.on_host(torch.tensor([2, 7, 4]))
        x = x.transpose(0, 1) if batch_first else x
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first, enforce_sorted=False
        )
        gpu.tags.on_host(packed.batch_sizes)
        states = tuple(torch.randn(len(ours._all_weights), 3, 6) for _ in range(2))
        hx = states if name == "LSTM" else states[0]
        with gpu.tags, cuda.mode(mode):
            found = flat(ours(packed, hx))
            by_keyword = flat(ours(x, hx, lengths=lengths))
            ours_grads = torch.autograd.grad(found[0].data.sin().sum(), list(ours.parameters()))
            with torch.no_grad():
                ours.freeze()
                frozen = flat(ours(packed, hx))
        wanted = flat(theirs(packed, hx))
        grads = torch.autograd.grad(wanted[0].data.sin().sum(), list(theirs.parameters()))
        wanted[0], found[0], frozen[0] = (each[0].data for each in (wanted, found, frozen))
        for got, right in (
            (found, wanted),
            (frozen, wanted),
            (by_keyword[1:], wanted[1:]),
            (ours_grads, grads),
        ):
            for a, b in zip(got, right, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert gpu.tags.waits == []


@queued_too
def test_operators_take_lengths_of_the_host(gpu: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a call does that something watches."""
    layer, x = ft.GRU(4, 6), torch.randn(5, 3, 4, requires_grad=True)
    lengths = gpu.tags.on_host(torch.tensor([5, 2, 4]))

    def results() -> list[Any]:
        with gpu.tags:
            y, hn = layer(x, lengths=lengths)
            return [y, hn, *torch.autograd.grad(y.sin().sum(), [x, *layer.parameters()])]

    direct = results()
    monkeypatch.setattr(_autograd, "is_plain", lambda inputs: False)
    assert all(map(torch.equal, results(), direct))


@queued_too
def test_all_else_is_made_on_the_gpu(gpu: Card) -> None:
    """Dropout masks, states, what second derivatives need, autocast, cells of every step."""
    x, resets = torch.randn(5, 3, 4, requires_grad=True), torch.rand(5, 3) < 0.3
    lengths = gpu.tags.on_host(torch.tensor([5, 2, 4]))
    layer, cell = ft.LSTM(4, 6, 2, dropout=0.5), ft.LSTMCell(4, 6)
    with gpu.tags:
        y, _, cells = layer(x, lengths=lengths, resets=resets, return_cells=True)
        (dx,) = torch.autograd.grad(y.sum() + cells.sum(), x, create_graph=True)
        (ddw,) = torch.autograd.grad(dx.sum(), layer.weight_hh_l0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            narrow = layer(x, lengths=lengths)[0]
        h, c = cell(x[0])
        results = [y, cells, dx, ddw, narrow, *cell(x[1], (h, c))]
    assert narrow.dtype == torch.bfloat16
    assert all(map(gpu.tags.is_on_gpu, results))
    assert gpu.tags.waits == []


def test_a_mixture_of_places_is_refused_as_torch_does(gpu: Card) -> None:
    x, state = torch.randn(5, 3, 4), torch.zeros(1, 3, 6)
    resets = torch.zeros(5, 3, dtype=torch.bool)
    layer = ft.GRU(4, 6)
    rule = r"\[gru\] {} must be an array on a GPU, got one in host memory"
    for tensor in (resets, state, layer.weight_hh_l0):
        gpu.tags.on_host(tensor)
    other = ft.GRU(4, 6)
    for name, call in (
        ("resets", lambda: other(x, resets=resets)),
        ("state", lambda: other(x, state)),
        ("a parameter", lambda: layer(x)),
    ):
        with pytest.raises(RuntimeError, match=rule.format(name)):
            call()
    with pytest.raises(RuntimeError, match=r"\[gru\] lengths must be within 0..5, got 6"):
        other(x, lengths=gpu.tags.on_host(torch.tensor([5, 6, 1])))
    y, _ = other(x)  # nothing is left for the next call to raise
    with gpu.tags, pytest.raises(TypeError, match="can't convert cuda:0 device type tensor"):
        y.detach().numpy()
    with gpu.tags, pytest.raises(RuntimeError, match="Expected all tensors to be on the same dev"):
        y + torch.ones(6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", CLASSES)
def test_narrow_dtypes(name: str, dtype: str, gpu: Card) -> None:
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


def test_autocast(gpu: Card) -> None:
    for name in CLASSES:
        layer = getattr(ft, name)(4, 6)
        x = torch.randn(5, 3, 4, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, _ = layer(x)
        assert y.dtype == (torch.float32 if name == "GRU" else torch.bfloat16)
        (dx,) = torch.autograd.grad(y.float().sum(), x)
        assert dx.dtype == torch.float32


def test_gradients_of_second_order(gpu: Card) -> None:
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


def test_compile_and_the_operators(gpu: Card) -> None:
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


def test_graphs_take_lengths_of_the_host_beside_the_gpus_tensors() -> None:
    """As fake tensors see it, which know the GPU without one: results are on the GPU."""
    with FakeTensorMode(), torch.no_grad():
        x, lengths = torch.empty(5, 3, 4, device="cuda"), torch.empty(3, dtype=torch.int64)
        shapes = ((24, 4), (24, 6), (24,), (24,))
        parameters = [torch.empty(shape, device="cuda") for shape in shapes]
        for operator in (torch.ops.fastrnn.layer, torch.ops.fastrnn.forward):
            inputs = (x, lengths, None, [], [], parameters)
            results = operator(*inputs, "lstm", 1, 1, False, 0, False)
            assert {r.device.type for r in results} == {"cuda"}


def step_of(compiled: Any, layer: Any, x: Any) -> list[Any]:
    results = flat(compiled(x))
    loss = sum((r.float() * (i + 1)).sin().sum() for i, r in enumerate(results))
    return [*results, *torch.autograd.grad(loss, [x, *layer.parameters()])]


@queued_too
def test_frozen_layers_keep_what_they_were(gpu: Card) -> None:
    layer, x = ft.GRU(3, 4), torch.randn(5, 2, 3)
    with torch.no_grad():
        before = layer(x)[0]
        layer.freeze()
        layer.weight_hh_l0.data.zero_()
        assert torch.equal(layer(x)[0], before)
        layer.unfreeze()
        now = layer(x)[0]
        assert not torch.equal(now, before)
        layer.freeze()
        layer.weight_hh_l0 += 1
        assert not torch.equal(layer(x)[0], now)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", CLASSES)
def test_narrow_layers_freeze(
    name: str, dtype: str, gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the engine has kernels for a 16-bit dtype, converting keeps the layer frozen."""
    layer, x = getattr(ft, name)(3, 4), torch.randn(5, 2, 3).to(getattr(torch, dtype))
    with torch.no_grad():
        layer.freeze()
        layer.to(x.dtype)
        assert layer.is_frozen
        layer.freeze()
        expected = flat(copy.deepcopy(layer)(x))
        monkeypatch.setattr(_driver, "run_new", None)  # for weights that are not kept
        assert all(map(torch.equal, flat(layer(x)), expected))


@queued_too
def test_cells_and_recompute(gpu: Card) -> None:
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


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projections_are_the_engine_s_where_torch_has_no_such_call(gpu: Card) -> None:
    """Those of one sequence after another, of which torch makes each alone."""
    ours, theirs = pair("LSTM", 3, 6, bidirectional=True, proj_size=2)
    x = torch.randn(5, 2, 3, requires_grad=True)
    for a, b in zip(step(ours, x, None), step(theirs, x, None), strict=True):
        assert torch.equal(a, b)
    assert not gpu.streams, "torch's own kernels must have run"
    resets = torch.zeros(5, 2, dtype=torch.bool)
    resets[3] = True
    y, _ = ours(x, resets=resets)
    parts = [theirs(x[:3])[0], theirs(x[3:])[0]]
    torch.testing.assert_close(y, torch.cat(parts), rtol=1e-4, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(y.sin().sum(), [x, *ours.parameters()]),
        torch.autograd.grad(torch.cat(parts).sin().sum(), [x, *theirs.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert gpu.streams, "the driver must have run"


@queued_too
def test_states_of_every_step(gpu: Card) -> None:
    ours = ft.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    y, (hn, cn), cells = ours(x, return_cells=True)
    torch.testing.assert_close(cells[0, -1], cn[0])
    assert y.shape == (5, 2, 4)
    assert hn.shape == (1, 2, 4)


@pytest.mark.parametrize("gpu", ["queued"], indirect=True)
@pytest.mark.parametrize("ordered", [True, False])
def test_tensors_die_in_the_order_of_their_stream(ordered: bool, gpu: Card) -> None:
    """That the queue has torch's memory too: another stream that reads it must come before."""
    queue, home, other = gpu.queue, streams.AtOnce.stream, 8
    x = torch.ones(3) + 1
    queue.device.wait(other, queue.device.record(home))
    with queue.on(other):
        y = x * 2
        done = queue.device.record(other)
    if ordered:
        queue.device.wait(home, done)
    del x
    queue.wait()
    with queue.on(other):
        assert y.isnan().all() != ordered


def test_errors_have_torchs_classes(gpu: Card) -> None:
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


def test_autocast_on_a_gpu_narrows_every_layer_as_cudnn_does() -> None:
    """torch wraps cuDNN's layers for autocast, and its cells; on the CPU it leaves some alone."""
    for narrows in (True, False):
        found = _narrow._result_dtype(torch.float32, "cuda", narrows)
        assert found == torch.get_autocast_dtype("cuda")
    assert _narrow._result_dtype(torch.float32, "cpu", False) == torch.float32


def test_steps_are_replayed_from_a_graph() -> None:
    ours, theirs = pair("LSTM", 4, 7, bidirectional=True)
    engine = cuda._native.engine
    x, before = torch.randn(40, 3, 4, requires_grad=True), engine.replays()
    with cuda.mode("stepwise"):
        got = step(ours, x, None)
    assert engine.replays() - before == 2 * 2
    for a, b in zip(got, step(theirs, x, None), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_torch_is_put_on_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own stream object for the number, on the array's device, made its current one."""
    array = torch.zeros(1)
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda number, device: (number, device))
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    with _arrays.Torch().on_stream(5, array) as stream:
        assert stream == (5, array.device)


def test_products_of_16_bits_into_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU by the library's own product of that kind, elsewhere of widened factors."""
    library = _arrays.Torch()
    a, b = (torch.randn(3, 3).half() for _ in range(2))
    wanted = a.float() @ b.float()
    out = torch.empty(3, 3)
    library.multiply_wide(a, b, out, False)
    library.multiply_wide(a, b, out, True)
    torch.testing.assert_close(out, 2 * wanted)

    class OnGpu(torch.Tensor):
        is_cuda = True

    mm, dtypes = torch.mm, []

    def mm_of_a_gpu(a: Any, b: Any, *, out_dtype: Any, **out: Any) -> Any:
        dtypes.append(out_dtype)
        return mm(a.as_subclass(torch.Tensor).float(), b.float(), **out)

    monkeypatch.setattr(torch, "mm", mm_of_a_gpu)
    library.multiply_wide(a.as_subclass(OnGpu), b, out, False)
    library.multiply_wide(a.as_subclass(OnGpu), b, out, True)
    assert dtypes == [torch.float32] * 2
    torch.testing.assert_close(out, 2 * wanted)
