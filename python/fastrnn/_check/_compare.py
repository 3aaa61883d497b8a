"""One case at one place, against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from fastrnn import _dtypes, _parameters, _schemes, reference

from . import _tolerances
from ._data import Case, Data, flat_state, make_data, named
from ._places import Place, Results

_OUTPUTS = ("y", "hn", "cn")
# How often a case is drawn whose numbers prove nothing, and how many neighbours of them are asked.
_DRAWS, _NEIGHBOURS = 3, 8


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
    return ", ".join([case.elements, *sizes, *(word for word, used in words.items() if used)])


def check(place: Place, case: Case, seed: int, redraw: bool = True) -> Outcome:
    """Run a case in every way that a place has.

    redraw: whether other numbers are drawn where the first prove nothing, which takes the time of
    several cases to find out.
    """
    for draw in range(_DRAWS):
        outcome = _check_once(place, case, (seed, draw))
        if not outcome.failures or not redraw or not _is_at_a_kink(case, (seed, draw)):
            break
    return outcome


def _check_once(place: Place, case: Case, seed: tuple[int, int]) -> Outcome:
    data, wanted = _drawn(case, seed)
    share, failures = 0.0, []
    first: tuple[str, Results] | None = None
    try:
        for way, results in place.runs(case, data):
            first = first or (way, results)
            for name, array in results.items():
                same = array.tobytes() == first[1][name].tobytes()
                if same and results is not first[1]:
                    continue
                error, allowed = _error(name, array, wanted[name]), _allowed(case, name)
                rounds = case.dtype in _dtypes.NARROW and name not in _OUTPUTS
                if error > allowed and rounds:
                    allowed = max(allowed, 2 * _by_roundings(case, seed)[name])
                share = max(share, error / allowed)
                if error > allowed:
                    what = f"{name} has an error of {error:.2e}, where {allowed:.0e} is allowed"
                elif place.same_bits and not same:
                    what = f"{name} has other bits than with {first[0]}"
                else:
                    continue
                failures.append(Failure(case, way, what))
    except Exception as error:  # of a kernel, whatever it is: what is wrong with one is said too
        share = np.inf
        failures.append(Failure(case, "no results", f"{type(error).__name__}: {error}"))
    return Outcome(share, failures)


@lru_cache(maxsize=1)
def _drawn(case: Case, seed: tuple[int, int]) -> tuple[Data, Results]:
    """The arrays of a case and the reference's results; the same for place after place."""
    data = make_data(case, seed)
    return data, _by_reference(case, data)


def _by_reference(case: Case, data: Data) -> Results:
    params = _for_reference(data.params, case.weights)
    y, final, tape = reference.forward(case.cell, data.x, params, data.state, **data.options)
    if case.weights:
        return {"y": y, **{f"{k}n": a for k, a in zip("hc", flat_state(final), strict=False)}}
    back = reference.backward(case.cell, data.params, tape, data.dy, data.dstate)
    return named(y, final, *back)


def _for_reference(params: dict[str, np.ndarray], weights: str) -> dict[str, np.ndarray]:
    """Parameters as the reference takes them: of weights alone the numbers that they stand for."""
    if weights in ("", "int8"):
        return params
    found = {}
    for name, array in params.items():
        if _parameters.is_scale(name):
            continue
        found[name] = array.astype(np.float64)
        if _schemes.SCHEMES[weights].scaled and _parameters.kind_of(name) in _parameters.MATRICES:
            found[name] *= params[_parameters.scale_name(name)].astype(np.float64)[:, None]
    return found


def _is_at_a_kink(case: Case, seed: tuple[int, int]) -> bool:
    """Whether roundings of the arrays change the reference's own gradients by more than is allowed.

    Where a function has a kink, a unit within a rounding of it may be on in one and off in the
    other, and neither is wrong. Of the cases in float32 about one in ten thousand has such a unit.
    In 16 bits many have, so that there what roundings change in a gradient is allowed too.
    """
    if case.weights:  # of which no gradients are compared
        return False
    found = _by_roundings(case, seed)
    gradients = [name for name in found if name not in _OUTPUTS]
    return any(found[name] > _allowed(case, name) for name in gradients)


@lru_cache(maxsize=1)
def _by_roundings(case: Case, seed: tuple[int, int]) -> dict[str, float]:
    """How far the reference's results are apart where its arrays are, by some roundings each."""
    narrow = _tolerances.NARROW_ROUNDING.get(case.dtype)
    eps = 4 * narrow if narrow else 16 * float(np.finfo(case.dtype).eps)
    found: dict[str, float] = {}
    for errors in _of_neighbours(case, seed, eps):
        for name, error in errors.items():
            found[name] = max(error, found.get(name, 0.0))
    return found


def _of_neighbours(case: Case, seed: tuple[int, int], eps: float) -> Iterator[dict[str, float]]:
    """How far the reference's results with arrays nearby are from its own."""
    data, wanted = _drawn(case, seed)
    rng = np.random.default_rng(seed)

    def nearby(a: np.ndarray) -> np.ndarray:
        return a.astype(np.float64) * (1 + eps * rng.choice([-1.0, 1.0], a.shape))

    for _ in range(_NEIGHBOURS):
        params = {name: nearby(a) for name, a in data.params.items()}
        found = _by_reference(case, replace(data, x=nearby(data.x), params=params))
        yield {name: _error(name, a, wanted[name]) for name, a in found.items()}


def _error(name: str, array: np.ndarray, wanted: np.ndarray) -> float:
    if array.shape != wanted.shape:
        return np.inf
    measure = _tolerances.output_error if name in _OUTPUTS else _tolerances.relative
    error = measure(array, wanted)
    return np.inf if np.isnan(error) else error  # an infinity, where the reference has none


def _allowed(case: Case, name: str) -> float:
    # Weights alone are numbers that the reference has too: there x and h are float32.
    dtype = case.weights if case.weights == "int8" else case.dtype
    return (_tolerances.output if name in _OUTPUTS else _tolerances.gradient)(dtype)
