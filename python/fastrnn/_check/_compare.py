"""One case at one place, against the reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastrnn import reference

from . import _tolerances
from ._data import Case, Data, make_data, named
from ._places import Place, Results

_OUTPUTS = ("y", "hn", "cn")


@dataclass(frozen=True)
class Failure:
    """What is wrong with a case, in words."""

    case: Case
    way: str
    what: str

    def __str__(self) -> str:
        return f"{in_words(self.case)}, {self.way}: {self.what}"


@dataclass(frozen=True)
class Outcome:
    """The largest error of a case, as a share of what is allowed, and what is wrong."""

    share: float
    failures: list[Failure]


def in_words(case: Case) -> str:
    """All that a case is, but for its cell."""
    sizes = [f"{letter} {getattr(case, letter)}" for letter in "TBIHDL"]
    words = {
        f"P {case.P}": case.P,
        "no bias": not case.bias,
        "batch_first": case.batch_first,
        "reverse": case.reverse,
        "no batch": not case.batched,
        "initial state": case.state,
        "lengths": case.lengths,
        "resets": case.resets,
        "holds": case.holds,
        "repeat_held": case.repeat_held,
        "dropout masks": case.dropout,
        "recurrent masks": case.recurrent,
    }
    return ", ".join([case.dtype, *sizes, *(word for word, used in words.items() if used)])


def check(place: Place, case: Case, seed: int) -> Outcome:
    """Run a case in every way that a place has."""
    data, wanted = _drawn(case, seed)
    share, failures = 0.0, []
    first: tuple[str, Results] | None = None
    try:
        for way, results in place.runs(case, data):
            first = first or (way, results)
            for name, array in results.items():
                error, allowed = _error(name, array, wanted[name]), _allowed(name, case.dtype)
                share = max(share, error / allowed)
                if error > allowed:
                    text = f"{name} has an error of {error:.2e}, where {allowed:.0e} is allowed"
                    failures.append(Failure(case, way, text))
                elif place.same_bits and array.tobytes() != first[1][name].tobytes():
                    text = f"{name} has other bits than with {first[0]}"
                    failures.append(Failure(case, way, text))
    except Exception as error:  # of a kernel, whatever it is: what is wrong with one is said too
        share = np.inf
        failures.append(Failure(case, "no results", f"{type(error).__name__}: {error}"))
    return Outcome(share, failures)


@lru_cache(maxsize=1)
def _drawn(case: Case, seed: int) -> tuple[Data, Results]:
    """The arrays of a case and the reference's results; the same for place after place."""
    data = make_data(case, seed)
    y, final, tape = reference.forward(case.cell, data.x, data.params, data.state, **data.options)
    back = reference.backward(case.cell, data.params, tape, data.dy, data.dstate)
    return data, named(y, final, *back)


def _error(name: str, array: np.ndarray, wanted: np.ndarray) -> float:
    if array.shape != wanted.shape:
        return np.inf
    measure = _tolerances.output_error if name in _OUTPUTS else _tolerances.relative
    error = measure(array, wanted)
    return np.inf if np.isnan(error) else error  # an infinity, where the reference has none


def _allowed(name: str, dtype: str) -> float:
    return (_tolerances.output if name in _OUTPUTS else _tolerances.gradient)(dtype)
