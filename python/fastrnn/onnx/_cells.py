"""A direction of a node as a cell of this library and its parameters, and back: the one place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _arrays, _cell_names, weights
from . import _quantized
from ._options import FUNCTIONS, Function, Options, as_written

_ONNX_NAMES = {own: theirs for theirs, own in FUNCTIONS.items()}


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
    return _named(options, peepholes, sum(options.functions, ()))


def _named(options: Options, peepholes: bool, functions: tuple[Function, ...]) -> str:
    clip = None if options.clip is None else as_written(options.clip)
    return _cell_names.cell_name(base(options, peepholes), functions, clip)


def parameters(options: Options, arrays: Mapping[str, Any], direction: int) -> dict[str, Any]:
    """The parameters of one direction by torch's names, out of what `_node.weights` gives.

    Raises
    ------
    ValueError, TypeError
        As `fastrnn.weights.from_onnx`.
    """
    of_one: dict[str, Any] = {
        name: None if arrays.get(name) is None else np.asarray(arrays[name])[direction, None]
        for name in ("W", "R", "B", "P")
    }
    name = cell(options, of_one["P"] is not None, direction)

    def named(given: Mapping[str, Any]) -> dict[str, Any]:
        return weights.from_onnx(
            name,
            **given,
            linear_before_reset=int(options.reset_after),
            input_forget=int(options.coupled),
        )

    made = named(of_one)
    if not options.quantized:
        return made
    scales = np.concatenate([arrays["W_scale"], arrays["R_scale"]], axis=1)
    return _quantized.parameters(made, named({**of_one, "B": scales[direction, None]}))


# ---- and back ------------------------------------------------------------------------------------


def operator(name: str) -> str:
    """ONNX's operator for a cell.

    Raises
    ------
    ValueError
        It has none.
    NotImplementedError
        It has one, but for the clip of a state.
    """
    found = _cell_names.find(name)
    if found is None:
        bases = list(_cell_names.BASES)
        raise ValueError(f"[onnx] cell must have a base of {bases}, got {name!r}")
    if found.state_range is not None:
        raise NotImplementedError(f"[onnx] cell must not clip its state, got {name!r}")
    return found.base.partition("_")[0].upper()


def attributes(name: str, directions: int) -> dict[str, Any]:
    """What a node has to be told of a cell, without what it has by default."""
    cell = _cell_names.parsed(name)
    found: dict[str, Any] = {}
    if cell.own_functions is not None:
        functions = [f for d in range(directions) for f in cell.of_direction(d)]
        found["activations"] = [_ONNX_NAMES[f.name] for f in functions]
        for at, attribute in enumerate(("activation_alpha", "activation_beta")):
            values = [f.numbers[at] for f in functions if len(f.numbers) > at]
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
    """W, R, B and P of a layer of a stack, out of its parameters, and what integers have beside."""
    own = re.compile(rf"[a-z_]+_l{layer}(_reverse)?")
    of_layer = {n: np.asarray(_arrays.on_host(a)) for n, a in params.items() if own.fullmatch(n)}
    if not any(n.startswith("scale") for n in of_layer):
        return weights.to_onnx(name, of_layer, layer)
    made, scales = (weights.to_onnx(name, p, layer) for p in _quantized.apart(of_layer))
    return _quantized.as_node(made, scales["B"])
