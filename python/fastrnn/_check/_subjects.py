"""The cells that are checked, found by asking the build, and the cases of each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import fastrnn
from fastrnn import _cell_names, _dtypes, _native, _schemes

from ._data import Case

# Numbers of functions that are not the usual ones, so that none is a factor of 1 or a term of 0.
# A threshold but 0 is a jump, which rounding may cross.
_NUMBERS = {
    "affine": (0.5, 0.1),
    "leaky_relu": (0.1,),
    "thresholded_relu": (0.0,),
    "scaled_tanh": (1.5, 0.6),
    "hard_sigmoid": (0.3, 0.4),
    "elu": (0.7,),
}
_CLIP, _STATE_RANGE = 1.5, (-0.8, 0.9)


@dataclass(frozen=True)
class Subject:
    """A cell, as a layer with a projection or as one without."""

    cell: str
    projected: bool = False

    @property
    def name(self) -> str:
        """All that it is."""
        return self.cell + (" projected" if self.projected else "")

    @property
    def label(self) -> str:
        """A short name for tables."""
        return re.sub(r"\(.*\)", "(...)", self.name)


def subjects() -> list[Subject]:
    """Everything that this build has a kernel for.

    These are the cells of ``fastrnn.build_info()["cells"]``, and of each base of
    `fastrnn.cell_name` the one with the usual functions and one with functions, a clip and a range
    of the state of its own. All functions have a place in one of these.
    """
    functions = itertools.cycle(_cell_names.FUNCTIONS)
    chosen = [
        fastrnn.cell_name(
            base,
            [(f, *_NUMBERS.get(f, ())) for f in itertools.islice(functions, len(usual))],
            _CLIP,
            _STATE_RANGE,
        )
        for base, usual in _cell_names.BASES.items()
    ]
    usual = map(_cell_names.canonical, _cell_names.BASES)
    cells = dict.fromkeys((*fastrnn.build_info()["cells"], *usual, *chosen))
    return [subject for cell in cells for subject in of_cell(cell)]


def of_cell(cell: str) -> list[Subject]:
    """What the build has of a cell: nothing, it alone, or also its layers with a projection."""
    return [Subject(cell, P > 0) for P in (0, 1) if _has_kernel(cell, P)]


def _has_kernel(cell: str, P: int) -> bool:
    try:
        _native.engine.Weights(cell, "float32", 1, 1, 1, 2, True, P)
    except (ValueError, NotImplementedError):
        return False
    return True


def find_subjects(name: str) -> list[Subject]:
    """Those that a name means: a base with all of its cells, a cell of the build, or any other.

    Raises
    ------
    ValueError
        The build has no such cell.
    """
    every = subjects()
    found = [s for s in every if s.cell == name or _base_of(s.cell) == name]
    found = found or of_cell(_cell_names.canonical(name))
    if not found:
        known = dict.fromkeys(s.cell.partition("(")[0] for s in every)
        raise ValueError(
            f"[check] cell must be one of {', '.join(known)}, or a name that fastrnn.cell_name "
            f"makes, got {name!r}"
        )
    return found


def _base_of(cell: str) -> str:
    found = _cell_names.find(cell)
    return cell if found is None else found.base


def dtypes() -> tuple[str, ...]:
    """Those of layers that can be made here: bfloat16 is a dtype of ml_dtypes."""
    narrow = [name for name in _dtypes.NARROW if name != "bfloat16" or has_bfloat16()]
    return (*_dtypes.WIDE, *narrow)


def has_bfloat16() -> bool:
    try:
        _dtypes.numpy_dtype("bfloat16")
    except TypeError:
        return False
    return True


def cases_of(subject: Subject) -> Iterator[Case]:
    """In each dtype: edges of shapes, each option with and without, and some of them together.

    The same with weights of 8 bits, and a few with each way to quantize weights alone.
    """

    def case(T: int, B: int, I: int, H: int, **options: Any) -> Case:
        P = (H + 1) // 2 if subject.projected else 0
        return Case(subject.cell, T, B, I, H, P=P, **options)

    cases = (
        case(0, 3, 4, 6, D=2, L=2),
        case(1, 1, 1, 1, state=False),
        case(6, 1, 5, 33, state=False),
        case(5, 13, 17, 31, bias=False, batch_first=True),
        case(4, 2, 20, 130, D=2, state=False),
        case(9, 7, 6, 19, L=2, lengths=True, dropout=True),
        case(9, 6, 4, 21, D=2, resets=True),
        case(9, 5, 6, 19, D=2, L=2, holds=True, state=False),
        case(9, 9, 8, 17, D=2, L=2, lengths=True, resets=True, holds=True, repeat_held=True),
        case(8, 5, 4, 21, D=2, reverse=True, batch_first=True, lengths=True),
        case(6, 1, 5, 12, batched=False, holds=True, resets=True),
        case(7, 5, 6, 19, D=2, recurrent="gates"),
        # Large enough for a team, among whose members are rows or units.
        case(3, 40, 12, 65, lengths=True),
        case(2, 2, 24, 256),
    )
    for dtype in dtypes():
        yield from (replace(case, dtype=dtype) for case in cases)
    for i, (name, scheme) in enumerate(_schemes.SCHEMES.items()):
        if scheme.dtype != "bfloat16" or has_bfloat16():
            own = cases if name == "int8" else cases[i::4]
            yield from (replace(case, weights=name) for case in own)
