"""A graph cut at its recurrent nodes: steps that follow each other.

Nodes that are cut out stand between pieces, which are models of their own. Each node has a stage:
that of the latest value it reads, and what a cut node makes is of the stage after it. All other
nodes of a stage are one piece, so there are as few as the cuts allow. Constants are in whichever
piece reads them. An If or Loop with such a node inside is a step itself, and its bodies are cut as
the graph is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import onnx

from . import _fold, _library, _model, _runners, _views
from ._library import is_recurrent
from ._node import Prepared
from ._scopes import Scope
from ._steps import IfStep, LoopStep, NodeStep, PieceStep, Plan, Step, ViewStep

_CUT_INSIDE = ("If", "Loop")  # operators with bodies that are cut


class Uncut(Exception):
    """Why a graph cannot be cut here."""


class Cutter:
    """Makes plans of a model's graphs.

    Parameters
    ----------
    prepared : mapping of str to Prepared
        The nodes to cut out, by their names, which no other recurrent node has.
    """

    def __init__(self, prepared: Mapping[str, Prepared]) -> None:
        self._prepared = prepared

    def plan(self, scope: Scope, outputs: Iterable[str]) -> Plan:
        """The steps from a graph's inputs, and what it takes from outside, to some outputs.

        Raises
        ------
        Uncut
            A value between has no type that is known.
        NotImplementedError
            Nobody has an operator.
        """
        return _GraphCut(scope, tuple(outputs), self).plan()

    def prepared(self, node: onnx.NodeProto) -> Prepared | None:
        return self._prepared.get(node.name) if is_recurrent(node) else None

    def is_cut(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a step: a recurrent node, or an If or Loop with one inside."""
        if self.prepared(node):
            return True
        return node.op_type in _CUT_INSIDE and any(
            self.is_cut(inner) for _, graph in _model.bodies(node) for inner in graph.node
        )


class _GraphCut:
    """One graph being cut."""

    def __init__(self, scope: Scope, outputs: tuple[str, ...], cutter: Cutter) -> None:
        self.scope, self.outputs, self.cutter = scope, outputs, cutter
        self.nodes = self._needed()
        self.made = {name for node in self.nodes for name in node.output if name}

    def reads(self, node: onnx.NodeProto) -> list[str]:
        """What a node reads that is not constant, but for an If, whose branches say so."""
        found = self.cutter.prepared(node)
        names = found.inputs if found else _fold.reads(node)
        return [n for n in dict.fromkeys(names) if not self.scope.is_constant(n)]

    def _needed(self) -> list[onnx.NodeProto]:
        """The nodes that the outputs come from, without those whose values are constant."""
        wanted = {name for name in self.outputs if not self.scope.is_constant(name)}
        kept = []
        for node in reversed(self.scope.graph.node):
            if wanted.isdisjoint(node.output):
                continue
            kept.append(node)
            wanted.update(self.reads(node))
        return kept[::-1]

    def plan(self) -> Plan:
        pieces: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        cuts: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        stages: dict[str, int] = {}
        for node in self.nodes:
            stage = max((stages.get(name, 0) for name in self.reads(node)), default=0)
            cut = self.cutter.is_cut(node)
            (cuts if cut else pieces)[stage].append(node)
            stages.update(dict.fromkeys(node.output, stage + cut))
        steps: list[Step] = []
        for stage in range(1 + max((*pieces, *cuts), default=-1)):
            if pieces[stage]:
                steps.append(self._piece(pieces[stage]))
            steps.extend(self._cut(node) for node in cuts[stage])
        constants = self._constants([node for each in cuts.values() for node in each])
        inputs = {n: None for node in self.nodes for n in self.reads(node) if n not in self.made}
        passed = {n: None for n in self.outputs if n not in self.made and n not in constants}
        copied = self._aliases(steps, {*inputs, *passed, *constants}).intersection(self.outputs)
        return Plan(
            tuple({**inputs, **passed}), self.outputs, constants, tuple(steps), frozenset(copied)
        )

    def _constants(self, cuts: list[onnx.NodeProto]) -> dict[str, np.ndarray]:
        """Constants that are outputs, or that steps other than pieces read."""
        names = [*self.outputs]
        for node in cuts:
            found = self.cutter.prepared(node)
            names += found.inputs if found else node.input
        values = {name: self.scope.constant(name) for name in names if name}
        return {name: value for name, value in values.items() if value is not None}

    def _aliases(self, steps: list[Step], names: set[str]) -> set[str]:
        """The values that are memory of these, by views."""
        found = set(names)
        for step in steps:
            for _, inputs, outputs in step.calls if isinstance(step, ViewStep) else ():
                if not found.isdisjoint(inputs):
                    found.update(outputs)
        return found

    def _cut(self, node: onnx.NodeProto) -> Step:
        found = self.cutter.prepared(node)
        if found:
            return NodeStep(node.name, found)
        bodies = dict(_model.bodies(node))
        if node.op_type == "Loop":
            return self._loop(node, bodies["body"])
        branches = self._body(bodies["else_branch"]), self._body(bodies["then_branch"])
        return IfStep(node.input[0], branches, tuple(node.output))

    def _body(self, body: onnx.GraphProto) -> Plan:
        return self.cutter.plan(self.scope.inside(body), [value.name for value in body.output])

    def _loop(self, node: onnx.NodeProto, body: onnx.GraphProto) -> Step:
        trips, condition, *initial = (*node.input, "")[: max(2, len(node.input))]
        empty = tuple(_none_of(value) for value in body.output[1 + len(initial) :])
        inputs = tuple(value.name for value in body.input)
        plan = self._body(body)
        return LoopStep(trips, condition, tuple(initial), plan, inputs, tuple(node.output), empty)

    def _piece(self, nodes: list[onnx.NodeProto]) -> Step:
        if len(nodes) <= _views.MAX_NODES:
            views = [_views.view(node, self.scope) for node in nodes]
            calls = [(*v, tuple(node.output)) for v, node in zip(views, nodes, strict=True) if v]
            if len(calls) == len(nodes) and not any(
                self.scope.is_constant(name) for _, names, _ in calls for name in names
            ):
                return ViewStep(tuple(calls))
        own = {name for node in nodes for name in node.output if name}
        read = dict.fromkeys(name for node in nodes for name in _fold.reads(node))
        outside = [name for name in read if name not in own]
        constants = [self.scope.tensor(name) for name in outside if self.scope.is_constant(name)]
        inputs = tuple(name for name in outside if not self.scope.is_constant(name))
        outputs = tuple(name for name in own if name in self._read_elsewhere(nodes))
        graph = onnx.helper.make_graph(
            nodes,
            "piece",
            [self._typed(name) for name in inputs],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            constants,
        )
        model = onnx.helper.make_model(
            graph,
            opset_imports=self.scope.model.opset_import,
            ir_version=self.scope.model.ir_version,
        )
        running = _runners.runner(model)
        for name, kind in running.types.items():  # which knows operators that onnx does not
            self.scope.types[name] = self.scope.types.get(name) or kind
        return PieceStep(inputs, outputs, running.call)

    def _read_elsewhere(self, nodes: list[onnx.NodeProto]) -> set[str]:
        inside = {id(node) for node in nodes}
        names = set(self.outputs)
        for node in self.nodes:
            if id(node) not in inside:
                names.update(self.reads(node))
        return names

    def _typed(self, name: str) -> onnx.ValueInfoProto:
        """The declaration of a piece's input: its element type, any shape."""
        owner = self.scope.owner(name)
        kind = owner.types.get(name, 0) if owner else 0
        if not kind and _library.runtime():
            raise Uncut(f"the type of {name!r} is not known")
        return onnx.helper.make_tensor_value_info(name, kind, None)


def _none_of(value: onnx.ValueInfoProto) -> np.ndarray:
    """What a loop has made of a value if it never ran."""
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type or onnx.TensorProto.FLOAT)
    return np.empty((0, *(dim.dim_value for dim in kind.shape.dim)), dtype)
