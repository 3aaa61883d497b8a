"""The tensors of a call, checked, and turned into what the engine takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops, tree

from . import _backends, _weights
from ._call import Tensors


def tensors_of(
    layer: Any, cell: str, x: Any, states: Sequence[Any], mask: Any, training: Any
) -> Tensors:
    """What a backend is given; see `Recurrence.inner_loop` for what is raised."""
    own = layer.cell
    if len(x.shape) != 3:
        raise ValueError(f"[keras] inputs must have shape (B, T, I), got {tuple(x.shape)}")
    sizes = own.state_size if isinstance(own.state_size, (list, tuple)) else [own.state_size]
    _check_states(states, [(x.shape[0], size) for size in sizes])
    holds = _holds(mask, x)
    dtype = own.compute_dtype
    if not _backends.module().computes(cell, dtype, x):
        dtype = "float32"

    def cast(value: Any) -> Any:
        return ops.cast(value, dtype)

    x, kernel = cast(x), cast(own.kernel.value)
    drawn = own.get_dropout_mask(x[:, 0]) if training and own.dropout else None
    if isinstance(drawn, (list, tuple)):
        x = _weights.side_by_side(x, [cast(each) for each in drawn])
        kernel = _weights.block_kernel(kernel, len(drawn))
    elif drawn is not None:
        x = x * cast(drawn)[:, None]
    if layer.go_backwards:
        x = ops.flip(x, axis=1)
        holds = None if holds is None else ops.flip(holds, axis=1)
    if layer.stateful:
        states = [_backends.module().keeps(state) for state in states]
    return Tensors(
        x,
        tuple(map(cast, states)),
        holds,
        _recurrent_masks(own, cell, states[0], training, cast),
        _weights.in_order(cell, kernel),
        _weights.in_order(cell, cast(own.recurrent_kernel.value)),
        _weights.biases_of(cell, None if own.bias is None else cast(own.bias.value)),
    )


def _recurrent_masks(own: Any, cell: str, h: Any, training: Any, cast: Any) -> Any:
    """Of all gates, or of each, as the cell has drawn them."""
    drawn = own.get_recurrent_dropout_mask(h) if training else None
    if isinstance(drawn, (list, tuple)):
        drawn = ops.stack([drawn[gate] for gate in _weights.gate_order(cell)])
    return None if drawn is None else cast(drawn)[None]


def _holds(mask: Any, x: Any) -> Any:
    """Where rows sit out: what a mask of Keras says with False."""
    if tree.is_nested(mask):
        mask = mask[0]
    if mask is None:
        return None
    shape = tuple(mask.shape)
    if len(shape) == 3 and shape[2] == 1:
        mask, shape = mask[:, :, 0], shape[:2]
    B, T = x.shape[:2]
    if len(shape) != 2 or _differ(shape[1], T) or (shape[0] != 1 and _differ(shape[0], B)):
        raise ValueError(f"[keras] mask must have shape (B, T) = {(B, T)}, got {tuple(mask.shape)}")
    holds = ops.logical_not(ops.cast(mask, "bool"))
    return holds if shape[0] == B else ops.broadcast_to(holds, ops.shape(x)[:2])


def _check_states(states: Sequence[Any], shapes: Sequence[tuple[Any, int]]) -> None:
    if len(states) != len(shapes):
        raise ValueError(f"[keras] initial_state must be {len(shapes)} tensors, got {len(states)}")
    for state, shape in zip(states, shapes, strict=True):
        got = tuple(state.shape)
        if len(got) != 2 or any(map(_differ, got, shape)):
            raise ValueError(f"[keras] initial_state must be of shape (B, H) = {shape}, got {got}")


def _differ(size: Any, other: Any) -> bool:
    """Whether two sizes are known to differ; in a graph they may be unknown."""
    return isinstance(size, int) and isinstance(other, int) and size != other
