"""The layers: constructors, parameters and state of ``torch.nn``'s, and the engine's calls."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .. import _arguments
from . import _autograd, _composite, _dynamo, _engine, _narrow, _tracing
from ._call import SIZES, Call, Inputs
from ._frozen import Frozen, reason_against


class Recurrent(nn.RNNBase):
    """What `RNN`, `LSTM` and `GRU` share; constructed by `torch.nn.RNNBase`.

    Attributes
    ----------
    recompute : bool or int
        Keep less for backward and make the rest anew there: with True the states alone, with k
        those after every k-th step; see `fastrnn.functional.forward`. May be set at any time.
    """

    # Of the class, so that a module of torch's needs only another class to become one of ours.
    recompute: bool | int = False
    _frozen: Frozen | None = None
    _narrows_under_autocast = True
    _torchs: type[nn.RNNBase]  # whose place it takes

    def _set_recompute(self, recompute: bool | int) -> None:
        _arguments.checkpoint_steps(self._cell, recompute)
        if recompute:
            self.recompute = recompute

    @property
    def _cell(self) -> str:
        return self.mode.lower()

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> Any:
        """Run the layers.

        Parameters
        ----------
        input : Tensor or PackedSequence
            ``(T, B, I)``, with `batch_first` ``(B, T, I)``, or ``(T, I)``; T and B may be 0.
        hx : Tensor or tuple of Tensor, optional
            ``(L * D, B, H)``, or ``(L * D, H)``; for the LSTM a pair of them. Zeros without.
        lengths : Tensor, optional
            ``(B,)`` integers within 0..T, in any order: steps of each row. Past them the output is
            0, and the final state is that of the last step. In place of a `PackedSequence`.
        resets : Tensor, optional
            bool, ``(T, B)`` as the input is laid out: a new sequence starts at this step, from
            zeros; in the reverse direction at the step before.

        Returns
        -------
        output : Tensor or PackedSequence
            As the input, with ``D * H`` in the last place.
        hn : Tensor, or (hn, cn)
            The final state.

        Raises
        ------
        RuntimeError
            A shape, a length or a device that does not fit; a gradient of a frozen layer.
        ValueError
            A dtype, or an input that has neither two nor three dimensions.
        TypeError
            Something that is not a tensor.
        """
        if _tracing.may_be_recorded():
            options = {"lengths": lengths, "resets": resets}
            results = _tracing.elsewhere(self, input, hx, options)
            if results is not None:
                return results
        return self._run(input, hx, lengths, resets, False)[:2]

    def freeze(self) -> None:
        """Keep the weights packed: for serving, where no call has to pack them anew.

        The packed weights serve the very tensors that the layer has now. What is written into them
        in place, an optimiser's step say, is seen, and packed at the next call. A call that finds
        other tensors in their place computes with those, packed for that call alone:
        `torch.func.functional_call`, a new `Parameter`, parametrisations, pruning, ``.data = ...``.
        Not seen is what torch itself does not count: writes through ``.data`` or an array that
        shares the memory, and into tensors that were made in inference mode. After those call
        `freeze` again.

        Loading a state dict, moving and converting the module freeze it anew, or leave it as if
        never frozen where the engine has no kernel for what it has become; `is_frozen` tells.
        Copies and pickles are not frozen. Compiled code, transforms of `torch.func` and an autocast
        that converts the parameters pack at each call. A frozen layer gives no gradients, unless it
        is given other parameters.

        The tensors are held until the layer is frozen anew or unfrozen.

        Raises
        ------
        RuntimeError
            The engine has no kernel for the layer as it is: `proj_size`, a dtype that it computes
            in float32, or parameters that are no plain tensors (sharded, fake, on ``meta``).
        """
        parameters = self._parameters_in_order()
        if reason := reason_against(parameters, self.proj_size > 0):
            raise RuntimeError(
                f"[{self._cell}] a layer must have plain parameters of a dtype that the engine "
                f"computes in, and no projections, to be frozen, got {reason}"
            )
        self._frozen = Frozen(self._call(), parameters)

    def unfreeze(self) -> None:
        """Read the parameters anew at each call again."""
        self._frozen = None

    @property
    def is_frozen(self) -> bool:
        """Whether the layer keeps its weights packed; see `freeze`."""
        return self._frozen is not None

    # ---- a call ---------------------------------------------------------------------------------

    def _run(
        self, input: Any, hx: Any, lengths: Any, resets: Any, cells: bool
    ) -> tuple[Any, Any, Tensor | None]:
        if isinstance(input, PackedSequence):
            return self._run_packed(input, hx, lengths, resets, cells)
        if not isinstance(input, Tensor):
            raise _not_a_tensor(self._cell, "input", input)
        states = _states_of(self._cell, hx)
        for name, value in (("lengths", lengths), ("resets", resets)):
            if value is not None and not isinstance(value, Tensor):
                raise _not_a_tensor(self._cell, name, value)
        masks = self._masks(input) if self.dropout and self.training else ()
        return self._run_tensors(cells, input, lengths, resets, states, masks)

    def _run_tensors(
        self, cells: bool, x: Tensor, lengths: Any, resets: Any, states: Any, masks: Any
    ) -> tuple[Tensor, Any, Tensor | None]:
        inputs = Inputs(x, lengths, resets, states, masks, self._parameters_in_order())
        call = self._call(len(inputs.states), len(inputs.masks), cells)
        frozen = self._frozen
        packed = None if frozen is None else self._packed_for(frozen, call, inputs)
        if _narrow.applies(inputs):
            results = _narrow.layer(call, inputs, self._narrows_under_autocast, packed)
        else:
            results = _autograd.layer(call, inputs, packed)
        if not cells:
            return results[0], results[1] if len(results) == 2 else results[1:], None
        return results[0], results[1:-1], self._all_cells(results[-1], inputs)

    def _all_cells(self, cells: Tensor, inputs: Inputs) -> Tensor:
        """The caller's form of (1, L, D, T, B, H)."""
        cells = cells[0].flatten(0, 1)
        if inputs.x.dim() == 2:
            return cells[:, :, 0]
        if inputs.lengths is not None:  # the engine leaves what is past them as it was
            runs = _composite.TORCH.running(cells.shape[1], inputs.lengths.to(cells.device))
            cells = torch.where(runs[:, :, None], cells, 0.0)
        return cells.transpose(1, 2) if self.batch_first else cells

    def _packed_for(self, frozen: Frozen, call: Call, inputs: Inputs) -> Any:
        """The weights that `freeze` keeps, where they serve this call."""
        if torch.compiler.is_compiling() or not frozen.is_of(inputs.parameters):
            return None
        if _autograd.wants_gradient(inputs):
            raise RuntimeError(
                f"[{self._cell}] a frozen layer must be called under torch.no_grad() or after "
                "unfreeze(), got tensors that require gradients"
            )
        if call.cells or not _autograd.is_direct(inputs):
            return None
        if not frozen.is_current():
            self._frozen = frozen = Frozen(call, inputs.parameters)
        return frozen.packed

    def _run_packed(
        self, packed: PackedSequence, hx: Any, lengths: Any, resets: Any, cells: bool
    ) -> tuple[PackedSequence, Any, Tensor | None]:
        """The rows of a PackedSequence, in its order, padded."""
        if lengths is not None or resets is not None:
            raise ValueError(
                f"[{self._cell}] a PackedSequence must come without lengths and resets, got "
                + ("lengths" if resets is None else "resets")
            )
        data, batch_sizes, sorted_indices, unsorted_indices = packed
        _check_packed(self._cell, packed)
        alone = PackedSequence(data, batch_sizes)
        x, row_lengths = pad_packed_sequence(alone, self.batch_first)
        states = _states_of(self._cell, hx)
        if sorted_indices is not None:
            states = tuple(_sorted_rows(self._cell, s, sorted_indices) for s in states)
        masks = tuple(
            pad_packed_sequence(alone._replace(data=m), self.batch_first)[0]
            for m in self._draw(data, len(data))
        )
        y, state, all_cells = self._run_tensors(cells, x, row_lengths, None, states, masks)
        rows = pack_padded_sequence(y, row_lengths, self.batch_first)
        if unsorted_indices is not None:
            state = _map(state, lambda s: s.index_select(1, unsorted_indices))
            if all_cells is not None:
                dim = 1 if self.batch_first else 2
                all_cells = all_cells.index_select(dim, unsorted_indices)
        return packed._replace(data=rows.data), state, all_cells

    def _call(self, states: int = 0, masks: int = 0, cells: bool = False) -> Call:
        return Call(
            self._cell,
            self.num_layers,
            2 if self.bidirectional else 1,
            self.batch_first,
            0 if cells else int(self.recompute),
            cells,
            self.proj_size > 0,
            states,
            masks,
        )

    def _parameters_in_order(self) -> tuple[Tensor, ...]:
        return _parameters_of(self, self._flat_weights_names)

    # ---- dropout, drawn as torch's layers draw it -----------------------------------------------

    def _width(self) -> int:
        return (2 if self.bidirectional else 1) * (self.proj_size or self.hidden_size)

    def _masks(self, input: Tensor) -> tuple[Tensor, ...]:
        """In the layout of the input."""
        if input.dim() == 2:
            return tuple(m[:, 0] for m in self._draw(input, input.shape[0], 1))
        if self.batch_first and input.dim() == 3:
            drawn = self._draw(input, input.shape[1], input.shape[0])
            return tuple(m.transpose(0, 1) for m in drawn)
        return self._draw(input, *input.shape[:2])

    def _draw(self, like: Tensor, *rows: int) -> tuple[Tensor, ...]:
        """A mask for each layer but the last: of (T, B), or of the rows of packed data."""
        if not (self.dropout and self.training):
            return ()
        ones = like.new_ones(*rows, self._width())
        return tuple(nn.functional.dropout(ones, self.dropout) for _ in range(self.num_layers - 1))

    def __prepare_scriptable__(self) -> Any:
        raise _tracing.not_scriptable(self)

    # ---- what goes with a module -----------------------------------------------------------------

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._apply(*args, **kwargs)
        self._freeze_anew()
        return result

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._freeze_anew()

    def _freeze_anew(self) -> None:
        """Freeze what the layer has become; a conversion must not fail halfway through a model."""
        if self._frozen is not None:
            self.unfreeze()
            with contextlib.suppress(RuntimeError, ValueError):
                self.freeze()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        state.pop("_frozen", None)
        return state

    def extra_repr(self) -> str:
        text: str = super().extra_repr()
        return f"{text}, recompute={self.recompute}" if self.recompute else text


class RNN(Recurrent, nn.RNN):
    """`torch.nn.RNN` on the engine of fastrnn: same arguments, parameters, numbers and results.

    Parameters
    ----------
    input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional
        As in `torch.nn.RNN`; `nonlinearity` is ``"tanh"`` or ``"relu"``.
    device, dtype
        As in `torch.nn.RNN`. On the CPU float16 and bfloat16 are computed in float32.
    recompute : bool or int
        See `Recurrent`.
    """

    _torchs = nn.RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        recompute: bool | int = False,
    ) -> None:
        _refuse_projection("RNN", proj_size)
        _check_flags("RNN", bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"[rnn] nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
        self._set_recompute(recompute)


class GRU(Recurrent, nn.GRU):
    """`torch.nn.GRU` on the engine of fastrnn: same arguments, parameters, numbers and results.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As in `torch.nn.GRU`.
    device, dtype
        As in `torch.nn.GRU`. On the CPU float16 and bfloat16 are computed in float32.
    recompute : bool or int
        See `Recurrent`.
    """

    _torchs = nn.GRU
    _narrows_under_autocast = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        recompute: bool | int = False,
    ) -> None:
        _refuse_projection("GRU", proj_size)
        _check_flags("GRU", bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
        self._set_recompute(recompute)


class LSTM(Recurrent, nn.LSTM):
    """`torch.nn.LSTM` on the engine of fastrnn: same arguments, parameters, numbers and results.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As in `torch.nn.LSTM`.
    proj_size : int
        As in `torch.nn.LSTM`. The engine has no projections yet: such a layer runs as torch's own,
        or, with what torch's has not, step by step in torch's operations.
    device, dtype
        As in `torch.nn.LSTM`. On the CPU float16 and bfloat16 are computed in float32.
    recompute : bool or int
        See `Recurrent`.
    """

    _torchs = nn.LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        recompute: bool | int = False,
    ) -> None:
        _check_flags("LSTM", bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device=device,
            dtype=dtype,
        )
        self._set_recompute(recompute)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        return_cells: bool = False,
    ) -> Any:
        """As `Recurrent.forward`.

        Parameters
        ----------
        return_cells : bool
            Give a third result, the cell state after every step: ``(L * D, T, B, H)``, with
            `batch_first` ``(L * D, B, T, H)``, or ``(L * D, T, H)``; 0 past the lengths. Its
            gradients come from the composite, which is slow.
        """
        if _tracing.may_be_recorded():
            third = None if return_cells is False else return_cells
            options = {"lengths": lengths, "resets": resets, "return_cells": third}
            recorded = _tracing.elsewhere(self, input, hx, options)
            if recorded is not None:
                return recorded
        projected_as_torch = self.proj_size and not (
            return_cells or lengths is not None or resets is not None
        )
        if projected_as_torch and not torch.compiler.is_compiling():
            return nn.LSTM.forward(self, input, hx)
        results = self._run(input, hx, lengths, resets, return_cells)
        return results if return_cells else results[:2]


class _Cell:
    """A step: what the three cells add to torch's."""

    _cell: str
    _torchs: type[nn.RNNCellBase]
    _narrows_under_autocast = False
    _names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def __prepare_scriptable__(self) -> Any:
        raise _tracing.not_scriptable(self)

    def _step(self, input: Any, hx: Any) -> Any:
        """The state after the step."""
        if _tracing.may_be_recorded():
            results = _tracing.elsewhere(self, input, hx, {})
            if results is not None:
                return results
        states = _states_of(self._cell, hx)
        if not isinstance(input, Tensor):
            raise _not_a_tensor(self._cell, "input", input)
        for name, value in (("input", input), *(("hx", s) for s in states)):
            if value.dim() not in (1, 2):
                raise ValueError(
                    f"[{self._cell}] {name} must have 1 or 2 dimensions, got {value.dim()}"
                )
        names = self._names if self.bias else self._names[:2]  # type: ignore[attr-defined]
        parameters = _parameters_of(self, names)  # type: ignore[arg-type]
        inputs = Inputs(input, None, None, states, (), parameters)
        call = Call(self._cell, 1, 1, False, 0, False, False, len(states), 0)
        try:
            direct = not (_narrow.applies(inputs) or _autograd.lacks_kernel(call, inputs))
            if direct and _autograd.is_direct(inputs):
                final = _engine.step(call, input, states, parameters)
            else:
                final = self._one_step_of_a_layer(call, inputs)
        except ValueError as error:  # a dtype, for which torch's cells have another class
            raise RuntimeError(str(error)) from None
        return final if len(final) > 1 else final[0]

    def _one_step_of_a_layer(self, call: Call, inputs: Inputs) -> tuple[Tensor, ...]:
        states = tuple(s.unsqueeze(0) for s in inputs.states)
        inputs = Inputs(inputs.x.unsqueeze(0), None, None, states, (), inputs.parameters)
        if _narrow.applies(inputs):
            y, _, *others = _narrow.layer(call, inputs, self._narrows_under_autocast)
        else:
            y, _, *others = _autograd.layer(call, inputs)
        # h is the output. A view could not be detached in place, nor written where backward reads.
        return tuple(s.squeeze(0).clone() for s in (y, *others))


class RNNCell(_Cell, nn.RNNCell):
    """`torch.nn.RNNCell` on the engine of fastrnn: same arguments, parameters and numbers."""

    _torchs = nn.RNNCell
    _narrows_under_autocast = True

    @property
    def _cell(self) -> str:  # type: ignore[override]
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(
                f"[rnn] nonlinearity must be 'tanh' or 'relu', got {self.nonlinearity!r}"
            )
        return f"rnn_{self.nonlinearity}"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state after one step: input ``(B, I)`` or ``(I,)``, hx ``(B, H)`` or ``(H,)``.

        Raises
        ------
        RuntimeError
            A size or a dtype.
        ValueError
            A number of dimensions.
        """
        result: Tensor = self._step(input, hx)
        return result


class GRUCell(_Cell, nn.GRUCell):
    """`torch.nn.GRUCell` on the engine of fastrnn: same arguments, parameters and numbers."""

    _cell = "gru"
    _torchs = nn.GRUCell

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state after one step, as `RNNCell.forward`."""
        result: Tensor = self._step(input, hx)
        return result


class LSTMCell(_Cell, nn.LSTMCell):
    """`torch.nn.LSTMCell` on the engine of fastrnn: same arguments, parameters and numbers."""

    _cell = "lstm"
    _torchs = nn.LSTMCell

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """``(h, c)`` after one step, as `RNNCell.forward`."""
        result: tuple[Tensor, Tensor] = self._step(input, hx)
        return result


def _parameters_of(module: nn.Module, names: Sequence[str]) -> tuple[Tensor, ...]:
    """As they are now: parametrised, swapped by `torch.func.functional_call`, or gathered."""
    try:
        return tuple(map(module._parameters.__getitem__, names))  # type: ignore[arg-type]
    except KeyError:
        return tuple(getattr(module, name) for name in names)


def _states_of(cell: str, hx: Any) -> tuple[Tensor, ...]:
    """The initial states that a call was given."""
    if hx is None:
        return ()
    count = SIZES[cell].states
    states = (hx,) if count == 1 else hx
    if not isinstance(states, (tuple, list)) or len(states) != count:
        got = f"{len(hx)} values" if isinstance(hx, (tuple, list)) else type(hx).__name__
        raise TypeError(f"[{cell}] hx must be a tuple of {count} tensors, got {got}")
    for state in states:
        if not isinstance(state, Tensor):
            raise _not_a_tensor(cell, "hx", state)
    return tuple(states)


def _refuse_projection(name: str, proj_size: int) -> None:
    if proj_size:
        raise ValueError(f"[{name.lower()}] only the LSTM has proj_size, got {proj_size}")


def _check_flags(name: str, **flags: Any) -> None:
    for option, value in flags.items():
        _arguments.flag(name.lower(), option, value)


def _not_a_tensor(op: str, name: str, value: Any) -> TypeError:
    return TypeError(f"[{op}] {name} must be a tensor, got {type(value).__name__}")


def _sorted_rows(op: str, state: Tensor, order: Tensor) -> Tensor:
    """The rows of an initial state in the order of a PackedSequence; just as many."""
    if state.dim() != 3 or state.shape[1] != len(order):
        raise RuntimeError(
            f"[{op}] hx must have {len(order)} rows in its second of 3 dimensions, as the "
            f"PackedSequence has, got {tuple(state.shape)}"
        )
    return state.index_select(1, order)


def _map(state: Any, change: Any) -> Any:
    return tuple(map(change, state)) if isinstance(state, tuple) else change(state)


def _check_packed(op: str, packed: PackedSequence) -> None:
    """That the parts of a PackedSequence belong together."""
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


_dynamo.allow((Recurrent,))
