"""fastrnn.onnx: the model that ONNX Runtime is given, node by node and as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastrnn
from fastrnn._bench.cases import Case, Data
from fastrnn._bench.peers import Unsupported, Way, missing
from fastrnn._bench.peers.onnx_model import feeds, make_model, named

NOTE = "forward in float32 alone"


def available() -> str | None:
    return missing("onnx")


def version() -> str:
    import onnx

    info = fastrnn.build_info()
    return f"{info['version']} for onnx {onnx.__version__} {info['level']}"


def setup(threads: int) -> None:
    fastrnn.set_num_threads(threads)


def build(case: Case, data: Data) -> dict[str, Way]:
    if case.mode not in ("forward", "stream") or case.dtype != "float32":
        raise Unsupported(NOTE)
    model = make_model(case, data.params, case.lengths)
    given = {"x": data.x, **feeds(case, data.state)}
    if case.lengths:
        given["lengths"] = case.row_lengths.astype(np.int32)
    ways = {"model": model_way(case, model, dict(given))}
    if case.L == 1 and case.D == 1:
        ways["node"] = node_way(case, model, dict(given))
    return ways


def model_way(case: Case, model: bytes, given: dict[str, Any]) -> Way:
    """`load`, with every node on the engine."""
    import fastrnn.onnx

    loaded = fastrnn.onnx.load(model, measure=False)

    def call() -> Any:
        values = loaded.run(given)
        if case.mode == "stream":
            for name, value in zip(loaded.outputs[1:], values[1:], strict=True):
                given[name[:-2]] = value
        return values

    return Way(call, lambda values: named(case, dict(zip(loaded.outputs, values, strict=True))))


def node_way(case: Case, model: bytes, given: dict[str, Any]) -> Way:
    """`prepare` of the only node; y without its axis of directions is a view."""
    import onnx

    import fastrnn.onnx

    graph = onnx.ModelProto.FromString(model).graph
    node = graph.node[0]
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name in node.input}
    prepared = fastrnn.onnx.prepare(node, weights)

    def call() -> Any:
        values = prepared.run(given)
        if case.mode == "stream":
            for name, value in zip(prepared.outputs[1:], values[1:], strict=True):
                given[name[:-2]] = value
        return values

    def arrays(values: Any) -> dict[str, np.ndarray]:
        y, *finals = values
        return named(case, {"y": y[:, 0], **dict(zip(prepared.outputs[1:], finals, strict=True))})

    return Way(call, arrays)
