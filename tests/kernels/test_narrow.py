"""float16 and bfloat16 on the CPU: every cell and option against the reference, and where numbers are
rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
import tiers
from cases import (
    Case,
    Data,
    chosen_cases,
    kernel_cases,
    make_data,
    masked_cases,
    projected_cases,
)
from fastrnn import _dtypes, functional, reference
from fastrnn._check import _data
from tolerances import NARROW_ROUNDING, assert_gradient, assert_output, gradient

NARROW = _dtypes.NARROW
EVERY = [
    case
    for cases in (kernel_cases, chosen_cases, projected_cases, masked_cases)
    for case in cases(NARROW)
]
# One shape in three of each cell in the fast tier; odd and even numbers of values either way.
SOME = [case for i, case in enumerate(EVERY) if i % 3 == 0 and case.dtype == "bfloat16"]


def train(case: Case, data: Data, **options: Any) -> dict[str, np.ndarray]:
    """The results of a training step, by name."""
    y, final, tape = functional.forward(
        case.cell, data.x, data.params, data.state, **options, **data.options
    )
    back = functional.backward(case.cell, data.params, tape, data.dy, data.dstate)
    return _data.named(y, final, *back)


def wanted(case: Case, data: Data) -> dict[str, np.ndarray]:
    y, final, tape = reference.forward(case.cell, data.x, data.params, data.state, **data.options)
    back = reference.backward(case.cell, data.params, tape, data.dy, data.dstate)
    return _data.named(y, final, *back)


def assert_close(case: Case, got: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> None:
    kinks = any(function in case.cell for function in ("relu", "hard_sigmoid", "clip", "state="))
    assert got.keys() == exact.keys()
    for name, value in exact.items():
        if name in ("y", "hn", "cn"):
            assert_output(got[name], value, case.dtype, name)
        elif kinks:
            assert_mostly(got[name], value, case.dtype, name)
        else:
            assert_gradient(got[name], value, case.dtype, name)


def assert_mostly(a: np.ndarray, b: np.ndarray, dtype: str, what: str) -> None:
    """Of gradients of a cell with kinks: on which side of one a unit is may hang on a rounding, and
    then whole parts of some sums are missing, so one in ten may be further off.
    """
    error = np.abs(a.astype(np.float64) - b) / max(np.abs(b).max(initial=0), np.finfo(float).tiny)
    assert np.isfinite(a.astype(np.float64)).all(), what
    far = error > gradient(dtype)
    assert far.mean() <= 0.1 if far.size else True, f"{what}: {far.mean():.0%} are off"


@pytest.mark.parametrize("case", tiers.thin(EVERY, SOME), ids=lambda case: case.id)
def test_against_reference(case: Case, level: str) -> None:
    data = make_data(case)
    got = train(case, data)
    assert_close(case, got, wanted(case, data))
    for name, array in got.items():
        wide = name in ("cn", "dc0")
        assert array.dtype.name == (_dtypes.of_cell_state(case.dtype) if wide else case.dtype), name
