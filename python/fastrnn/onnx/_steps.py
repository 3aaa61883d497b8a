"""The steps of a graph that is cut: each reads values by name and adds its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from . import _runners, _views
from ._node import Prepared

Values = dict[str, Any]


class Step(Protocol):
    """Reads values and adds its own."""

    def run(self, values: Values) -> None: ...


@dataclass(frozen=True)
class NodeStep:
    """A recurrent node on the engine."""

    name: str
    prepared: Prepared

    def run(self, values: Values) -> None:
        found = self.prepared.run_among(values)
        values.update(zip(self.prepared.outputs, found, strict=True))


@dataclass(frozen=True)
class PieceStep:
    """Nodes between, as a model of their own."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    runner: _runners.Runner

    def run(self, values: Values) -> None:
        found = self.runner({name: values[name] for name in self.inputs})
        values.update(zip(self.outputs, found, strict=True))


@dataclass(frozen=True)
class ViewStep:
    """Nodes between that NumPy does."""

    calls: tuple[tuple[_views.View, tuple[str, ...], tuple[str, ...]], ...]

    def run(self, values: Values) -> None:
        for function, names, outputs in self.calls:
            found = (
                function(values[names[0]])
                if len(names) == 1
                else function(*[values[name] for name in names])
            )
            if len(outputs) == 1:
                values[outputs[0]] = found
            else:
                values.update(zip(outputs, found, strict=True))


@dataclass(frozen=True)
class IfStep:
    """A branch, by a value."""

    condition: str
    branches: tuple[Plan, Plan]  # for False and True
    outputs: tuple[str, ...]

    def branch(self, values: Values) -> Plan:
        """The one that is taken."""
        return self.branches[bool(np.asarray(values[self.condition]).item())]

    def run(self, values: Values) -> None:
        plan = self.branch(values)
        found = plan.run({name: values[name] for name in plan.inputs})
        values.update(zip(self.outputs, found, strict=True))


@dataclass(frozen=True)
class LoopStep:
    """A body, as many times as the model says."""

    trips: str  # the name of the most, or empty
    condition: str  # the name of whether to begin, or empty
    initial: tuple[str, ...]  # what is carried from one time to the next
    body: Plan
    body_inputs: tuple[str, ...]  # the count, the condition, and what is carried
    outputs: tuple[str, ...]  # what is carried last, then what every time has made
    empty: tuple[np.ndarray, ...]  # of the latter, where there was none

    def first(self, values: Values) -> Values | None:
        """What the body reads the first time, if there is one."""
        most = int(np.asarray(values[self.trips]).item()) if self.trips else 1
        begin = not self.condition or bool(np.asarray(values[self.condition]).item())
        if not begin or most < 1:
            return None
        return self._given(values, 0, [values[name] for name in self.initial])

    def run(self, values: Values) -> None:
        most = int(np.asarray(values[self.trips]).item()) if self.trips else None
        go_on = not self.condition or bool(np.asarray(values[self.condition]).item())
        carried = [np.array(values[name]) for name in self.initial]
        made: list[list[Any]] = []
        while go_on and (most is None or len(made) < most):
            stop, *found = self.body.run(self._given(values, len(made), carried))
            go_on, carried = bool(np.asarray(stop).item()), found[: len(carried)]
            made.append(found[len(carried) :])
        stacked = [np.stack(each) for each in zip(*made, strict=True)] if made else self.empty
        values.update(zip(self.outputs, (*carried, *stacked), strict=True))

    def _given(self, values: Values, count: int, carried: list[Any]) -> Values:
        own = (np.array(count), np.array(True), *carried)
        outside = {n: values[n] for n in self.body.inputs if n not in self.body_inputs}
        return {**outside, **dict(zip(self.body_inputs, own, strict=True))}


@dataclass(frozen=True)
class Plan:
    """Steps from inputs to outputs; `steps` may be looked at, to be timed one by one."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, np.ndarray]
    steps: tuple[Step, ...]
    copied: Collection[str] = field(default=())  # outputs that would be memory of the inputs

    def run(self, values: Values) -> list[Any]:
        """The values of the outputs; `values` becomes all that there were on the way."""
        values.update(self.constants)
        for step in self.steps:
            step.run(values)
        found = [values[name] for name in self.outputs]
        if self.copied:
            found = [
                np.array(value) if name in self.copied else value
                for name, value in zip(self.outputs, found, strict=True)
            ]
        return found


def executed(plan: Plan, values: Values) -> Iterator[tuple[NodeStep, list[Any]]]:
    """The recurrent nodes that a run comes by, with their inputs; of a loop, the first time."""
    values.update(plan.constants)
    for step in plan.steps:
        if isinstance(step, NodeStep):
            yield step, [values[name] for name in step.prepared.inputs]
        elif isinstance(step, IfStep):
            branch = step.branch(values)
            yield from executed(branch, {name: values[name] for name in branch.inputs})
        elif isinstance(step, LoopStep):
            given = step.first(values)
            if given is not None:
                yield from executed(step.body, given)
        step.run(values)
