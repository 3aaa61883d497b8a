"""The names of cells: ``base``, or ``base(f1, f2, ..., clip=c, state=low:high)``, with functions
and clips of one's own.

A name says all that a cell is, so that calls, tapes and files carry one string. Of the strings that
mean the same cell one is canonical: it drops what is usual, and writes numbers as Python's repr
does. `csrc/core/cell_name.cpp` reads the same names for the engines; what this module does not
know, such as a cell that somebody has added to the registry, it leaves to them.
"""

from __future__ import annotations

import math
import numbers
import re
import reprlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

# Of each function, the numbers that it has, as ONNX has them where they are left out.
FUNCTIONS: dict[str, tuple[float, ...]] = {
    "sigmoid": (),
    "tanh": (),
    "relu": (),
    "softsign": (),
    "softplus": (),
    "affine": (1.0, 0.0),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
    "scaled_tanh": (1.0, 1.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0,),
}

# Of each base, the functions that it usually has.
BASES: dict[str, tuple[str, ...]] = {
    "rnn": ("tanh",),
    "lstm": ("sigmoid", "tanh", "tanh"),
    "lstm_peephole": ("sigmoid", "tanh", "tanh"),
    "lstm_coupled": ("sigmoid", "tanh", "tanh"),
    "lstm_coupled_peephole": ("sigmoid", "tanh", "tanh"),
    "gru": ("sigmoid", "tanh"),
    "gru_reset_before": ("sigmoid", "tanh"),
}

# Names without brackets that stand for a base with other functions.
SHORT: dict[str, tuple[str, tuple[str, ...]]] = {
    f"rnn_{function}": ("rnn", (function,)) for function in ("tanh", "relu", "sigmoid")
}

FunctionLike: TypeAlias = str | tuple[Any, ...]
RangeLike: TypeAlias = float | tuple[float, float]

_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
_FUNCTION = re.compile(r"([a-z_]+)(?:\(([^()]*)\))?")
_CELL = re.compile(r"([a-z0-9_]+)\((.*)\)")


class Function(NamedTuple):
    """An activation function, with its numbers alpha and beta where it has them."""

    name: str
    numbers: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.numbers))})" if self.numbers else self.name


class CellName(NamedTuple):
    """What a name says."""

    base: str
    functions: tuple[Function, ...]  # of one direction, then of the reverse one where it has others
    clip: float | None = None
    state_range: tuple[float, float] | None = None

    def of_direction(self, direction: int) -> tuple[Function, ...]:
        """The functions of the forward (0) or the reverse direction (1)."""
        count = len(BASES[self.base])
        return self.functions[-count:] if direction else self.functions[:count]

    @property
    def own_functions(self) -> tuple[str, ...] | None:
        """The functions as texts; None where they are the usual ones of the base."""
        texts = tuple(map(str, self.functions))
        return None if texts == BASES[self.base] else texts

    @property
    def _clips(self) -> list[str]:
        """The options that follow the functions."""
        clip = [] if self.clip is None else [f"clip={self.clip!r}"]
        return clip + ["state={!r}:{!r}".format(*limits) for limits in [self.state_range] if limits]

    def __str__(self) -> str:
        own = self.own_functions
        for short, meant in SHORT.items():
            if not self._clips and meant == (self.base, tuple(map(str, self.functions))):
                return short
        inside = [*(own or ()), *self._clips]
        return f"{self.base}({', '.join(inside)})" if inside else self.base


def cell_name(
    base: str,
    activations: Sequence[FunctionLike] | None = None,
    clip: float | None = None,
    state_range: RangeLike | None = None,
) -> str:
    """The name of a cell with activation functions of one's own, or with clipping.

    Parameters
    ----------
    base : str
        ``"rnn"``, ``"lstm"``, ``"lstm_peephole"``, ``"lstm_coupled"``,
        ``"lstm_coupled_peephole"``, ``"gru"`` or ``"gru_reset_before"``; also ``"rnn_tanh"``,
        ``"rnn_relu"`` and ``"rnn_sigmoid"``.
    activations : sequence, optional
        The functions: one for the simple layer; of the gates and of the candidate n for the GRU;
        for LSTMs of the gates, of the candidate g and of the output, the tanh in o tanh(c). Twice
        as many for a bidirectional layer whose reverse direction has others. Each is a name or a
        tuple ``(name, alpha, beta)``, whose numbers are those of ONNX where they are left out; the
        usual functions where there are none.
    clip : float, optional
        Bounds what goes into the functions to ``[-clip, clip]``; of an LSTM that is also c_t in
        o_t tanh(c_t), though not the state c_t.
    state_range : (float, float) or float, optional
        Bounds to which the state is clipped right after a step has made it: of an LSTM c_t, before
        o_t or h_t see it, of the others h_t. n stands for ``(-n, n)``; one of the bounds may be
        infinite. The gradient passes where the state was within them or on one.

    Returns
    -------
    str
        The canonical name, which drops what is usual: ``lstm`` for
        ``cell_name("lstm", ["sigmoid", "tanh", "tanh"])``.

    Raises
    ------
    ValueError
        An unknown base or function, another count of functions or numbers, a number that is not
        finite, a `clip` that is not above 0, a `state_range` that is none.
    TypeError
        Something that is not a name, a sequence or a number.

    Notes
    -----
    The functions, with the numbers that ONNX's operators have where they are left out::

        sigmoid           1 / (1 + exp(-x))
        tanh              tanh(x)
        relu              max(0, x)
        softsign          x / (1 + |x|)
        softplus          log(1 + exp(x))
        affine            alpha x + beta                        alpha 1, beta 0
        leaky_relu        x if x >= 0 else alpha x              alpha 0.01
        thresholded_relu  x if x >= alpha else 0                alpha 1
        scaled_tanh       alpha tanh(beta x)                    alpha 1, beta 1
        hard_sigmoid      min(max(alpha x + beta, 0), 1)        alpha 0.2, beta 0.5
        elu               x if x >= 0 else alpha (exp(x) - 1)   alpha 1

    References
    ----------
    The operators RNN, GRU and LSTM of ONNX, https://onnx.ai/onnx/operators/. A clipped cell state:
    `cell_clip` of TensorFlow's LSTMCell and cudnnRNNSetClip of cuDNN. A clipped h_t: the GRUs of
    LFADS, C. Pandarinath et al., Inferring single-trial neural population dynamics using
    sequential auto-encoders, Nature Methods 15 (2018).

    Examples
    --------
    >>> fastrnn.cell_name("gru", ["hard_sigmoid", ("elu", 0.5)], clip=3)
    'gru(hard_sigmoid(0.2, 0.5), elu(0.5), clip=3.0)'
    >>> fastrnn.cell_name("lstm", state_range=3)
    'lstm(state=-3.0:3.0)'
    """
    if not isinstance(base, str):
        raise TypeError(f"[cell] base must be a name, got {type(base).__name__}")
    if base not in (*BASES, *SHORT):
        raise ValueError(f"[cell] base must be one of {', '.join(BASES)}, got {base!r}")
    base, usual = SHORT.get(base) or (base, BASES[base])
    if activations is None:
        activations = usual
    elif isinstance(activations, str) or not isinstance(activations, Sequence):
        raise TypeError(
            f"[cell] activations must be a sequence of functions, got {reprlib.repr(activations)}"
        )
    functions = tuple(map(_function, activations))
    return str(
        _checked(
            base,
            functions,
            None if clip is None else _clip(clip),
            None if state_range is None else _range(state_range),
        )
    )


@lru_cache(maxsize=256)
def canonical(cell: str) -> str:
    """The canonical name of a cell; a name that only an engine may know is left as it is.

    Raises
    ------
    ValueError
        The text in the brackets is no list of functions, or the base has no such functions.
    """
    parsed = find(cell)
    return cell if parsed is None else str(parsed)


def parsed(cell: str) -> CellName:
    """What a name says that has been made of a base."""
    name = find(cell)
    assert name is not None
    return name


@lru_cache(maxsize=256)
def find(cell: str) -> CellName | None:
    """What a name says; None for one without brackets that is no base.

    Raises
    ------
    ValueError
        As `canonical`.
    """
    short = SHORT.get(cell) or (cell, BASES.get(cell))
    if short[1]:
        return CellName(short[0], tuple(map(Function, short[1])))
    if not re.search(r"\W", cell):
        return None
    match = _CELL.fullmatch(cell)
    if match is None or match[1] not in BASES:
        bases = ", ".join(BASES)
        raise ValueError(
            "[cell] cell must be a name or base(function, ..., clip=c, state=low:high) with a base "
            f"of {bases}, got {reprlib.repr(cell)}"
        )
    texts = _arguments_of(match[2])
    limits, clip = _take_option(texts, "state="), _take_option(texts, "clip=")
    functions = tuple(map(_function_of_text, texts)) or tuple(map(Function, BASES[match[1]]))
    return _checked(
        match[1],
        functions,
        None if clip is None else _clip(_number(clip)),
        None if limits is None else _range_of_text(limits),
    )


def _take_option(texts: list[str], key: str) -> str | None:
    """Take the value of the option that stands last, where it begins with `key`."""
    return texts.pop().removeprefix(key) if texts and texts[-1].startswith(key) else None


def _arguments_of(text: str) -> list[str]:
    """Cut at the commas that stand in no brackets."""
    return [part.strip() for part in re.split(r",(?![^()]*\))", text)]


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"[cell] a number must be written as 0.5 or 1e-05, got {text!r}")
    return _finite(float(text))


def _real(number: Any, what: str) -> float:
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(f"[cell] {what} must be numbers, got {reprlib.repr(number)}")
    return float(number)


def _finite(number: Any) -> float:
    value = _real(number, "alpha, beta and clip")
    if not math.isfinite(value):
        raise ValueError(f"[cell] alpha, beta and clip must be finite, got {value!r}")
    return value


def _clip(clip: Any) -> float:
    value = _finite(clip)
    if not value > 0:
        raise ValueError(f"[cell] clip must be above 0, got {value!r}")
    return value


def _range(given: Any) -> tuple[float, float]:
    pair = isinstance(given, (tuple, list)) and len(given) == 2
    low, high = (_real(n, "the bounds of a state") for n in (given if pair else (given, given)))
    if not pair:
        low = -high
    if not low < high or -low == high == math.inf:
        raise ValueError(
            f"[cell] state must have low < high, one of them finite, got {low!r} and {high!r}"
        )
    return low, high


def _range_of_text(text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    if not colon:
        raise ValueError(f"[cell] state must be low:high, got {text!r}")
    return _range(
        (
            -math.inf if low == "-inf" else _number(low),
            math.inf if high == "inf" else _number(high),
        )
    )


def _function_of_text(text: str) -> Function:
    """A function with all of its numbers, as names have them."""
    match = _FUNCTION.fullmatch(text)
    if match is None:
        raise ValueError(f"[cell] a function must be name or name(alpha, beta), got {text!r}")
    values = tuple(map(_number, match[2].split(","))) if match[2] is not None else ()
    return _with_numbers(match[1], values, least=None)


def _function(function: Any) -> Function:
    """A function whose last numbers may be left out."""
    if isinstance(function, str):
        return _function_of_text(function) if "(" in function else _with_numbers(function, ())
    if not isinstance(function, (tuple, list)) or not function or not isinstance(function[0], str):
        raise TypeError(
            f"[cell] a function must be a name or a tuple (name, alpha, beta), "
            f"got {reprlib.repr(function)}"
        )
    return _with_numbers(function[0], tuple(map(_finite, function[1:])))


def _with_numbers(name: str, values: tuple[float, ...], least: int | None = 0) -> Function:
    """least: how many numbers must be given; None for all."""
    if name not in FUNCTIONS:
        raise ValueError(f"[cell] a function must be one of {', '.join(FUNCTIONS)}, got {name!r}")
    usual = FUNCTIONS[name]
    if not (len(usual) if least is None else least) <= len(values) <= len(usual):
        raise ValueError(f"[cell] {name} must have {len(usual)} numbers, got {len(values)}")
    return Function(name, values + usual[len(values) :])


def _checked(
    base: str,
    functions: tuple[Function, ...],
    clip: float | None,
    state_range: tuple[float, float] | None,
) -> CellName:
    """Of both directions only where they differ."""
    count = len(BASES[base])
    if len(functions) not in (count, 2 * count):
        raise ValueError(
            f"[cell] {base} must have {count} functions, or {2 * count} for two directions, "
            f"got {len(functions)}"
        )
    if functions[:count] == functions[count:]:
        functions = functions[:count]
    return CellName(base, functions, clip, state_range)
