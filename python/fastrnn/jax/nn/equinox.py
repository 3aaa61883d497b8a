"""`RNN`, `LSTM` and `GRU` as modules of Equinox."""

from __future__ import annotations

from typing import Any

try:
    import equinox
except ImportError as error:
    raise ImportError(
        "[equinox] fastrnn.jax.nn.equinox needs Equinox: pip install equinox"
    ) from error

import jax

from ... import _arguments
from ..._cell_names import FunctionLike
from .._functional import State
from ._layer import Layer

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


class Recurrent(equinox.Module):
    """A stack of layers of any cell.

    Dropout is drawn where a call is given a key, unless `equinox.nn.inference_mode` has turned it
    off.

    Parameters
    ----------
    cell : str
        As in `fastrnn.jax.recurrent`.
    input_size, hidden_size : int
    key : array
        Draws the parameters.
    **options
        Those of `Layer`: num_layers, bias, batch_first, dropout, bidirectional, proj_size, dtype.
    """

    params: dict[str, jax.Array]
    inference: bool
    layer: Layer = equinox.field(static=True)

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, *, key: Any, **options: Any
    ) -> None:
        self.layer = Layer(_arguments.cell_name(cell), input_size, hidden_size, **options)
        self.params = self.layer.init(key)
        self.inference = False

    def __call__(
        self, x: Any, state: State = None, *, key: Any = None, **options: Any
    ) -> tuple[jax.Array, State]:
        """Run the layers; x, state, results and options as in `fastrnn.jax.recurrent`.

        Raises
        ------
        RuntimeError
            There is dropout and no key, as Equinox's own says it.
        """
        drops = self.layer.drops and not self.inference
        if drops and key is None:
            raise RuntimeError(f"[{self.layer.cell}] dropout needs a key, got none")
        return self.layer(self.params, x, state, key if drops else None, options)


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
