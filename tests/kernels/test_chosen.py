"""Cells whose functions are chosen, where numbers are infinite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import functional, reference

# Cells of one unit, and an input at which all of its functions are flat.
FLAT = [
    ("rnn(leaky_relu(0.0))", -2.0),
    ("rnn(thresholded_relu(1.0))", 0.5),
    ("rnn(hard_sigmoid(0.2, 0.5))", 7.0),
    ("rnn(affine(0.0, 0.5))", 3.0),
    ("rnn(relu, clip=2.0)", -1.0),
    ("rnn(tanh, clip=2.0)", 3.0),
    ("rnn(softplus, clip=2.0)", -3.0),
    ("lstm(hard_sigmoid(0.2, 0.5), relu, thresholded_relu(0.5))", -9.0),
    ("lstm_peephole(clip=0.25)", 9.0),
    ("lstm_coupled(hard_sigmoid(0.2, 0.5), relu, relu)", -9.0),
    ("gru(hard_sigmoid(0.2, 0.5), relu)", -9.0),
    ("gru_reset_before(hard_sigmoid(0.2, 0.5), relu)", -9.0),
]


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
@pytest.mark.parametrize(("cell", "at"), FLAT)
def test_nothing_passes_where_a_function_is_flat(
    cell: str, at: float, infinite: float, level: str
) -> None:
    """Of an infinite gradient neither, as with relu, whose kernel chooses too."""
    x = np.full((1, 3, 1), at)
    layer = fastrnn.Recurrent(cell, 1, 1, bias=False, dtype="float64")
    params = {name: np.ones_like(a) for name, a in layer.state_dict().items()}
    _, _, tape = functional.forward(cell, x, params)
    dx, _, _ = functional.backward(cell, params, tape, np.full((1, 3, 1), infinite))
    np.testing.assert_array_equal(dx, 0.0)
    with np.errstate(invalid="ignore"):  # states before the step are 0, their gradients infinite
        _, _, wanted = reference.forward(cell, x, params)
        dx, _, _ = reference.backward(cell, params, wanted, np.full((1, 3, 1), infinite))
    np.testing.assert_array_equal(dx, 0.0)


@pytest.mark.parametrize("base", ["lstm", "lstm_coupled"])
def test_nothing_passes_to_the_cell_state_where_the_output_is_flat(base: str, level: str) -> None:
    cell, ones = f"{base}(sigmoid, tanh, relu)", np.ones((1, 3, 1))
    layer = fastrnn.Recurrent(cell, 1, 1, bias=False, dtype="float64")
    params = {name: np.zeros_like(a) for name, a in layer.state_dict().items()}
    _, _, tape = functional.forward(cell, ones, params, (ones, -2 * ones))
    _, (_, dc), _ = functional.backward(cell, params, tape, np.inf * ones)
    np.testing.assert_array_equal(dc, 0.0)


def test_a_slope_that_is_rounded_to_0_is_no_choice(level: str) -> None:
    """Of tanh at 100: the gradient is lost, as in the kernel that has no choice."""
    x, dy = np.full((1, 1, 1), 100.0), np.full((1, 1, 1), np.inf)
    for cell in ("rnn_tanh", "rnn(tanh, clip=1000.0)"):
        layer = fastrnn.Recurrent(cell, 1, 1, bias=False, dtype="float64")
        params = {name: np.ones_like(a) for name, a in layer.state_dict().items()}
        _, _, tape = functional.forward(cell, x, params)
        assert np.isnan(functional.backward(cell, params, tape, dy)[0]).all(), cell


@pytest.mark.parametrize("P", [0, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_infinite_state_needs_no_peepholes(dtype: str, P: int, level: str) -> None:
    """A kernel that has peepholes, of a cell that has none: the numbers of `lstm`."""
    rng = np.random.default_rng(0)
    layer = fastrnn.LSTM(3, 21, dtype=dtype, seed=1, proj_size=P)
    params = layer.state_dict()
    x = rng.standard_normal((1, 4, 3)).astype(dtype)
    h, c = np.zeros((1, 4, P or 21), dtype), rng.standard_normal((1, 4, 21)).astype(dtype)
    c[0, 1, ::2], c[0, 2, ::3] = np.inf, -np.inf
    dy = rng.standard_normal((1, 4, P or 21)).astype(dtype)
    found: dict[str, list[Any]] = {}
    for cell in ("lstm", "lstm(clip=1000.0)"):
        y, state, tape = functional.forward(cell, x, params, (h, c))
        dx, dstate, _ = functional.backward(cell, params, tape, dy)
        found[cell] = [y, *state, dx, *dstate]
    assert np.isfinite(found["lstm"][0]).all()
    assert np.isfinite(found["lstm"][-1]).all()
    for a, b in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(a, b)
