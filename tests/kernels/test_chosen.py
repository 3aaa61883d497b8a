"""Cells whose functions are chosen, where numbers are infinite; and those that clip their state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import functional, reference
from tolerances import assert_gradient, assert_output

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


# ---- states that are clipped ---------------------------------------------------------------------


def by_torch(base: str, params: dict[str, Any], x: Any, state: Any, limits: tuple[Any, Any]) -> Any:
    """A loop of torch's own operations with torch.clamp where the state is made: y, h and c."""
    import torch

    T, (h, c) = x.shape[0], state
    w_ih, w_hh, b_ih, b_hh = (
        params[f"{k}_l0"] for k in ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    )
    cells = {"rnn": torch._VF.rnn_tanh_cell, "gru": torch._VF.gru_cell, "lstm": torch._VF.lstm_cell}
    outputs = []
    for t in range(T):
        if base == "lstm":
            # torch's own c', clipped; h' again from the output gate
            _, c = cells[base](x[t], (h, c), w_ih, w_hh, b_ih, b_hh)
            c = c.clamp(*limits)
            gates = torch.nn.functional.linear(x[t], w_ih, b_ih)
            o = (gates + torch.nn.functional.linear(h, w_hh, b_hh)).chunk(4, 1)[3].sigmoid()
            h = o * c.tanh()
        else:
            h = cells[base](x[t], h, w_ih, w_hh, b_ih, b_hh).clamp(*limits)
        outputs.append(h)
    return torch.stack(outputs), h, c


@pytest.mark.parametrize("limits", [(-0.25, 0.125), (None, 0.125), (-0.125, None)])
@pytest.mark.parametrize("base", ["rnn", "lstm", "gru"])
def test_torch_clamps_alike(base: str, limits: tuple[Any, Any], level: str) -> None:
    torch = pytest.importorskip("torch")
    rng, H, T, B = np.random.default_rng(3), 19, 9, 5
    low, high = limits
    wanted_range = (-np.inf if low is None else low, np.inf if high is None else high)
    cell = fastrnn.cell_name(base, state_range=wanted_range)
    layer = fastrnn.Recurrent(cell, 4, H, dtype="float64", seed=0)
    params = layer.state_dict()
    x, dy = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, H))
    states = tuple(rng.standard_normal((1, B, H)) for _ in range(2))
    own, dstates = (states, states[::-1]) if base == "lstm" else (states[0], states[1])

    leaves = {k: torch.tensor(a, requires_grad=True) for k, a in params.items()}
    tx, th, tc = (torch.tensor(a, requires_grad=True) for a in (x, states[0][0], states[1][0]))
    ty, tn, cn = by_torch(base, leaves, tx, (th, tc), limits)
    finals = [tn, cn] if base == "lstm" else [tn]
    given = [torch.from_numpy(a[0]) for a in states[::-1]]
    torch.autograd.backward([ty, *finals], [torch.from_numpy(dy), *given[: len(finals)]])

    y, state, tape = layer.forward(x, own)
    dx, dstate, grads = layer.backward(tape, dy, dstates)
    clipped = cn if base == "lstm" else ty
    assert 0.05 < np.isin(clipped.detach().numpy(), wanted_range).mean() < 0.95
    assert_output(y, ty.detach().numpy(), "float64", "y")
    state, dstate = (state, dstate) if base == "lstm" else ((state,), (dstate,))
    for a, b in zip(state, finals, strict=True):
        assert_output(a[0], b.detach().numpy(), "float64", "final")
    assert_gradient(dx, tx.grad.numpy(), "float64", "dx")
    for a, leaf in zip(dstate, (th, tc), strict=False):
        assert_gradient(a[0], leaf.grad.numpy(), "float64", "dstate")
    for name, leaf in leaves.items():
        assert_gradient(grads[name], leaf.grad.numpy(), "float64", name)


@pytest.mark.parametrize("recompute", [0, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_state_on_its_bound_passes_and_one_beyond_does_not(
    dtype: str, recompute: int, level: str
) -> None:
    """Bounds that are, to the last bit, states that steps have made without any."""
    rng, shape = np.random.default_rng(4), (3, 2, 5)
    x = rng.standard_normal(shape).astype(dtype)
    for base in ("rnn(softsign, elu(0.5))", "lstm(clip=8.0)", "gru(clip=8.0)", "gru_reset_before"):
        layer = fastrnn.Recurrent(base, 5, 1, dtype=dtype, seed=2, bidirectional=base[0] == "r")
        params = layer.state_dict()
        # Of one step: the cell state or h, of both rows.
        state = functional.forward(base, x[:1], params)[1]
        made = (state[1] if isinstance(state, tuple) else state)[0, :, 0]
        bound = float(made.max())  # on it is one row, beyond a lower one the other
        for high, passes in (
            (bound, True),
            (float(np.nextafter(made.max(), -9, dtype=dtype)), False),
        ):
            text = f"state=-inf:{high!r}"
            cell = f"{base[:-1]}, {text})" if base.endswith(")") else f"{base}({text})"
            _, _, tape = functional.forward(cell, x[:1], params, recompute=recompute)
            dy = np.ones((1, 2, 2 if base[0] == "r" else 1), dtype)
            dy[..., 1:] = 0  # the forward direction alone
            dx, _, _ = functional.backward(cell, params, tape, dy)
            row = int(made.argmax())
            if base.startswith("lstm"):  # o has a gradient in any case
                plain = functional.forward(base, x[:1], params)[2]
                whole = functional.backward(base, params, plain, dy)[0]
                assert np.array_equal(dx[0, row], whole[0, row]) == passes, cell
            else:
                assert dx[0, row].any() == passes, cell
            assert dx[0, 1 - row].any()


def test_nan_stays_nan(level: str) -> None:
    for base in ("rnn", "lstm", "lstm_coupled_peephole", "gru", "gru_reset_before"):
        layer = fastrnn.Recurrent(fastrnn.cell_name(base, state_range=0.5), 2, 9)
        x = np.zeros((2, 3, 2), np.float32)
        x[0, 1] = np.nan
        y, _ = layer(x)
        assert np.isnan(y[:, 1]).all()
        assert np.isfinite(y[:, ::2]).all()
