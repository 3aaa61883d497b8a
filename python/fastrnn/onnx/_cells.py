"""A direction of a node as a cell of this library and its parameters, and back: the one place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import _arrays, weights
from ._options import FUNCTIONS, OPERATORS, Options, float_text

_BASES = {
    "rnn": "RNN",
    "lstm": "LSTM",
    "lstm_peephole": "LSTM",
    "lstm_coupled": "LSTM",
    "lstm_coupled_peephole": "LSTM",
    "gru": "GRU",
    "gru_reset_before": "GRU",
}
# Simple cells, whose names say their function in another way.
_SHORT = {
    "rnn()": "rnn_tanh",
    "rnn(relu)": "rnn_relu",
    "rnn(sigmoid)": "rnn_sigmoid",
}
_LONG = {short: long for long, short in _SHORT.items()}
# A cell of this library with the operator's arrays, for their layout alone.
_LAYOUT = {"RNN": "rnn_tanh", "LSTM": "lstm", "GRU": "gru"}


def base(options: Options, peepholes: bool) -> str:
    """The equations of a node without its functions."""
    if options.operator == "LSTM":
        return f"lstm{'_coupled' if options.coupled else ''}{'_peephole' if peepholes else ''}"
    if options.operator == "GRU":
        return "gru" if options.reset_after else "gru_reset_before"
    return "rnn"


def cell(options: Options, peepholes: bool, direction: int) -> str:
    """The name of the cell of one direction."""
    return _named(options, peepholes, options.functions[direction])


def of_directions(options: Options, peepholes: bool) -> str:
    """The name of the cell of all directions, each with its own functions where they differ."""
    first, last = options.functions[0], options.functions[-1]
    return _named(options, peepholes, first if first == last else first + last)


def _named(options: Options, peepholes: bool, functions: tuple[str, ...]) -> str:
    """The canonical name: without the functions that the operator has by default."""
    inside = [] if functions == OPERATORS[options.operator].activations else [*functions]
    if options.clip is not None:
        inside.append(f"clip={float_text(options.clip)}")
    own = base(options, peepholes)
    name = f"{own}({', '.join(inside)})" if inside or own == "rnn" else own
    return _SHORT.get(name, name)


def parameters(options: Options, arrays: Mapping[str, Any], direction: int) -> dict[str, Any]:
    """The parameters of one direction by torch's names, out of W, R, B and P.

    Raises
    ------
    ValueError, TypeError
        As `fastrnn.weights.from_onnx`.
    """
    of_one: dict[str, Any] = {
        name: None if arrays.get(name) is None else np.asarray(arrays[name])[direction, None]
        for name in ("W", "R", "B")
    }
    found = weights.from_onnx(_LAYOUT[options.operator], **of_one, linear_before_reset=1)
    if options.coupled:  # f is 1 - i and has no weights
        found = {name: _without_forget(array) for name, array in found.items()}
    if arrays.get("P") is not None:
        i, o, f = np.split(np.asarray(arrays["P"])[direction], 3)
        found["weight_diag_l0"] = np.concatenate([i, o] if options.coupled else [i, f, o])
    return found


def _without_forget(array: np.ndarray) -> np.ndarray:
    i, _, g, o = np.split(array, OPERATORS["LSTM"].gates)
    return np.concatenate([i, g, o])


# ---- and back ------------------------------------------------------------------------------------


class _Cell(NamedTuple):
    """A cell's name in its parts."""

    base: str
    functions: tuple[tuple[str, tuple[float, ...]], ...]
    clip: float | None


def operator(name: str) -> str:
    """ONNX's operator for a cell.

    Raises
    ------
    ValueError
        It has none.
    """
    return _BASES[_parts(name).base]


def attributes(name: str, directions: int) -> dict[str, Any]:
    """What a node has to be told of a cell, without what it has by default."""
    cell = _parts(name)
    found: dict[str, Any] = {}
    default = OPERATORS[_BASES[cell.base]].activations
    functions = cell.functions
    if [function for function, _ in functions] != list(default):
        if len(functions) == len(default):
            functions *= directions
        onnx_names = {own: theirs for theirs, (own, _) in FUNCTIONS.items()}
        found["activations"] = [onnx_names[function] for function, _ in functions]
        for at, attribute in enumerate(("activation_alpha", "activation_beta")):
            values = [numbers[at] for _, numbers in functions if len(numbers) > at]
            if values:
                found[attribute] = values
    if cell.clip is not None:
        found["clip"] = cell.clip
    if "coupled" in cell.base:
        found["input_forget"] = 1
    if cell.base == "gru":
        found["linear_before_reset"] = 1
    return found


def arrays(name: str, params: Mapping[str, Any], layer: int) -> dict[str, np.ndarray]:
    """W, R, B and P of a layer of a stack, out of its parameters."""
    cell = _parts(name)
    coupled = "coupled" in cell.base
    own = re.compile(rf"[a-z_]+_l{layer}(_reverse)?")
    of_layer = {n: np.asarray(_arrays.on_host(a)) for n, a in params.items() if own.fullmatch(n)}
    peepholes = [of_layer.pop(n) for n in sorted(of_layer) if n.startswith("weight_diag")]
    if coupled:
        of_layer = {n: _with_forget(array) for n, array in of_layer.items()}
    found = weights.to_onnx(_LAYOUT[_BASES[cell.base]], of_layer, layer)
    if peepholes:
        parts = [np.split(each, 2 if coupled else 3) for each in peepholes]
        ordered = [(p[0], p[-1], np.zeros_like(p[0]) if coupled else p[1]) for p in parts]
        found["P"] = np.stack([np.concatenate(each) for each in ordered])
    return found


def _with_forget(array: np.ndarray) -> np.ndarray:
    """With a forget gate of zeros, which a node that couples its gates does not look at."""
    i, g, o = np.split(array, OPERATORS["LSTM"].gates - 1)
    return np.concatenate([i, np.zeros_like(i), g, o])


def _parts(name: str) -> _Cell:
    match = re.fullmatch(r"(\w+)(?:\((.*)\))?", _LONG.get(name, name))
    if not match or match[1] not in _BASES:
        raise ValueError(f"[onnx] cell must have a base of {list(_BASES)}, got {name!r}")
    functions, clip = [], None
    for part in re.findall(r"[\w=.+-]+(?:\([^()]*\))?", match[2] or ""):
        if part.startswith("clip="):
            clip = float(part.removeprefix("clip="))
        else:
            function, _, numbers = part.rstrip(")").partition("(")
            functions.append((function, tuple(map(float, numbers.split(",") if numbers else ()))))
    usual = [(function, ()) for function in OPERATORS[_BASES[match[1]]].activations]
    return _Cell(match[1], tuple(functions or usual), clip)
