"""Packed sequences: the order of their rows; and the rows padded, where a call needs it.

Functions of tensors alone. `op` opens the messages.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ._call import Inputs, StepInputs


def pad(packed: PackedSequence, inputs: Inputs, batch_first: bool) -> Inputs:
    """x and the masks padded, longest row first, with the lengths, which the host has."""

    def padded(data: Tensor) -> tuple[Tensor, Tensor]:
        # Without the order of the caller, which padding would restore.
        return pad_packed_sequence(PackedSequence(data, packed.batch_sizes), batch_first)

    x, lengths = padded(inputs.x)
    masks = tuple(padded(mask)[0] for mask in inputs.masks)
    return inputs._replace(x=x, steps=inputs.steps.with_lengths(lengths), masks=masks)


def pack(y: Tensor, padded: Inputs, batch_first: bool) -> Tensor:
    """The rows of y, which belongs to padded inputs, packed as x was."""
    lengths: Any = padded.steps.lengths
    return pack_padded_sequence(y, lengths, batch_first).data


def sort_masks(op: str, packed: PackedSequence, masks: Tensor | None) -> Tensor | None:
    """Recurrent masks, as `sort_rows`."""
    order = packed.sorted_indices
    if masks is None or order is None:
        return masks
    if masks.dim() < 3 or masks.shape[-2] != len(order):
        raise RuntimeError(
            f"[{op}] recurrent_masks must have {len(order)} rows in the last dimension but one, as "
            f"the PackedSequence has, got {tuple(masks.shape)}"
        )
    return masks.index_select(-2, order)


def sort_rows(op: str, packed: PackedSequence, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Initial states, which come in the caller's order of the rows, in that of the packed ones.

    Raises
    ------
    RuntimeError
        They have another number of rows.
    """
    order = packed.sorted_indices
    if order is None:
        return states
    for state in states:
        if state.dim() != 3 or state.shape[1] != len(order):
            raise RuntimeError(
                f"[{op}] hx must have {len(order)} rows in its second of 3 dimensions, as the "
                f"PackedSequence has, got {tuple(state.shape)}"
            )
    return tuple(state.index_select(1, order) for state in states)


def unsort_rows(packed: PackedSequence, results: Tensor, dim: int) -> Tensor:
    """Results whose rows, along `dim`, are in the packed order, in the caller's."""
    order = packed.unsorted_indices
    return results if order is None else results.index_select(dim, order)


def refuse_steps(op: str, steps: StepInputs) -> None:
    """What a packed sequence says itself of its steps must not be said once more.

    Raises
    ------
    ValueError
        There are lengths, resets or holds.
    """
    refused = [name for name in ("lengths", "resets", "holds") if getattr(steps, name) is not None]
    if refused:
        raise ValueError(
            f"[{op}] a PackedSequence must come without lengths, resets and holds, "
            f"got {', '.join(refused)}"
        )


def check(op: str, packed: PackedSequence) -> None:
    """That the parts of a PackedSequence belong together.

    Raises
    ------
    RuntimeError
        They do not.
    """
    data, batch_sizes = packed.data, packed.batch_sizes
    if data.dim() != 2:
        raise RuntimeError(
            f"[{op}] data of a PackedSequence must have 2 dimensions, got {tuple(data.shape)}"
        )
    counts = batch_sizes.tolist() if batch_sizes.dim() == 1 else []
    falling = counts == sorted(counts, reverse=True)
    if not counts or counts[-1] < 1 or not falling or sum(counts) != len(data):
        raise RuntimeError(
            f"[{op}] batch_sizes of a PackedSequence must fall, be at least 1, and add up to its "
            f"{len(data)} rows, got {batch_sizes}"
        )
    for name in ("sorted_indices", "unsorted_indices"):
        order = getattr(packed, name)
        if order is not None and tuple(order.shape) != (counts[0],):
            raise RuntimeError(
                f"[{op}] {name} of a PackedSequence must have shape ({counts[0]},), "
                f"got {tuple(order.shape)}"
            )
