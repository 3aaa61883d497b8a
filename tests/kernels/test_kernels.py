"""Every kernel against the NumPy reference: cell x level x dtype x shape x option."""

from __future__ import annotations

import numpy as np
import pytest

from cases import (
    Case,
    cells,
    chosen_cases,
    flat_state,
    kernel_cases,
    make_data,
    masked_cases,
    projected_cases,
)
from fastrnn import _native, functional, reference
from tolerances import assert_gradient, assert_output

CASES = [*kernel_cases(), *chosen_cases(), *projected_cases(), *masked_cases()]


def check(case: Case, seed: int = 0) -> None:
    data = make_data(case, seed)
    y, state, tape = functional.forward(case.cell, data.x, data.params, data.state, **data.options)
    wanted = reference.forward(case.cell, data.x, data.params, data.state, **data.options)
    assert_output(y, wanted[0], case.dtype, "y")
    for name, a, b in zip("hc", flat_state(state), flat_state(wanted[1]), strict=False):
        assert_output(a, b, case.dtype, f"{name}n")

    dx, dstate, grads = functional.backward(case.cell, data.params, tape, data.dy, data.dstate)
    wanted_dx, wanted_dstate, wanted_grads = reference.backward(
        case.cell, data.params, wanted[2], data.dy, data.dstate
    )
    assert_gradient(dx, wanted_dx, case.dtype, "dx")
    for name, a, b in zip("hc", flat_state(dstate), flat_state(wanted_dstate), strict=False):
        assert_gradient(a, b, case.dtype, f"d{name}0")
    assert list(grads) == list(data.params)
    for name, grad in grads.items():
        assert grad.dtype == case.dtype
        assert_gradient(grad, wanted_grads[name], case.dtype, f"d{name}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_against_reference(case: Case, level: str) -> None:
    check(case)


@pytest.mark.parametrize("H", [3, 9, 17, 26, 34, 50, 68, 85, 100, 130, 165])
def test_every_width_of_one_row(level: str, H: int) -> None:
    """Panels in pairs and the last alone, sums in one, two and four pieces; what K leaves over."""
    for cell in ("lstm", "gru", "gru_reset_before", "rnn_relu"):
        for dtype in ("float32", "float64"):
            check(Case(cell, 3, 1, H // 2 + 1, H, dtype))
    check(Case("lstm", 3, 1, H // 2 + 1, H, P=(H + 1) // 2))
    check(Case("lstm", 3, 1, H // 2 + 1, (H + 1) // 2, P=H))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_split(level: str, threads: int) -> None:
    """Row groups, unit members and both, with tails in each."""
    _native.engine.set_num_threads(threads)
    for shape in [(5, 1, 40, 300), (4, 2, 7, 210), (3, 9, 30, 70), (6, 40, 12, 25)]:
        for cell in ("lstm", "gru", "gru_reset_before", "rnn_tanh"):
            check(Case(cell, *shape, D=2, L=2, lengths=shape[1] > 2))
        check(Case("lstm", *shape, D=2, L=2, lengths=shape[1] > 2, P=shape[-1] // 3))


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn_tanh", "rnn_sigmoid"])
def test_long_float32(cell: str, level: str) -> None:
    """Forward within 1e-5 absolute and gradients within 1e-4 of float64 at T = 1000."""
    check(Case(cell, 1000, 3, 16, 48), seed=3)


def test_nan_and_infinity_pass_through(level: str) -> None:
    for cell in cells():
        data = make_data(Case(cell, 6, 4, 5, 18, D=2))
        data.x[2, 1, 3], data.x[4, 2, 0], data.x[1, 0, 2] = np.nan, np.inf, -np.inf
        y, _ = functional.infer(cell, data.x, data.params, data.state)
        wanted, _, _ = reference.forward(cell, data.x, data.params, data.state)
        assert_output(
            np.where(np.isinf(wanted), 0, y), np.where(np.isinf(wanted), 0, wanted), "float32"
        )
        assert (np.isinf(y) == np.isinf(wanted)).all()
        assert np.isfinite(y[:, 3]).all(), "a row must not see another row's NaN"


def test_more_steps_than_16_bits_count(level: str) -> None:
    check(Case("rnn_relu", 70_000, 1, 2, 3, "float64"))


def test_offsets_beyond_32_bits(level: str) -> None:
    """Rows of x, dy and y more than 2**31 elements apart. (Pages not touched cost nothing.)"""
    apart, rows = 2**30, 3

    def spread(values: np.ndarray) -> np.ndarray:
        memory = np.zeros(apart * (rows - 1) + values[0].size, np.float32)
        strides = (apart * 4, values.shape[2] * 4, 4)
        view = np.lib.stride_tricks.as_strided(memory, values.shape, strides)
        view[...] = values
        return view

    case = Case("gru", rows, 2, 5, 20)
    data = make_data(case)
    y, state, tape = functional.forward("gru", data.x, data.params, data.state)
    dx, _, grads = functional.backward("gru", data.params, tape, data.dy)
    out = spread(np.zeros_like(y))
    y2, state2, tape2 = functional.forward("gru", spread(data.x), data.params, data.state, out=out)
    dx2, _, grads2 = functional.backward("gru", data.params, tape2, spread(data.dy))
    assert y2.base is not None
    assert np.array_equal(y2, y)
    assert np.array_equal(out, y)
    assert np.array_equal(state2, state)
    assert np.array_equal(dx2, dx)
    assert all(np.array_equal(grads2[name], grads[name]) for name in grads)
