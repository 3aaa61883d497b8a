"""float16 and bfloat16 on the CPU: every cell and option against the reference, and rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tiers
from builds import DEV_LEVELS, LEVELS, OF_BFLOAT16
from cases import (
    Case,
    Data,
    chosen_cases,
    kernel_cases,
    make_data,
    masked_cases,
    projected_cases,
)
from conftest import at_level
from fastrnn import _dtypes, _native, functional, reference
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


@pytest.fixture(params=[*tiers.thin(LEVELS, DEV_LEVELS), *OF_BFLOAT16])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Also the levels that have nothing but kernels for bfloat16."""
    yield from at_level(request, monkeypatch)


@pytest.mark.parametrize("case", tiers.thin(EVERY, SOME), ids=lambda case: case.id)
def test_against_reference(case: Case, level: str) -> None:
    data = make_data(case)
    got = train(case, data)
    assert_close(case, got, wanted(case, data))
    for name, array in got.items():
        wide = name in ("cn", "dc0")
        assert array.dtype.name == (_dtypes.of_cell_state(case.dtype) if wide else case.dtype), name


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("dtype", NARROW)
def test_long_sequences(cell: str, dtype: str, level: str) -> None:
    """Roundings of a step fade; gradients of weights are sums of 3000 products, rounded once."""
    case = Case(cell, 1000, 3, 16, 48, dtype)
    data = make_data(case, 3)
    assert_close(case, train(case, data), wanted(case, data))


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before"])
@pytest.mark.parametrize("dtype", NARROW)
def test_gradients_of_parameters_are_rounded_once(cell: str, dtype: str, level: str) -> None:
    """Chunks, windows of recompute and the two biases: one sum each, in float32."""
    case = Case(cell, 400, 2, 5, 12, dtype, state=False)
    data = make_data(case)
    data.dy[1:] = 0
    wide = replace(case, dtype="float32")
    same = make_data(wide)
    # What 16 bits hold, so that both see the same numbers but for h, the gates and their gradients.
    same.x, same.dy = data.x.astype(np.float32), data.dy.astype(np.float32)
    same.params = {name: p.astype(np.float32) for name, p in data.params.items()}
    got, exact = train(case, data), train(wide, same)
    for recompute in (7, 64):
        again = train(case, data, recompute=recompute)
        assert all(again[name].tobytes() == a.tobytes() for name, a in got.items())
    for name, value in exact.items():
        if name.startswith(("dw", "db")):
            assert_gradient(got[name], value, dtype, name)


def test_sums_are_float32(level: str) -> None:
    """A bias of 1 and 4096 inputs that are worth less than its rounding together are seen."""
    n = 4096
    for dtype in NARROW:
        kind = _dtypes.numpy_dtype(dtype)
        tiny = kind.type(NARROW_ROUNDING[dtype] / 64)
        params = {
            "weight_ih_l0": np.full((1, n), tiny, kind),
            "weight_hh_l0": np.zeros((1, 1), kind),
            "bias_ih_l0": np.ones(1, kind),
            "bias_hh_l0": np.zeros(1, kind),
        }
        y, _ = functional.infer("rnn_relu", np.ones((1, 1, n), kind), params)
        assert float(y[0, 0, 0]) == float(kind.type(1 + n * float(tiny)))


def test_cell_states_are_float32(level: str) -> None:
    """Of an LSTM that adds 2**-10 to c at each step: bfloat16 would stay at 1/4."""
    steps, kind = 3000, _dtypes.numpy_dtype("bfloat16")
    big = kind.type(100)
    bias = np.array([big, big, kind.type(np.arctanh(2.0**-10)), big], kind)
    params = {
        "weight_ih_l0": np.zeros((4, 1), kind),
        "weight_hh_l0": np.zeros((4, 1), kind),
        "bias_ih_l0": bias,
        "bias_hh_l0": np.zeros(4, kind),
    }
    _, (_, c) = functional.infer("lstm", np.zeros((steps, 1, 1), kind), params)
    step = np.tanh(float(bias[2]))
    assert c.dtype == np.float32
    assert abs(float(c[0, 0, 0]) / (steps * step) - 1) < 1e-3


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn_tanh"])
@pytest.mark.parametrize("dtype", NARROW)
def test_gradients_of_gates_are_rounded(cell: str, dtype: str, level: str) -> None:
    """Of one step of one row, db is what the product for dW has read."""
    data = make_data(Case(cell, 1, 1, 37, 21, dtype, state=False))
    got = train(Case(cell, 1, 1, 37, 21, dtype, state=False), data)
    gates, x = (a.astype(np.float32) for a in (got["dbias_ih_l0"], data.x[0, 0]))
    wanted = (gates[:, None] * x).astype(data.x.dtype)
    assert np.array_equal(got["dweight_ih_l0"], wanted)


if OF_BFLOAT16:

    def test_products_of_pairs_are_those_of_the_level_below() -> None:
        """Where no number is subnormal: the instruction flushes those."""
        for cell in ("lstm", "gru", "gru_reset_before", "rnn_tanh"):
            for B, H in ((1, 7), (1, 64), (9, 37), (16, 130)):
                case = Case(cell, 7, B, 21, H, "bfloat16", D=2, L=2, lengths=True)
                data, found = make_data(case), []
                for level in (LEVELS[-1], *OF_BFLOAT16):
                    before = _native.engine.level()
                    _native.engine.use_level(level)
                    found.append(train(case, data))
                    _native.engine.use_level(before)
                for name, array in found[0].items():
                    assert array.tobytes() == found[1][name].tobytes(), name
