"""Names in a model: who makes a value, in a graph or in one around it, and what is constant.

A body of an If, Loop or Scan sees the values of the graphs around it. What is constant may be the
result of nodes, such as a Transpose of stored weights; these are computed once, by onnx's own
evaluator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from . import _model
from ._library import is_recurrent
from ._options import OPERATORS, WEIGHTS

# Whose results are not their inputs' alone.
_RANDOM = {
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


class Scope:
    """The values of a graph, and of the graphs around it."""

    def __init__(
        self, model: onnx.ModelProto, graph: onnx.GraphProto, outer: Scope | None = None
    ) -> None:
        self.model, self.graph, self.outer = model, graph, outer
        self.depth: int = outer.depth + 1 if outer else 0
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {
            name: (at, node) for at, node in enumerate(graph.node) for name in node.output if name
        }
        self.inputs = {value.name for value in graph.input if value.name not in self.initializers}
        values = (*graph.value_info, *graph.input, *graph.output)
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._constants: dict[str, np.ndarray | None] = {}

    def inside(self, graph: onnx.GraphProto) -> Scope:
        """The scope of a body."""
        return Scope(self.model, graph, self)

    def owner(self, name: str) -> Scope | None:
        """The innermost scope that has a value of this name."""
        scope: Scope | None = self
        while scope and not (
            name in scope.initializers or name in scope.makers or name in scope.inputs
        ):
            scope = scope.outer
        return scope

    def constant(self, name: str) -> np.ndarray | None:
        """A value that is the same in every call, or None."""
        owner = self.owner(name)
        if owner is None:
            return None
        if name not in owner._constants:
            tensor = owner.initializers.get(name)
            owner._constants[name] = (
                owner._computed(name) if tensor is None else numpy_helper.to_array(tensor)
            )
        return owner._constants[name]

    def is_constant(self, name: str) -> bool:
        """Whether `constant` has a value; those that are stored stay where they are."""
        owner = self.owner(name)
        if owner is None or name in owner.inputs:
            return False
        return name in owner.initializers or owner.constant(name) is not None

    def tensor(self, name: str) -> onnx.TensorProto:
        """A constant, of this name."""
        owner = self.owner(name)
        assert owner is not None
        stored = owner.initializers.get(name)
        return stored or numpy_helper.from_array(np.asarray(owner.constant(name)), name)

    def _computed(self, name: str) -> np.ndarray | None:
        """The value of a node whose inputs are constant, and theirs, and so on."""
        nodes: dict[tuple[int, int], onnx.NodeProto] = {}
        tensors: dict[str, onnx.TensorProto] = {}
        wanted, seen = [name], set()
        while wanted:
            at = wanted.pop()
            owner = self.owner(at)
            if at in seen or not at:
                continue
            seen.add(at)
            if owner is None or at in owner.inputs:
                return None
            if at in owner.initializers:
                tensors[at] = owner.initializers[at]
                continue
            place, node = owner.makers[at]
            if not _is_pure(node):
                return None
            nodes[owner.depth, place] = node
            wanted.extend(node.input)
        graph = onnx.helper.make_graph(
            [nodes[place] for place in sorted(nodes)],
            "constants",
            [],
            [onnx.ValueInfoProto(name=name)],
            list(tensors.values()),
        )
        model = onnx.helper.make_model(graph, opset_imports=self.model.opset_import)
        try:
            (value,) = ReferenceEvaluator(model).run(None, {})
        except MemoryError:
            raise
        except Exception:  # whatever an operator of the evaluator raises: it stays where it is
            return None
        return value if isinstance(value, np.ndarray) else np.asarray(value)


def _is_pure(node: onnx.NodeProto) -> bool:
    own = node.domain in ("", "ai.onnx") and node.op_type not in _RANDOM
    return own and not any(True for _ in _model.bodies(node))


@dataclass(frozen=True)
class Found:
    """A recurrent node of a model: its own name here, where it is, and what it is inside of."""

    name: str
    node: onnx.NodeProto
    scope: Scope
    inside: str  # the operator around it whose bodies stay whole, such as Scan, or empty

    def constants(self) -> dict[str, Any]:
        """The weights that are the same in every call, by their names in the node."""
        names = dict(zip(OPERATORS[self.node.op_type].inputs, self.node.input, strict=False))
        values = {names[w]: self.scope.constant(names[w]) for w in WEIGHTS if names.get(w)}
        return {name: value for name, value in values.items() if value is not None}

    def dtype(self) -> np.dtype | None:
        """That of X and of the outputs, as far as it is known here."""
        if OPERATORS[self.node.op_type].quantized:
            return np.dtype(np.float32)
        return next((array.dtype for array in self.constants().values()), None)


def recurrent(model: onnx.ModelProto) -> list[Found]:
    """The recurrent nodes of a model and of every body in it, in their order."""
    found: list[Found] = []
    taken: set[str] = set()
    for node, scope, inside in _nodes(Scope(model, model.graph), ""):
        first = next((output for output in node.output if output), "")
        name = own = node.name or f"{node.op_type}_{first}"
        number = 1
        while name in taken:
            number += 1
            name = f"{own}#{number}"
        taken.add(name)
        found.append(Found(name, node, scope, inside))
    return found


def _nodes(scope: Scope, inside: str) -> Iterator[tuple[onnx.NodeProto, Scope, str]]:
    for node in scope.graph.node:
        if is_recurrent(node):
            yield node, scope, inside
        for _, graph in _model.bodies(node):
            around = inside if node.op_type in ("If", "Loop") else node.op_type
            yield from _nodes(scope.inside(graph), around)
