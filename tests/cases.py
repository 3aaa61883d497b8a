"""The one list of cases that kernel tests run.

A case and how its data are drawn are those of ``python -m fastrnn check``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from fastrnn import _dtypes, _native
from fastrnn._check._data import Case, Data, flat_state, make_data, parameter_shapes

__all__ = [
    "CHOSEN",
    "CLIPPING",
    "Case",
    "Data",
    "cells",
    "chosen_cases",
    "flat_state",
    "kernel_cases",
    "make_data",
    "masked_cases",
    "parameter_shapes",
    "projected_cases",
]


def cells() -> list[str]:
    return [cell["name"] for cell in _native.engine.cells()]


def _has_kernel(cell: str) -> bool:
    """Whether the build has the cell: some tests build a few cells alone."""
    try:
        _native.engine.Weights(cell, "float32", 1, 2, 1, 1, True)
    except ValueError:
        return False
    return True


# Cells of the kernels whose functions are data: each function, each kernel, with peepholes and
# without, with and without a clip. (A threshold elsewhere is a jump, which rounding may cross.)
_CHOSEN = (
    "rnn(softplus, leaky_relu(0.1), clip=1.5)",
    "rnn(affine(0.5, 0.1))",
    "lstm(hard_sigmoid(0.2, 0.5), softsign, elu(0.7), sigmoid, tanh, relu, clip=0.9)",
    "lstm_peephole",
    "lstm_coupled",
    "lstm_coupled_peephole(sigmoid, scaled_tanh(1.5, 0.6), thresholded_relu(0.0), clip=0.5)",
    "gru(hard_sigmoid(0.3, 0.4), elu(0.5))",
    "gru_reset_before(hard_sigmoid(0.2, 0.5), softsign, clip=1.5)",
)
CHOSEN = tuple(filter(_has_kernel, _CHOSEN))
# Those that clip their state to what some steps exceed. (A clip rounds nothing: the bits that are
# kept in a file are those of the others.)
_CLIPPING = (
    "rnn(softplus, leaky_relu(0.1), clip=1.5, state=-0.25:0.9)",
    "lstm(softsign, tanh, elu(0.7), sigmoid, tanh, softsign, state=-0.3:inf)",
    "lstm_peephole(state=-0.5:0.4)",
    "lstm_coupled(clip=2.0, state=-0.4:0.4)",
    "gru(hard_sigmoid(0.3, 0.4), elu(0.5), state=-0.3:0.6)",
    "gru_reset_before(state=-inf:0.3)",
)
CLIPPING = tuple(filter(_has_kernel, _CLIPPING))


def chosen_cases(dtypes: tuple[str, ...] = ("float32", "float64")) -> Iterator[Case]:
    """For those cells and every dtype: a few shapes, options together."""
    for cell, dtype in itertools.product((*CHOSEN, *CLIPPING), dtypes):
        yield from (
            Case(cell, 5, 13, 17, 31, dtype, D=2, bias=False, batch_first=True),
            Case(cell, 4, 2, 20, 130, dtype, D=2, state=False),
            Case(cell, 10, 9, 8, 17, dtype, D=2, L=2, lengths=True, resets=True, dropout=True),
            Case(cell, 14, 1, 5, 12, dtype, D=2, batched=False, holds=True, repeat_held=True),
            Case(cell, 0, 3, 4, 6, dtype, D=2, L=2),
        )


def kernel_cases(dtypes: tuple[str, ...] = ("float32", "float64")) -> Iterator[Case]:
    """For every cell and dtype: each edge of shape and each option, and some of them together."""
    for cell, dtype in itertools.product(cells(), dtypes):
        # Simple cells differ by their function alone.
        every = 1 if cell not in ("rnn_relu", "rnn_sigmoid") else 3
        yield from _cases_of(cell, dtype)[::every]


def _cases_of(cell: str, dtype: str) -> tuple[Case, ...]:
    return (
        Case(cell, 1, 1, 1, 1, dtype),
        Case(cell, 1, 4, 7, 16, dtype, state=False),
        Case(cell, 6, 1, 5, 33, dtype),
        Case(cell, 7, 3, 3, 5, dtype, bias=False),
        Case(cell, 5, 13, 17, 31, dtype, batch_first=True),
        Case(cell, 9, 8, 32, 64, dtype, state=False),
        Case(cell, 4, 2, 20, 130, dtype, D=2),
        Case(cell, 8, 5, 6, 19, dtype, D=2, L=3, batch_first=True, dropout=True),
        Case(cell, 11, 7, 9, 40, dtype, D=2, lengths=True),
        Case(cell, 12, 6, 4, 21, dtype, D=2, resets=True),
        Case(cell, 10, 9, 8, 17, dtype, D=2, L=2, lengths=True, resets=True, dropout=True),
        Case(cell, 6, 1, 5, 12, dtype, D=2, L=2, batched=False, resets=True),
        Case(cell, 70, 2, 3, 18, dtype, lengths=True),
        Case(cell, 13, 5, 6, 19, dtype, D=2, L=2, holds=True, dropout=True),
        Case(cell, 18, 9, 8, 17, dtype, D=2, lengths=True, resets=True, holds=True),
        Case(cell, 14, 1, 5, 12, dtype, D=2, batched=False, holds=True, repeat_held=True),
        Case(
            cell,
            15,
            7,
            4,
            33,
            dtype,
            D=2,
            L=2,
            batch_first=True,
            lengths=True,
            resets=True,
            holds=True,
            repeat_held=True,
        ),
        Case(cell, 9, 7, 6, 19, dtype, L=2, reverse=True, lengths=True, resets=True),
        Case(cell, 8, 5, 4, 21, dtype, D=2, reverse=True, batch_first=True, holds=True),
        Case(cell, 0, 3, 4, 6, dtype, D=2, L=2),
        Case(cell, 3, 0, 4, 6, dtype, L=2),
    )


def projected_cases(dtypes: tuple[str, ...] = ("float32", "float64")) -> Iterator[Case]:
    """What of the above is another thing where h is a projection of the cell's output."""
    for dtype in dtypes:
        yield from (
            Case("lstm", 1, 1, 1, 1, dtype, P=1),
            Case("lstm", 6, 1, 5, 33, dtype, P=9),
            Case("lstm", 7, 3, 3, 5, dtype, bias=False, P=13),
            Case("lstm", 5, 13, 17, 31, dtype, batch_first=True, P=20),
            Case("lstm", 4, 2, 20, 130, dtype, D=2, P=70, state=False),
            Case("lstm", 8, 5, 6, 19, dtype, D=2, L=3, batch_first=True, dropout=True, P=7),
            Case("lstm", 10, 9, 8, 17, dtype, D=2, L=2, lengths=True, resets=True, P=21),
            Case("lstm", 6, 1, 5, 12, dtype, D=2, L=2, batched=False, resets=True, P=5),
            Case("lstm", 18, 9, 8, 17, dtype, D=2, lengths=True, holds=True, P=3),
            Case("lstm", 14, 3, 5, 12, dtype, D=2, L=2, holds=True, repeat_held=True, P=4),
            Case("lstm", 6, 3, 4, 5, dtype, D=2, L=2, lengths=True, resets=True, P=9),
            Case("lstm", 0, 3, 4, 6, dtype, D=2, L=2, P=2),
            Case("lstm", 3, 0, 4, 6, dtype, L=2, P=2),
        )
        own = (*CHOSEN, *CLIPPING)
        chosen = [c for c in own if c.startswith(("lstm(", "lstm_peephole"))]
        for cell in chosen if dtype in _dtypes.WIDE else ():
            yield from (
                Case(cell, 5, 13, 17, 31, dtype, D=2, bias=False, batch_first=True, P=20),
                Case(cell, 4, 2, 20, 130, dtype, D=2, P=70, state=False),
                Case(cell, 10, 9, 8, 17, dtype, D=2, L=2, lengths=True, resets=True, P=21),
            )


def masked_cases(dtypes: tuple[str, ...] = ("float32", "float64")) -> Iterator[Case]:
    """For every cell, dtype and kind of recurrent masks: ways that sums are cut and rows run."""
    for dtype, masks in itertools.product(dtypes, ("shared", "gates")):

        def case(
            cell: str, *sizes: int, dtype: str = dtype, masks: str = masks, **own: Any
        ) -> Case:
            return Case(cell, *sizes, dtype, recurrent=masks, **own)

        for cell in (*cells(), *CHOSEN):
            yield case(cell, 10, 9, 8, 17, D=2, L=2, lengths=True, resets=True, dropout=True)
        for cell in cells():
            yield from (
                case(cell, 1, 3, 5, 16),
                case(cell, 6, 1, 5, 33),
                case(cell, 5, 13, 17, 31, D=2, batch_first=True),
                case(cell, 4, 2, 20, 130, state=False),
                case(cell, 7, 3, 3, 5, bias=False),
                case(cell, 6, 1, 5, 12, D=2, L=2, batched=False, resets=True),
                case(cell, 9, 7, 6, 19, D=2, reverse=True, holds=True, repeat_held=True),
                case(cell, 0, 3, 4, 6),
            )
        yield from (
            case("lstm", 6, 1, 5, 33, P=9),
            case("lstm", 5, 13, 17, 31, D=2, P=20),
            case("lstm", 10, 9, 8, 17, L=2, lengths=True, resets=True, P=21),
        )
