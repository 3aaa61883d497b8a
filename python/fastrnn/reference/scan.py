"""The layers in float64: a call's arguments, its tape, and the way back.

Forward is the loop of ``loop.py`` on NumPy's arrays. Backward takes the steps of each pass in the
opposite order, with the derivatives that the cells' modules write out.

Shapes inside are those of a batch, time first: x (T, B, I), y (T, B, D*H), states (L*D, B, H).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _parameters
from . import loop
from .cell import Array, Arrays, Cell, find
from .loop import Step, Weights
from .namespace import NUMPY
from .quantized import is_quantized, of_pass

State: TypeAlias = Array | Arrays
StateLike: TypeAlias = ArrayLike | Sequence[ArrayLike]


@dataclass(frozen=True)
class Tape:
    """What `backward` needs from `forward`. It shares no memory with arguments or results."""

    shape: tuple[int, int, int]  # T, B, I
    batch_first: bool
    unbatched: bool
    passes: loop.Tape
    sources: list[NDArray[np.intp]]  # of each direction (T, B): the time whose h is the output
    masks: list[Array]  # L-1 dropout masks (T, B, D*H), or none


class _Gradients(NamedTuple):
    """Of the parameters of one pass."""

    w_ih: Array
    w_hh: Array
    b_ih: Array
    b_hh: Array
    w_diag: Array
    w_hr: Array


# NaN and infinities in the data are the caller's, and a saturating exp is no error: no warnings.
@np.errstate(all="ignore")
def forward(
    cell: str,
    x: ArrayLike,
    params: Mapping[str, ArrayLike],
    state: StateLike | None = None,
    *,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    holds: ArrayLike | None = None,
    repeat_held: bool = False,
    dropout_masks: Sequence[ArrayLike] | None = None,
    recurrent_masks: ArrayLike | None = None,
) -> tuple[Array, State, Tape]:
    """Run a recurrent layer in float64.

    Parameters
    ----------
    cell : str
        One of `names()`, or a name that `fastrnn.cell_name` makes.
    x : (T, B, I) or, with `batch_first`, (B, T, I); unbatched (T, I)
    params : mapping
        The parameters by torch's names, e.g. ``weight_ih_l0``, ``bias_hh_l1_reverse``; they say
        how many layers and directions there are, and whether there are biases. With
        ``weight_hr_l0`` (P, H) and its likes h is projected, and P values wide. Those of a
        `fastrnn.Quantized` of ``"int8"`` are taken too, for this function alone.
    state : (L*D, B, H), or a tuple of such for a cell with several states, optional
        Initial states; zeros if not given. Unbatched (L*D, H). h is (L*D, B, P) where it is
        projected, and y then (T, B, D*P).
    batch_first : bool
        Layout of x, y, `resets`, `holds` and `dropout_masks`; never of states.
    reverse : bool
        The first direction reads from a row's last step to its first, the second one forward.
    lengths : (B,) int, optional
        Steps in each row, 0 to T in any order. Past them y is zero and the state stays.
    resets : (T, B) bool or, with `batch_first`, (B, T); unbatched (T,), optional
        Where a new sequence starts: each row gives what its pieces would give alone. The initial
        state enters the first piece of a row (reverse: the last), the final one leaves the last
        (reverse: the first). A reset at t=0 leaves the initial state out of the forward direction.
        Where the row is held the new sequence starts when it next runs, if it does.
    holds : bool, as `resets`, optional
        Steps that a row sits out: its states stay, and its output is 0, or with `repeat_held` that
        of the last step before (reverse: after) that ran; 0 where none has.
    repeat_held : bool
    dropout_masks : L-1 arrays shaped like y, optional
        The output of the layer k times mask k is the input of the layer k+1.
    recurrent_masks : (L*D, B, H) or (L*D, G, B, H); unbatched without B, optional
        At every step what enters the product with R, h or in its place r h, times the mask of the
        pass, or of the pass and the gate (Y. Gal and Z. Ghahramani, A theoretically grounded
        application of dropout in recurrent neural networks, 2016). P in the place of H where h is
        projected.

    Returns
    -------
    y : (T, B, D*H) in the layout of x
    state : like `state`
        Final states.
    tape : Tape
        For `backward`.

    Raises
    ------
    ValueError
        If a shape or a name does not fit.
    """
    the_cell = find(cell)
    x = _float64(x)
    _require(x.ndim in (2, 3), cell, "x must have 2 or 3 dimensions", x.ndim)
    unbatched = x.ndim == 2
    _require(not unbatched or lengths is None, cell, "lengths need a batch", "unbatched x")
    x = _time_first(x, batch_first, unbatched)
    T, B, input_size = x.shape
    weights, L, D, widths = _read_params(cell, the_cell, params, input_size)

    states = _read_state(cell, "state", state, (L * D, B), widths, unbatched)
    row_lengths = np.full(B, T) if lengths is None else np.asarray(lengths)
    _expect(cell, "lengths", row_lengths, (B,))
    flags = {}
    for name, given in (("resets", resets), ("holds", holds)):
        flags[name] = np.zeros((T, B), bool)
        if given is not None:
            flags[name] = _time_first(np.asarray(given, bool), batch_first, unbatched)
            _expect(cell, name, flags[name], (T, B))
    masks = []
    if dropout_masks is not None:
        masks = [_time_first(_float64(mask), batch_first, unbatched) for mask in dropout_masks]
        _require(len(masks) == L - 1, cell, f"dropout_masks must be {L - 1} arrays", len(masks))
    for mask in masks:
        _expect(cell, "dropout_masks", mask, (T, B, D * widths[0]))

    recurrent: list[Array] = []
    if recurrent_masks is not None:
        recurrent = _read_recurrent_masks(
            cell, recurrent_masks, (L * D, the_cell.gates, B, widths[0]), unbatched
        )

    inputs = loop.StepInputs(row_lengths, flags["resets"], flags["holds"], repeat_held)
    schedules = [
        loop.make_schedule(NUMPY, T, inputs, reverse=(d == 1) != reverse) for d in range(D)
    ]
    sources = [_sources(schedule) for schedule in schedules]
    tape = Tape(x.shape, batch_first, unbatched, [], sources, masks)
    cells = _of_directions(cell, D)
    y, finals, _ = loop.run_layers(
        NUMPY, cells, weights, schedules, x, states, loop.Masks(masks, recurrent), tape.passes
    )
    return _as_given(y, tape), _write_state(tuple(finals), unbatched), tape


@np.errstate(all="ignore")
def backward(
    cell: str,
    params: Mapping[str, ArrayLike],
    tape: Tape,
    dy: ArrayLike,
    dstate: StateLike | None = None,
) -> tuple[Array, State, dict[str, Array]]:
    """Give the gradients of a `forward` call; the tape stays as it is.

    Parameters
    ----------
    cell, params
        As in the `forward` call.
    tape : Tape
        From the `forward` call.
    dy : array shaped like y
        Gradient of y.
    dstate : like the final states, optional
        Gradients of the final states; zeros if not given.

    Returns
    -------
    dx : array shaped like x
    dstate : like the initial states
        Gradients of the initial states, given also if `forward` had none and used zeros.
    grads : dict
        Gradients of the parameters, by their names.

    Raises
    ------
    ValueError
        If a shape or a name does not fit.
    """
    the_cell = find(cell)
    T, B, input_size = tape.shape
    weights, L, D, widths = _read_params(cell, the_cell, params, input_size)
    _require(not is_quantized(params), cell, "weights must not be quantized", "scales")
    cells = _of_directions(cell, D)
    dy = _time_first(_float64(dy), tape.batch_first, tape.unbatched)
    n = widths[0]
    _expect(cell, "dy", dy, (T, B, D * n))
    # The passes bring these back in place, from the gradients of the final states to those of the
    # initial ones.
    dstates = _read_state(cell, "dstate", dstate, (L * D, B), widths, tape.unbatched)

    grads: list[_Gradients] = []
    for k in reversed(range(L)):
        dx = np.zeros((T, B, weights[k * D].w_ih.shape[1]))
        for d in reversed(range(D)):
            p = k * D + d
            dy_d = _to_sources(dy[:, :, d * n : (d + 1) * n], tape.sources[d])
            ds = tuple(dstate[p] for dstate in dstates)
            grads.append(_pass_backward(cells[d], weights[p], tape.passes[p], dy_d, ds, dx))
        # dx is the gradient of the layer below's output, once through the mask between them.
        dy = dx * tape.masks[k - 1] if k > 0 and tape.masks else dx

    grads.reverse()
    named = {
        kind + suffix: array
        for suffix, grad in zip(_suffixes(L, D), grads, strict=True)
        for kind, array in zip(_parameters.KINDS, grad, strict=True)
        if kind + suffix in params
    }
    return _as_given(dy, tape), _write_state(dstates, tape.unbatched), named


def _of_directions(cell: str, D: int) -> list[Cell]:
    """The cell as it is in each direction."""
    return [find(cell, d) for d in range(D)]


def _sources(schedule: loop.Schedule) -> NDArray[np.intp]:
    """The time whose h is the output at (t, b): t itself, or the last step that ran; -1: none."""
    sources = np.full(schedule.running.shape, -1)
    last = np.full(schedule.running.shape[1], -1)
    for t, rows, _ in schedule.moments:
        last[rows] = t
        sources[t] = np.where(schedule.shown[t], last, -1)
    return sources


def _to_sources(dy: Array, sources: NDArray[np.intp]) -> Array:
    """Add the gradients of repeated outputs to those of the steps that made them."""
    summed = np.zeros_like(dy)
    t, b = np.nonzero(sources >= 0)
    np.add.at(summed, (sources[t, b], b), dy[t, b])
    return summed


def _pass_backward(
    cell: Cell, weights: Weights, steps: list[Step], dy: Array, ds: Arrays, dx: Array
) -> _Gradients:
    """Go back through one pass: add to dx (T, B, in), bring ds to the gradients at the beginning.

    What it returns are the gradients of the weights.
    """
    w_ih, w_hh, *_, w_hr = weights
    of_units = weights.of_units(cell)
    grads = _Gradients(*(np.zeros_like(0.0 if w is None else w) for w in weights))
    dw_ih, dw_hh, db_ih, db_hh, dw_diag, dw_hr = grads
    first = loop.first_rows(cell, w_hh)  # of w_hh; those after it are multiplied by v
    for step in reversed(steps):
        t, rows, start = step.moment
        # h_t is both the output and the state that the next step takes.
        dh, *others = (da[rows] for da in ds)
        dh = dh + dy[t, rows]
        of_h, of_v = loop.masks_of_products(cell, step.masks)
        if w_hr is not None:
            dw_hr += dh.T @ step.v
            dh = dh @ w_hr
        dwx, drh, ds_direct, *dp = cell.step_backward(
            step.saved, step.s_prev, (dh, *others), *of_units
        )
        flat = (len(rows), w_hh.shape[0])
        dwx, drh = dwx.reshape(flat), drh.reshape(flat)
        if cell.inner is not None:
            dv = _product_backward(drh[:, first:], step.v, w_hh[first:], of_v, dw_hh[first:])
            da, ds_inner = cell.inner.step_backward(step.saved, step.s_prev, dv)
            da = np.pad(da.reshape(len(rows), first), ((0, 0), (0, flat[1] - first)))
            dwx, drh = dwx + da, drh + da
            ds_direct = tuple(a + b for a, b in zip(ds_direct, ds_inner, strict=True))
        dh_prev, *others = ds_direct
        if w_hr is not None:  # what the cell's own h was gets there through w_hr alone
            dh_prev = np.zeros_like(step.s_prev[0])
        dh = _product_backward(drh[:, :first], step.s_prev[0], w_hh[:first], of_h, dw_hh[:first])
        ds_prev = (dh_prev + dh, *others)
        for da, da_prev in zip(ds, ds_prev, strict=True):
            da[rows] = loop.from_zero(NUMPY, start, da_prev)
        dx[t, rows] += dwx @ w_ih
        dw_ih += dwx.T @ step.x
        db_ih += dwx.sum(axis=0)
        db_hh += drh.sum(axis=0)
        for dp_of_rows in dp:
            dw_diag += dp_of_rows.sum(axis=0).ravel()
    return grads


def _product_backward(da: Array, b: Array, w: Array, masks: tuple[Any, ...], dw: Array) -> Array:
    """Give the gradient of b from that of ``w b``, masked as in forward; add to dw that of w."""
    db = np.zeros_like(b)
    for mask, rows in loop.by_masks(masks or (1.0,), w):
        dw[rows] += da[:, rows].T @ (b * mask)
        db += da[:, rows] @ w[rows] * mask
    return db


def _require(condition: bool, cell: str, rule: str, got: object) -> None:
    if not condition:
        raise ValueError(f"[{cell}] {rule}, got {got}")


def _expect(cell: str, name: str, a: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuse any other shape (time first, in a batch), which NumPy might quietly broadcast."""
    _require(a.shape == shape, cell, f"{name} must have the shape {shape}", a.shape)


def _float64(a: ArrayLike) -> Array:
    """Copy to float64; a copy always, so that a tape outlives any change to the arguments."""
    return np.array(a, dtype=np.float64)


def _time_first(a: NDArray[Any], batch_first: bool, unbatched: bool) -> NDArray[Any]:
    """Bring an array that is laid out as x is from the caller's layout to (T, B, ...)."""
    if unbatched:
        return a[:, None]
    return a.swapaxes(0, 1) if batch_first else a


def _as_given(a: Array, tape: Tape) -> Array:
    """Bring (T, B, ...) back to the caller's layout."""
    if tape.unbatched:
        return a[:, 0]
    return a.swapaxes(0, 1) if tape.batch_first else a


def _suffixes(L: int, D: int) -> list[str]:
    """Name the passes as torch does in its parameters: "_l0", "_l0_reverse", "_l1", ..."""
    return [f"_l{k}{direction}" for k in range(L) for direction in ("", "_reverse")[:D]]


def _read_params(
    cell: str, the_cell: Cell, params: Mapping[str, ArrayLike], input_size: int
) -> tuple[list[Weights], int, int, list[int]]:
    """Give the weights of each pass, L, D, and how wide each state is."""
    D = 2 if "weight_ih_l0_reverse" in params else 1
    projected, quantized = "weight_hr_l0" in params, is_quantized(params)
    kinds = _parameters.kinds("bias_ih_l0" in params, the_cell.unit_parameters > 0, projected)
    if quantized:
        kinds += tuple(s for kind, s in _parameters.MATRICES.items() if kind in kinds)
    L = max(1, len(params) // (D * len(kinds)))
    suffixes = _suffixes(L, D)
    expected = [kind + suffix for suffix in suffixes for kind in kinds]
    rule = f"parameters must be {', '.join(expected)}"
    _require(set(params) == set(expected), cell, rule, ", ".join(params) or "none")

    n = np.shape(params["weight_hh_l0"])[-1]  # values of h
    H = np.shape(params["weight_hr_l0"])[-1] if projected else n
    rows = the_cell.gates * H
    weights = []
    for p, suffix in enumerate(suffixes):
        columns = input_size if p < D else D * n
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, columns),
            "weight_hh": (rows, n),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
            "weight_diag": (the_cell.unit_parameters * H,),
            "weight_hr": (n, H),
            "scale_ih": (rows,),
            "scale_hh": (rows,),
            "scale_hr": (n,),
        }
        arrays: dict[str, Any] = dict.fromkeys(_parameters.KINDS)
        arrays |= {kind: np.zeros(shapes[kind]) for kind in _parameters.kinds(True)}
        for kind in kinds:
            name = kind + suffix
            arrays[kind] = _float64(params[name])
            _expect(cell, name, arrays[kind], shapes[kind])
        if quantized:
            arrays |= of_pass(cell, p % D, arrays)
        weights.append(Weights(*(arrays[kind] for kind in _parameters.KINDS)))
    return weights, L, D, [n] + [H] * (the_cell.states - 1)


def _read_state(
    cell: str,
    name: str,
    state: StateLike | None,
    rows: tuple[int, int],
    widths: list[int],
    unbatched: bool,
) -> Arrays:
    """Give the states, or their gradients, each (L*D, B, its width): zeros where there are none."""
    if state is None:
        return tuple(np.zeros((*rows, width)) for width in widths)
    count = len(widths)
    given = cast(Sequence[ArrayLike], (state,) if count == 1 else state)
    _require(len(given) == count, cell, f"{name} must be {count} arrays", len(given))
    states = tuple(_float64(s) for s in given)
    if unbatched:
        states = tuple(s[:, None] for s in states)
    for s, width in zip(states, widths, strict=True):
        _expect(cell, name, s, (*rows, width))
    return states


def _read_recurrent_masks(
    cell: str, given: ArrayLike, shape: tuple[int, int, int, int], unbatched: bool
) -> list[Array]:
    """Give those of each pass, (1, B, H) or (G, B, H)."""
    masks = _float64(given)
    if unbatched:
        masks = masks[..., None, :]
    if masks.ndim == 3:
        masks, shape = masks[:, None], (shape[0], 1, *shape[2:])
    _expect(cell, "recurrent_masks", masks, shape)
    return list(masks)


def _write_state(states: Arrays, unbatched: bool) -> State:
    """Give the states in the caller's form: one array, or a tuple of several."""
    if unbatched:
        states = tuple(s[:, 0] for s in states)
    return states[0] if len(states) == 1 else states
