"""An If whose condition is constant gives way to the branch that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

from . import _model
from ._scopes import Scope


def conditions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model in which no If has a constant condition, at any depth."""
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    while _fold_one(Scope(folded, folded.graph)):
        pass
    return folded


def _fold_one(scope: Scope) -> bool:
    """Put one branch in the place of its If; False where there is none."""
    for at, node in enumerate(scope.graph.node):
        if node.op_type == "If" and node.domain in ("", "ai.onnx"):
            value = scope.constant(node.input[0])
            if value is not None and value.size == 1:
                _inline(scope.graph, at, bool(value.item()))
                return True
        if any(_fold_one(scope.inside(graph)) for _, graph in _model.bodies(node)):
            return True
    return False


def _inline(graph: onnx.GraphProto, at: int, condition: bool) -> None:
    node = graph.node[at]
    body = dict(_model.bodies(node))["then_branch" if condition else "else_branch"]
    own = {tensor.name for tensor in body.initializer}
    own |= {name for inner in body.node for name in inner.output if name}
    # Both branches, and those of another If, may use the same names for values of their own.
    names = {name: f"{node.output[0]}/{name}" for name in own}
    _rename(body, names)
    outputs = [
        onnx.helper.make_node("Identity", [names.get(inner.name, inner.name)], [outer])
        for inner, outer in zip(body.output, node.output, strict=True)
        if outer
    ]
    graph.initializer.extend(body.initializer)
    nodes = [*graph.node[:at], *body.node, *outputs, *graph.node[at + 1 :]]
    copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for values in (graph.initializer, graph.output):
        for value in values:
            value.name = names.get(value.name, value.name)
    for node in graph.node:
        for places in (node.input, node.output):
            places[:] = [names.get(name, name) for name in places]
        for _, inner in _model.bodies(node):
            _rename(inner, names)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, those that its bodies take from outside among them."""
    yield from (name for name in node.input if name)
    for _, graph in _model.bodies(node):
        yield from _taken(graph)


def _taken(graph: onnx.GraphProto) -> Iterator[str]:
    own = {value.name for value in (*graph.input, *graph.initializer)}
    for node in graph.node:
        yield from (name for name in reads(node) if name not in own)
        own.update(node.output)
    yield from (value.name for value in graph.output if value.name not in own)
