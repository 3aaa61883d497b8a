"""`RNN`, `LSTM` and `GRU` as modules of Flax NNX."""

from __future__ import annotations

from typing import Any

try:
    from flax import nnx
except ImportError as error:
    raise ImportError("[flax] fastrnn.jax.nn.flax needs Flax: pip install flax") from error

from ... import _arguments
from ..._cell_names import FunctionLike
from .._functional import State
from ._layer import Layer

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


class Recurrent(nnx.Module):
    """A stack of layers of any cell.

    Its parameters are `nnx.Param` attributes with torch's names, such as ``weight_ih_l0``. Dropout
    follows ``train()`` and ``eval()`` as that of `nnx.Dropout` does.

    Parameters
    ----------
    cell : str
        As in `fastrnn.jax.recurrent`.
    input_size, hidden_size : int
    rngs : nnx.Rngs
        Its stream ``params`` draws the parameters, ``dropout`` the masks of dropout.
    **options
        Those of `Layer`: num_layers, bias, batch_first, dropout, bidirectional, proj_size, dtype.
    """

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, *, rngs: nnx.Rngs, **options: Any
    ) -> None:
        self.layer = Layer(_arguments.cell_name(cell), input_size, hidden_size, **options)
        self.deterministic = False
        streams: Any = rngs
        self.rngs: Any = streams.dropout.fork() if self.layer.drops else nnx.data(None)
        params = self.layer.init(streams.params())
        self.names = tuple(params)
        for name, value in params.items():
            setattr(self, name, nnx.Param(value))

    def __call__(self, x: Any, state: State = None, **options: Any) -> tuple[Any, State]:
        """Run the layers; x, state, results and options as in `fastrnn.jax.recurrent`."""
        params = {name: getattr(self, name)[...] for name in self.names}
        key = None if self.deterministic or not self.layer.drops else self.rngs()
        return self.layer(params, x, state, key, options)


class LSTM(Recurrent):
    """`Recurrent` with the LSTM, whose equations `fastrnn.LSTM` gives."""

    def __init__(self, input_size: int, hidden_size: int, **options: Any) -> None:
        super().__init__("lstm", input_size, hidden_size, **options)


class GRU(Recurrent):
    """`Recurrent` with the GRU, whose equations `fastrnn.GRU` gives."""

    def __init__(self, input_size: int, hidden_size: int, **options: Any) -> None:
        super().__init__("gru", input_size, hidden_size, **options)


class RNN(Recurrent):
    """`Recurrent` with the simple layer, whose equations `fastrnn.RNN` gives."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: FunctionLike = "tanh",
        **options: Any,
    ) -> None:
        super().__init__(_arguments.rnn_cell(nonlinearity), input_size, hidden_size, **options)
