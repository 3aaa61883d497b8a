"""What a call of the layers is: its options, its arrays as trees, the shapes of its results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from .. import _native


@dataclass(frozen=True)
class Call:
    """Everything about a call but its arrays: a static parameter of the primitives.

    Attributes
    ----------
    cell : str
        A canonical name.
    layers, directions : int
        L and D.
    batch_first, reverse, repeat_held : bool
    recompute : int
        See `fastrnn.functional.forward`.
    projected : bool
        Whether the parameters of each pass end with a projection of h, ``weight_hr``.
    """

    cell: str
    layers: int
    directions: int
    batch_first: bool
    reverse: bool
    repeat_held: bool
    recompute: int
    projected: bool


class Inputs(NamedTuple):
    """The arrays of a call, in the order of the engine's table of roles; None where not given."""

    x: Any
    state: tuple[Any, ...]  # none, or one for each state
    lengths: Any
    resets: Any
    holds: Any
    recurrent_masks: Any
    masks: tuple[Any, ...]  # none, or one for each layer but the last
    parameters: tuple[Any, ...]


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


def check(call: Call, numbers: tuple[int, ...], arrays: Any) -> None:
    """Refuse a call as the engine does, where all shapes are numbers; raises its errors."""
    leaves = jax.tree.leaves(arrays)
    if all(isinstance(n, int) for leaf in leaves for n in leaf.shape):
        promised = [(leaf.shape, _kind(leaf.dtype), leaf.dtype.itemsize) for leaf in leaves]
        _native.engine.xla_check(call.cell, numbers, promised)


def _kind(dtype: np.dtype) -> str:
    return "B" if dtype.name == "bfloat16" else dtype.kind


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
    return Results(like(x, y), *(tuple(like(x, shape) for shape in s) for s in (finals, tape)))


@cache
def states_of(cell: str) -> int:
    """How many states a cell has."""
    return len(_native.engine.result_shapes(cell, 1, 1, (1, 1), 1, 1, False, 0)[1])


def like(aval: Any, shape: tuple[Any, ...]) -> Any:
    """The abstract value of an array of this shape, with all else as another has it.

    That is its dtype, and within `jax.shard_map` the axes over which it varies.
    """
    mesh = aval.sharding.mesh
    sharding = NamedSharding(mesh, PartitionSpec(*(None,) * len(shape)))
    made: Any = aval.update(shape=shape, weak_type=False, sharding=sharding)
    return made
