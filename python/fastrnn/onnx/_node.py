"""One recurrent node on the engine: prepared once, run many times.

A direction of a node is a layer of one direction, so that each writes its part of ONNX's Y, which
has the directions outside the rows, in place. So nothing is copied in any layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from .. import _engine, functional
from . import _cells, _options, _quantized
from ._options import NEEDED, OPERATORS, WEIGHTS, Options

_FLOATS = ("float32", "float64")
_NARROW = ("float16", "bfloat16")  # computed in float32
# Resets, holds, batch_sizes and masks, recurrent ones and others, which a node has not.
_NOTHING = (None,) * 5
_OF_CALL = ("X", "sequence_lens", "initial_h", "initial_c")


@dataclass(frozen=True)
class _Weights:
    """Packed weights of each direction, and what they say of the arrays of a call."""

    runs: tuple[Callable[[tuple[Any, ...]], tuple[Any, ...]], ...]  # the engine's, by direction
    cells: tuple[str, ...]
    hidden_size: int
    dtype: np.dtype
    narrow: bool


class Prepared:
    """A node whose weights are packed; made by `prepare`.

    Attributes
    ----------
    inputs : tuple of str
        The names of the values that `run` takes: those of the node's inputs that were not given to
        `prepare`.
    outputs : tuple of str
        The names of the values that `run` gives.
    cells : tuple of str
        The cell of each direction; empty where the weights come with each call.
    """

    def __init__(self, node: onnx.NodeProto, weights: Mapping[str, Any]) -> None:
        self._options = options = _options.read(node)
        known = _known(options, weights)
        self.outputs = tuple(name for name in node.output if name)
        here = [name for what, name in options.inputs.items() if what not in known]
        self.inputs = tuple(dict.fromkeys(here))  # h and c may come by one name
        self._names = frozenset(self.inputs)
        self._names_of_call = tuple(options.inputs.get(what, "") for what in _OF_CALL)
        self._fixed = {options.inputs[what]: known[what] for what in _OF_CALL if what in known}
        self._known = known
        whole = all(what in known for what in WEIGHTS if what in options.inputs)
        if not whole:  # that the cell is there is to be known before
            check_cells(options, _cell_names(options, "P" in options.inputs))
            if options.quantized:
                _quantized.check_zero_points(options, known)
        self._weights = _pack(options, known) if whole else None
        self.cells = self._weights.cells if self._weights else ()
        self._all = tuple(options.outputs) == OPERATORS[options.operator].outputs

    def run(self, inputs: Mapping[str, Any] | Sequence[Any]) -> tuple[np.ndarray, ...]:
        """The outputs of one call.

        Parameters
        ----------
        inputs : mapping of str to ndarray, or sequence of ndarray
            By the names of `inputs`, or in their order: X ``(T, B, I)``, sequence_lens ``(B,)``,
            initial_h and initial_c ``(D, B, H)``; with ``layout=1`` ``(B, T, I)`` and
            ``(B, D, H)``. None is an optional input that is left out.

        Returns
        -------
        tuple of ndarray
            Those of Y ``(T, D, B, H)`` (``layout=1``: ``(B, T, D, H)``), Y_h and Y_c
            ``(D, B, H)`` (``(B, D, H)``) that the node gives a name. After 0 steps the states are
            the initial ones.

        Raises
        ------
        ValueError
            A shape, a length, an input that is unknown or not there.
        TypeError
            A dtype, or something that is not an array.
        NotImplementedError
            The engine has no such cell; only where the weights come with the call.
        """
        if type(inputs) is not dict or not inputs.keys() <= self._names:
            inputs = self._named(inputs)
        return self.run_among(inputs)

    def run_among(self, inputs: dict[str, Any]) -> tuple[np.ndarray, ...]:
        """`run` with the inputs among others of any names."""
        if self._fixed:
            inputs = {**inputs, **self._fixed}
        x, lengths, h, c = [inputs.get(name) for name in self._names_of_call]
        options, made = self._options, self._weights
        if made is None:
            made = _pack(options, {**self._known, **self._by_role(inputs)})
        try:
            found = _run(options, made, x, lengths, (h, c))
        except (ValueError, TypeError) as error:
            raise type(error)(f"{options.label} {error}") from None
        return found if self._all else self._chosen(found)

    def _named(self, inputs: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
        """The inputs by name."""
        if not isinstance(inputs, Mapping):
            if len(inputs) != len(self.inputs):
                raise ValueError(
                    f"{self._options.label} inputs must be {len(self.inputs)}, {self.inputs}, "
                    f"got {len(inputs)}"
                )
            return dict(zip(self.inputs, inputs, strict=True))
        for name in inputs:
            if name not in self._names:
                raise ValueError(
                    f"{self._options.label} inputs must be of {self.inputs}, got {name!r}"
                )
        return dict(inputs)

    def _by_role(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {what: inputs[n] for what, n in self._options.inputs.items() if n in inputs}

    def _chosen(self, found: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        known = OPERATORS[self._options.operator].outputs
        return tuple(found[known.index(what)] for what in self._options.outputs)


def prepare(node: onnx.NodeProto, weights: Mapping[str, Any]) -> Prepared:
    """Make a node ready to run.

    Parameters
    ----------
    node : onnx.NodeProto
        An RNN, LSTM or GRU of any version, or ONNX Runtime's DynamicQuantizeLSTM.
    weights : mapping of str to array or onnx.TensorProto
        Values of the node's inputs that are the same in every call, by the names that the node
        gives them: W, R, B and P, and others as one likes. Weights that are not here come with
        each call and are packed there. Zero points must be here.

    Returns
    -------
    Prepared

    Raises
    ------
    ValueError
        The node or a shape breaks a rule of the operator's text; the message names the node, the
        attribute or input, and the rule.
    TypeError
        A dtype, or something that is not an array.
    NotImplementedError
        The engine has no such cell, or no integers with such zero points.

    Examples
    --------
    >>> node = onnx.helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y", "Y_h"], hidden_size=8)
    >>> prepared = fastrnn.onnx.prepare(node, {"W": W, "R": R, "B": B})
    >>> Y, Y_h = prepared.run({"X": X})
    """
    return Prepared(node, weights)


def run_node(
    node: onnx.NodeProto, inputs: Mapping[str, Any] | Sequence[Any]
) -> tuple[np.ndarray, ...]:
    """Run a node once, with all of its inputs by name, or in the order of their names.

    Results and errors are those of `prepare` and `Prepared.run`.
    """
    options = _options.read(node)
    names = list(dict.fromkeys(options.inputs.values()))
    if not isinstance(inputs, Mapping):
        if len(inputs) > len(names):
            raise ValueError(
                f"{options.label} inputs must be at most {len(names)}, got {len(inputs)}"
            )
        inputs = dict(zip(names, inputs, strict=False))
    fixed = {options.inputs[what] for what in WEIGHTS if what in options.inputs}
    weights = {name: value for name, value in inputs.items() if name in fixed}
    others = {name: value for name, value in inputs.items() if name not in fixed}
    return Prepared(node, weights).run(others)


# ---- weights -------------------------------------------------------------------------------------


def _known(options: Options, weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The values of inputs that stay the same, by what they are."""
    if not isinstance(weights, Mapping):
        raise TypeError(
            f"{options.label} weights must be a mapping of names to arrays, "
            f"got {type(weights).__name__}"
        )
    for name in weights:
        if name not in options.inputs.values():
            raise ValueError(
                f"{options.label} weights must be of {list(options.inputs.values())}, got {name!r}"
            )
    found = {}
    for what, name in options.inputs.items():
        if weights.get(name) is not None:
            found[what] = _array(options, what, weights[name])
    if "X" in found:
        raise ValueError(f"{options.label} weights must be without X, got {list(weights)}")
    return found


def _array(options: Options, what: str, value: Any) -> np.ndarray:
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    if not isinstance(value, np.ndarray):
        raise TypeError(
            f"{options.label} input {what} must be a NumPy array, got {type(value).__name__}"
        )
    return value


def weights(options: Options, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """W, R, B and P, checked, without a P that has no effect; of integers the scales beside."""
    arrays = {what: given[what] for what in WEIGHTS if given.get(what) is not None}
    for what in WEIGHTS:
        if what in NEEDED and what in options.inputs and what not in arrays:
            raise ValueError(f"{options.label} input {what} must be there, got none")
    arrays = {what: _array(options, what, value) for what, value in arrays.items()}
    if options.quantized:
        arrays = _quantized.as_lstm(options, arrays)
    _check(options, arrays)
    if "P" in arrays and not arrays["P"].any():
        del arrays["P"]
    return arrays


def _pack(options: Options, given: Mapping[str, Any]) -> _Weights:
    """The weights of a node, packed."""
    arrays = weights(options, given)
    dtype = arrays["W"].dtype
    if dtype.name in _NARROW:
        arrays = {what: value.astype(np.float32) for what, value in arrays.items()}
    cells = _cell_names(options, "P" in arrays)
    check_cells(options, cells)
    scheme = _quantized.SCHEME if options.quantized else None
    runs = tuple(
        functional.Packed(
            cell, _cells.parameters(options, arrays, direction), weights=scheme
        ).native.run
        for direction, cell in enumerate(cells)
    )
    return _Weights(runs, cells, arrays["R"].shape[2], dtype, dtype.name in _NARROW)


def _cell_names(options: Options, peepholes: bool) -> tuple[str, ...]:
    return tuple(_cells.cell(options, peepholes, d) for d in range(len(options.reverse)))


def check_cells(options: Options, cells: tuple[str, ...]) -> None:
    """The engine has them, which it says when it makes weights."""
    dtype = _quantized.SCHEME if options.quantized else "float32"
    for cell in cells:
        try:
            _engine.for_device("cpu").Weights(cell, dtype, 1, 1, 1, 1, True, 0)
        except (ValueError, NotImplementedError) as error:
            raise NotImplementedError(f"{options.label} {error}") from None


def _check(options: Options, arrays: Mapping[str, np.ndarray]) -> None:
    """Shapes and dtypes of W, R, B and P."""
    dtype, D, G = arrays["W"].dtype, len(options.reverse), OPERATORS[options.operator].gates
    if dtype.name not in (*_FLOATS, *_NARROW):
        raise TypeError(
            f"{options.label} input W must be of {[*_NARROW, *_FLOATS]}, got {dtype.name}"
        )
    W, R = arrays["W"].shape, arrays["R"].shape
    for what, shape, letters in (("W", W, f"{G} H, I"), ("R", R, f"{G} H, H")):
        if len(shape) != 3 or shape[0] != D or 0 in shape:
            raise ValueError(
                f"{options.label} input {what} must have shape ({D}, {letters}), got {shape}"
            )
    H = R[2]
    if options.hidden_size not in (None, H):
        raise ValueError(
            f"{options.label} attribute hidden_size must be that of R, {H}, "
            f"got {options.hidden_size}"
        )
    shapes = {"W": (D, G * H, W[2]), "R": (D, G * H, H), "B": (D, 2 * G * H), "P": (D, 3 * H)}
    shapes |= {"W_scale": (D, G * H), "R_scale": (D, G * H)}
    for what, array in arrays.items():
        if array.dtype != dtype:
            raise TypeError(
                f"{options.label} input {what} must be {dtype.name}, as W is, "
                f"got {array.dtype.name}"
            )
        if array.shape != shapes[what]:
            raise ValueError(
                f"{options.label} input {what} must have shape {shapes[what]}, got {array.shape}"
            )


# ---- a call --------------------------------------------------------------------------------------


def _run(
    options: Options, made: _Weights, x: Any, lengths: Any, initial: Sequence[Any]
) -> tuple[np.ndarray, ...]:
    """Y, Y_h and of an LSTM Y_c."""
    check_rank(x)
    if made.narrow:
        x, *initial = (_widened(made, array) for array in (x, *initial))
    if options.plain:
        call = (x, _state(options, made, x, initial), lengths, *_NOTHING, None, False)
        y, final = made.runs[0]((*call, options.reverse[0]))
        found = (y[:, None], *final) if type(final) is tuple else (y[:, None], final)
    else:
        found = _directions(options, made, x, lengths, initial)
    if not made.narrow:
        return found
    with np.errstate(over="ignore"):  # a number that the dtype has not becomes infinite
        return tuple(array.astype(made.dtype) for array in found)


def _directions(
    options: Options, made: _Weights, x: Any, lengths: Any, initial: Sequence[Any]
) -> tuple[np.ndarray, ...]:
    """Each direction into its part of Y, in any layout."""
    rows_first, D = options.batch_first, len(options.reverse)
    (first, second), H = x.shape[:2], made.hidden_size
    y = np.empty((first, second, D, H) if rows_first else (first, D, second, H), x.dtype)
    finals = []
    for direction, reverse in enumerate(options.reverse):
        out = y[:, :, direction] if rows_first else y[:, direction]
        state = _state(options, made, x, _of_direction(options, initial, direction))
        call = (x, state, lengths, *_NOTHING, out, rows_first, reverse)
        final = made.runs[direction](call)[1]
        finals.append(final if type(final) is tuple else (final,))
    states = finals[0] if D == 1 else map(np.concatenate, zip(*finals, strict=True))
    return (y, *(each.swapaxes(0, 1) if rows_first else each for each in states))


def _state(options: Options, made: _Weights, x: Any, initial: Sequence[Any]) -> Any:
    """The engine's state out of h and c ``(1, B, H)``, either of which may be None for zeros."""
    h, c = initial
    if options.operator != "LSTM" or (h is None and c is None):
        return h
    if h is None or c is None:
        zeros = np.zeros((1, x.shape[0 if options.batch_first else 1], made.hidden_size), x.dtype)
        return (zeros, c) if h is None else (h, zeros)
    return h, c


def _of_direction(options: Options, initial: Sequence[Any], direction: int) -> list[Any]:
    """The part ``(1, B, H)`` of one direction, of each array that is there."""
    D, axis, found = len(options.reverse), int(options.batch_first), []
    for array in initial:
        if array is not None:
            if not isinstance(array, np.ndarray) or array.ndim != 3 or array.shape[axis] != D:
                got = getattr(array, "shape", type(array).__name__)
                axes = f"(B, {D}, H)" if axis else f"({D}, B, H)"
                raise ValueError(f"initial states must have shape {axes}, got {got}")
            array = (array.swapaxes(0, 1) if axis else array)[direction : direction + 1]
        found.append(array)
    return found


def check_rank(x: Any) -> None:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"X must be a NumPy array, got {type(x).__name__}")
    if x.ndim != 3:
        raise ValueError(f"X must have rank 3, got shape {x.shape}")


def _widened(made: _Weights, array: Any) -> Any:
    if array is None:
        return None
    if not isinstance(array, np.ndarray) or array.dtype != made.dtype:
        got = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"X and states must be {made.dtype.name}, as W is, got {got}")
    found: np.ndarray = array.astype(np.float32)
    return found
