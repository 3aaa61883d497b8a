"""Small models of ONNX around GRUs, for the tests of fastrnn.onnx."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

import fastrnn
import fastrnn.onnx as fo
from fastrnn.onnx import _steps

T, B, H = 4, 3, 5
F32 = onnx.TensorProto.FLOAT


def layer(seed: int = 0, **options: Any) -> fastrnn.Recurrent:
    return fastrnn.Recurrent("gru", H, H, seed=seed, **options)


def stored(of: fastrnn.Recurrent, suffix: str = "") -> list[Any]:
    """The weights of a layer as initializers."""
    arrays = fastrnn.weights.to_onnx(of.cell, of.state_dict())
    return [onnx.numpy_helper.from_array(a, name + suffix) for name, a in arrays.items()]


def gru(x: str, y: str, suffix: str = "", **attributes: Any) -> list[Any]:
    """A GRU and the Squeeze that makes its output (T, B, H)."""
    names = [x, f"W{suffix}", f"R{suffix}", f"B{suffix}", "", *attributes.pop("initial", [])]
    while not names[-1]:
        names.pop()
    final = attributes.pop("final", "")
    node = helper.make_node(
        "GRU",
        names,
        [f"{y}_Y", *([final] if final else [])],
        name=f"gru{suffix}",
        hidden_size=H,
        linear_before_reset=1,
        **attributes,
    )
    return [node, helper.make_node("Squeeze", [f"{y}_Y", "one"], [y])]


ONE = onnx.numpy_helper.from_array(np.array([1]), "one")


def model_of(
    nodes: list[Any],
    tensors: list[Any],
    inputs: dict[str, Any],
    outputs: list[str],
    **options: Any,
) -> Any:
    """A model of opset 17; inputs are shapes, one letter a size, or declarations."""
    declared = [
        helper.make_tensor_value_info(name, F32, list(what))
        if isinstance(what, (list, tuple, str))
        else what
        for name, what in inputs.items()
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        declared,
        [helper.make_tensor_value_info(name, F32, None) for name in outputs],
        [*tensors, ONE],
    )
    opsets = [helper.make_opsetid("", 17), *options.pop("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **options)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


X = numbers(T, B, H)


def plan_of(model: fo.Model) -> _steps.Plan:
    (plan,) = model._choice._plans.values()
    return plan


def steps(model: fo.Model) -> list[str]:
    return [type(step).__name__.removesuffix("Step") for step in plan_of(model).steps]
