"""fastrnn.torch under everything that records a call: its record is run on other inputs."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import tiers
from builds import run

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence  # noqa: E402

import fastrnn.torch as ft  # noqa: E402

# torch's warnings of itself: TorchScript is deprecated, and its tracer warns of torch's own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

LAYERS = ["RNN", "LSTM", "GRU"]
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.5},
    "nobias": {"bias": False},
}
leaves = torch.utils._pytree.tree_leaves


class Ragged(nn.Module):
    """A layer that is given `lengths`, or `resets`."""

    def __init__(self, rnn: Any, option: str = "lengths") -> None:
        super().__init__()
        self.rnn, self.option = rnn, option

    def forward(self, x: Any, given: Any) -> Any:
        return tuple(leaves(self.rnn(x, **{self.option: given})))


class Model(nn.Module):
    """A layer between others, with or without states as inputs."""

    def __init__(self, rnn: Any) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Any, *states: Any) -> Any:
        hx = (states if len(states) == 2 else states[0]) if states else None
        return tuple(leaves(self.rnn(x * 2, hx)))


def example(name: str, option: str = "plain") -> tuple[Any, Callable[[int, int], Any]]:
    """An accelerated model, and inputs with states for any T and B."""
    torch.manual_seed(4)
    layer = getattr(nn, name)(3, 4, **OPTIONS[option])
    model = Model(layer).eval()
    ft.accelerate(model)

    def inputs(T: int, B: int) -> Any:
        if name in CELLS:
            return torch.randn(B, 3), *(torch.randn(B, 4) for _ in range(1 + ("LSTM" in name)))
        x = torch.randn(*((B, T) if layer.batch_first else (T, B)), 3)
        passes = layer.num_layers * (2 if layer.bidirectional else 1)
        return x, *(torch.randn(passes, B, 4) for _ in range(1 + ("LSTM" in name)))

    return model, inputs


def close(a: Any, b: Any) -> None:
    for x, y in zip(leaves(a), leaves(b), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


MODES = ["grad", "no_grad", "frozen"]


def in_mode(mode: str, model: Any) -> Any:
    if mode == "frozen" and hasattr(model.rnn, "freeze"):
        model.rnn.freeze()
    return torch.enable_grad() if mode == "grad" else torch.no_grad()


# ---- torch.jit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "option"), [(n, o) for n in LAYERS for o in OPTIONS] + [(n, "plain") for n in CELLS]
)
def test_jit_trace(name: str, option: str, mode: str) -> None:
    """Of torch's operators alone, for other numbers, steps and rows; with states and without."""
    model, inputs = example(name, option)
    # What optimises TorchScript takes seconds over a deep layer.
    with in_mode(mode, model), torch.jit.optimized_execution(False):
        for count in (1, len(inputs(1, 1))):
            traced = torch.jit.trace(model, inputs(5, 2)[:count], check_trace=False)
            kinds = {node.kind() for node in traced.inlined_graph.nodes()}
            assert not any("fastrnn" in kind or "Python" in kind for kind in kinds)
            for T, B in ((5, 2), (7, 3)):
                x = inputs(T, B)[:count]
                close(traced(*x), model(*x))


def test_a_trace_runs_without_fastrnn(tmp_path: Any) -> None:
    model, inputs = example("GRU")
    with torch.no_grad():
        (x, *_) = inputs(6, 3)
        torch.jit.save(torch.jit.trace(model, (inputs(5, 2)[0],)), str(tmp_path / "traced.pt"))
        torch.save((x, model(x)), tmp_path / "expected.pt")
    code = """
import sys, torch
traced = torch.jit.load(sys.argv[1] + "/traced.pt")
x, expected = torch.load(sys.argv[1] + "/expected.pt")
torch._C._set_graph_executor_optimize(False)
for a, b in zip(traced(x), expected, strict=True):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
assert not any(name.startswith("fastrnn") for name in sys.modules)
"""
    run([sys.executable, "-c", code, str(tmp_path)])


@pytest.mark.parametrize("name", LAYERS)
def test_jit_trace_of_a_packed_sequence(name: str) -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(ft, name)(3, 4, bidirectional=True)

        def forward(self, x: Any, lengths: Any) -> Any:
            y, state = self.rnn(pack_padded_sequence(x, lengths))
            return pad_packed_sequence(y)[0], *leaves(state)

    model = Packed()
    with torch.no_grad():
        traced = torch.jit.trace(model, (torch.randn(5, 3, 3), torch.tensor([5, 4, 1])))
        for x, lengths in (
            (torch.randn(5, 3, 3), torch.tensor([5, 2, 2])),
            (torch.randn(7, 2, 3), torch.tensor([7, 3])),
        ):
            close(traced(x, lengths), model(x, lengths))


def test_what_torch_has_not_is_refused_in_a_trace() -> None:
    x = torch.randn(5, 2, 3)
    for given, text in (
        ({"lengths": torch.tensor([5, 2])}, "got lengths: give a PackedSequence"),
        ({"resets": torch.zeros(5, 2, dtype=torch.bool)}, "got resets: .*recorded_as"),
        ({"recurrent_masks": torch.ones(1, 2, 4)}, "got recurrent_masks: .*recorded_as"),
        ({"return_cells": True}, "got return_cells"),
    ):
        layer = ft.LSTM(3, 4)

        def call(x: Any, layer: Any = layer, given: Any = given) -> Any:
            return leaves(layer(x, **given))

        with torch.no_grad(), pytest.raises(RuntimeError, match=rf"\[lstm\] .*{text}"):
            torch.jit.trace(call, x)


def test_jit_trace_of_a_layer_that_recomputes() -> None:
    layer = ft.GRU(3, 4, recompute=True)
    traced = torch.jit.trace(layer, torch.randn(5, 2, 3))
    x = torch.randn(6, 1, 3)
    close(traced(x), layer(x))


@pytest.mark.parametrize("mode", MODES)
def test_fastrnns_operators_in_a_trace_where_asked(mode: str) -> None:
    model = Ragged(ft.LSTM(3, 4, bidirectional=True, batch_first=True))
    with in_mode(mode, model):
        with ft.recorded_as("fastrnn"):
            traced = torch.jit.trace(model, (torch.randn(3, 5, 3), torch.tensor([5, 0, 3])))
        kinds = Counter(node.kind() for node in traced.inlined_graph.nodes())
        assert kinds["fastrnn::layer"] == 1
        assert not kinds["aten::lstm"]
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        x, lengths = torch.randn(2, 7, 3), torch.tensor([2, 7])
        loaded = torch.jit.load(file)
        close(loaded(x, lengths), model(x, lengths))
        if mode == "grad":
            for each in (loaded, model):
                each(x, lengths)[0].square().sum().backward()
            close([p.grad for p in loaded.parameters()], [p.grad for p in model.parameters()])
    with pytest.raises(ValueError, match=r"\[recorded_as\] operators must be .* got 'onnx'"):
        ft.recorded_as("onnx").__enter__()


def test_torchs_operators_in_an_export_where_asked() -> None:
    layer = ft.GRU(3, 4)
    with ft.recorded_as("torch"):
        for strict in (False, True):
            program = torch.export.export(layer, (torch.randn(5, 2, 3),), strict=strict)
            names = {str(node.target) for node in program.graph.nodes}
            assert not any("fastrnn" in name for name in names)
            x = torch.randn(5, 2, 3)
            close(program.module()(x), layer(x))


@pytest.mark.parametrize("name", ["LSTM", "GRUCell"])
def test_torchscript_names_the_way_out(name: str) -> None:
    model = nn.Sequential(getattr(nn, name)(3, 4))
    ft.accelerate(model)
    ours = model[0]
    with pytest.raises(RuntimeError, match=r"call fastrnn.torch.restore\(model\) before torch.jit"):
        torch.jit.script(model)
    assert model[0] is ours
    ft.restore(model)
    torch.jit.script(model)


# ---- ONNX ----------------------------------------------------------------------------------------


def exported(model: Any, args: Any, **options: Any) -> tuple[Counter[str], Callable[..., Any]]:
    """How often the file has each node, and what runs it."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    if options["dynamo"]:
        pytest.importorskip("onnxscript")
    file = io.BytesIO()
    names = [f"input{k}" for k in range(len(args))]
    with torch.no_grad():
        torch.onnx.export(model, args, file, input_names=names, verbose=False, **options)
    session = runtime.InferenceSession(file.getvalue())
    assert [i.name for i in session.get_inputs()] == names

    def call(*args: Any) -> Any:
        given = {name: a.numpy() for name, a in zip(names, args, strict=True)}
        return [torch.from_numpy(r) for r in session.run(None, given)]

    graph = onnx.load_from_string(file.getvalue()).graph
    return Counter(node.op_type for node in graph.node), call


TO_ONNX = [(n, o, False) for n in LAYERS for o in OPTIONS] + [(n, "plain", False) for n in CELLS]
TO_ONNX += [(n, "plain", True) for n in (*LAYERS, "LSTMCell")]
TO_ONNX += [("LSTM", "deep", True), ("GRU", "nobias", True)]


@pytest.mark.parametrize(
    ("name", "option", "dynamo"),
    tiers.thin(TO_ONNX, [case for case in TO_ONNX if case[0] == "GRU"]),
)
def test_onnx(name: str, option: str, dynamo: bool) -> None:
    """The standard node, one for each layer, that ONNX Runtime runs for other steps and rows."""
    model, inputs = example(name, option)
    args = inputs(5, 2)
    args = args if option == "plain" else args[:1]
    if hasattr(model.rnn, "freeze") and option == "deep":
        model.rnn.freeze()
    axes = [{0: "a", 1: "b"}] + [{1: "b"}] * (len(args) - 1)
    varies = name in LAYERS and option != "deep"
    how: dict[str, Any] = {"dynamo": dynamo}
    if varies and dynamo:
        D = torch.export.Dim.DYNAMIC
        how["dynamic_shapes"] = {"x": {0: D, 1: D}}
        if len(args) > 1:
            how["dynamic_shapes"]["states"] = tuple({1: D} for _ in args[1:])
    elif varies:
        how["dynamic_axes"] = {f"input{k}": a for k, a in enumerate(axes)}
    nodes, session = exported(model, args, **how)
    if name in LAYERS:
        assert nodes[name] == model.rnn.num_layers
        assert not {"Loop", "Scan", "MatMul", "Gemm", "Sigmoid", "Tanh"} & nodes.keys()
    for T, B in ((5, 2), (9, 4)) if varies else ((5, 2),):
        args = inputs(T, B)[: len(args)]
        with torch.no_grad():
            close(session(*args), model(*args))


@pytest.mark.parametrize("name", ["RNN", "LSTM"])
def test_onnx_with_lengths(name: str) -> None:
    model = Ragged(getattr(ft, name)(3, 4, bidirectional=True, batch_first=True))
    _, session = exported(model, (torch.randn(3, 5, 3), torch.tensor([5, 1, 3])), dynamo=True)
    x, lengths = torch.randn(3, 5, 3), torch.tensor([2, 5, 4])
    with torch.no_grad():
        close(session(x, lengths), model(x, lengths))


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_of_one_sequence_and_of_a_relu(dynamo: bool) -> None:
    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = ft.RNN(3, 4, nonlinearity="relu", batch_first=True)

        def forward(self, x: Any, h: Any) -> Any:
            return self.rnn(x, h)

    model = Alone()
    nodes, session = exported(model, (torch.randn(5, 3), torch.randn(1, 4)), dynamo=dynamo)
    assert nodes["RNN"] == 1
    x, h = torch.randn(5, 3), torch.randn(1, 4)
    with torch.no_grad():
        close(session(x, h), model(x, h))


def test_onnx_of_a_packed_sequence() -> None:
    """By the exporter that torch has for it."""

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = ft.GRU(3, 4, batch_first=True)

        def forward(self, x: Any, lengths: Any) -> Any:
            y, state = self.rnn(pack_padded_sequence(x, lengths, batch_first=True))
            return pad_packed_sequence(y, batch_first=True)[0], state

    model = Packed()
    nodes, session = exported(model, (torch.randn(3, 5, 3), torch.tensor([5, 4, 1])), dynamo=False)
    assert nodes["GRU"] == 1
    x, lengths = torch.randn(3, 5, 3), torch.tensor([5, 3, 3])
    with torch.no_grad():
        close(session(x, lengths), model(x, lengths))


def test_bad_shapes_in_an_export_to_onnx() -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(Exception, match=r"size|dimension"):
        torch.onnx.export(ft.GRU(3, 4), (torch.randn(5, 2, 7),), dynamo=True, verbose=False)
    model = Ragged(ft.GRU(3, 4), "resets")
    with pytest.raises(Exception, match=r"\[gru\] .*got resets"):
        exported(model, (torch.randn(5, 2, 3), torch.zeros(5, 2, dtype=torch.bool)), dynamo=True)


# ---- FX, make_fx, modes --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_fx_takes_layers_as_leaves(name: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
            self.rnn = getattr(nn, name)(3, 4)

        def forward(self, x: Any, h: Any) -> Any:
            first = self.rnn(self.body(x))
            again = self.rnn(torch.zeros(2, 3) if "Cell" in name else torch.zeros(5, 2, 3), hx=h)
            return first, again

    model = Two()
    ft.accelerate(model)
    graph = torch.fx.symbolic_trace(model)
    targets = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert targets.count("rnn") == 2
    assert type(graph.rnn) is type(model.rnn)
    shape = (2,) if "Cell" in name else (1, 2)
    state = torch.randn(*shape, 4)
    state = (state, state) if "LSTM" in name else state
    for T in (5, 8):
        x = torch.randn(2, 3) if "Cell" in name else torch.randn(T, 2, 3)
        close(graph(x, state), model(x, state))


def test_prepare_fx_keeps_layers_as_they_are() -> None:
    from torch.ao.quantization import default_qconfig, get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            y, _ = self.rnn(x)
            return self.head(y[-1])

    results = []
    for swap in (False, True):
        torch.manual_seed(0)
        model = Net().eval()
        if swap:
            ft.accelerate(model)
        mapping = get_default_qconfig_mapping().set_object_type(nn.GRU, default_qconfig)
        x = torch.randn(5, 2, 3)
        with torch.no_grad():
            prepared = prepare_fx(model, mapping.set_object_type(nn.GRU, None), (x,))
            prepared(x)
            converted = convert_fx(prepared)
            results.append(converted(x))
        assert type(converted.rnn) is (ft.GRU if swap else nn.GRU)
    torch.testing.assert_close(*results, rtol=0.05, atol=0.05)


def test_what_fx_cannot_take_names_the_way_out() -> None:
    hooked = nn.Sequential(ft.LSTM(3, 4))
    hooked[0].register_forward_hook(lambda *_: None)
    wrapped = nn.Sequential(ft.LSTM(3, 4))
    forward = wrapped[0].forward
    wrapped[0].forward = lambda *args: forward(*args)
    for model in (hooked, wrapped, ft.LSTM(3, 4)):
        with pytest.raises(RuntimeError, match=r"\[lstm\] .*after fastrnn.torch.restore\(model\)"):
            torch.fx.symbolic_trace(model)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("before_dispatch", [False, True])
@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_make_fx(name: str, before_dispatch: bool, mode: str) -> None:
    model, inputs = example(name)
    with in_mode(mode, model):
        graph = make_fx(lambda *args: model(*args), pre_dispatch=before_dispatch)(*inputs(5, 2))
        args = inputs(5, 2)
        close(graph(*args), model(*args))


def test_modes_that_look_at_functions_see_the_operators() -> None:
    seen = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    layer, x = ft.GRU(3, 4), torch.randn(5, 2, 3)
    with torch.no_grad(), Watch():
        layer(x)
    assert "fastrnn.layer" in seen
    seen.clear()
    with Watch():
        layer(x)
    assert "fastrnn.forward" in seen


def test_a_default_device_is_no_watcher() -> None:
    with torch.device("cpu"):
        assert not ft._tracing.is_watched()
        with torch.device("cpu"):
            pass
    assert not ft._tracing.is_watched()
