"""A call, as adapters have it, on the time loop: for derivatives that no kernel gives.

The arrays are of any library that has a `Namespace`, and shapes are those of the engine's calls;
`fastrnn.functional` has the table of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import _parameters
from . import loop
from .cell import Cell, find
from .namespace import Namespace


@dataclass(frozen=True)
class Options:
    """What a call says beside its arrays.

    Attributes
    ----------
    cell : str
        A canonical name.
    layers, directions : int
        L and D.
    batch_first, reverse, repeat_held : bool
    """

    cell: str
    layers: int
    directions: int
    batch_first: bool
    reverse: bool
    repeat_held: bool


class Arrays(NamedTuple):
    """The arrays of a call, in the order of the engine's table of roles; None where not given."""

    x: Any
    state: tuple[Any, ...]  # none, or one for each state
    lengths: Any
    resets: Any
    holds: Any
    recurrent_masks: Any
    masks: tuple[Any, ...]  # none, or one for each layer but the last
    parameters: tuple[Any, ...]


def run(xp: Namespace, options: Options, arrays: Arrays) -> tuple[Any, list[Any], list[Any]]:
    """Run the layers.

    Returns
    -------
    y : array laid out as x
    finals : of each state (L*D, B, H), without a batch (L*D, H)
    others : of each state but h (L, D, T, B, H), after every step
    """
    L, D = options.layers, options.directions
    batched = len(arrays.x.shape) == 3

    def time_first(a: Any) -> Any:
        if a is None or not batched:
            return None if a is None else a[:, None]
        return a.swapaxes(0, 1) if options.batch_first else a

    x = time_first(arrays.x)
    T, B = x.shape[:2]
    cells = [find(options.cell, d) for d in range(D)]
    weights = _weights(cells[0], arrays.parameters, L, D)
    state = arrays.state if batched else [s[:, None] for s in arrays.state]
    flags = time_first(arrays.resets), time_first(arrays.holds)
    steps = loop.StepInputs(arrays.lengths, *flags, options.repeat_held)
    y, finals, others = loop.run_layers(
        xp,
        cells,
        weights,
        [loop.make_schedule(xp, T, steps, (d == 1) != options.reverse) for d in range(D)],
        x,
        state or _zeros(xp, cells[0], weights, x, B),
        loop.Masks(
            [time_first(mask) for mask in arrays.masks],
            _by_pass(arrays.recurrent_masks, batched),
        ),
    )
    others = [a.reshape(L, D, *a.shape[1:]) for a in others]
    if not batched:
        return y[:, 0], [final[:, 0] for final in finals], others
    return y.swapaxes(0, 1) if options.batch_first else y, finals, others


def _weights(
    cell: Cell, parameters: Sequence[Any], layers: int, directions: int
) -> list[loop.Weights]:
    """Of each pass."""
    diag = cell.unit_parameters > 0
    made = []
    for own in _parameters.by_layer_direction(parameters, layers, directions):
        count = len(own) - diag
        names = _parameters.kinds(count >= 4, diag, count % 2 == 1)
        given = dict(zip(names, own, strict=True))
        made.append(loop.Weights(*(given.get(kind) for kind in _parameters.KINDS)))
    return made


def _zeros(xp: Namespace, cell: Cell, weights: list[loop.Weights], x: Any, B: int) -> list[Any]:
    """The initial states of a call that was given none."""
    w_hh = weights[0].w_hh
    widths = [w_hh.shape[1]] + [w_hh.shape[0] // cell.gates] * (cell.states - 1)
    return [xp.zeros((len(weights), B, width), x) for width in widths]


def _by_pass(masks: Any, batched: bool) -> Sequence[Any]:
    """The recurrent masks of each pass: (1, B, P), or (G, B, P)."""
    if masks is None:
        return ()
    masks = masks if batched else masks[..., None, :]
    return list(masks if len(masks.shape) == 4 else masks[:, None])
