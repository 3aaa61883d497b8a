"""What a call of the layers is: its options, its tensors, and the shapes of its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _dtypes, _native
from .._sizes import SIZES

NARROW = tuple(getattr(torch, name) for name in _dtypes.NARROW)


_CELL_STATE = {
    getattr(torch, name): getattr(torch, _dtypes.of_cell_state(name)) for name in _dtypes.NARROW
}


def cell_state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of states other than h, where h has this one."""
    found: torch.dtype = _CELL_STATE.get(dtype, dtype)
    return found


class StepInputs(NamedTuple):
    """What a call says of its steps; see `fastrnn.functional`."""

    lengths: Tensor | None = None
    resets: Tensor | None = None
    holds: Tensor | None = None
    batch_sizes: Tensor | None = None  # of a packed x, in the place of those above
    recurrent_masks: Tensor | None = None

    def converted(self, dtype: torch.dtype) -> StepInputs:
        """With what has the dtype of x in another one."""
        masks = self.recurrent_masks
        return self if masks is None else self._replace(recurrent_masks=masks.to(dtype))

    def with_lengths(self, lengths: Tensor) -> StepInputs:
        """Of a packed x that has been padded."""
        return self._replace(lengths=lengths, batch_sizes=None)


NO_STEP_INPUTS = StepInputs()


def step_inputs(*given: Tensor | None) -> StepInputs:
    """These, or `NO_STEP_INPUTS` itself where none is given."""
    for value in given:
        if value is not None:
            return StepInputs(*given)
    return NO_STEP_INPUTS


class Inputs(NamedTuple):
    """The tensors of a call."""

    x: Tensor
    steps: StepInputs
    states: tuple[Tensor, ...]  # none, or one for each state
    masks: tuple[Tensor, ...]  # none, or one for each layer but the last
    parameters: tuple[Tensor, ...]

    def flat(self) -> tuple[Tensor | None, ...]:
        """One after the other, as they go through autograd."""
        return (self.x, *self.steps, *self.states, *self.masks, *self.parameters)


@dataclass(eq=False)  # frozen, it would take a microsecond more to make
class Call:
    """Everything about a call but its tensors. (Not a tuple: to functorch this is one leaf.)

    Attributes
    ----------
    cell : str
        A name of `fastrnn.build_info()["cells"]`.
    layers, directions : int
        L and D.
    batch_first : bool
    recompute : int
        See `fastrnn.functional.forward`.
    cells : bool
        Whether the cell states after every step are a result that has gradients.
    projected : bool
        Whether the parameters of each pass end with a projection of h, ``weight_hr``.
    states, masks : int
        How many of these tensors there are.
    repeat_held : bool
        Whether the output of a held step is that of the last one that ran, and not 0.
    whole_tape : bool
        Whether the shapes of the tape must depend on the shape of x alone.
    """

    cell: str
    layers: int
    directions: int
    batch_first: bool
    recompute: int
    cells: bool
    projected: bool
    states: int
    masks: int
    repeat_held: bool = False
    whole_tape: bool = False

    def inputs(self, flat: Sequence[Any]) -> Inputs:
        """The inverse of `Inputs.flat`; what follows the masks are the parameters."""
        states = 1 + len(StepInputs._fields)
        masks = states + self.states
        end = masks + self.masks
        steps = StepInputs(*flat[1:states])
        rest = tuple(flat[states:masks]), tuple(flat[masks:end]), tuple(flat[end:])
        return Inputs(flat[0], steps, *rest)


def state_widths(call: Call, parameters: Sequence[Any]) -> list[Any]:
    """How many values each state of a row has: h as many as ``weight_hh`` has columns."""
    P = parameters[1].shape[1]
    H = parameters[-1].shape[1] if call.projected else P
    return [P] + [H] * (SIZES[call.cell].states - 1)


class Results:
    """A call's results with a whole tape, empty, for symbolic sizes too; shapes are the engine's.

    Raises
    ------
    NotImplementedError
        How many rows there are is known by the values of batch_sizes alone.
    """

    def __init__(self, call: Call, inputs: Inputs) -> None:
        if inputs.steps.batch_sizes is not None:
            raise NotImplementedError(
                f"[{call.cell}] a PackedSequence has no kernel for tensors without values"
            )
        x = inputs.x
        widths = state_widths(call, inputs.parameters)
        y, finals, tape = _native.engine.result_shapes(
            call.cell,
            call.layers,
            call.directions,
            tuple(x.shape),
            widths[-1],
            widths[0],
            call.batch_first,
            call.recompute,
        )
        dtypes = [x.dtype] + [cell_state_dtype(x.dtype)] * (SIZES[call.cell].states - 1)
        self.y = x.new_empty(y)
        self.finals = [
            x.new_empty(shape, dtype=dtype) for shape, dtype in zip(finals, dtypes, strict=True)
        ]
        self.tape = [
            x.new_empty(shape, dtype=dtype)
            for shape, dtype in zip(
                tape, (x.dtype, cell_state_dtype(x.dtype), x.dtype), strict=True
            )
        ]
