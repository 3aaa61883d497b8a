"""Recurrent layers with the signatures, shapes and results of ``torch.nn``."""

from __future__ import annotations

from typing import Any

from . import _arguments
from ._recurrent import Recurrent

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


class _Named(Recurrent):
    """A layer whose class says which cell it has."""

    _cell: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
        device: str = "cpu",
        seed: Any = None,
        recompute: bool | int = False,
        *,
        reverse: bool = False,
    ) -> None:
        super().__init__(
            self._cell,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            device,
            seed,
            recompute,
            reverse=reverse,
        )


class LSTM(_Named):
    """LSTM layers, those of ``torch.nn.LSTM``: gates i f g o, state ``(h, c)``.

    See `Recurrent` for the parameters.

    Notes
    -----
    Products of two vectors are taken element by element::

        i_t = sigmoid(W_ii x_t + b_ii + W_hi h_(t-1) + b_hi)     input gate
        f_t = sigmoid(W_if x_t + b_if + W_hf h_(t-1) + b_hf)     forget gate
        g_t =    tanh(W_ig x_t + b_ig + W_hg h_(t-1) + b_hg)     cell gate
        o_t = sigmoid(W_io x_t + b_io + W_ho h_(t-1) + b_ho)     output gate
        c_t = f_t c_(t-1) + i_t g_t
        h_t = o_t tanh(c_t)

    ``weight_ih`` is W_ii, W_if, W_ig and W_io, one below the other; ``weight_hh`` and the biases
    have the same order.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9 (1997); the
    forget gate: F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, Neural Computation
    12 (2000).
    """

    _cell = "lstm"


class GRU(_Named):
    """GRU layers, those of ``torch.nn.GRU``: gates r z n, the reset gate applied after the product.

    See `Recurrent` for the parameters.

    Notes
    -----
    Products of two vectors are taken element by element::

        r_t = sigmoid(W_ir x_t + b_ir + W_hr h_(t-1) + b_hr)          reset gate
        z_t = sigmoid(W_iz x_t + b_iz + W_hz h_(t-1) + b_hz)          update gate
        n_t =    tanh(W_in x_t + b_in + r_t (W_hn h_(t-1) + b_hn))    new gate
        h_t = (1 - z_t) n_t + z_t h_(t-1)

    ``weight_ih`` is W_ir, W_iz and W_in, one below the other; ``weight_hh`` and the biases have the
    same order. In the published version of the paper the reset gate stands before the product:
    W_hn (r_t h_(t-1)).

    References
    ----------
    K. Cho et al., Learning phrase representations using RNN encoder-decoder for statistical machine
    translation, arXiv:1406.1078 (2014), in its first version.
    """

    _cell = "gru"


class RNN(_Named):
    """Simple layers, those of ``torch.nn.RNN``.

    Parameters
    ----------
    nonlinearity : str
        ``"tanh"``, ``"relu"`` or ``"sigmoid"``; fourth, as in torch.

    See `Recurrent` for the other parameters.

    Notes
    -----
    With `nonlinearity` as act::

        h_t = act(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)

    References
    ----------
    J. L. Elman, Finding structure in time, Cognitive Science 14 (1990), whose units are sigmoids.
    """

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
        dtype: Any = "float32",
        device: str = "cpu",
        seed: Any = None,
        recompute: bool | int = False,
        *,
        reverse: bool = False,
    ) -> None:
        self._cell = _arguments.rnn_cell(nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            device,
            seed,
            recompute,
            reverse=reverse,
        )

    def _options(self) -> list[str]:
        options = super()._options()
        if self.nonlinearity != "tanh":
            options.append(f"nonlinearity={self.nonlinearity!r}")
        return options
