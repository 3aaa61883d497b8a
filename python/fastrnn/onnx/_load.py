"""A whole model: its recurrent nodes on the engine where that is faster, all else beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx

from .. import _arguments
from . import _fold, _library, _model, _runners, _scopes
from ._choice import Candidate, Choice, Report
from ._node import Prepared
from ._scopes import Found

_KEPT = 256  # shapes of calls that are remembered
_LARGEST = 2**31 - 1  # bytes of a message that onnx completes


class Node(NamedTuple):
    """A recurrent node of a model.

    Attributes
    ----------
    name, operator : str
    cells : tuple of str
        The cell of each direction; empty where the engine has none, or the weights come with each
        call.
    reason : str
        Why the node cannot be cut out for the engine; empty where it can.
    """

    name: str
    operator: str
    cells: tuple[str, ...]
    reason: str


class Model:
    """A model that can be called; made by `load`.

    Attributes
    ----------
    inputs, outputs : tuple of str
        Their names.
    nodes : tuple of Node
        The recurrent nodes, those in bodies among them.
    """

    def __init__(self, model: onnx.ModelProto, measure: bool) -> None:
        _check(model.graph)
        stored = {tensor.name for tensor in model.graph.initializer}
        given = [value for value in model.graph.input if value.name not in stored]
        self.inputs = tuple(value.name for value in given)
        self.outputs = tuple(value.name for value in model.graph.output)
        self._names = frozenset(self.inputs)
        self._dtypes = {value.name: _dtype(value) for value in given}
        cut = _named_and_typed(_fold.conditions(model))
        nodes, prepared = _prepared(_scopes.recurrent(cut))
        self._choice = Choice(model, _scopes.Scope(cut, cut.graph), prepared, measure)
        uncut = self._choice.uncut
        self.nodes = tuple(node._replace(reason=node.reason or uncut) for node in nodes)
        self._runs: dict[Any, _runners.Runner] = {}

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The outputs by name.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            All inputs, of the dtypes that the model says. States between calls are inputs and
            outputs where the model has them.

        Returns
        -------
        dict of str to ndarray

        Raises
        ------
        ValueError
            An input is unknown or not there, or has a wrong shape.
        TypeError
            An input is no array, or has another dtype.
        """
        # A model of one layer takes a hundred microseconds, so little is done here, and at once.
        try:
            key = (*inputs, *[(value.shape, value.dtype) for value in inputs.values()])
            run = self._runs[key]
        except (KeyError, AttributeError):
            run = self._first(inputs).run
        try:
            return dict(zip(self.outputs, run(inputs), strict=True))
        except Exception as error:
            raise _runners.refused(error) from None

    def run(self, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        """The outputs in the order of `outputs`; otherwise as a call."""
        return list(self(inputs).values())

    def report(self, inputs: Mapping[str, Any]) -> Report:
        """Which nodes run on the engine in calls like this one, and how long all takes."""
        self._first(inputs)
        return self._choice.report(inputs)

    def _first(self, inputs: Mapping[str, Any]) -> Candidate:
        """What runs calls of these shapes, which are looked at the first time."""
        self._check_inputs(inputs)
        try:
            found = self._choice.candidate(inputs)  # another thread may look too: it finds as much
        except Exception as error:
            raise _runners.refused(error) from None
        if len(self._runs) >= _KEPT:
            self._runs.clear()
        key = (*inputs, *[(value.shape, value.dtype) for value in inputs.values()])
        self._runs[key] = found.run
        return found

    def _check_inputs(self, inputs: Mapping[str, Any]) -> None:
        for name in (*inputs, *self.inputs):
            if name not in self._names or name not in inputs:
                raise ValueError(f"[onnx] inputs must be {list(self.inputs)}, got {list(inputs)}")
        for name, value in inputs.items():
            wanted = self._dtypes[name]
            if not isinstance(value, np.ndarray) or (wanted and value.dtype != wanted):
                got = getattr(value, "dtype", type(value).__name__)
                raise TypeError(f"[onnx] input {name} must be an array of {wanted}, got {got}")


def load(model: Any, *, measure: bool = True) -> Model:
    """A whole model as a callable: recurrent nodes on the engine, all else where it runs best.

    The other nodes are cut into pieces for ONNX Runtime, or where it is not installed, for onnx's
    own evaluator; a piece of a few Squeeze, Transpose and the like is NumPy's. Branches of an If
    and bodies of a Loop are cut as the graph is; a constant condition is folded. A Scan stays
    whole.

    Parameters
    ----------
    model : str, Path, bytes or onnx.ModelProto
    measure : bool
        In the first call of each size of its inputs, within a factor of two, time the model cut at
        all of its recurrent nodes, cut at those alone that gain more than the cut costs, and whole
        in ONNX Runtime, and keep the fastest. Results may then be either's, which differ by
        roundings; those of a DynamicQuantizeLSTM by as much as x and h are rounded there. With
        False every node runs on the engine that has a cell there.

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        The model or a node breaks a rule of ONNX; external data are not there, too short or outside
        the model's folder.
    TypeError
        Not a model; `measure` is neither True nor False.
    NotImplementedError
        Nobody runs an operator.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> model = fastrnn.onnx.load("model.onnx")
    >>> outputs = model({"x": x, "h": h})
    """
    return Model(_model.read(model), _arguments.flag("onnx", "measure", measure))


def _check(graph: onnx.GraphProto, outside: frozenset[str] = frozenset()) -> None:
    """Every value that is read is made before, in the graph or around it."""
    for sparse in graph.sparse_initializer:
        raise NotImplementedError(
            f"[onnx] initializers must be dense, got {sparse.values.name!r}, which is sparse"
        )
    values = (*graph.input, *graph.initializer)
    known = {*outside, "", *(value.name for value in values)}
    for node in graph.node:
        for name in node.input:
            if name not in known:
                raise ValueError(f"{_library.label(node)} inputs must be made before, got {name!r}")
        for _, body in _model.bodies(node):
            _check(body, frozenset(known))
        known.update(node.output)
    for value in graph.output:
        if value.name not in known:
            raise ValueError(f"[onnx] outputs of {graph.name!r} must be made, got {value.name!r}")


def _dtype(value: onnx.ValueInfoProto) -> np.dtype | None:
    kind = value.type.tensor_type.elem_type
    return onnx.helper.tensor_dtype_to_np_dtype(kind) if kind else None


def _named_and_typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Recurrent nodes with names of their own, and the types of values as far as they are known."""
    for found in _scopes.recurrent(model):
        found.node.name = found.name
        dtype = found.dtype()
        if dtype is not None:
            kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
            known = found.scope.types
            found.scope.graph.value_info.extend(
                onnx.helper.make_tensor_value_info(name, kind, None)
                for name in (found.node.input[0], *found.node.output)
                if name and name not in known and found.scope.owner(name) is found.scope
            )
    if model.ByteSize() > _LARGEST:
        return model
    return onnx.shape_inference.infer_shapes(model)


def _prepared(found: list[Found]) -> tuple[tuple[Node, ...], dict[str, Prepared]]:
    """What each recurrent node is, and those that can be cut out."""
    nodes, prepared = [], {}
    for each in found:
        cells: tuple[str, ...] = ()
        reason = f"inside a {each.inside}" if each.inside else ""
        try:
            made = Prepared(each.node, each.constants())
            cells = made.cells
            if not reason:
                prepared[each.name] = made
        except NotImplementedError as error:
            if not _library.runtime():
                raise
            reason = str(error)
        nodes.append(Node(each.name, each.node.op_type, cells, reason))
    return tuple(nodes), prepared
