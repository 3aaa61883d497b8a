"""The cells: constructors, parameters and state of ``torch.nn``'s, and one step on the engine."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .._parameters import kinds
from . import _autograd, _conditions, _engine, _narrow, _tracing
from ._call import NO_STEP_INPUTS, Call, Inputs
from ._modules import not_a_tensor, parameters_of, states_of

_WITH_BIAS, _WITHOUT_BIAS = kinds(bias=True), kinds(bias=False)


class _Cell:
    """A step: what the three cells add to torch's."""

    _cell: str
    _torchs: type[nn.RNNCellBase]
    _narrows_under_autocast = False

    def __prepare_scriptable__(self) -> Any:
        raise _tracing.not_scriptable(self)

    def _step(self, input: Any, hx: Any) -> Any:
        """The state after the step."""
        if _tracing.may_be_recorded():
            results = _tracing.elsewhere(self, input, hx, {})
            if results is not None:
                return results
        states = states_of(self._cell, hx)
        if not isinstance(input, Tensor):
            raise not_a_tensor(self._cell, "input", input)
        for name, value in (("input", input), *(("hx", s) for s in states)):
            if value.dim() not in (1, 2):
                raise ValueError(
                    f"[{self._cell}] {name} must have 1 or 2 dimensions, got {value.dim()}"
                )
        names = _WITH_BIAS if self.bias else _WITHOUT_BIAS  # type: ignore[attr-defined]
        parameters = parameters_of(self, names)  # type: ignore[arg-type]
        inputs = Inputs(input, NO_STEP_INPUTS, states, (), parameters)
        call = Call(self._cell, 1, 1, False, 0, False, False, len(states), 0)
        try:
            direct = not (_narrow.applies(inputs) or _conditions.lacks_kernel(inputs))
            if direct and _conditions.is_direct(inputs):
                final = _engine.step(call, input, states, parameters)
            else:
                final = self._one_step_of_a_layer(call, inputs)
        except ValueError as error:  # a dtype, for which torch's cells have another class
            raise RuntimeError(str(error)) from None
        return final if len(final) > 1 else final[0]

    def _one_step_of_a_layer(self, call: Call, inputs: Inputs) -> tuple[Tensor, ...]:
        x, *states = (a[None] for a in (inputs.x, *inputs.states))  # of time, and of one layer
        inputs = inputs._replace(x=x, states=tuple(states))
        if _narrow.applies(inputs):
            y, _, *others = _narrow.layer(call, inputs, self._narrows_under_autocast)
        else:
            y, _, *others = _autograd.layer(call, inputs)
        # h is the output. A view could not be detached in place, nor written where backward reads.
        return tuple(s[0].clone() for s in (y, *others))


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
