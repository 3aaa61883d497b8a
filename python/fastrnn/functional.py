"""The layers' calls without a layer: parameters go in with each call.

Sizes follow from the parameters, a mapping with torch's names (``weight_ih_l0``,
``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, the same with ``_l1`` and so on, and with
``_reverse`` for the second direction), and ``weight_diag_l0`` for the peepholes of a cell that has
some. Every rule about shapes and dtypes is checked in the engine, before anything is written. The
equations of a step stand in the docstrings of `fastrnn.LSTM`, `fastrnn.GRU` and `fastrnn.RNN`.

Arrays are NumPy's, or those of any library in a GPU's memory (`fastrnn.cuda`): all arrays of a call
are in one place, and its results come from there. Only lengths may be NumPy's, or a list, anywhere.

Shapes, with ``T`` steps, ``B`` rows, ``I`` inputs, ``H`` units, ``D`` directions, ``L`` layers:

=========  ==================================================================================
x          ``(T, B, I)``, with `batch_first` ``(B, T, I)``, without a batch ``(T, I)``
state      ``(L * D, B, H)`` or ``(L * D, H)``; a pair ``(h, c)`` of them for the LSTM, where c is
           float32 in calls of float16 and bfloat16
y          as x, with ``D * H`` in the last place. With ``weight_hr_l0`` ``(P, H)`` and its likes h
           is projected: it has P values in the place of H, in states and y, and c still H
lengths    ``(B,)`` integers: steps of each row. Past them y is 0, the final state is that of the
           last step, the reverse direction starts there, gradients are 0
resets     bool, ``(T, B)`` as x is laid out: a new sequence starts at this step. The forward
           direction starts there from zero, the reverse direction at the step before
holds      bool, as resets: steps that a row sits out. Its state stays, its output is 0, or with
           ``repeat_held=True`` that of the last step before (in the reverse direction: after)
           that ran in this call, and 0 where none has. x is not read there. A reset of a held
           step comes with the next that runs
batches    `batch_sizes`: ``(T,)`` integers, of a packed sequence, as torch's ``PackedSequence`` has
           them: the rows that run at each step, longest first, so that they never rise. x, y,
           their gradients and the masks are then ``(rows, .)``: the rows of the first step, those
           of the second, and so on. On the CPU, without lengths, resets and holds
masks      `dropout_masks`: for each layer but the last an array like its output, scaled, that is
           multiplied into it on its way up
recurrent  `recurrent_masks`: ``(L * D, B, H)``, or ``(L * D, G, B, H)`` for each of the G gates in
           the order of the rows of ``weight_hh``; without a batch without B, and P in the place of
           H where h is projected. At every step the mask is multiplied into the h that enters the
           product ``W_hh h``, and into no other h: neither y nor a GRU's ``z h`` has it. On the CPU
=========  ==================================================================================

Recurrent masks are the dropout inside the recurrence of Y. Gal and Z. Ghahramani, A theoretically
grounded application of dropout in recurrent neural networks (2016): drawn once for each row of the
batch, and the same at all steps. With masks for each gate they are the ``recurrent_dropout`` of
Keras' cells with ``implementation=1``. In the equations of row b, gate g has, element by element ::

    W_hg (m_g h_(t-1))          in the place of   W_hg h_(t-1)
    W_hn (m_n r_t h_(t-1))      in a GRU that resets before the product

with ``m_g = recurrent_masks[pass, g, b]``, or ``recurrent_masks[pass, b]`` for all gates alike. A
projection is no gate's and has no mask. Masks hold scaled numbers, as `dropout_masks` do, and have
no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arguments, _arrays, _dtypes, _engine, _parameters, _schemes
from ._cell_names import FunctionLike
from ._engine import BACKWARD, FORWARD, Call

__all__ = ["Packed", "Tape", "backward", "forward", "gru", "infer", "lstm", "pack", "rnn"]

State = Any  # an array, or a pair of arrays for a cell with two states


class Packed:
    """Weights in the engine's own order: a copy, made once and used by many calls.

    Parameters
    ----------
    cell : str
        A name of `fastrnn.build_info()["cells"]`, or one that `fastrnn.cell_name` makes.
    params : mapping of str to ndarray
        The parameters with torch's names, all of one dtype; or those of a `fastrnn.Quantized`.
    forward, backward : bool
        What the weights will be used for.
    weights : str, optional
        How they are quantized, as `fastrnn.quantize` names it.
    """

    def __init__(
        self,
        cell: str,
        params: Mapping[str, np.ndarray],
        *,
        forward: bool = True,
        backward: bool = False,
        weights: str | None = None,
    ) -> None:
        self.cell = cell = _arguments.cell_name(cell)
        dtype, *sizes = _sizes(cell, params)
        if weights is None and "scale_ih_l0" in params:  # of more than one scheme
            raise ValueError(f"[{cell}] quantized weights must be packed with weights=, got none")
        engine = _engine.for_array(params["weight_ih_l0"])
        if weights is None:
            self.native = engine.Weights(cell, dtype, *sizes)
        elif engine is _engine.for_device("cpu"):
            self.native = engine.Weights(cell, _schemes.check(cell, weights), *sizes)
        else:
            raise NotImplementedError(
                f"[{cell}] quantized weights must be in host memory, got arrays of a GPU"
            )
        self.names = [name for name, _ in self.native.parameters]
        self.ready = {False: False, True: False}
        uses = ("forward", forward), ("backward", backward)
        for use in [name for name, wanted in uses if _arguments.flag(cell, name, wanted)]:
            self.add(params, backward=use == "backward")

    def add(self, params: Mapping[str, np.ndarray], *, backward: bool) -> None:
        """Pack the same parameters for the other use too."""
        if not self.ready[backward]:
            self.native.pack(_parameters.in_order(self.cell, self.names, params), backward)
            self.ready[backward] = True


def pack(
    cell: str,
    params: Mapping[str, np.ndarray],
    *,
    forward: bool = True,
    backward: bool = True,
    weights: str | None = None,
) -> Packed:
    """Pack weights once for many calls; the result stands in for `params` in every call here.

    Parameters are those of `Packed`; quantized weights serve `forward` alone, without a tape.
    """
    packed = Packed(cell, params, forward=forward, backward=backward, weights=weights)
    packed.native.copy_parameters()
    return packed


@dataclass(frozen=True, eq=False)
class Tape:
    """What backward needs of a forward call. Plain data; nothing here is ever written again.

    x, the state and the masks are kept by reference: they must not change before backward has run.
    """

    cell: str
    x: np.ndarray
    state: State
    lengths: np.ndarray | None
    resets: np.ndarray | None
    holds: np.ndarray | None
    batch_sizes: np.ndarray | None
    recurrent_masks: np.ndarray | None
    masks: tuple[np.ndarray, ...] | None
    batch_first: bool
    reverse: bool
    repeat_held: bool
    y: np.ndarray
    arrays: tuple[np.ndarray, ...]
    recompute: int = 0
    owner: Any = None
    version: int = 0


def infer(
    cell: str,
    x: np.ndarray,
    params: Mapping[str, np.ndarray] | Packed,
    state: State = None,
    *,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: np.ndarray | None = None,
    resets: np.ndarray | None = None,
    holds: np.ndarray | None = None,
    batch_sizes: np.ndarray | None = None,
    repeat_held: bool = False,
    dropout_masks: Sequence[np.ndarray] | None = None,
    recurrent_masks: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, State]:
    """Run a stack of layers and keep nothing.

    Parameters
    ----------
    cell : str
        A name of `fastrnn.build_info()["cells"]`, or one that `fastrnn.cell_name` makes.
    x, state, lengths, resets, holds, batch_sizes, repeat_held, dropout_masks, recurrent_masks
        See the module's table. Any strides; read-only arrays too.
    reverse : bool
        Read each row from its last step to its first; y stays in the order of time. Of two
        directions it is then the second that reads forward.
    params : mapping or Packed
        The parameters, or the result of `pack`, as quantized ones must be.
    out : ndarray, optional
        Written with y and returned in its place.

    Returns
    -------
    y : ndarray
    state : ndarray or pair of ndarray
        The final state.

    Raises
    ------
    ValueError
        A shape, a length, a missing or unknown parameter, an `out` that cannot be written.
    TypeError
        A dtype or byte order, or something that is not an array.
    MemoryError
        The workspace cannot be had.
    NotImplementedError
        Something that the engine has no kernels for, such as recurrent masks on a GPU.
    """
    cell = _arguments.cell_name(cell)
    packed = _packed(cell, params, forward=True)
    lengths = _arguments.lengths_array(cell, lengths)
    batch_first = _arguments.flag(cell, "batch_first", batch_first)
    reverse = _arguments.flag(cell, "reverse", reverse)
    repeat_held = _arguments.flag(cell, "repeat_held", repeat_held)
    batch_sizes = _arguments.lengths_array(cell, batch_sizes, "batch_sizes")
    steps = (lengths, resets, holds, batch_sizes, recurrent_masks)
    call = Call(x, state, *steps, dropout_masks, out, batch_first, reverse, repeat_held)
    y, final = packed.native.run(call)
    return y, final


def forward(
    cell: str,
    x: np.ndarray,
    params: Mapping[str, np.ndarray] | Packed,
    state: State = None,
    *,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: np.ndarray | None = None,
    resets: np.ndarray | None = None,
    holds: np.ndarray | None = None,
    batch_sizes: np.ndarray | None = None,
    repeat_held: bool = False,
    dropout_masks: Sequence[np.ndarray] | None = None,
    recurrent_masks: np.ndarray | None = None,
    recompute: bool | int = False,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, State, Tape]:
    """Run a stack of layers and keep what backward needs.

    As `infer`, with a `Tape` as third result. y is part of the tape and therefore read-only; an
    `out` is that very memory and must not be written before backward has run.

    Parameters
    ----------
    recompute : bool or int
        Keep less: with True the outputs and the states alone, with k of the cell states only those
        after every k-th step. Backward computes the gates again from them, a window of steps at a
        time: the same gradients, for the time of one more forward pass. On the CPU they are equal
        bit for bit; on a GPU those of parameters are added up window by window, in the storage
        dtype. The window has k steps or more, and memory of its own.
    """
    cell = _arguments.cell_name(cell)
    steps = _arguments.checkpoint_steps(cell, recompute)
    packed = _packed(cell, params, forward=True)
    lengths = _arguments.lengths_array(cell, lengths)
    batch_first = _arguments.flag(cell, "batch_first", batch_first)
    reverse = _arguments.flag(cell, "reverse", reverse)
    repeat_held = _arguments.flag(cell, "repeat_held", repeat_held)
    batch_sizes = _arguments.lengths_array(cell, batch_sizes, "batch_sizes")
    given = (lengths, resets, holds, batch_sizes, recurrent_masks)
    inputs = (x, state, *given, dropout_masks, out)
    return run_forward(packed, Call(*inputs, batch_first, reverse, repeat_held, FORWARD, steps))


def run_forward(
    packed: Packed, call: Call, owner: Any = None, version: int = 0
) -> tuple[np.ndarray, State, Tape]:
    """`forward` with arguments that have been checked; the tape is that of an owner."""
    # What the tape keeps by reference must not be a list, which could change.
    state = tuple(call.state) if isinstance(call.state, list) else call.state
    masks: Any = tuple(call.masks) if isinstance(call.masks, list) else call.masks
    y, final, arrays = packed.native.run(call._replace(state=state, masks=masks))
    y = _arrays.read_only(y)
    tape = Tape(
        packed.cell,
        call.x,
        state,
        _copied(packed.cell, call.lengths),  # small, and so copied
        _copied(packed.cell, call.resets),
        _copied(packed.cell, call.holds),
        _copied(packed.cell, call.batch_sizes),
        call.recurrent_masks,
        masks,
        call.batch_first,
        call.reverse,
        call.repeat_held,
        y,
        arrays,
        call.recompute,
        owner,
        version,
    )
    return y, final, tape


def backward(
    cell: str,
    params: Mapping[str, np.ndarray] | Packed,
    tape: Tape,
    dy: np.ndarray,
    dstate: State = None,
) -> tuple[np.ndarray, State, dict[str, np.ndarray]]:
    """Gradients of a forward call. May be called again with the same tape: it gives the same bits.

    Parameters
    ----------
    cell : str
    params : mapping or Packed
        The parameters of the forward call.
    tape : Tape
        From `forward`.
    dy : ndarray
        Gradient of y.
    dstate : ndarray or pair of ndarray, optional
        Gradient of the final state.

    Returns
    -------
    dx : ndarray
    dstate : ndarray or pair of ndarray
        Gradient of the initial state, whether one was given or not.
    grads : dict of str to ndarray
        Gradients of the parameters, by name.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `infer`; also for a tape of another cell or size.
    """
    cell = _arguments.cell_name(cell)
    if not isinstance(tape, Tape):
        raise TypeError(f"[{cell}] tape must be a fastrnn tape, got {type(tape).__name__}")
    steps = steps_of(cell, tape)
    packed = _packed(cell, params, backward=True, forward=steps > 0)
    return run_backward(packed, tape, steps, dy, dstate)


def steps_of(cell: str, tape: Tape) -> int:
    """Steps from one kept state to the next, of a tape that must be of this cell."""
    if not isinstance(tape.cell, str) or tape.cell != cell:
        raise ValueError(f"[{cell}] tape must be of this cell, got one of {tape.cell}")
    return _arguments.checkpoint_steps(cell, tape.recompute)


def run_backward(
    packed: Packed, tape: Tape, steps: int, dy: Any, dstate: State
) -> tuple[np.ndarray, State, dict[str, np.ndarray]]:
    """`backward` with weights that are packed for it, and the steps of the tape."""
    batch_first = _arguments.flag(packed.cell, "batch_first of the tape", tape.batch_first)
    reverse = _arguments.flag(packed.cell, "reverse of the tape", tape.reverse)
    repeat_held = _arguments.flag(packed.cell, "repeat_held of the tape", tape.repeat_held)
    given = (tape.lengths, tape.resets, tape.holds, tape.batch_sizes, tape.recurrent_masks)
    inputs = (tape.x, tape.state, *given, tape.masks, tape.y)
    call = Call(
        *inputs,
        batch_first,
        reverse,
        repeat_held,
        BACKWARD,
        steps,
        want_dx=True,
        want_parameters=True,
        tape=tape.arrays,
        dy=dy,
        dstate=dstate,
    )
    dx, dinitial, grads = packed.native.run(call)
    return dx, dinitial, dict(zip(packed.names, grads, strict=True))


def lstm(
    x: np.ndarray, params: Mapping[str, np.ndarray] | Packed, state: State = None, **options: Any
) -> tuple[np.ndarray, State]:
    """`infer` with the LSTM, whose equations `fastrnn.LSTM` gives; returns ``y, (hn, cn)``."""
    return infer("lstm", x, params, state, **options)


def gru(
    x: np.ndarray, params: Mapping[str, np.ndarray] | Packed, state: State = None, **options: Any
) -> tuple[np.ndarray, State]:
    """`infer` with the GRU, whose equations `fastrnn.GRU` gives; returns ``y, hn``."""
    return infer("gru", x, params, state, **options)


def rnn(
    x: np.ndarray,
    params: Mapping[str, np.ndarray] | Packed,
    state: State = None,
    *,
    nonlinearity: FunctionLike = "tanh",
    **options: Any,
) -> tuple[np.ndarray, State]:
    """`infer` with the simple layer and this nonlinearity, see `fastrnn.RNN`; returns ``y, hn``."""
    return infer(_arguments.rnn_cell(nonlinearity), x, params, state, **options)


def _packed(
    cell: str,
    params: Mapping[str, np.ndarray] | Packed,
    *,
    forward: bool = False,
    backward: bool = False,
) -> Packed:
    if not isinstance(params, Packed):
        return Packed(cell, params, forward=forward, backward=backward)
    if params.cell != cell:
        raise ValueError(f"[{cell}] weights must be packed for this cell, got {params.cell}")
    for use, needed in (("forward", forward), ("backward", backward)):
        if needed and not params.ready[use == "backward"]:
            raise ValueError(f"[{cell}] weights must be packed for {use}, got {use}=False")
    return params


def _copied(cell: str, array: Any) -> Any:
    return None if array is None else _arrays.library_of(cell, array).copy(array)


def _sizes(cell: str, params: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
    """The arguments of an engine's Weights behind the cell; it checks the rest."""

    if not isinstance(params, Mapping):
        raise TypeError(
            f"[{cell}] params must be a mapping of names to arrays or packed weights, "
            f"got {type(params).__name__}"
        )

    def matrix(name: str) -> np.ndarray:
        if name not in params:
            raise ValueError(f"[{cell}] {name} is needed, got none")
        value = params[name]
        if not _arrays.is_array(value):
            raise TypeError(f"[{cell}] {name} must be a NumPy array, got {type(value).__name__}")
        if len(value.shape) != 2:
            raise ValueError(f"[{cell}] {name} must have rank 2, got shape {tuple(value.shape)}")
        return value

    w_ih, w_hh = matrix("weight_ih_l0"), matrix("weight_hh_l0")
    layers, directions = _parameters.layers_directions(params)
    inputs, units, projection = w_ih.shape[1], w_hh.shape[1], 0
    if "weight_hr_l0" in params:
        units, projection = matrix("weight_hr_l0").shape[1], units
    sizes = layers, directions, inputs, units, "bias_ih_l0" in params, projection
    return _dtypes.name_of(w_ih), *sizes
