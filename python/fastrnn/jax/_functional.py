"""The calls: parameters go in with each of them, as a tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _arguments, _native, _parameters
from .._cell_names import FunctionLike
from .._sizes import SIZES
from ..reference.cell import find
from . import _primitives
from ._call import Call, Inputs
from ._varying import alike

State = Any  # an array, or a pair of arrays for a cell with two states


def recurrent(
    cell: str,
    x: Any,
    params: Mapping[str, Any],
    state: State = None,
    *,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: Any = None,
    resets: Any = None,
    holds: Any = None,
    repeat_held: bool = False,
    dropout_masks: Any = None,
    recurrent_masks: Any = None,
    recompute: bool | int = False,
) -> tuple[jax.Array, State]:
    """Run a stack of layers of any cell: a pure function, for all of JAX's transformations.

    Parameters
    ----------
    cell : str
        A name of `fastrnn.build_info()["cells"]`, or one that `fastrnn.cell_name` makes.
    x : array
        ``(T, B, I)``, with `batch_first` ``(B, T, I)``, without a batch ``(T, I)``; float32,
        float16, bfloat16, or float64 where JAX has it enabled. So are the parameters and h; the
        cell state of an LSTM is float32 in 16 bits.
    params : mapping of str to array
        The parameters with torch's names, as `init` makes them.
    state : array or pair of arrays, optional
        ``(L * D, B, H)`` or ``(L * D, H)``; a pair ``(h, c)`` for LSTMs.
    batch_first, reverse, lengths, resets, holds, repeat_held, dropout_masks, recurrent_masks
        See the table of `fastrnn.functional`. Masks have no gradient.
    recompute : bool or int
        Keep less for backward, see `fastrnn.functional.forward`.

    Returns
    -------
    y : array
    state : array or pair of arrays
        The final state.

    Raises
    ------
    ValueError
        A shape, or a missing or unknown parameter. Lengths have values when the call runs, and so
        one that is outside 0..T is refused then, by JAX's own runtime error with the same text.
    TypeError
        A dtype, or something that is not an array.
    NotImplementedError
        A mask is differentiated.
    """
    cell = _arguments.cell_name(cell)
    names = _names(cell, params)
    leaves = _parameters.in_order(cell, names, params)
    call = Call(
        cell,
        *_parameters.layers_directions(params),
        _arguments.flag(cell, "batch_first", batch_first),
        _arguments.flag(cell, "reverse", reverse),
        _arguments.flag(cell, "repeat_held", repeat_held),
        _arguments.checkpoint_steps(cell, recompute),
        "weight_hr_l0" in params,
    )
    inputs = Inputs(
        _array(cell, "x", x),
        _state(cell, state),
        _lengths(cell, lengths),
        None if resets is None else _array(cell, "resets", resets),
        None if holds is None else _array(cell, "holds", holds),
        None if recurrent_masks is None else _array(cell, "recurrent_masks", recurrent_masks),
        _masks(cell, dropout_masks, call.layers - 1),
        tuple(_array(cell, *named) for named in zip(names, leaves, strict=True)),
    )
    y, *final = _primitives.layer(call, alike(inputs))
    return y, final[0] if len(final) == 1 else tuple(final)


def lstm(
    x: Any, params: Mapping[str, Any], state: State = None, **options: Any
) -> tuple[jax.Array, State]:
    """`recurrent` with the LSTM, whose equations `fastrnn.LSTM` gives; returns ``y, (hn, cn)``."""
    return recurrent("lstm", x, params, state, **options)


def gru(
    x: Any, params: Mapping[str, Any], state: State = None, **options: Any
) -> tuple[jax.Array, State]:
    """`recurrent` with the GRU, whose equations `fastrnn.GRU` gives; returns ``y, hn``."""
    return recurrent("gru", x, params, state, **options)


def rnn(
    x: Any,
    params: Mapping[str, Any],
    state: State = None,
    *,
    nonlinearity: FunctionLike = "tanh",
    **options: Any,
) -> tuple[jax.Array, State]:
    """`recurrent` with the simple layer, see `fastrnn.RNN`; returns ``y, hn``."""
    return recurrent(_arguments.rnn_cell(nonlinearity), x, params, state, **options)


def init(
    key: Any,
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    bias: bool = True,
    bidirectional: bool = False,
    proj_size: int = 0,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Draw the parameters of a stack of layers, as torch draws them.

    Parameters
    ----------
    key : array
        Of `jax.random.key`.
    cell : str
        As in `recurrent`.
    input_size, hidden_size, num_layers : int
        I, H and L.
    bias, bidirectional : bool
    proj_size : int
        P, of an LSTM whose h is projected; 0 for none.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    dict of str to array
        By torch's names, each uniform within ``1 / sqrt(hidden_size)``.

    Raises
    ------
    ValueError, TypeError
        An unknown cell, a size or a dtype that layers cannot have.
    NotImplementedError
        A projection, of a cell that has none.
    """
    cell = _arguments.cell_name(cell)
    shapes = _native.engine.Weights(
        cell,
        _arguments.float_dtype(cell, dtype).name,
        _arguments.size(cell, "num_layers", num_layers),
        2 if _arguments.flag(cell, "bidirectional", bidirectional) else 1,
        _arguments.size(cell, "input_size", input_size),
        _arguments.size(cell, "hidden_size", hidden_size),
        _arguments.flag(cell, "bias", bias),
        _arguments.projection(cell, proj_size),
    ).parameters
    bound = hidden_size**-0.5
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.uniform(own, shape, dtype, -bound, bound)
        for own, (name, shape) in zip(keys, shapes, strict=True)
    }


def _names(cell: str, params: Any) -> list[str]:
    """The names of the parameters that there must be, in the engine's order."""
    if not isinstance(params, Mapping):
        raise TypeError(
            f"[{cell}] params must be a mapping of names to arrays, got {type(params).__name__}"
        )
    SIZES[cell]  # refuses what is no cell, as the engine does
    diag = find(cell).unit_parameters > 0
    kinds = _parameters.kinds("bias_ih_l0" in params, diag, "weight_hr_l0" in params)
    layers, directions = _parameters.layers_directions(params)
    suffixes = [_parameters.suffix(l, d) for l in range(layers) for d in range(directions)]
    return [kind + suffix for suffix in suffixes for kind in kinds]


def _lengths(cell: str, lengths: Any) -> Any:
    """JAX's array of lengths, of 32 bits where it has not enabled 64."""
    if lengths is None or isinstance(lengths, jax.Array):
        return lengths
    values = np.asarray(_arguments.lengths_array(cell, lengths))
    if values.dtype.kind not in "iu":
        raise TypeError(f"[{cell}] lengths must be integers, got {values.dtype}")
    array = jnp.asarray(values)
    changed = values[values.astype(array.dtype) != values]
    if changed.size:
        raise ValueError(f"[{cell}] lengths must be within {array.dtype}, got {changed[0]}")
    return array


def _state(cell: str, state: Any) -> tuple[Any, ...]:
    if state is None:
        return ()
    count = SIZES[cell].states
    if count == 1:
        return (_array(cell, "state", state),)
    if not isinstance(state, (tuple, list)):
        raise TypeError(
            f"[{cell}] state must be a tuple of {count} arrays, got {type(state).__name__}"
        )
    if len(state) != count:
        raise ValueError(f"[{cell}] state must hold {count} arrays, got {len(state)}")
    return tuple(_array(cell, "state", s) for s in state)


def _masks(cell: str, masks: Any, count: int) -> tuple[Any, ...]:
    if masks is None:
        return ()
    if not isinstance(masks, (tuple, list)):
        raise TypeError(
            f"[{cell}] dropout_masks must be a tuple or list of arrays, got {type(masks).__name__}"
        )
    if len(masks) != count:
        raise ValueError(
            f"[{cell}] dropout_masks must be one for each layer but the last ({count}), "
            f"got {len(masks)}"
        )
    return tuple(_array(cell, "dropout_masks", mask) for mask in masks)


def _array(cell: str, name: str, value: Any) -> jax.Array:
    """An array of JAX's; NumPy's are welcome, lists are not."""
    if not isinstance(value, (jax.Array, np.ndarray)):
        raise TypeError(f"[{cell}] {name} must be an array, got {type(value).__name__}")
    return jnp.asarray(value)
