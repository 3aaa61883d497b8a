"""Models with recurrent nodes in the bodies of If, Loop and Scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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
    plan_of,
    steps,
    stored,
)

helper = onnx.helper


def branches(constant: bool) -> Any:
    """An If whose branches have a GRU each and read what is made outside, one inside another."""

    def body(suffix: str, op: str) -> Any:
        nodes = [
            helper.make_node(op, ["a", "x"], ["b"]),  # both from outside
            *gru("b", "c", suffix),
            helper.make_node("Neg", ["c"], ["d"]),
        ]
        outputs = [helper.make_tensor_value_info("d", F32, None)]
        inner = helper.make_graph(nodes, "inner", [], outputs)
        outer = helper.make_node("If", ["always"], ["e"], then_branch=inner, else_branch=inner)
        yes = helper.make_node("Constant", [], ["always"], value=tensor(True))
        return helper.make_graph(
            [yes, outer], "outer", [], [helper.make_tensor_value_info("e", F32, None)]
        )

    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node(
            "If", ["flag"], ["f"], then_branch=body("0", "Add"), else_branch=body("1", "Mul")
        ),
        helper.make_node("Abs", ["f"], ["y"]),
    ]
    flag = helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])
    inputs: dict[str, Any] = {"x": "TBH"} if constant else {"x": "TBH", "flag": flag}
    tensors = stored(layer(0), "0") + stored(layer(1), "1")
    if constant:
        tensors.append(onnx.numpy_helper.from_array(np.array(False), "flag"))
    return model_of(nodes, tensors, inputs, ["y"])


def tensor(value: Any) -> Any:
    return onnx.numpy_helper.from_array(np.array(value))


@pytest.mark.parametrize("flag", [True, False])
def test_branches(others: str, flag: bool) -> None:
    wanted = {
        True: np.abs(layer(0)(np.exp(X) + X)[0]),
        False: np.abs(layer(1)(np.exp(X) * X)[0]),
    }
    loaded = fo.load(branches(constant=False), measure=False)
    assert steps(loaded) == ["Piece", "If", "Piece"]
    plan = plan_of(loaded).steps[1].branches[flag]
    assert [type(step).__name__ for step in plan.steps][1] == "NodeStep", "the inner If is folded"
    found = loaded({"x": X, "flag": np.array(flag)})["y"]
    assert_output(found, wanted[flag], "float32")


def test_a_constant_condition_is_folded(others: str) -> None:
    loaded = fo.load(branches(constant=True), measure=False)
    assert [node.name for node in loaded.nodes] == ["gru1"]
    assert steps(loaded) == ["Piece", "Node", "Piece"]
    assert_output(loaded({"x": X})["y"], np.abs(layer(1)(np.exp(X) * X)[0]), "float32")


def loop(trips: bool, condition: bool) -> Any:
    """A Loop that carries h, reads x from outside and gathers every output."""
    body = helper.make_graph(
        [
            *gru("x", "c", initial=["h"], final="h_next"),
            helper.make_node("ReduceMax", ["h_next"], ["largest"], keepdims=0),
            helper.make_node("Less", ["largest", "limit"], ["go_on"]),
            helper.make_node("Neg", ["c"], ["d"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("count", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("before", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", F32, [1, "B", H]),
        ],
        [
            helper.make_tensor_value_info("go_on", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("h_next", F32, [1, "B", H]),
            helper.make_tensor_value_info("d", F32, [T, "B", H]),
        ],
    )
    names = ["trips" if trips else "", "begin" if condition else "", "h0"]
    node = helper.make_node("Loop", names, ["hn", "ds"], body=body)
    inputs: dict[str, Any] = {"x": [T, "B", H], "h0": [1, "B", H], "limit": []}
    if trips:
        inputs["trips"] = helper.make_tensor_value_info("trips", onnx.TensorProto.INT64, [])
    if condition:
        inputs["begin"] = helper.make_tensor_value_info("begin", onnx.TensorProto.BOOL, [])
    return model_of([node], stored(layer()), inputs, ["hn", "ds"])


@pytest.mark.parametrize(
    ("trips", "begin", "limit", "times"),
    [
        (3, None, 9.0, 3),
        (3, True, -9.0, 1),
        (None, None, -9.0, 1),
        (0, None, 9.0, 0),
        (2, False, 9, 0),
    ],
)
def test_loops(
    others: str, trips: int | None, begin: bool | None, limit: float, times: int
) -> None:
    loaded = fo.load(loop(trips is not None, begin is not None), measure=False)
    assert steps(loaded) == ["Loop"]
    inputs = {"x": X, "h0": numbers(1, B, H), "limit": np.array(limit, np.float32)}
    if trips is not None:
        inputs["trips"] = np.array(trips)
    if begin is not None:
        inputs["begin"] = np.array(begin)
    found, h = loaded(inputs), inputs["h0"]
    for k in range(times):
        y, h = layer()(X, h)
        assert_output(found["ds"][k], -y, "float32")
    assert_output(found["hn"], h, "float32")
    assert len(found["ds"]) == times
    assert not np.shares_memory(found["hn"], inputs["h0"])


def test_a_scan_stays_whole(others: str) -> None:
    body = helper.make_graph(
        gru("x", "c", initial=["h"], final="h_next"),
        "body",
        [helper.make_tensor_value_info(name, F32, None) for name in ("h", "x")],
        [helper.make_tensor_value_info(name, F32, None) for name in ("h_next", "c")],
    )
    node = helper.make_node("Scan", ["h0", "xs"], ["hn", "cs"], body=body, num_scan_inputs=1)
    inputs = {"h0": [1, B, H], "xs": [2, T, B, H]}
    loaded = fo.load(model_of([node], stored(layer()), inputs, ["hn", "cs"]))
    assert loaded.nodes[0].reason == "inside a Scan"
    h = numbers(1, B, H)
    found = loaded({"h0": h, "xs": np.stack([X, -X])})
    first, h = layer()(X, h)
    second, h = layer()(-X, h)
    assert_output(found["cs"], np.stack([first, second]), "float32")
    assert_output(found["hn"], h, "float32")
