"""The time loop around every cell: layers, directions, lengths, resets, holds, dropout masks.

It runs on the arrays of any library that has a `Namespace`: NumPy's for the reference, and torch's
where `fastrnn.torch` needs derivatives that no kernel gives.

A *pass* is one direction of one layer. Everything that lengths, resets and holds ask for is settled
beforehand, in the `Schedule` of a direction: the steps in the order in which the pass takes them,
each with the rows that run and a flag for those rows that start anew from zero. Rows keep their
state while they are not running, so the state after the last step is the final one.

Shapes are those of a batch, time first: x (T, B, I), y (T, B, D*H), states (L*D, B, H).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .cell import Cell
from .namespace import Moment, Namespace


class Weights(NamedTuple):
    """The parameters of one pass.

    `w_diag` are those of a unit, for a cell that has some. With `w_hr` the state h is ``W_hr v``,
    where v is what the cell gives for h (H. Sak, A. Senior and F. Beaufays, Long short-term memory
    recurrent neural network architectures for large scale acoustic modeling, 2014;
    `torch.nn.LSTM` with `proj_size`): h, the output and the columns of `w_hh` then are P, while the
    other states are H wide.
    """

    w_ih: Any  # (G*H, in)
    w_hh: Any  # (G*H, H or P)
    b_ih: Any = None  # (G*H,)
    b_hh: Any = None  # (G*H,)
    w_diag: Any = None  # (K*H,)
    w_hr: Any = None  # (P, H)

    def of_units(self, cell: Cell) -> tuple[Any, ...]:
        """Give the last argument of the cell's functions, (K, H), where it has one."""
        if self.w_diag is None:
            return ()
        return (self.w_diag.reshape(cell.unit_parameters, -1),)


class StepInputs(NamedTuple):
    """What a call says of single steps; the same for all layers and directions."""

    lengths: Any = None  # (B,): a row runs before its own
    resets: Any = None  # (T, B): a new sequence starts; where the row is held, when it next runs
    holds: Any = None  # (T, B): the row sits out
    repeat_held: bool = False  # its output there is that of the last step that ran, and not 0


class Masks(NamedTuple):
    """What is multiplied into what goes from layer to layer, and into what goes round."""

    between: Sequence[Any] = ()  # of each layer but the last (T, B, D*H), or none
    recurrent: Sequence[Any] = ()  # of each pass (1, B, H) or (G, B, H), of each gate; or none


NO_MASKS = Masks()


class Schedule(NamedTuple):
    """The steps of a direction."""

    moments: Any  # in its order, as the namespace has them: of NumPy a list of Moment
    running: Any  # (T, B): whether the row runs at this time; None where all do
    shown: Any  # (T, B): whether the output is h and not 0; None where it always is


@dataclass(frozen=True)
class Step:
    """One step of a pass, for the n rows that run: what happened, for the way back."""

    moment: Moment
    x: Any  # (n, in)
    s_prev: tuple[Any, ...]  # (n, H) each
    saved: tuple[Any, ...]  # what the cell saved, (n, H) each
    v: Any = None  # (n, H): what a second product in the step multiplied; None where there is none
    masks: tuple[Any, ...] = ()  # recurrent ones, (n, P) each: none, one, or one of each gate


Tape = list[list[Step]]  # for each pass, layer by layer and in it forward, reverse: its steps


def make_schedule(xp: Namespace, T: int, inputs: StepInputs, reverse: bool) -> Schedule:
    """Lay out a direction."""
    lengths, resets, holds, repeat_held = inputs
    within = None if lengths is None else xp.running(T, lengths)
    running = within if holds is None else _and(within, ~holds)
    starts = None if resets is None else _starts(xp, _and(within, resets), running, reverse)
    shown = running
    if repeat_held and running is not None and T != 0:  # since the row's first step

        def ran(before: Any, now: Any) -> tuple[Any, Any]:
            return before | now, before | now

        none = xp.zeros_like(running[:1])[0]
        shown = _and(within, xp.scan_rows(ran, none, running, reverse))
    return Schedule(xp.moments(T, running, starts, reverse), running, shown)


def _and(a: Any, b: Any) -> Any:
    return b if a is None else a & b


def _starts(xp: Namespace, resets: Any, running: Any, reverse: bool) -> Any:
    """Tell which rows start from zero if they run: (T, B).

    A reset of a row that is held belongs to the next step that runs. In reverse a piece is entered
    at its end: at the step before the one where the next piece starts.
    """
    if resets.shape[0] == 0:
        return resets
    none = xp.zeros_like(resets[:1])
    if running is not None:

        def move(waiting: Any, now: Any) -> tuple[Any, Any]:
            reset, runs = now
            waiting = waiting | reset
            return waiting & ~runs, waiting

        resets = xp.scan_rows(move, none[0], (resets, running), False)
    if not reverse:
        return resets
    if running is not None:

        def enter(waiting: Any, now: Any) -> tuple[Any, Any]:
            reset, runs = now
            waiting = (reset & runs) | (waiting & ~runs)
            return waiting, waiting

        resets = xp.scan_rows(enter, none[0], (resets, running), True)
    return xp.concatenate([resets[1:], none], 0)


def run_layers(
    xp: Namespace,
    cells: Sequence[Cell],
    weights: Sequence[Weights],
    schedules: Sequence[Schedule],
    x: Any,
    states: Sequence[Any],
    masks: Masks = NO_MASKS,
    tape: Tape | None = None,
) -> tuple[Any, list[Any], list[Any]]:
    """Run all passes.

    Parameters
    ----------
    cells, schedules : of each direction
    weights : of each pass
    x : (T, B, I)
    states : of each state of the cell (L*D, B, H)
    masks : Masks, optional
    tape : list, optional
        Takes the steps of each pass.

    Returns
    -------
    y : (T, B, D*H)
    finals : of each state (L*D, B, H)
    others : of each state but h (L*D, T, B, H), after every step; 0 where a row does not run
    """
    finals: list[list[Any]] = [[] for _ in states]
    others: list[list[Any]] = [[] for _ in states[1:]]
    D = len(schedules)
    for layer in range(len(weights) // D):
        if layer > 0 and masks.between:
            x = x * masks.between[layer - 1]
        outputs = []
        for p, (cell, schedule) in enumerate(zip(cells, schedules, strict=True), layer * D):
            steps: list[Step] = []
            keep = None if tape is None else steps
            s = tuple(a[p] for a in states)
            own = tuple(masks.recurrent[p]) if masks.recurrent else ()
            last, after = _run_pass(xp, cell, weights[p], schedule.moments, x, s, own, keep)
            if tape is not None:
                tape.append(steps)
            h, *beside = after
            outputs.append(_where(xp, schedule.shown, h))
            for other, a in zip(others, beside, strict=True):
                other.append(_where(xp, schedule.running, a))
            for final, a in zip(finals, last, strict=True):
                final.append(a)
        x = xp.concatenate(outputs, -1)
    return x, [xp.stack(final) for final in finals], [xp.stack(other) for other in others]


def _run_pass(
    xp: Namespace,
    cell: Cell,
    weights: Weights,
    moments: Any,
    x: Any,
    s: tuple[Any, ...],
    masks: tuple[Any, ...],
    steps: list[Step] | None,
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Give the states (B, H) at the end, and (T, B, H) after each step."""

    def step(s: tuple[Any, ...], moment: Moment, projected: Any) -> tuple[Any, ...]:
        t, rows, start = moment
        s_prev = tuple(from_zero(xp, start, xp.take(a, rows)) for a in s)
        own = tuple(xp.take(mask, rows) for mask in masks)
        wx = by_gates(projected, cell.gates)
        s_next, saved, v = _step(xp, cell, weights, wx, s_prev, own)
        if steps is not None:
            steps.append(Step(moment, xp.at(x, t, rows), s_prev, saved, v, own))
        return tuple(xp.put(a, rows, a_next) for a, a_next in zip(s, s_next, strict=True))

    last, after = xp.scan(step, s, moments, xp.project(x, moments, weights.w_ih, weights.b_ih))
    return last, after


def _step(
    xp: Namespace,
    cell: Cell,
    weights: Weights,
    wx: Any,
    s_prev: tuple[Any, ...],
    masks: tuple[Any, ...],
) -> tuple[tuple[Any, ...], tuple[Any, ...], Any]:
    """Give the states after a step, what the cell saves, and v where there is a second product."""
    _, w_hh, _, b_hh, _, w_hr = weights
    inner, v = cell.inner, None
    if inner is None:
        rh = by_gates(_product(xp, s_prev[0], w_hh, b_hh, masks), cell.gates)
    else:
        first = slice(first_rows(cell, w_hh))
        last = slice(first.stop, None)
        b_first, b_last = (None, None) if b_hh is None else (b_hh[first], b_hh[last])
        of_h, of_v = masks_of_products(cell, masks)
        rh = _product(xp, s_prev[0], w_hh[first], b_first, of_h)
        rh = by_gates(rh, cell.gates - inner.gates)
        v = inner.step(xp, wx, rh, s_prev)
        rv = by_gates(_product(xp, v, w_hh[last], b_last, of_v), inner.gates)
        rh = xp.concatenate([rh, rv], 1)
    s_next, saved = cell.step(xp, wx, rh, s_prev, *weights.of_units(cell))
    if w_hr is not None:
        v = s_next[0]
        s_next = (xp.linear(v, w_hr, None), *s_next[1:])
    return s_next, saved, v


def _product(xp: Namespace, a: Any, w: Any, b: Any, masks: tuple[Any, ...]) -> Any:
    """Compute ``a w^T + b``, where the rows of w that a mask is for have a times that mask."""
    if not masks:
        return xp.linear(a, w, b)
    parts = [
        xp.linear(a * mask, w[rows], None if b is None else b[rows])
        for mask, rows in by_masks(masks, w)
    ]
    return xp.concatenate(parts, -1)


def by_masks(masks: tuple[Any, ...], w: Any) -> list[tuple[Any, slice]]:
    """Give each of the masks of a product with the rows of w that it is for."""
    n = w.shape[0] // len(masks)
    return [(mask, slice(k * n, (k + 1) * n)) for k, mask in enumerate(masks)]


def masks_of_products(cell: Cell, masks: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
    """Give the masks of h, and those of v where there is a second product that serves gates."""
    if cell.inner is None or len(masks) < 2:
        return masks, masks
    first = cell.gates - cell.inner.gates
    return masks[:first], masks[first:]


def first_rows(cell: Cell, w_hh: Any) -> int:
    """How many rows of `w_hh` are multiplied by h, and not by v."""
    second = 0 if cell.inner is None else cell.inner.gates
    rows: int = w_hh.shape[0] // cell.gates * (cell.gates - second)
    return rows


def from_zero(xp: Namespace, start: Any, a: Any) -> Any:
    """Give (n, H) with zeros in the rows that start."""
    return a if start is None else xp.where(start, 0.0, a)


def by_gates(a: Any, gates: int) -> Any:
    """Give (n, G*H) as (n, G, H)."""
    n, width = a.shape
    return a.reshape(n, gates, width // gates)


def _where(xp: Namespace, where: Any, after: Any) -> Any:
    """Give (T, B, n), and 0 elsewhere."""
    return after if where is None else xp.where(where[:, :, None], after, 0.0)
