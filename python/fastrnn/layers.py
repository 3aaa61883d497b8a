"""Recurrent layers with the signatures, shapes and results of ``torch.nn``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import _arguments, _cell_names
from ._cell_names import FunctionLike, RangeLike
from ._recurrent import Recurrent

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


class LSTM(Recurrent):
    """LSTM layers, those of ``torch.nn.LSTM``: gates i f g o, state ``(h, c)``.

    The parameters that all layers have are those of `Recurrent`.

    Parameters
    ----------
    activations : sequence, optional
        Functions in the place of the sigmoid of the gates, the tanh of the cell gate and that of
        c_t; see `fastrnn.cell_name`.
    clip : float, optional
        Bounds what goes into these functions to ``[-clip, clip]``; so c_t in o_t tanh(c_t), though
        not the state c_t.
    state_range : (float, float) or float, optional
        Bounds to which c_t is clipped before anything sees it; n stands for ``(-n, n)``.
    peepholes : bool
        Whether the gates see the cell state.
    input_forget : bool
        Whether the forget gate is coupled to the input gate: f_t = 1 - i_t, without parameters of
        its own.

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
    have the same order. With `proj_size` the last line is, with ``weight_hr`` as W_hr::

        h_t = W_hr (o_t tanh(c_t))

    With peepholes p_i c_(t-1) is added in the sigmoid of i_t, p_f c_(t-1) in that of f_t and
    p_o c_t in that of o_t: ``weight_diag`` is p_i, p_f and p_o, one after the other. With
    `input_forget` there are gates i g o and peepholes p_i, p_o::

        c_t = (1 - i_t) c_(t-1) + i_t g_t

    References
    ----------
    S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9 (1997); the
    forget gate: F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, Neural Computation
    12 (2000); peepholes: F. A. Gers and J. Schmidhuber, Recurrent nets that time and count (2000);
    coupled gates: K. Greff et al., LSTM: a search space odyssey (2017); the projection: H. Sak, A.
    Senior and F. Beaufays, Long short-term memory recurrent neural network architectures for large
    scale acoustic modeling, Interspeech 2014.
    """

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
        proj_size: int = 0,
        activations: Sequence[FunctionLike] | None = None,
        clip: float | None = None,
        peepholes: bool = False,
        input_forget: bool = False,
        state_range: RangeLike | None = None,
    ) -> None:
        coupled = _arguments.flag("lstm", "input_forget", input_forget)
        peephole = _arguments.flag("lstm", "peepholes", peepholes)
        base = "lstm" + coupled * "_coupled" + peephole * "_peephole"
        super().__init__(
            _cell_names.cell_name(base, activations, clip, state_range),
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
            proj_size=proj_size,
        )

    @classmethod
    def _cell_options(cls, cell: str) -> dict[str, Any]:
        options = _chosen(cell)
        base = _cell_names.parsed(cell).base
        if base.endswith("_peephole"):
            options["peepholes"] = True
        if "_coupled" in base:
            options["input_forget"] = True
        return options


class GRU(Recurrent):
    """GRU layers: gates r z n, the reset gate applied after the product, as in ``torch.nn.GRU``.

    The parameters that all layers have are those of `Recurrent`.

    Parameters
    ----------
    activations : sequence, optional
        Functions in the place of the sigmoid of the gates and the tanh of the new gate; see
        `fastrnn.cell_name`.
    clip : float, optional
        Bounds what goes into these functions to ``[-clip, clip]``.
    state_range : (float, float) or float, optional
        Bounds to which h_t is clipped; n stands for ``(-n, n)``.
    reset_after : bool
        False applies the reset gate before the product, as in the published paper; Keras' name.
        Such a layer's step has two products, one after the other.

    Notes
    -----
    Products of two vectors are taken element by element::

        r_t = sigmoid(W_ir x_t + b_ir + W_hr h_(t-1) + b_hr)          reset gate
        z_t = sigmoid(W_iz x_t + b_iz + W_hz h_(t-1) + b_hz)          update gate
        n_t =    tanh(W_in x_t + b_in + r_t (W_hn h_(t-1) + b_hn))    new gate
        h_t = (1 - z_t) n_t + z_t h_(t-1)

    ``weight_ih`` is W_ir, W_iz and W_in, one below the other; ``weight_hh`` and the biases have the
    same order. With ``reset_after=False`` the third line is::

        n_t = tanh(W_in x_t + b_in + W_hn (r_t h_(t-1)) + b_hn)

    References
    ----------
    K. Cho et al., Learning phrase representations using RNN encoder-decoder for statistical machine
    translation, arXiv:1406.1078 (2014), in its first version; with ``reset_after=False`` as
    published at EMNLP 2014.
    """

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
        activations: Sequence[FunctionLike] | None = None,
        clip: float | None = None,
        reset_after: bool = True,
        state_range: RangeLike | None = None,
    ) -> None:
        super().__init__(
            _arguments.gru_cell(reset_after, activations, clip, state_range),
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

    @property
    def reset_after(self) -> bool:
        """Whether the reset gate is applied after the product."""
        return _cell_names.parsed(self.cell).base == "gru"

    @classmethod
    def _cell_options(cls, cell: str) -> dict[str, Any]:
        before = _cell_names.parsed(cell).base == "gru_reset_before"
        return _chosen(cell) | ({"reset_after": False} if before else {})


class RNN(Recurrent):
    """Simple layers, those of ``torch.nn.RNN``.

    The parameters that all layers have are those of `Recurrent`.

    Parameters
    ----------
    nonlinearity : str or tuple
        ``"tanh"``, ``"relu"``, ``"sigmoid"`` or another function of `fastrnn.cell_name`; fourth, as
        in torch.
    clip : float, optional
        Bounds what goes into it to ``[-clip, clip]``.
    state_range : (float, float) or float, optional
        Bounds to which h_t is clipped; n stands for ``(-n, n)``.

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
        nonlinearity: FunctionLike = "tanh",
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
        clip: float | None = None,
        state_range: RangeLike | None = None,
    ) -> None:
        super().__init__(
            _arguments.rnn_cell(nonlinearity, clip, state_range),
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

    @property
    def nonlinearity(self) -> str:
        """The function, with its numbers."""
        return str(_cell_names.parsed(self.cell).functions[0])

    @classmethod
    def _cell_options(cls, cell: str) -> dict[str, Any]:
        options = _chosen(cell)
        functions = options.pop("activations", None)
        return {"nonlinearity": functions[0], **options} if functions else options


def _chosen(cell: str) -> dict[str, Any]:
    """The options that say which functions and clips a cell has, without what is usual."""
    name = _cell_names.parsed(cell)
    options = {
        "activations": name.own_functions,
        "clip": name.clip,
        "state_range": name.state_range,
    }
    return {option: value for option, value in options.items() if value is not None}
