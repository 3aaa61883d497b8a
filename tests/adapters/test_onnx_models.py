"""Whole models: what is cut where, weights that nodes make, and what is faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from tolerances import assert_output

onnx = pytest.importorskip("onnx")

import fastrnn.onnx as fo  # noqa: E402
from onnx_models import (  # noqa: E402
    F32,
    B,
    H,
    T,
    X,
    gru,
    layer,
    model_of,
    numbers,
    steps,
    stored,
)

helper = onnx.helper


# ---- a graph -------------------------------------------------------------------------------------


def test_nodes_before_between_and_after(others: str) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["a"]),
        *gru("a", "b", "0"),
        helper.make_node("Relu", ["b"], ["c"]),
        *gru("c", "d", "1"),
        helper.make_node("Add", ["d", "b"], ["y"]),
    ]
    model = model_of(nodes, stored(layer(0), "0") + stored(layer(1), "1"), {"x": "TBH"}, ["y"])
    loaded = fo.load(model, measure=False)
    assert steps(loaded) == ["Piece", "Node", "Piece", "Node", "Piece"]
    assert [(n.name, n.operator, n.cells) for n in loaded.nodes] == [
        ("gru0", "GRU", ("gru",)),
        ("gru1", "GRU", ("gru",)),
    ]
    assert loaded.inputs == ("x",)
    assert loaded.outputs == ("y",)
    b = layer(0)(X * X)[0]
    assert_output(loaded({"x": X})["y"], layer(1)(np.maximum(b, 0))[0] + b, "float32")


def test_a_chain_is_run_without_a_session(others: str) -> None:
    """What stands between are views, which NumPy makes."""
    nodes = [*gru("x", "a", "0"), *gru("a", "b", "1"), helper.make_node("Identity", ["b"], ["y"])]
    model = model_of(nodes, stored(layer(0), "0") + stored(layer(1), "1"), {"x": "TBH"}, ["y"])
    loaded = fo.load(model, measure=False)
    assert steps(loaded) == ["Node", "View", "Node", "View"]
    assert_output(loaded({"x": X})["y"], layer(1)(layer(0)(X)[0])[0], "float32")


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Transpose perm": lambda a: a.transpose(1, 0, 2),
    "Transpose": lambda a: a.transpose(),
    "Reshape 0 -1": lambda a: a.reshape(T, -1),
    "Unsqueeze 0": lambda a: a[None],
    "Unsqueeze 0 -1": lambda a: a[None, ..., None],
    "Slice": lambda a: a[1:3, :, ::-1],
    "Slice last": lambda a: a[:, :, -1:],
    "Concat": lambda a: np.concatenate([a, a], 2),
    "Gather": lambda a: a[:, 2],
    "Gather last": lambda a: a[..., -1],
    "Gather list": lambda a: a[:, [2, 0]],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(others: str, name: str) -> None:
    op = name.split()[0]
    constants = {
        "Reshape 0 -1": [[0, -1]],
        "Unsqueeze 0": [[0]],
        "Unsqueeze 0 -1": [[0, -1]],
        "Slice": [[1, -1], [3, -(2**63)], [0, 2], [1, -1]],
        "Slice last": [[-1], [2**63 - 1], [2]],
        "Gather": [2],
        "Gather last": [-1],
        "Gather list": [[2, 0]],
    }.get(name, [])
    tensors = [onnx.numpy_helper.from_array(np.array(c), f"c{k}") for k, c in enumerate(constants)]
    inputs = ["b", "b"] if op == "Concat" else ["b", *(t.name for t in tensors)]
    attributes = {
        "Transpose perm": {"perm": [1, 0, 2]},
        "Concat": {"axis": 2},
        "Gather": {"axis": 1},
        "Gather last": {"axis": -1},
        "Gather list": {"axis": 1},
    }.get(name, {})
    nodes = [*gru("x", "b"), helper.make_node(op, inputs, ["y"], **attributes)]
    loaded = fo.load(model_of(nodes, stored(layer()) + tensors, {"x": "TBH"}, ["y"]), measure=False)
    assert steps(loaded) == ["Node", "View"]
    wanted = VIEWS[name](layer()(X)[0])
    found = loaded({"x": X})["y"]
    assert found.shape == wanted.shape
    assert_output(found, wanted, "float32")


@pytest.mark.parametrize("sizes", [None, [1, 3], [4]])
def test_a_view_with_several_outputs(others: str, sizes: list[int] | None) -> None:
    count = len(sizes) if sizes else 2
    tensors = [onnx.numpy_helper.from_array(np.array(sizes), "sizes")] if sizes else []
    outputs = [f"y{k}" for k in range(count)]
    split = helper.make_node("Split", ["b", *(t.name for t in tensors)], outputs)
    made = model_of([*gru("x", "b"), split], stored(layer()) + tensors, {"x": "TBH"}, outputs)
    loaded = fo.load(made, measure=False)
    assert steps(loaded) == ["Node", "View"]
    found = loaded({"x": X})
    ends = np.cumsum(sizes if sizes else [2, 2])[:-1]
    for name, wanted in zip(outputs, np.split(layer()(X)[0], ends), strict=True):
        assert_output(found[name], wanted, "float32")


def test_states_are_inputs_and_outputs(others: str) -> None:
    nodes = gru("x", "y", initial=["h"], final="hn")
    inputs = {"x": "TBH", "h": (1, "B", H)}
    loaded = fo.load(model_of(nodes, stored(layer()), inputs, ["y", "hn"]), measure=False)
    whole, state = layer()(X)
    h = np.zeros((1, B, H), np.float32)
    for t in range(T):
        found = loaded({"x": X[t : t + 1], "h": h})
        h = found["hn"]
        assert_output(found["y"], whole[t : t + 1], "float32")
    assert_output(h, state, "float32")


def test_outputs_are_no_memory_of_inputs_or_constants(others: str) -> None:
    constant = onnx.numpy_helper.from_array(numbers(2), "constant")
    nodes = [*gru("x", "y"), helper.make_node("Identity", ["x"], ["same"])]
    made = model_of(nodes, [*stored(layer()), constant], {"x": "TBH"}, ["y", "same", "constant"])
    loaded, x = fo.load(made, measure=False), X.copy()
    for name, array in loaded({"x": x}).items():
        array[...] = 0  # writeable, and nobody else's
        assert name != "same" or (x == X).all()
    assert (loaded({"x": x})["constant"] == numbers(2)).all()


@pytest.mark.parametrize("dynamic", ["W", "B"])
def test_weights_that_come_with_each_call(others: str, dynamic: str) -> None:
    tensors = [t for t in stored(layer()) if t.name != dynamic]
    values = {t.name: onnx.numpy_helper.to_array(t) for t in stored(layer())}
    inputs = {"x": "TBH", dynamic: values[dynamic].shape}
    loaded = fo.load(model_of(gru("x", "y"), tensors, inputs, ["y"]), measure=False)
    assert loaded.nodes[0].cells == ()
    assert_output(loaded({"x": X, dynamic: values[dynamic]})["y"], layer()(X)[0], "float32")


def test_operators_of_onnx_runtime_alone() -> None:
    """The types of what they make are its to know."""
    pytest.importorskip("onnxruntime")
    nodes = [
        helper.make_node("Gelu", ["x"], ["a"], domain="com.microsoft"),
        *gru("a", "b"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    opsets = [helper.make_opsetid("com.microsoft", 1)]
    made = model_of(nodes, stored(layer()), {"x": "TBH"}, ["y"], opsets=opsets)
    loaded, whole = fo.load(made, measure=False), fo.load(made)
    assert steps(loaded) == ["Piece", "Node", "Piece"]
    assert_output(loaded({"x": X})["y"], whole._choice._whole.run({"x": X})[0], "float32")


def test_values_that_are_no_tensors_are_not_cut_apart(others: str) -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["both"]),
        *gru("x", "a"),
        helper.make_node("SequenceInsert", ["both", "a"], ["three"]),
        helper.make_node("ConcatFromSequence", ["three"], ["y"], axis=0),
    ]
    loaded = fo.load(model_of(nodes, stored(layer()), {"x": "TBH"}, ["y"]), measure=False)
    wanted = np.concatenate([X, X, layer()(X)[0]])
    assert_output(loaded({"x": X})["y"], wanted, "float32")
    reason = "the type of 'both' is not known" if others == "ONNX Runtime" else ""
    assert loaded.nodes[0].reason == reason


def test_weights_of_chance_are_not_computed_before(others: str) -> None:
    chance = helper.make_node("RandomNormal", [], ["W"], shape=[1, 3 * H, H])
    tensors = [t for t in stored(layer()) if t.name != "W"]
    made = model_of([chance, *gru("x", "y")], tensors, {"x": "TBH"}, ["y"])
    with pytest.raises(ValueError, match="input W must be constant"):
        fo.layers(made)
    loaded = fo.load(made, measure=False)
    assert (loaded({"x": X})["y"] != loaded({"x": X})["y"]).any()


def test_shapes_that_other_nodes_refuse(others: str) -> None:
    nodes = [helper.make_node("Add", ["x", "z"], ["a"]), *gru("a", "y")]
    loaded = fo.load(model_of(nodes, stored(layer()), {"x": "TBH", "z": [H]}, ["y"]))
    with pytest.raises(ValueError, match=r"^\[onnx\] inputs must fit the model, got: "):
        loaded({"x": X, "z": numbers(H + 1)})


def test_a_model_without_recurrent_nodes(others: str) -> None:
    loaded = fo.load(model_of([helper.make_node("Relu", ["x"], ["y"])], [], {"x": [2]}, ["y"]))
    assert loaded.nodes == ()
    assert (loaded({"x": numbers(2)})["y"] == np.maximum(numbers(2), 0)).all()


def test_initial_states_by_one_name(others: str) -> None:
    """h and c of an LSTM are often one tensor of zeros, here a tensor that is not zero."""
    lstm = fastrnn.LSTM(H, H, seed=0)
    node = helper.make_node("LSTM", ["x", "W", "R", "B", "", "s", "s"], ["y"], hidden_size=H)
    made = model_of([node], stored(lstm), {"x": "TBH", "s": (1, "B", H)}, ["y"])
    s = numbers(1, B, H)
    found = fo.load(made, measure=False)({"x": X, "s": s})["y"]
    assert_output(found[:, 0], lstm(X, (s, s))[0], "float32")


# ---- weights that nodes make ---------------------------------------------------------------------


def folded_weights() -> tuple[list[Any], list[Any]]:
    """Nodes and tensors that make W, R and B by Constant, Transpose, Concat, Slice and Cast."""
    W, R, bias = (onnx.numpy_helper.to_array(t) for t in stored(layer()))
    tensors = [
        onnx.numpy_helper.from_array(W.transpose(0, 2, 1), "W_turned"),
        onnx.numpy_helper.from_array(R[:, : 2 * H], "R_first"),
        onnx.numpy_helper.from_array(R[:, 2 * H :], "R_last"),
        onnx.numpy_helper.from_array(np.concatenate([bias, bias], 1).astype(np.float64), "B_twice"),
        onnx.numpy_helper.from_array(np.array([1]), "axis"),
    ]
    nodes = [
        helper.make_node("Transpose", ["W_turned"], ["W"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["R_first", "R_last"], ["R"], axis=1),
        helper.make_node("Constant", [], ["start"], value_ints=[0]),
        helper.make_node("Constant", [], ["end"], value_ints=[6 * H]),
        helper.make_node("Slice", ["B_twice", "start", "end", "axis"], ["B_wide"]),
        helper.make_node("Cast", ["B_wide"], ["B"], to=F32),
    ]
    return nodes, tensors


def test_weights_that_nodes_make(others: str) -> None:
    nodes, tensors = folded_weights()
    made = model_of([*nodes, *gru("x", "y")], tensors, {"x": "TBH"}, ["y"])
    found = fo.layers(made)["gru"]
    for name, array in layer().parameters.items():
        assert (found.parameters[name] == array).all()
    loaded = fo.load(made, measure=False)
    assert steps(loaded) == ["Node", "View"]
    assert_output(loaded({"x": X})["y"], layer()(X)[0], "float32")


def test_layers_of_a_model_whose_other_nodes_nobody_knows() -> None:
    nodes, tensors = folded_weights()
    unknown = helper.make_node("Magic", ["x"], ["a"], domain="somebody.else")
    body = helper.make_graph(
        gru("a", "b"), "body", [], [helper.make_tensor_value_info("b", F32, None)]
    )
    branch = helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body)
    flag = helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])
    made = model_of(
        [unknown, *nodes, branch],
        tensors,
        {"x": "TBH", "flag": flag},
        ["y"],
        opsets=[helper.make_opsetid("somebody.else", 1)],
    )
    found = fo.layers(made.SerializeToString())
    assert list(found) == ["gru", "gru#2"]
    for each in found.values():
        assert_output(each(X)[0], layer()(X)[0], "float32")
    with pytest.raises(NotImplementedError, match="Magic"):
        fo.load(made)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_layers_with_directions_and_layouts(direction: str, layout: int) -> None:
    options: dict[str, Any] = {
        "bidirectional": direction == "bidirectional",
        "reverse": direction == "reverse",
        "batch_first": layout == 1,
    }
    ours = layer(**options)
    nodes = gru("x", "y", direction=direction, layout=layout)[:1]
    found = fo.layers(model_of(nodes, stored(ours), {"x": "TBH"}, ["y_Y"]))["gru"]
    assert repr(found) == repr(ours)
    lengths = np.array([2, 0, 4])
    x = X.swapaxes(0, 1) if layout else X
    assert (found(x, lengths=lengths)[0] == ours(x, lengths=lengths)[0]).all()


def test_layers_whose_weights_come_with_each_call() -> None:
    tensors = [t for t in stored(layer()) if t.name != "R"]
    made = model_of(gru("x", "y"), tensors, {"x": "TBH", "R": (1, 3 * H, H)}, ["y"])
    with pytest.raises(ValueError, match=r"^\[GRU gru\] input R must be constant"):
        fo.layers(made)


def test_functions_of_a_model_are_put_in_their_places(others: str) -> None:
    function = helper.make_function(
        "mine",
        "Layer",
        ["x", "W", "R", "B"],
        ["y"],
        [helper.make_node("GRU", list("xWRB"), ["y"], hidden_size=H, linear_before_reset=1)],
        [helper.make_opsetid("", 17)],
    )
    node = helper.make_node("Layer", list("xWRB"), ["y"], domain="mine")
    made = model_of(
        [node],
        stored(layer()),
        {"x": "TBH"},
        ["y"],
        opsets=[helper.make_opsetid("mine", 1)],
        functions=[function],
    )
    loaded = fo.load(made, measure=False)
    assert steps(loaded) == ["Node"]
    assert_output(loaded({"x": X})["y"][:, 0], layer()(X)[0], "float32")


# ---- what is faster ------------------------------------------------------------------------------


def small_chain(count: int) -> Any:
    nodes, tensors, at = [], [], "x"
    for k in range(count):
        nodes += [*gru(at, f"a{k}", str(k)), helper.make_node("Relu", [f"a{k}"], [f"b{k}"])]
        tensors += stored(layer(k), str(k))
        at = f"b{k}"
    return model_of(nodes, tensors, {"x": "TBH"}, [at])


def test_the_choice_is_one_for_all_calls_of_a_size() -> None:
    """Nothing here depends on who is faster: only that the numbers and the reports agree."""
    runtime = pytest.importorskip("onnxruntime")
    made = small_chain(4)
    loaded = fo.load(made)
    wanted = runtime.InferenceSession(made.SerializeToString()).run(None, {"x": X})
    for _ in range(2):
        for a, b in zip(loaded.run({"x": X}), wanted, strict=True):
            assert_output(a, b, "float32")
    report = loaded.report({"x": X})
    names = {node.name for node in loaded.nodes}
    assert report.fused <= names
    assert set(report.times) == names
    assert report.seconds > 0
    assert report.whole is not None
    assert all(ours > 0 and theirs and theirs > 0 for ours, theirs in report.times.values())
    chosen = loaded._choice._chosen
    assert len(chosen) == 1
    loaded.run({"x": np.concatenate([X[:3]] * 2)})  # 6 steps for 4: within a factor of two
    assert len(chosen) == 1
    loaded.run({"x": np.concatenate([X] * 4)})
    assert len(chosen) == 2


def test_what_is_slower_cut_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """By times that are given: of all nodes cut, of one, and whole."""
    pytest.importorskip("onnxruntime")
    from fastrnn.onnx import _choice

    for times, fused in (
        ([1.0, 2.0, 3.0], 0),
        ([1.0, 0.99, 3.0], 0),
        ([1.0, 0.9, 3.0], 4),
        ([1.0, 0.9, 0.8], 1),
    ):
        monkeypatch.setattr(_choice, "rounds", lambda calls, *_, t=times: np.array([t, t]))
        worth = lambda self, inputs: frozenset({"gru2"})  # noqa: E731
        monkeypatch.setattr(_choice.Choice, "_worth_a_cut", worth)
        loaded = fo.load(small_chain(4))
        assert len(loaded._first({"x": X}).nodes) == fused
        loaded({"x": X})
