"""What the layers share: the constructors of ``torch.nn``'s, and the engine's calls."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import _arguments
from . import _autograd, _composite, _narrow, _packed, _tracing
from ._call import Call, Inputs, StepInputs, step_inputs
from ._conditions import takes_packed
from ._frozen import Frozen, freeze
from ._modules import check_given, not_a_tensor, parameters_of, states_of


class Recurrent(nn.RNNBase):
    """What `RNN`, `LSTM` and `GRU` share; constructed by `torch.nn.RNNBase`.

    Attributes
    ----------
    recompute : bool or int
        Keep less for backward and compute the rest again there: with True the states alone, with k
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
        holds: Tensor | None = None,
        repeat_held: bool = False,
        recurrent_masks: Tensor | None = None,
    ) -> Any:
        """Run the layers.

        Parameters
        ----------
        input : Tensor or PackedSequence
            ``(T, B, I)``, with `batch_first` ``(B, T, I)``, or ``(T, I)``; T and B may be 0.
        hx : Tensor or tuple of Tensor, optional
            ``(L * D, B, H)``, or ``(L * D, H)``; for the LSTM a pair of them, of which h has
            `proj_size` values where that is given. Zeros without.
        lengths : Tensor, optional
            ``(B,)`` integers within 0..T, in any order: steps of each row. Past them the output is
            0, and the final state is that of the last step. In place of a `PackedSequence`.
        resets : Tensor, optional
            bool, ``(T, B)`` as the input is laid out: a new sequence starts at this step, from
            zeros; in the reverse direction at the step before.
        holds : Tensor, optional
            bool, as `resets`: steps that a row sits out, where its state stays and the output is 0.
        repeat_held : bool
            There the output is that of the last step of this call that ran, in the order of the
            direction; 0 where none has.
        recurrent_masks : Tensor, optional
            ``(L * D, B, H)``, or ``(L * D, G, B, H)`` for each of the G gates in the order of the
            rows of ``weight_hh``; without a batch without B, and `proj_size` in the place of H
            where that is given. Multiplied into the h that enters the product with ``weight_hh``,
            the same at all steps: see `fastrnn.functional`. They have no gradient. On the CPU.

        Returns
        -------
        output : Tensor or PackedSequence
            As the input, with ``D * H``, or ``D * proj_size``, in the last place.
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
        NotImplementedError
            Recurrent masks on a GPU, or such that want a gradient.
        """
        steps = step_inputs(lengths, resets, holds, None, recurrent_masks)
        if _tracing.may_be_recorded():
            repeats = None if repeat_held is False else repeat_held
            options = steps._asdict() | {"repeat_held": repeats}
            results = _tracing.elsewhere(self, input, hx, options)
            if results is not None:
                return results
        return self._run(input, hx, steps, repeat_held, False)[:2]

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
            The engine has no kernel for the layer as it is: `proj_size` on a GPU, a dtype that it
            computes in float32, or parameters that are no plain tensors (sharded, fake, on
            ``meta``).
        """
        self._frozen = freeze(self._call(), self._parameters_in_order())

    def unfreeze(self) -> None:
        """Read the parameters anew at each call again."""
        self._frozen = None

    @property
    def is_frozen(self) -> bool:
        """Whether the layer keeps its weights packed; see `freeze`."""
        return self._frozen is not None

    # ---- a call ---------------------------------------------------------------------------------

    def _run(
        self, input: Any, hx: Any, steps: StepInputs, repeat_held: bool, cells: bool
    ) -> tuple[Any, Any, Tensor | None]:
        if repeat_held is not False:
            repeat_held = _arguments.flag(self._cell, "repeat_held", repeat_held)
        if isinstance(input, PackedSequence):
            _packed.refuse_steps(self._cell, steps)
            check_given(self._cell, steps)
            return self._run_packed(input, hx, steps.recurrent_masks, cells)
        if not isinstance(input, Tensor):
            raise not_a_tensor(self._cell, "input", input)
        states = states_of(self._cell, hx)
        check_given(self._cell, steps)
        masks = self._masks(input) if self.dropout and self.training else ()
        inputs = Inputs(input, steps, states, masks, self._parameters_in_order())
        return self._run_tensors(inputs, cells, repeat_held)

    def _run_tensors(
        self, inputs: Inputs, cells: bool, repeat_held: bool = False
    ) -> tuple[Tensor, Any, Tensor | None]:
        call = self._call(len(inputs.states), len(inputs.masks), cells, repeat_held)
        frozen = self._frozen
        packed = None if frozen is None else self._packed_for(frozen, call, inputs)
        if _narrow.applies(inputs):
            results = _narrow.layer(call, inputs, self._narrows_under_autocast, packed)
        else:
            results = _autograd.layer(call, inputs, packed)
        if not cells:
            return results[0], results[1] if len(results) == 2 else results[1:], None
        return results[0], results[1:-1], self._all_cells(results[-1], inputs)

    def _packed_for(self, frozen: Frozen, call: Call, inputs: Inputs) -> Any:
        """The weights that `freeze` keeps, where they serve this call."""
        serving = frozen.serving(call, inputs)
        if serving is not None and serving is not frozen:
            self._frozen = serving
        return None if serving is None else serving.packed

    def _all_cells(self, cells: Tensor, inputs: Inputs) -> Tensor:
        """The caller's form of (1, L, D, T, B, H)."""
        cells = cells[0].flatten(0, 1)
        if inputs.x.dim() == 2:
            cells = cells[:, :, 0]
            holds = inputs.steps.holds
            return cells if holds is None else torch.where(holds[:, None], 0.0, cells)
        lengths, holds = inputs.steps.lengths, inputs.steps.holds
        if lengths is not None:  # the engine leaves what is past them as it was
            runs = _composite.TORCH.running(cells.shape[1], lengths.to(cells.device))
            cells = torch.where(runs[:, :, None], cells, 0.0)
        if holds is not None:
            holds = holds.transpose(0, 1) if self.batch_first else holds
            cells = torch.where(holds[:, :, None], 0.0, cells)
        return cells.transpose(1, 2) if self.batch_first else cells

    def _run_packed(
        self, packed: PackedSequence, hx: Any, recurrent_masks: Tensor | None, cells: bool
    ) -> tuple[PackedSequence, Any, Tensor | None]:
        """The rows of a PackedSequence, in its order; padded where a call needs that."""
        batch_first = self.batch_first
        _packed.check(self._cell, packed)
        states = _packed.sort_rows(self._cell, packed, states_of(self._cell, hx))
        masks = self._draw(packed.data, len(packed.data))
        recurrent_masks = _packed.sort_masks(self._cell, packed, recurrent_masks)
        steps = StepInputs(batch_sizes=packed.batch_sizes, recurrent_masks=recurrent_masks)
        inputs = Inputs(packed.data, steps, states, masks, self._parameters_in_order())
        pads = cells or not takes_packed(inputs)
        if pads:
            inputs = _packed.pad(packed, inputs, batch_first)
        y, state, all_cells = self._run_tensors(inputs, cells)
        if isinstance(state, tuple):
            state = tuple(_packed.unsort_rows(packed, s, 1) for s in state)
        else:
            state = _packed.unsort_rows(packed, state, 1)
        if all_cells is not None:
            all_cells = _packed.unsort_rows(packed, all_cells, 1 if batch_first else 2)
        if pads:
            y = _packed.pack(y, inputs, batch_first)
        return packed._replace(data=y), state, all_cells

    def _call(
        self, states: int = 0, masks: int = 0, cells: bool = False, repeat_held: bool = False
    ) -> Call:
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
            repeat_held,
        )

    def _parameters_in_order(self) -> tuple[Tensor, ...]:
        return parameters_of(self, self._flat_weights_names)

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
