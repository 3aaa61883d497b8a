"""Which recurrent nodes are worth a cut: what the calls themselves say.

A cut costs a call of ONNX Runtime beside the node's own, some microseconds, which a small node may
not be worth. So the first call of a size is timed: whole, cut at every node, and cut at those that
gain by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import onnx

from . import _library, _runners, _scopes
from ._cut import Cutter, Uncut
from ._node import Prepared
from ._steps import NodeStep, Plan, executed

_BUDGET = 0.05  # seconds of a measurement, for each that is compared
_BLOCK = 2e-3  # seconds of one's turn
_MARGIN = 0.97  # a cut must gain so much, so that noise alone does not decide for it
_OFTEN = 2 / 3  # and in this part of the turns
_SMALL = 10  # nodes that take this many empty calls or more are worth a cut


@dataclass(frozen=True)
class Candidate:
    """A way to run a model, and the nodes that it runs on the engine."""

    nodes: frozenset[str]
    run: Callable[[Mapping[str, Any]], list[Any]]


class Report(NamedTuple):
    """What a call does.

    Attributes
    ----------
    fused : frozenset of str
        The nodes that run on the engine.
    times : dict of str to (float, float or None)
        Seconds of each node that the call comes by, on the engine and alone in ONNX Runtime.
    seconds : float
        Of the call.
    whole : float or None
        Seconds of the whole model in ONNX Runtime.
    """

    fused: frozenset[str]
    times: dict[str, tuple[float, float | None]]
    seconds: float
    whole: float | None


class Choice:
    """The ways to run a model, and the choice between them for each size of inputs."""

    def __init__(
        self,
        model: onnx.ModelProto,
        scope: _scopes.Scope,
        prepared: Mapping[str, Prepared],
        measure: bool,
    ) -> None:
        self._scope, self._prepared = scope, prepared
        self._outputs = [value.name for value in model.graph.output]
        self._plans: dict[frozenset[str], Plan] = {}
        self.uncut = ""  # why the model cannot be cut, if it cannot
        self._chosen: dict[Any, Candidate] = {}
        self._cut = self._try_cut(frozenset(prepared)) if prepared else None
        self._whole = None
        if self._cut is None or measure:
            found = _runners.runtime(model, piece=False)
            if self._cut is None and isinstance(found, str):
                found = _runners.runner(model, piece=False)
            if not isinstance(found, str):
                self._whole = Candidate(frozenset(), found.call)

    def candidate(self, inputs: Mapping[str, Any]) -> Candidate:
        """What runs calls with inputs like these."""
        only = self._cut if self._whole is None else self._whole if self._cut is None else None
        if only:
            return only
        sizes = [(n, tuple(s.bit_length() for s in a.shape)) for n, a in sorted(inputs.items())]
        key = tuple(sizes)
        if key not in self._chosen:
            self._chosen[key] = self._measured(inputs)
        return self._chosen[key]

    def report(self, inputs: Mapping[str, Any]) -> Report:
        """What a call with these inputs does, and how long it takes."""
        chosen = self.candidate(inputs)
        ways = [chosen] if self._whole in (None, chosen) else [chosen, self._whole]
        times = seconds([partial(each.run, inputs) for each in ways])
        whole = None if self._whole is None or not _library.runtime() else times[-1]
        return Report(chosen.nodes, self._times(inputs), times[0], whole)

    def _times(self, inputs: Mapping[str, Any]) -> dict[str, tuple[float, float | None]]:
        """Seconds of each node that runs, here and in ONNX Runtime."""
        if self._cut is None:
            return {}
        found: dict[str, tuple[float, float | None]] = {}
        for step, given in executed(self._plans[self._cut.nodes], dict(inputs)):
            calls: list[Callable[[], Any]] = [partial(step.prepared.run, given)]
            alone = self._alone(step, given)
            ours, *theirs = seconds([*calls, *([alone] if alone else [])], 5 * _BLOCK)
            found[step.name] = ours, theirs[0] if theirs else None
        return found

    def _measured(self, inputs: Mapping[str, Any]) -> Candidate:
        assert self._whole
        assert self._cut
        candidates = [self._whole, self._cut]
        worth = self._worth_a_cut(inputs)
        if worth and worth != self._cut.nodes:
            of_some = self._try_cut(worth)
            candidates += [of_some] if of_some else []
        times = rounds([partial(each.run, inputs) for each in candidates])
        best = 1 + int(times[:, 1:].min(axis=0).argmin())
        gains = times[:, best] < _MARGIN * times[:, 0]
        surely = times[:, best].min() < _MARGIN * times[:, 0].min() and gains.mean() >= _OFTEN
        return candidates[best] if surely else self._whole

    def _worth_a_cut(self, inputs: Mapping[str, Any]) -> frozenset[str]:
        """The nodes that gain more than a call of ONNX Runtime, each by itself."""
        assert self._cut
        empty, worth = self._empty_call, []
        for step, given in executed(self._plans[self._cut.nodes], dict(inputs)):
            ours = seconds([partial(step.prepared.run, given)], _BLOCK)[0]
            if ours < _SMALL * empty:
                alone = self._alone(step, given)
                theirs = seconds([alone], _BLOCK)[0] if alone else np.inf
                if theirs - empty < ours + empty:
                    continue
            worth.append(step.name)
        return frozenset(worth)

    def _try_cut(self, nodes: frozenset[str]) -> Candidate | None:
        chosen = {name: self._prepared[name] for name in nodes}
        try:
            plan = Cutter(chosen).plan(self._scope, self._outputs)
        except Uncut as reason:
            self.uncut = str(reason)
            return None
        self._plans[nodes] = plan
        return Candidate(nodes, lambda inputs: plan.run(dict(inputs)))

    @cached_property
    def _sources(self) -> dict[str, _scopes.Found]:
        return {each.name: each for each in _scopes.recurrent(self._scope.model)}

    @cached_property
    def _empty_call(self) -> float:
        """Seconds of a call of ONNX Runtime that does nothing."""
        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        x = np.zeros(1, np.float32)
        return seconds([_session(self._scope.model, node, {"x": x}, {})])[0]

    def _alone(self, step: NodeStep, given: Sequence[Any]) -> Callable[[], Any] | None:
        """The node alone in ONNX Runtime, with what it was given; None where it is refused."""
        if not _library.runtime():
            return None
        found = self._sources[step.name]
        values = dict(zip(step.prepared.inputs, given, strict=True))
        try:
            return _session(self._scope.model, found.node, values, found.constants())
        except Exception:  # its errors have no class in common
            return None


def _session(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    values: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
) -> Callable[[], Any]:
    """A call of a model of one node."""
    graph = onnx.helper.make_graph(
        [node],
        "node",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), None
            )
            for name, value in values.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    session = _runners.session(made, piece=True)
    return lambda: session.run(None, values)


def rounds(calls: Sequence[Callable[[], Any]], budget: float = _BUDGET) -> np.ndarray:
    """Seconds of a call, by round and call: they take turns, so that all meet the same noise."""
    found: list[list[float]] = []
    guess = [np.inf] * len(calls)
    start = time.perf_counter()
    while len(found) < 2 or time.perf_counter() - start < budget * len(calls):
        found.append([])
        for at, call in enumerate(calls):
            began = time.perf_counter()
            call()  # alone: another's turn left the processors and caches to it
            guess[at] = min(guess[at], time.perf_counter() - began)
            count = max(1, int(_BLOCK / max(guess[at], 1e-7)))
            began = time.perf_counter()
            for _ in range(count):
                call()
            found[-1].append((time.perf_counter() - began) / count)
            guess[at] = min(guess[at], found[-1][-1])
    return np.array(found)


def seconds(calls: Sequence[Callable[[], Any]], budget: float = _BUDGET) -> list[float]:
    """Seconds of each call in its fastest turn."""
    return [float(best) for best in rounds(calls, budget).min(axis=0)]
