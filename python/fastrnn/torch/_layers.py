"""The layers, with the constructors of ``torch.nn``'s."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import _arguments
from . import _dynamo, _engine, _tracing
from ._call import NO_STEP_INPUTS, step_inputs
from ._recurrent import Recurrent


class RNN(Recurrent, nn.RNN):
    """`torch.nn.RNN` on the engine of fastrnn: same arguments, parameters, numbers and results.

    Parameters
    ----------
    input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional
        As in `torch.nn.RNN`; `nonlinearity` is ``"tanh"`` or ``"relu"``.
    device, dtype
        As in `torch.nn.RNN`.
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
        As in `torch.nn.GRU`.
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
        As in `torch.nn.LSTM`. The engine for GPUs has no projections yet: there such a layer runs
        as torch's own, or, with what torch's has not, step by step in torch's operations.
    device, dtype
        As in `torch.nn.LSTM`.
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
        holds: Tensor | None = None,
        repeat_held: bool = False,
        recurrent_masks: Tensor | None = None,
        return_cells: bool = False,
    ) -> Any:
        """As `Recurrent.forward`.

        Parameters
        ----------
        return_cells : bool
            Give a third result, the cell state after every step: ``(L * D, T, B, H)``, with
            `batch_first` ``(L * D, B, T, H)``, or ``(L * D, T, H)``; 0 where a row does not run.
            Its gradients come from the composite, which is slow.
        """
        steps = step_inputs(lengths, resets, holds, None, recurrent_masks)
        if _tracing.may_be_recorded():
            flags = {"repeat_held": repeat_held, "return_cells": return_cells}
            own = {name: None if flag is False else flag for name, flag in flags.items()}
            options = steps._asdict() | own
            recorded = _tracing.elsewhere(self, input, hx, options)
            if recorded is not None:
                return recorded
        if self.proj_size and not (return_cells or steps is not NO_STEP_INPUTS):
            weight = self._parameters_in_order()[0]
            if not (_engine.projects_quickly(weight.device) or torch.compiler.is_compiling()):
                return nn.LSTM.forward(self, input, hx)
        results = self._run(input, hx, steps, repeat_held, return_cells)
        return results if return_cells else results[:2]


def _refuse_projection(name: str, proj_size: int) -> None:
    if proj_size:
        raise ValueError(f"[{name.lower()}] only the LSTM has proj_size, got {proj_size}")


def _check_flags(name: str, **flags: Any) -> None:
    for option, value in flags.items():
        _arguments.flag(name.lower(), option, value)


_dynamo.allow((Recurrent,))
