"""Which layers and calls have a kernel, and why the others have none: the one place that says it.

A reason is a text for `fastrnn.keras.report` and warnings; the empty text is none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import keras

from .. import _dtypes
from .._cell_names import FunctionLike, cell_name
from . import _backends

# Of each cell of Keras, the base of its name; a GRU's depends on where its reset gate stands.
BASES: dict[type, str] = {
    keras.layers.SimpleRNNCell: "rnn",
    keras.layers.LSTMCell: "lstm",
    keras.layers.GRUCell: "gru",
}

_FUNCTIONS: dict[str, FunctionLike] = {
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "relu": "relu",
    "softsign": "softsign",
    "softplus": "softplus",
    "elu": "elu",
    "leaky_relu": ("leaky_relu", 0.2),
    "hard_sigmoid": ("hard_sigmoid", 1 / 6, 0.5),  # relu6(x + 3) / 6
}

# Keras's functions that have a kernel, as `keras.activations` and as `keras.ops` have them.
FUNCTIONS: dict[Any, FunctionLike] = {
    getattr(module, name): function
    for module in (keras.activations, keras.ops)
    for name, function in _FUNCTIONS.items()
} | {keras.activations.linear: ("affine", 1.0, 0.0)}


class Kernel(NamedTuple):
    """What serves a layer, or why nothing does."""

    cell: str = ""
    reason: str = ""


def kernel_of(layer: Any) -> Kernel:
    """What serves the calls of a layer, as far as the layer alone tells."""
    cell = layer.cell
    base = BASES.get(type(cell))
    if base is None:
        return Kernel(reason=f"its cell is {_class_of(cell)}, which has no kernel")
    if base == "gru" and not cell.reset_after:
        base = "gru_reset_before"
    functions: tuple[Any, ...] = (cell.activation,)
    if base == "lstm":
        functions = (cell.recurrent_activation, cell.activation, cell.activation)
    elif base != "rnn":
        functions = (cell.recurrent_activation, cell.activation)
    for function in functions:
        if _function(function) is None:
            return Kernel(reason=f"the activation {_name_of(function)} has no kernel")
    reason = _why_not_by_options(layer)
    name = "" if reason else _cell_name(base, tuple(map(_function, functions)))
    return Kernel(name, reason)


def why_not_called_so(layer: Any, x: Any, training: Any) -> str:
    """Why a call with these inputs has no kernel, of a layer that has one."""
    cell = layer.cell
    masked = bool(training) and bool(cell.dropout or cell.recurrent_dropout)
    if masked and not _multiplies_as_it_draws(cell):
        return "the implementation or recurrent_dropout of its cell was set after it was made"
    reason: str = _backends.module().why_not(x, masked and cell.recurrent_dropout > 0)
    return reason


def _multiplies_as_it_draws(cell: Any) -> bool:
    """Whether the masks of Keras's cell are used as they are drawn: not after all changes to it."""
    if type(cell) is keras.layers.SimpleRNNCell:
        return True
    by_gate: bool = cell.implementation == 1
    return by_gate == hasattr(cell, "dropout_mask_count") and (
        by_gate or not cell.recurrent_dropout
    )


def _why_not_by_options(layer: Any) -> str:
    cell = layer.cell
    if not _backends.is_known():
        return f"the backend {_backends.name()} has no adapter"
    if layer.compute_dtype != cell.compute_dtype:
        return f"the layer computes in {layer.compute_dtype}, its cell in {cell.compute_dtype}"
    if cell.compute_dtype not in (*_dtypes.OF_ENGINE["cpu"], *_dtypes.NARROW):
        return f"the dtype {cell.compute_dtype} has no kernel"
    for option in ("dropout", "recurrent_dropout"):
        if getattr(cell, option) >= 1:  # of which Keras's paths make different things
            return f"{option} must be below 1 for a kernel, got {getattr(cell, option)}"
    return ""


@lru_cache(maxsize=256)
def _cell_name(base: str, functions: tuple[FunctionLike, ...]) -> str:
    return cell_name(base, functions)


def _function(function: Any) -> FunctionLike | None:
    try:
        return FUNCTIONS.get(function)
    except TypeError:  # a callable without a hash
        return None


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", None) or _class_of(function))


def _class_of(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
