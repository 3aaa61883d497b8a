"""`jax.vmap` of the primitives.

The kernels take batches of rows: where the weights are the same for all elements of a map, these
become rows of one call. Where they are not, or where each element has gradients of the weights of
its own, the calls are made one after the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._sizes import SIZES
from ._call import Backward, Call, Inputs, Saved, Wants

Batched = tuple[list[Any], list[Any]]  # results, and where each of them is mapped


class _Rows(NamedTuple):
    """Elements of a map as rows.

    Attributes
    ----------
    call : Call
    size : int
        How many elements there are.
    batched : bool
        Whether the calls that are mapped have rows themselves.
    B : int
        How many each of them has; 1 where it has no batch, as in its tape.
    """

    call: Call
    size: int
    batched: bool
    B: int

    @property
    def sequence(self) -> int:
        """Where rows stand in what is laid out as x."""
        return 0 if self.call.batch_first else 1

    def join(self, a: Any, mapped: Any, axis: int, has_rows: bool) -> Any:
        """Put the elements of an array, mapped or the same for all, in front of its rows."""
        if a is None:
            return None
        if mapped is None:
            shape = (*a.shape[:axis], self.size, *a.shape[axis:])
            a = jnp.broadcast_to(jnp.expand_dims(a, axis), shape)
        else:
            a = jnp.moveaxis(a, mapped, axis)
        if not has_rows:
            return a
        return a.reshape(*a.shape[:axis], self.size * a.shape[axis + 1], *a.shape[axis + 2 :])

    def split(self, a: Any, axis: int, has_rows: bool) -> Any:
        """The inverse: elements stand at this axis, and rows, where there are some, behind it."""
        if not has_rows:
            return a
        return a.reshape(*a.shape[:axis], self.size, self.B, *a.shape[axis + 1 :])

    def join_each(self, arrays: Sequence[Any], mapped: Sequence[Any], axis: int) -> tuple[Any, ...]:
        return tuple(
            self.join(a, m, axis, self.batched) for a, m in zip(arrays, mapped, strict=True)
        )

    def inputs(self, a: Inputs, at: Inputs) -> Inputs:
        n = self.sequence
        masks = a.recurrent_masks
        of_masks = 0 if masks is None else len(masks.shape) - (at.recurrent_masks is not None)
        return Inputs(
            self.join(a.x, at.x, n, self.batched),
            self.join_each(a.state, at.state, 1),
            self.join(a.lengths, at.lengths, 0, self.batched),
            self.join(a.resets, at.resets, n, self.batched),
            self.join(a.holds, at.holds, n, self.batched),
            self.join(masks, at.recurrent_masks, of_masks - 1 - self.batched, self.batched),
            self.join_each(a.masks, at.masks, n),
            a.parameters,
        )

    def saved(self, a: Saved, at: Saved) -> Saved:
        y = self.join(a.y, at.y, self.sequence, self.batched)
        tape = zip(a[1:], at[1:], _TAPE, strict=True)
        return Saved(y, *(self.join(t, mapped, axis, True) for t, mapped, axis in tape))

    def results(self, made: Sequence[Any]) -> Batched:
        """Of y, the final states and the tape."""
        count = 1 + SIZES[self.call.cell].states
        axes = [self.sequence, *(1,) * (count - 1), *_TAPE][: len(made)]
        rows = [self.batched] * count + [True] * len(_TAPE)
        split = [self.split(*each) for each in zip(made, axes, rows, strict=False)]
        return split, axes


# Where rows stand in inner, states and saved, which have rows in any case.
_TAPE = (2, 4, 3)


def _rows(call: Call, size: int, inputs: Inputs, mapped: Inputs) -> _Rows:
    shape = [n for axis, n in enumerate(inputs.x.shape) if axis != mapped.x]
    batched = len(shape) == 3
    return _Rows(call, size, batched, shape[0 if call.batch_first else 1] if batched else 1)


def _size(args: Sequence[Any], dims: Sequence[Any]) -> int:
    size: int = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    return size


def _is_mapped(tree: Any) -> bool:
    return any(axis is not None for axis in tree)


def _check_one(primitive: Any, args: Any, dims: Any, **params: Any) -> None:
    """Refuse the call of one element, whose shapes the caller knows, and not those of all rows."""
    shapes = [[n for k, n in enumerate(a.shape) if k != d] for a, d in zip(args, dims, strict=True)]
    one = [jax.ShapeDtypeStruct(n, a.dtype) for n, a in zip(shapes, args, strict=True)]
    jax.eval_shape(functools.partial(primitive.bind, **params), *one)


def layer(
    primitive: Any, args: Any, dims: Any, *, call: Call, tree: Any, keep_tape: bool
) -> Batched:
    inputs, mapped = tree.unflatten(args), tree.unflatten(dims)
    _check_one(primitive, args, dims, call=call, tree=tree, keep_tape=keep_tape)
    if _is_mapped(mapped.parameters):
        return each_in_turn(primitive, args, dims, call=call, tree=tree, keep_tape=keep_tape)
    rows = _rows(call, _size(args, dims), inputs, mapped)
    leaves, tree = jax.tree.flatten(rows.inputs(inputs, mapped))
    return rows.results(primitive.bind(*leaves, call=call, tree=tree, keep_tape=keep_tape))


def back(primitive: Any, args: Any, dims: Any, *, call: Call, tree: Any, wants: Wants) -> Batched:
    arrays, mapped = tree.unflatten(args), tree.unflatten(dims)
    if wants.parameters or _is_mapped(mapped.inputs.parameters):
        return each_in_turn(primitive, args, dims, call=call, tree=tree, wants=wants)
    rows = _rows(call, _size(args, dims), arrays.inputs, mapped.inputs)
    joined = Backward(
        rows.inputs(arrays.inputs, mapped.inputs),
        rows.saved(arrays.saved, mapped.saved),
        rows.join(arrays.dy, mapped.dy, rows.sequence, rows.batched),
        rows.join_each(arrays.dstate, mapped.dstate, 1),
    )
    leaves, tree = jax.tree.flatten(joined)
    made = primitive.bind(*leaves, call=call, tree=tree, wants=wants)
    axes = [rows.sequence] * wants.dx + [1] * SIZES[call.cell].states
    split = [rows.split(a, axis, rows.batched) for a, axis in zip(made, axes, strict=True)]
    return split, axes


def each_in_turn(primitive: Any, args: Any, dims: Any, **params: Any) -> Batched:
    """One call for each element."""
    chosen = [k for k, axis in enumerate(dims) if axis is not None]

    def call(mapped: Any) -> Any:
        own = list(args)
        for k, a in zip(chosen, mapped, strict=True):
            own[k] = a
        return primitive.bind(*own, **params)

    made = jax.lax.map(call, [jnp.moveaxis(args[k], dims[k], 0) for k in chosen])
    return made, [0] * len(made)


def each(f: Callable[..., list[Any]], args: Any, dims: Any, **params: Any) -> Batched:
    """What is made of JAX's own operations, which have rules of their own."""
    made = jax.vmap(lambda *own: f(*own, **params), in_axes=tuple(dims))(*args)
    return made, [0] * len(made)
