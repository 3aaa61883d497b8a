"""LSTMs of integers, DynamicQuantizeLSTM of ONNX Runtime: in, out, and what is refused.

What is exact is compared bit by bit. ONNX Runtime rounds x and h in another way, so its outputs,
which are within 1, are compared within `NEAR`. Weights that it gets are of 7 bits: the sums of 8 of
processors without VNNI end at 16 bits in it.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastrnn
import tiers
from cases import flat_state
from fastrnn import __main__ as cli

onnx = pytest.importorskip("onnx")

import fastrnn.onnx as fo  # noqa: E402
from onnx_models import F32, model_of, steps  # noqa: E402

helper, tensor = onnx.helper, onnx.numpy_helper.from_array

T, B, I, H = 5, 3, 4, 6
OP, DOMAIN = "DynamicQuantizeLSTM", "com.microsoft"
INPUTS = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
INPUTS += ["W_scale", "W_zero_point", "R_scale", "R_zero_point"]
OPSETS = [helper.make_opsetid(DOMAIN, 1)]
LENGTHS = np.array([2, 0, 5], np.int32)
NEAR = 0.02
TO_ONNX = [0, 3, 1, 2]  # i o f c, of the gates i f g o
DIRECTIONS = ["forward", "reverse", "bidirectional"]


def drawn(cell: str = "lstm", seed: int = 0, **options: Any) -> fastrnn.Quantized:
    """A layer of integers of 7 bits, that are of all signs and sizes."""
    layer = fastrnn.Quantized(cell, options.pop("inputs", I), H, **options)
    rng = np.random.default_rng(seed)
    draw = {
        "weight": lambda shape: rng.integers(-64, 65, shape).astype(np.int8),
        "scale": lambda shape: rng.uniform(0.004, 0.02, shape).astype(np.float32),
        "bias": lambda shape: rng.uniform(-0.5, 0.5, shape).astype(np.float32),
        "diag": lambda shape: rng.uniform(-0.5, 0.5, shape).astype(np.float32),
    }
    kinds = {n: "diag" if "diag" in n else n.split("_")[0] for n in layer.parameters}
    layer.load_state_dict({n: draw[kinds[n]](p.shape) for n, p in layer.parameters.items()})
    return layer


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def bits(arrays: Any) -> list[bytes]:
    return [array.tobytes() for array in arrays]


def onnx_runtime(model: Path | bytes, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return list(runtime.InferenceSession(model, options).run(None, inputs))


def assert_near(found: Any, wanted: Any) -> None:
    """By numbers that are not all so small that any would do."""
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() < NEAR
        assert np.abs(b).max() > 10 * NEAR


def weights_of(layer: fastrnn.Quantized, unsigned: bool = False) -> dict[str, np.ndarray]:
    """The inputs of a node, by another way than the library's."""
    found: dict[str, list[np.ndarray]] = {}
    parameters = layer.state_dict()
    for suffix in ("_l0", "_l0_reverse")[: 2 if layer.bidirectional else 1]:

        def gates(name: str, at: str = suffix) -> np.ndarray:
            array = parameters[name + at]
            return array.reshape(4, H, *array.shape[1:])[TO_ONNX].reshape(array.shape)

        for what, kind in (("W", "ih"), ("R", "hh")):
            found.setdefault(what, []).append(gates(f"weight_{kind}").T)
            found.setdefault(f"{what}_scale", []).append(gates(f"scale_{kind}"))
        if layer.bias:
            both = np.concatenate([gates("bias_ih"), gates("bias_hh")])
            found.setdefault("B", []).append(both)
    made = {what: np.array(each) for what, each in found.items()}
    for what in ("W", "R"):
        made[f"{what}_zero_point"] = np.zeros(made[f"{what}_scale"].shape, np.int8)
        if unsigned:
            made[what] = (made[what].astype(np.int32) + 128).astype(np.uint8)
            made[f"{what}_zero_point"] = np.full(made[f"{what}_scale"].shape, 128, np.uint8)
    return made


def per_tensor(layer: fastrnn.Quantized) -> fastrnn.Quantized:
    """With the same scale in all rows of a weight."""
    first = {n: a[:1] if "scale" in n else a for n, a in layer.state_dict().items()}
    shapes = {n: p.shape for n, p in layer.parameters.items()}
    layer.load_state_dict({n: np.broadcast_to(a, shapes[n]) for n, a in first.items()})
    return layer


def node_of(given: Any, **attributes: Any) -> Any:
    names = [name if name in given else "" for name in INPUTS]
    outputs = ["Y", "Y_h", "Y_c"]
    return helper.make_node(OP, names, outputs, "n1", domain=DOMAIN, hidden_size=H, **attributes)


def layer_of(direction: str, **options: Any) -> fastrnn.Quantized:
    return drawn(
        bidirectional=direction == "bidirectional", reverse=direction == "reverse", **options
    )


# ---- out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    ["lstm", "lstm_coupled", "lstm_peephole", "lstm(hard_sigmoid(0.2, 0.5), relu, tanh)"],
)
@pytest.mark.parametrize("L", [1, 2])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("batch_first", tiers.thin([False, True], dev=[True]))
@pytest.mark.parametrize("bias", [False, True])
def test_export(
    tmp_path: Path, cell: str, L: int, direction: str, batch_first: bool, bias: bool
) -> None:
    """ONNX Runtime's numbers are near, and the layer comes back with its very bits."""
    layer = layer_of(direction, cell=cell, num_layers=L, batch_first=batch_first, bias=bias)
    path = tmp_path / "model.onnx"
    fo.export(layer, path, stateful=True)
    made = onnx.load(path)
    onnx.checker.check_model(made, full_check=True)
    assert {(o.domain, o.version) for o in made.opset_import} == {("", 17), (DOMAIN, 1)}
    nodes = [node for node in made.graph.node if node.op_type == OP]
    assert [node.domain for node in nodes] == [DOMAIN] * L

    x = numbers(*((B, T, I) if batch_first else (T, B, I)))
    D = 2 if direction == "bidirectional" else 1
    state = numbers(L * D, B, H, seed=1), numbers(L * D, B, H, seed=2)
    y, (hn, cn) = layer(x, state)
    inputs = {"x": x, "h0": state[0], "c0": state[1]}
    assert_near(onnx_runtime(path, inputs), [y, hn, cn])
    assert bits(fo.load(path, measure=False).run(inputs)) == bits([y, hn, cn])

    back = list(fo.layers(path).values())
    assert all(type(each) is fastrnn.Quantized for each in back)
    assert [each.cell for each in back] == [layer.cell] * L
    parameters = [p for each in back for p in each.parameters.values()]
    assert [p.dtype for p in parameters] == [p.dtype for p in layer.parameters.values()]
    assert bits(parameters) == bits(layer.parameters.values())


def test_the_node_has_a_scale_of_each_row_and_zero_points_of_0(tmp_path: Path) -> None:
    layer = layer_of("bidirectional")
    fo.export(layer, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    node = next(node for node in graph.node if node.op_type == OP)
    given = dict(zip(INPUTS, node.input, strict=True))
    wanted = weights_of(layer)
    assert {what for what, name in given.items() if name in stored} == set(wanted)
    for what, array in wanted.items():
        assert stored[given[what]].dtype == array.dtype, what
        assert stored[given[what]].shape == array.shape, what
        assert stored[given[what]].tobytes() == array.tobytes(), what


def test_a_quantized_layer_is_written_as_it_is(tmp_path: Path) -> None:
    """All of its 8 bits come back; what ONNX Runtime makes of them depends on the processor."""
    layer = fastrnn.quantize(fastrnn.LSTM(I, H, seed=0))
    fo.export(layer, tmp_path / "model.onnx")
    (back,) = fo.layers(tmp_path / "model.onnx").values()
    assert np.abs(back.parameters["weight_ih_l0"].astype(int)).max() == 127
    assert bits(back.parameters.values()) == bits(layer.parameters.values())
    assert bits([back(numbers(T, B, I))[0]]) == bits([layer(numbers(T, B, I))[0]])


def test_a_stack_of_floats_and_integers(tmp_path: Path) -> None:
    below = fastrnn.GRU(I, H, bidirectional=True, seed=0)
    above = drawn(inputs=2 * H)
    fo.export([below, above], tmp_path / "model.onnx")
    x = numbers(T, B, I)
    wanted = above(below(x)[0])[0]
    assert_near(onnx_runtime(tmp_path / "model.onnx", {"x": x}), [wanted])
    assert [type(each) for each in fo.layers(tmp_path / "model.onnx").values()] == [
        fastrnn.Recurrent,
        fastrnn.Quantized,
    ]


def test_what_is_not_exported(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for cell in ("gru", "rnn_tanh"):
        with pytest.raises(
            NotImplementedError,
            match=rf"^\[export\] a quantized layer must be an LSTM, .*, got Quantized\('{cell}'",
        ):
            fo.export(fastrnn.Quantized(cell, I, H), path)
    with pytest.raises(NotImplementedError, match=r"^\[export\] proj_size must be 0"):
        fo.export(fastrnn.Quantized("lstm", I, H, proj_size=2), path)
    with pytest.raises(NotImplementedError, match=r"^\[export\] the first of two directions"):
        fo.export(fastrnn.Quantized("lstm", I, H, bidirectional=True, reverse=True), path)
    assert not path.exists()


# ---- in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("rows", [True, False], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("unsigned", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("states", [False, True])
def test_a_node_is_the_layer(
    direction: str, rows: bool, unsigned: bool, lengths: bool, states: bool
) -> None:
    """The same bits, prepared and at once; and the layer of the model is that layer."""
    layer = layer_of(direction)
    if not rows:
        per_tensor(layer)
    weights = weights_of(layer, unsigned)
    if not rows:
        last = ("W_scale", "R_scale", "W_zero_point", "R_zero_point")
        weights |= {what: weights[what][:, 0] for what in last}
    D = 2 if direction == "bidirectional" else 1
    given = {"X": numbers(T, B, I)}
    if lengths:
        given["sequence_lens"] = LENGTHS
    if states:
        given |= {"initial_h": numbers(D, B, H, seed=1), "initial_c": numbers(D, B, H, seed=2)}
    node = node_of({**weights, **given}, direction=direction)

    state = (given["initial_h"], given["initial_c"]) if states else None
    y, final = layer(given["X"], state, LENGTHS if lengths else None)
    Y = y.reshape(T, B, D, H).swapaxes(1, 2)
    wanted = bits([Y, *flat_state(final)])
    prepared = fo.prepare(node, weights)
    assert prepared.cells == ("lstm",) * D
    assert bits(prepared.run(given)) == wanted
    assert bits(fo.run_node(node, {**weights, **given})) == wanted

    (back,) = fo.layers(whole_model(node, weights, given)).values()
    assert (back.bidirectional, back.reverse) == (D == 2, direction == "reverse")
    assert bits(back.parameters.values()) == bits(layer.parameters.values())


def whole_model(node: Any, weights: Any, given: Any) -> Any:
    tensors = [tensor(array, name) for name, array in weights.items()]
    kind = helper.np_dtype_to_tensor_dtype
    inputs = {n: helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in given.items()}
    return model_of([node], tensors, inputs, ["Y", "Y_h", "Y_c"], opsets=OPSETS)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("rows", [True, False], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("unsigned", [False, True], ids=["int8", "uint8"])
def test_a_node_in_onnx_runtime(direction: str, rows: bool, unsigned: bool) -> None:
    layer = layer_of(direction)
    weights = weights_of(layer if rows else per_tensor(layer), unsigned)
    if not rows:
        last = ("W_scale", "R_scale", "W_zero_point", "R_zero_point")
        weights |= {what: weights[what][:, 0] for what in last}
    D = 2 if direction == "bidirectional" else 1
    given = {"X": numbers(T, B, I), "sequence_lens": np.array([2, 1, 5], np.int32)}
    given |= {"initial_h": numbers(D, B, H, seed=1), "initial_c": numbers(D, B, H, seed=2)}
    model = whole_model(node_of({**weights, **given}, direction=direction), weights, given)
    found = fo.load(model, measure=False).run(given)
    assert_near(onnx_runtime(model.SerializeToString(), given), found)


def test_every_integer_is_kept() -> None:
    """Of int8 and of uint8 with 128, the least, -128, among them, which `quantize` never makes."""
    layer = drawn(inputs=11)
    every = np.arange(-128, 128).astype(np.int8)
    layer.load_state_dict(layer.state_dict() | {"weight_ih_l0": np.resize(every, (4 * H, 11))})
    given = {"X": numbers(T, B, 11)}
    wanted = bits([layer(given["X"])[0]])
    for unsigned in (False, True):
        weights = weights_of(layer, unsigned)
        assert len(np.unique(weights["W"])) == 256
        model = whole_model(node_of({**weights, **given}), weights, given)
        (back,) = fo.layers(model).values()
        assert bits(back.parameters.values()) == bits(layer.parameters.values())
        assert bits([fo.load(model, measure=False)(given)["Y"]]) == wanted


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_onnx_runtime_s_tool_makes(
    tmp_path: Path, per_channel: bool, bidirectional: bool
) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    layer = fastrnn.LSTM(I, H, 2, bidirectional=bidirectional, seed=0)
    fo.export(layer, tmp_path / "floats.onnx", stateful=True)
    path = tmp_path / "integers.onnx"
    quantization.quantize_dynamic(
        tmp_path / "floats.onnx", path, per_channel=per_channel, reduce_range=True
    )
    graph = onnx.load(path).graph
    nodes = [node for node in graph.node if node.op_type == OP]
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    D = 2 if bidirectional else 1
    shape = (D, 4 * H) if per_channel else (D,)
    assert [stored[node.input[8]].shape for node in nodes] == [shape] * 2

    inputs = {"x": numbers(T, B, I), "h0": numbers(2 * D, B, H), "c0": numbers(2 * D, B, H)}
    loaded = fo.load(path, measure=False)
    assert [(n.operator, n.cells, n.reason) for n in loaded.nodes] == [(OP, ("lstm",) * D, "")] * 2
    found = loaded.run(inputs)
    assert_near(onnx_runtime(path, inputs), found)
    y, final = layer(inputs["x"], (inputs["h0"], inputs["c0"]))
    assert_near(found, [y, *flat_state(final)])

    for node, each in zip(nodes, fo.layers(path).values(), strict=True):
        given = {what: stored[n] for what, n in zip(INPUTS, node.input, strict=True) if n in stored}
        for what in ("W_scale", "R_scale"):
            given[what] = np.broadcast_to(given[what].reshape(D, -1), (D, 4 * H))
        wanted = weights_of(each)
        for what in ("W", "R", "B", "W_scale", "R_scale"):
            assert given[what].tobytes() == wanted[what].tobytes(), what


def test_weights_that_come_with_each_call() -> None:
    layer, given = drawn(), {"X": numbers(T, B, I)}
    weights = weights_of(layer)
    points = {what: a for what, a in weights.items() if "zero_point" in what}
    node = node_of({**weights, **given})
    prepared = fo.prepare(node, points)
    assert prepared.cells == ()
    found = prepared.run({**given, **{n: a for n, a in weights.items() if n not in points}})
    assert bits(found[:1]) == bits([layer(given["X"])[0][:, None]])
    for missing in points:
        known = {n: a for n, a in weights.items() if n != missing}
        with pytest.raises(
            NotImplementedError, match=rf"^\[{OP} n1\] input {missing} must be constant, got one"
        ):
            fo.prepare(node, known)


# ---- whole models --------------------------------------------------------------------------------


def test_a_model_with_nodes_around(others: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With onnx's own evaluator too, which has no such operator, and is asked by nobody else."""
    if others == "ONNX Runtime":  # it refuses a piece whose values have other types than declared
        monkeypatch.setattr("fastrnn.onnx._runners.ReferenceEvaluator", None)
    layer, X = drawn(), numbers(T, B, I)
    weights = weights_of(layer)
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["X"]),
        node_of({**weights, "X": X}),
        helper.make_node("Sin", ["Y"], ["y"]),
    ]
    tensors = [tensor(array, name) for name, array in weights.items()]
    loaded = fo.load(model_of(nodes, tensors, {"x": "TBI"}, ["y"], opsets=OPSETS), measure=False)
    assert steps(loaded) == ["Piece", "Node", "Piece"]
    wanted = np.sin(layer(X * X)[0][:, None])
    np.testing.assert_allclose(loaded({"x": X})["y"], wanted, rtol=1e-6, atol=1e-7)


def test_a_scan_is_run_by_who_has_the_operator(others: str) -> None:
    layer = drawn()
    weights = weights_of(layer)
    h, c = numbers(1, B, H, seed=1), numbers(1, B, H, seed=2)
    node = node_of({**weights, "X": 0, "initial_h": 0, "initial_c": 0})
    ends = [helper.make_node("Identity", [f"Y_{s}"], [f"{s}_next"]) for s in "hc"]
    body = helper.make_graph(
        [node, *ends],
        "body",
        [helper.make_tensor_value_info(n, F32, None) for n in ("initial_h", "initial_c", "X")],
        [helper.make_tensor_value_info(n, F32, None) for n in ("h_next", "c_next", "Y")],
    )
    scan = helper.make_node(
        "Scan", ["h", "c", "xs"], ["hn", "cn", "y"], body=body, num_scan_inputs=1
    )
    tensors = [tensor(array, name) for name, array in weights.items()]
    inputs = {"h": [1, B, H], "c": [1, B, H], "xs": [2, T, B, I]}
    loaded = fo.load(model_of([scan], tensors, inputs, ["y", "hn", "cn"], opsets=OPSETS))
    assert loaded.nodes[0].reason == "inside a Scan"
    xs = numbers(2, T, B, I)
    found = loaded.run({"h": h, "c": c, "xs": xs})
    first, state = layer(xs[0], (h, c))
    second, (hn, cn) = layer(xs[1], state)
    wanted = [np.stack([first, second])[:, :, None], hn, cn]
    assert_near(found, wanted)
    if others == "onnx":
        assert bits(found) == bits(wanted)


def test_a_build_without_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such nodes are left to ONNX Runtime, whenever the weights come."""
    pytest.importorskip("onnxruntime")
    weights, given = weights_of(drawn()), {"X": numbers(T, B, I)}

    def no_integers(*arguments: Any) -> None:
        if "int8" in arguments:
            raise NotImplementedError("[lstm] this build has no integers")

    engine = SimpleNamespace(Weights=no_integers)
    monkeypatch.setattr("fastrnn._engine.for_device", lambda device: engine)
    node = node_of({**weights, **given})
    for known in (weights, {n: a for n, a in weights.items() if "zero_point" in n}):
        with pytest.raises(NotImplementedError, match=rf"^\[{OP} n1\] \[lstm\] this build has no"):
            fo.prepare(node, known)
    loaded = fo.load(whole_model(node, weights, given))
    assert [n.reason for n in loaded.nodes] == [f"[{OP} n1] [lstm] this build has no integers"]
    assert np.isfinite(loaded(given)["Y"]).all()


def test_zero_points_that_onnx_runtime_alone_has(others: str) -> None:
    layer, given = per_tensor(drawn()), {"X": numbers(T, B, I)}
    weights = weights_of(layer, unsigned=True)
    for what in ("W_scale", "W_zero_point", "R_scale", "R_zero_point"):
        weights[what] = weights[what][:, 0]
    weights["W_zero_point"] = np.array([127], np.uint8)
    model = whole_model(node_of({**weights, **given}), weights, given)
    text = (
        f"[{OP} n1] input W_zero_point must be 128 where it is uint8, since other differences "
        "need more than 8 bits, got 127"
    )
    if others == "onnx":
        with pytest.raises(NotImplementedError) as error:
            fo.load(model)
        assert str(error.value) == text
        return
    loaded = fo.load(model)
    assert [(n.cells, n.reason) for n in loaded.nodes] == [((), text)]
    assert_near(loaded.run(given), onnx_runtime(model.SerializeToString(), given))


def test_a_model_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The node is timed alone in ONNX Runtime too, and either's result is near."""
    pytest.importorskip("onnxruntime")
    layer, x = layer_of("bidirectional"), numbers(T, B, I)
    fo.export(layer, tmp_path / "model.onnx")
    loaded = fo.load(tmp_path / "model.onnx")
    assert_near(loaded.run({"x": x}), [layer(x)[0]])
    ((ours, theirs),) = loaded.report({"x": x}).times.values()
    assert ours > 0
    assert theirs is not None
    assert cli.main(["onnx", str(tmp_path / "model.onnx"), "--size", "T=7"]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert row.split()[1:3] == [OP, "lstm"]


# ---- what is refused -----------------------------------------------------------------------------


def changed(what: str, at: Any, value: Any) -> Any:
    def change(given: dict[str, np.ndarray]) -> None:
        given[what] = given[what].copy()
        given[what][at] = value

    return change


def cast(what: str, dtype: str) -> Any:
    return lambda given: given.update({what: given[what].astype(dtype)})


def cut(what: str, *at: Any) -> Any:
    return lambda given: given.update({what: given[what][at]})


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            changed("W_zero_point", (0, 5), 3),
            NotImplementedError,
            "W_zero_point must be 0 .* got 3",
        ),
        (
            changed("R_zero_point", (0, 0), -1),
            NotImplementedError,
            "R_zero_point must be 0 .*got -1",
        ),
        (cast("W_zero_point", "uint8"), NotImplementedError, "W_zero_point must be 128 .* got 0"),
        (
            cast("R_zero_point", "int32"),
            TypeError,
            r"R_zero_point must be of .*'uint8'\], got int32",
        ),
        (cast("W", "float32"), TypeError, r"input W must be of \['int8', 'uint8'\], got float32"),
        (cast("R", "uint8"), TypeError, "input R must be int8, as W is, got uint8"),
        (cast("B", "float64"), TypeError, "input B must be float32, got float64"),
        (cast("W_scale", "float64"), TypeError, "input W_scale must be float32, got float64"),
        (cast("X", "float64"), TypeError, "x must be float32"),
        (changed("W_scale", (0, 2), -0.5), ValueError, "W_scale must be finite and .* got -0.5"),
        (changed("R_scale", (0, 2), np.nan), ValueError, "R_scale must be finite .* got nan"),
        (cut("W", slice(None), slice(None), slice(23)), ValueError, r"input W .* got \(1, 4, 23\)"),
        (cut("R", slice(None), slice(5)), ValueError, r"input R .* got \(1, 5, 24\)"),
        (cut("R", 0), ValueError, r"input R must have shape \(1, H, 4 H\), .* got \(6, 24\)"),
        (cut("B", slice(None), slice(47)), ValueError, r"input B must have shape \(1, 48\)"),
        (
            cut("W_scale", 0),
            ValueError,
            r"W_scale must have shape \(1,\) or \(1, 24\), got \(24,\)",
        ),
        (cut("R_zero_point", slice(None), slice(2)), ValueError, r"R_zero_point must have shape"),
    ],
)
def test_inputs_that_are_refused(change: Any, error: Any, text: str) -> None:
    given = {**weights_of(drawn()), "X": numbers(T, B, I)}
    node = node_of(given)
    fo.run_node(node, given)
    change(given)
    with pytest.raises(error, match=rf"^\[{OP} n1\] .*{text}"):
        fo.run_node(node, given)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"layout": 1}, "attribute must be one of .* got 'layout'"),
        ({"linear_before_reset": 1}, "attribute must be one of .* got 'linear_before_reset'"),
        ({"activations": ["Tanh"]}, "activations must have 3 functions"),
        ({"direction": "up"}, "direction must be one of"),
    ],
)
def test_attributes_that_are_refused(attributes: dict[str, Any], text: str) -> None:
    given = {**weights_of(drawn()), "X": numbers(T, B, I)}
    with pytest.raises(ValueError, match=rf"^\[{OP} n1\] .*{text}"):
        fo.run_node(node_of(given, **attributes), given)


def test_names_that_are_refused() -> None:
    given = {**weights_of(drawn()), "X": numbers(T, B, I)}
    node = node_of({name: a for name, a in given.items() if name != "R_scale"})
    with pytest.raises(ValueError, match=rf"^\[{OP} n1\] input R_scale must be there, got none"):
        fo.run_node(node, given)
    elsewhere = node_of(given)
    elsewhere.domain = ""
    with pytest.raises(ValueError, match=r"operator must be one of .*, got 'DynamicQuantizeLSTM'"):
        fo.run_node(elsewhere, given)
    theirs = node_of({"X": 0, "W": 0, "R": 0})
    theirs.op_type = "LSTM"
    with pytest.raises(ValueError, match=r"operator must be one of .*, got 'LSTM'"):
        fo.run_node(theirs, given)


def test_sums_that_32_bits_do_not_hold() -> None:
    given = weights_of(drawn())
    given["W"] = np.zeros((1, 65_001, 4 * H), np.int8)
    text = rf"^\[{OP} n1\] \[lstm\] sums of int8 must be of at most 65000 products, got 65001"
    with pytest.raises(NotImplementedError, match=text):
        fo.prepare(node_of({**given, "X": 0}), given)
    with pytest.raises(NotImplementedError, match=text):
        fo.layers(whole_model(node_of({**given, "X": 0}), given, {"X": numbers(1, 1, 65_001)}))
