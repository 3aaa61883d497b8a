"""What a call of the layers is: its options, its arrays as trees, the shapes of its results."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from .. import _dtypes, _native
from ..reference.call import Arrays, Options

Inputs = Arrays


@dataclass(frozen=True)
class Call(Options):
    """Everything about a call but its arrays: a static parameter of the primitives.

    Attributes
    ----------
    recompute : int
        See `fastrnn.functional.forward`.
    projected : bool
        Whether the parameters of each pass end with a projection of h, ``weight_hr``.
    """

    recompute: int
    projected: bool


class Saved(NamedTuple):
    """What forward keeps for backward."""

    y: Any
    inner: Any
    states: Any
    saved: Any


class Backward(NamedTuple):
    """The arrays of a backward call."""

    inputs: Inputs
    saved: Saved
    dy: Any
    dstate: tuple[Any, ...]  # none, or one for each state


class Tangents(NamedTuple):
    """Tangents, or gradients, of what has some; None where there is none."""

    x: Any
    state: tuple[Any, ...]
    parameters: tuple[Any, ...]


class Wants(NamedTuple):
    """Which gradients backward makes beside that of the initial state."""

    dx: bool
    parameters: bool


NOTHING = Wants(False, False)


def options(
    call: Call,
    kind: int,
    arrays: Inputs,
    dstate: tuple[Any, ...] = (),
    wants: Wants = NOTHING,
) -> tuple[int, ...]:
    """The numbers that the handler reads (`csrc/xla/request.h`)."""
    given = {
        "state": arrays.state,
        "lengths": arrays.lengths is not None,
        "resets": arrays.resets is not None,
        "holds": arrays.holds is not None,
        "recurrent_masks": arrays.recurrent_masks is not None,
        "masks": arrays.masks,
        "{}": True,  # parameters
        "hn": True,
        "dstate": dstate,
        "dx": wants.dx,
        "d{}": wants.parameters,
    }
    bits = _native.engine.xla_roles
    values = {
        **vars(call),
        "kind": kind,
        "given": sum(1 << bits[name] for name, has in given.items() if has),
    }
    return tuple(int(values[name]) for name in _native.engine.xla_options)


def check(call: Call, numbers: tuple[int, ...], arrays: Inputs | Backward) -> None:
    """Refuse a call as the engine does, and raise its errors.

    Sizes that are symbols have values when the call runs, and all else is then checked again. Here
    a number of its own stands for each, unless they are sizes of parameters or of a tape: these
    depend on one another.
    """
    leaves = jax.tree.leaves(arrays)
    symbols = _symbols(leaves)
    if symbols and (isinstance(arrays, Backward) or _symbols(arrays.parameters)):
        return
    narrow = _narrow_dtype(call.cell, arrays.inputs if isinstance(arrays, Backward) else arrays)
    promised = [
        (tuple(symbols.get(n, n) for n in leaf.shape), *_element(leaf.dtype, narrow))
        for leaf in leaves
    ]
    try:
        _native.engine.xla_check(call.cell, numbers, promised)
    except (ValueError, TypeError) as error:
        shown = {str(number): str(symbol) for symbol, number in symbols.items()}
        text = re.sub(r"\d+", lambda found: shown.get(found[0], found[0]), str(error))
        raise type(error)(text) from None


def _symbols(arrays: Any) -> dict[Any, int]:
    """The sizes that are no numbers, each with a number that is no size of these arrays."""
    sizes = [n for array in arrays for n in array.shape]
    symbols = dict.fromkeys(n for n in sizes if not isinstance(n, int))
    free = (n for n in itertools.count(10_007) if n not in sizes)
    return dict(zip(symbols, free, strict=False))


def _narrow_dtype(cell: str, inputs: Inputs) -> np.dtype | None:
    """The dtype of a call in 16 bits, of which all is but the cell state.

    Which platform a call is for, and so whether it has such kernels, is known when it is compiled.
    The rules of shapes are here those of float32.
    """
    dtype: np.dtype = inputs.parameters[0].dtype
    if dtype.name not in _dtypes.NARROW:
        return None
    storage = inputs.x, inputs.state[:1], inputs.recurrent_masks, inputs.masks, inputs.parameters
    for array in jax.tree.leaves(storage):
        if array.dtype != dtype:
            raise TypeError(
                f"[{cell}] x, h, masks and parameters must be {dtype} alike, got {array.dtype}"
            )
    return dtype


def _element(dtype: np.dtype, narrow: np.dtype | None) -> tuple[str, int]:
    """Kind and bytes, as the engine's rules have them."""
    if narrow is not None and dtype == narrow:  # to NumPy None is float64
        dtype = np.dtype(np.float32)
    return "B" if dtype.name == "bfloat16" else dtype.kind, dtype.itemsize


class Results(NamedTuple):
    """The abstract values of a call's results."""

    y: Any
    final: tuple[Any, ...]
    tape: tuple[Any, ...]


def results(call: Call, inputs: Inputs) -> Results:
    """Those of a call, whose sizes may be symbols; shapes are the engine's."""
    x, P = inputs.x, inputs.parameters[1].shape[1]
    H = inputs.parameters[-1].shape[1] if call.projected else P
    sizes = (call.layers, call.directions, x.shape, H, P, call.batch_first, call.recompute)
    y, finals, tape = _native.engine.result_shapes(call.cell, *sizes)
    storage = x.dtype
    wide = np.dtype(_dtypes.of_cell_state(storage.name))
    dtypes = [storage, *[wide] * (len(finals) - 1)]
    return Results(
        like(x, y, storage),
        tuple(map(like, [x] * len(finals), finals, dtypes)),
        tuple(map(like, [x] * len(tape), tape, (storage, wide, storage))),
    )


def like(aval: Any, shape: tuple[Any, ...], dtype: Any) -> Any:
    """The abstract value of an array, with all else as another has it.

    That is, within `jax.shard_map`, the axes over which it varies.
    """
    mesh = aval.sharding.mesh
    sharding = NamedSharding(mesh, PartitionSpec(*(None,) * len(shape)))
    made: Any = aval.update(shape=shape, dtype=dtype, weak_type=False, sharding=sharding)
    return made
