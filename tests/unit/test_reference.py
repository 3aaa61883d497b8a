"""The reference against differences, its own rules for lengths and resets, and torch.nn."""

import runpy
import warnings
from itertools import pairwise, product

import numpy as np
import pytest

from builds import ROOT
from fastrnn import _cell_names, reference
from fastrnn.reference.activations import sigmoid
from fastrnn.reference.cell import find as find_cell

# Two float64 evaluations of one formula that differ in the order of their sums.
SAME_FORMULA = 1e-13
# torch.nn in float64: the bound that the reference is asked to meet.
TORCH = 1e-12
# A central difference with the step 1e-6: rounding 1e-16 / 1e-6, the truncation is far below.
DIFFERENCE_STEP = 1e-6
DIFFERENCE = 1e-8

# Beside the cells LSTMs with a projection, which have no names of their own.
PROJECTED = "lstm_projected"
CELLS = (
    *reference.names(),
    PROJECTED,
    "lstm_peephole_projected",
    "rnn(leaky_relu(0.1), softplus)",
    "lstm(hard_sigmoid(0.2, 0.5), softsign, elu(0.7), clip=0.9)",
    "lstm_coupled_peephole(sigmoid, scaled_tanh(1.5, 0.6), affine(0.5, 0.1), clip=0.5)",
    "gru(sigmoid, thresholded_relu(0.2), hard_sigmoid(0.3, 0.4), relu)",
    "gru_reset_before(sigmoid, thresholded_relu(0.2), hard_sigmoid(0.3, 0.4), relu)",
    "rnn(state=-0.25:0.5)",
    "lstm(clip=0.9, state=-0.2:0.3)",
    "lstm_peephole(state=-inf:0.2)",
    "lstm_coupled_peephole(state=-0.2:inf)",
    "gru(state=-0.25:0.3)",
    "gru_reset_before(relu, tanh, sigmoid, tanh, state=-0.25:0.3)",
)


def find(cell):
    return find_cell(cell.removesuffix("_projected"))


class Problem:
    """Random arguments of one forward and backward call, with everything that can be asked for."""

    def __init__(self, cell, *, T=5, B=4, I=3, H=2, L=1, D=1, bias=True, seed=0):
        self.cell, self.L, self.D, self.H, self.T, self.B = cell, L, D, H, T, B
        self.P = P = max(1, H - 1) if cell.endswith("_projected") else H  # values of h
        self.name = cell.removesuffix("_projected")
        self.rng = rng = np.random.default_rng(seed)
        rows, units = find(cell).gates * H, find(cell).unit_parameters * H
        self.params = {}
        for k, reverse in product(range(L), ("", "_reverse")[:D]):
            shapes = {"weight_ih": (rows, I if k == 0 else D * P), "weight_hh": (rows, P)}
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            if units:
                shapes["weight_diag"] = (units,)
            if cell.endswith("_projected"):
                shapes["weight_hr"] = (P, H)
            for kind, shape in shapes.items():
                self.params[f"{kind}_l{k}{reverse}"] = rng.uniform(-0.8, 0.8, shape)
        self.x = rng.standard_normal((T, B, I))
        self.dy = rng.standard_normal((T, B, D * P))
        self.state = self.states()
        self.dstate = self.states()
        # Rows of every kind: empty, full, between.
        self.lengths = np.array([T, 0, *rng.integers(1, T + 1, B)])[:B] if T else np.zeros(B, int)
        rng.shuffle(self.lengths)
        self.resets = rng.random((T, B)) < 0.3
        self.resets[:1, ::2] = True
        self.masks = [rng.choice([0.0, 2.0], (T, B, D * P)) for _ in range(L - 1)]
        own, gates = np.random.default_rng([seed, 1]), find(cell).gates
        self.recurrent_masks = {  # for all gates, and for each
            "shared": own.choice([0.0, 0.7, 1.3, 2.0], (L * D, B, P)),
            "gates": own.choice([0.0, 0.7, 1.3, 2.0], (L * D, gates, B, P)),
        }

    def states(self):
        rows = (self.L * self.D, self.B)
        widths = [self.P] + [self.H] * (find(self.cell).states - 1)
        arrays = tuple(self.rng.uniform(-1, 1, (*rows, n)) for n in widths)
        return arrays if len(arrays) > 1 else arrays[0]


def arrays_of(state):
    return state if isinstance(state, tuple) else (state,)


def like(state, arrays):
    return tuple(arrays) if isinstance(state, tuple) else arrays[0]


def assert_close(actual, expected, tolerance, what=""):
    """Compare relative to the largest element of the tensor, but not below 1."""
    assert actual.shape == expected.shape, what
    if expected.size:
        scale = max(1.0, np.abs(expected).max())
        error = np.abs(actual - expected).max() / scale
        assert error <= tolerance, f"{what}: {error:.1e} > {tolerance:.0e}"


def assert_same_bits(a, b):
    assert a.dtype == b.dtype == np.float64
    np.testing.assert_array_equal(a, b)


def run(cell, params, x, dy, state=None, dstate=None, **options):
    """Run forward and backward; give every result by its name."""
    cell = cell.removesuffix("_projected")
    y, final, tape = reference.forward(cell, x, params, state, **options)
    dx, dinitial, grads = reference.backward(cell, params, tape, dy, dstate)
    results = {"y": y, "dx": dx, **{f"d{name}": grad for name, grad in grads.items()}}
    for k, (s, ds) in enumerate(zip(arrays_of(final), arrays_of(dinitial), strict=True)):
        results |= {f"s{k}": s, f"ds{k}": ds}
    return results


# ---------------------------------------------------------------------------------------------
# Gradients


def differentiate(problem, tensors, direction, **options):
    """Derivative of sum(y dy) + sum(state dstate) along a direction, and by `backward`.

    `tensors` and `direction` are dicts: "x", "s0", "s1", parameter names.
    """

    def loss(scale):
        moved = {name: a + scale * direction.get(name, 0.0) for name, a in tensors.items()}
        y, final, tape = reference.forward(problem.name, *split(moved), **options)
        value = np.sum(y * problem.dy)
        for s, ds in zip(arrays_of(final), arrays_of(problem.dstate), strict=True):
            value += np.sum(s * ds)
        return value, tape

    def split(values):
        values = dict(values)
        x = values.pop("x")
        state = [values.pop(name) for name in ("s0", "s1") if name in values]
        return x, values, like(problem.state, state) if state else None

    expected = (loss(DIFFERENCE_STEP)[0] - loss(-DIFFERENCE_STEP)[0]) / (2 * DIFFERENCE_STEP)
    value, tape = loss(0.0)
    _, params, _ = split(tensors)
    dx, ds, grads = reference.backward(problem.name, params, tape, problem.dy, problem.dstate)
    assert list(grads) == list(params)
    given = {"x": dx, **{f"s{k}": a for k, a in enumerate(arrays_of(ds))}, **grads}
    actual = sum(np.sum(given[name] * v) for name, v in direction.items())
    return actual, expected, max(1.0, abs(value))


def tensors_of(problem, with_state=True):
    tensors = {"x": problem.x, **problem.params}
    if with_state:
        tensors |= {f"s{k}": s for k, s in enumerate(arrays_of(problem.state))}
    return tensors


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("L", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_agree_with_differences(cell, L, D, bias):
    problem = Problem(cell, L=L, D=D, bias=bias, seed=L + 2 * D)
    optional = {"lengths": problem.lengths, "resets": problem.resets}
    if L > 1:
        optional["dropout_masks"] = problem.masks
    for chosen in product([False, True], repeat=len(optional) + 1):
        with_state, *used = chosen
        options = {name: optional[name] for name, use in zip(optional, used, strict=True) if use}
        tensors = tensors_of(problem, with_state)
        # All tensors at once: a wrong element anywhere spoils the sum.
        direction = {name: problem.rng.standard_normal(a.shape) for name, a in tensors.items()}
        actual, expected, scale = differentiate(problem, tensors, direction, **options)
        assert abs(actual - expected) <= DIFFERENCE * scale, (with_state, list(options))


@pytest.mark.parametrize("masks", ["none", "shared", "gates"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradient_of_each_tensor_agrees_with_differences(cell, masks):
    problem = Problem(cell, L=2, D=2, H=3, seed=5)
    options = {
        "lengths": problem.lengths,
        "resets": problem.resets,
        "dropout_masks": problem.masks,
        "recurrent_masks": problem.recurrent_masks.get(masks),
    }
    tensors = tensors_of(problem)
    for name, array in tensors.items():
        direction = {name: problem.rng.standard_normal(array.shape)}
        actual, expected, scale = differentiate(problem, tensors, direction, **options)
        assert abs(actual - expected) <= DIFFERENCE * scale, name
        assert expected != 0, name


@pytest.mark.parametrize("masks", ["shared", "gates"])
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_masks_of_one_row_are_columns_of_its_weights(cell, masks):
    """W (m h) is (W m) h: so the masks of a row are the weights of a call without."""
    p = Problem(cell, B=1, L=2, D=2, seed=3)
    mask = p.recurrent_masks[masks]
    masked = run(cell, p.params, p.x, p.dy, p.state, p.dstate, recurrent_masks=mask)
    scales = {}  # of the rows of weight_hh
    for n, (k, reverse) in enumerate(product(range(2), ("", "_reverse"))):
        of_gates = np.broadcast_to(mask[n].reshape(-1, p.P), (find(cell).gates, p.P))
        scales[f"weight_hh_l{k}{reverse}"] = np.repeat(of_gates, p.H, axis=0)
    params = {name: a * scales.get(name, 1.0) for name, a in p.params.items()}
    plain = run(cell, params, p.x, p.dy, p.state, p.dstate)
    for name, expected in plain.items():
        expected = expected * scales.get(name.removeprefix("d"), 1.0)
        assert_close(masked[name], expected, SAME_FORMULA, name)


@pytest.mark.parametrize("cell", CELLS)
def test_masks_shared_by_the_gates_are_those_of_each(cell):
    p = Problem(cell, L=2, D=2)
    options = {"lengths": p.lengths, "resets": p.resets, "dropout_masks": p.masks}
    shared = p.recurrent_masks["shared"]
    each = np.repeat(shared[:, None], find(cell).gates, axis=1)
    results = [
        run(cell, p.params, p.x, p.dy, p.state, p.dstate, recurrent_masks=masks, **options)
        for masks in (shared, each)
    ]
    for name, expected in results[0].items():
        assert_close(results[1][name], expected, SAME_FORMULA, name)


@pytest.mark.parametrize("cell", CELLS)
def test_state_gradients_are_given_without_a_state(cell):
    p = Problem(cell, L=2, D=2)
    zeros = like(p.state, [np.zeros_like(s) for s in arrays_of(p.state)])
    without = run(cell, p.params, p.x, p.dy, dstate=p.dstate)
    explicit = run(cell, p.params, p.x, p.dy, zeros, p.dstate)
    for name in explicit:
        assert_same_bits(without[name], explicit[name])
    assert all(np.any(without[f"ds{k}"]) for k in range(find(cell).states))


@pytest.mark.parametrize("cell", CELLS)
def test_a_missing_dstate_is_zero(cell):
    p = Problem(cell, L=2, D=2)
    zeros = like(p.state, [np.zeros_like(s) for s in arrays_of(p.state)])
    without = run(cell, p.params, p.x, p.dy, p.state)
    explicit = run(cell, p.params, p.x, p.dy, p.state, zeros)
    for name in explicit:
        assert_same_bits(without[name], explicit[name])


@pytest.mark.parametrize("cell", CELLS)
def test_backward_repeats_its_bits_whatever_became_of_the_arguments(cell):
    p = Problem(cell, L=2, D=2)
    masks, x = [m.copy() for m in p.masks], p.x.copy()
    state = like(p.state, [s.copy() for s in arrays_of(p.state)])
    options = {"lengths": p.lengths.copy(), "resets": p.resets.copy(), "dropout_masks": masks}
    y, final, tape = reference.forward(p.name, x, p.params, state, **options)
    first = reference.backward(p.name, p.params, tape, p.dy, p.dstate)
    for array in (y, x, *arrays_of(final), *arrays_of(state), *masks, options["lengths"]):
        array[...] = 3
    options["resets"][...] = True
    again = reference.backward(p.name, p.params, tape, p.dy, p.dstate)
    assert_same_bits(first[0], again[0])
    for a, b in zip(arrays_of(first[1]), arrays_of(again[1]), strict=True):
        assert_same_bits(a, b)
    for name in p.params:
        assert_same_bits(first[2][name], again[2][name])


# ---------------------------------------------------------------------------------------------
# Lengths and resets


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_lengths_give_what_each_row_gives_alone(cell, D, with_state):
    p = Problem(cell, T=6, B=5, L=2, D=D, seed=D)
    whole = run(
        cell,
        p.params,
        p.x,
        p.dy,
        p.state if with_state else None,
        p.dstate,
        lengths=p.lengths,
        dropout_masks=p.masks,
    )
    total = {name: np.zeros_like(whole[f"d{name}"]) for name in p.params}
    assert {0, p.T} < set(p.lengths)
    for b, n in enumerate(p.lengths):
        row = slice(b, b + 1)
        state, dstate = (like(s, [a[:, row] for a in arrays_of(s)]) for s in (p.state, p.dstate))
        alone = run(
            cell,
            p.params,
            p.x[:n, row],
            p.dy[:n, row],
            state if with_state else None,
            dstate,
            dropout_masks=[m[:n, row] for m in p.masks],
        )
        for name in ("y", "dx"):
            assert_close(whole[name][:n, row], alone[name], SAME_FORMULA, name)
            assert not whole[name][n:, row].any()
        for k in range(find(cell).states):
            assert_close(whole[f"s{k}"][:, row], alone[f"s{k}"], SAME_FORMULA, f"s{k}")
            assert_close(whole[f"ds{k}"][:, row], alone[f"ds{k}"], SAME_FORMULA, f"ds{k}")
            if n == 0 and with_state:
                assert_same_bits(alone[f"s{k}"], arrays_of(state)[k])
                assert_same_bits(alone[f"ds{k}"], arrays_of(dstate)[k])
        for name in total:
            total[name] += alone[f"d{name}"]
    for name in total:
        assert_close(whole[f"d{name}"], total[name], SAME_FORMULA, name)


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_past_a_length_matters(cell):
    p = Problem(cell, T=6, B=5, L=2, D=2)
    options = {"lengths": p.lengths, "resets": p.resets, "dropout_masks": p.masks}
    expected = run(cell, p.params, p.x, p.dy, p.state, p.dstate, **options)
    past = np.arange(p.T)[:, None] >= p.lengths
    for array in (p.x, p.dy, *p.masks):
        array[past] = np.nan
    p.resets[past] = True
    actual = run(cell, p.params, p.x, p.dy, p.state, p.dstate, **options)
    for name in expected:
        assert_same_bits(actual[name], expected[name])


@pytest.mark.parametrize("with_lengths", [True, False])
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("L", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_resets_give_what_the_pieces_give_alone(cell, L, D, with_lengths):
    p = Problem(cell, T=9, B=6, L=L, D=D, seed=L + 2 * D)
    lengths = p.lengths if with_lengths else np.full(p.B, p.T)
    masks = {"dropout_masks": p.masks}
    options = {"lengths": lengths} if with_lengths else {}
    whole = run(cell, p.params, p.x, p.dy, p.state, p.dstate, resets=p.resets, **options, **masks)
    total = {name: np.zeros_like(whole[f"d{name}"]) for name in p.params}
    reverse = np.arange(L * D) % D == 1
    for b, n in enumerate(lengths):
        cuts = [0, *(t for t in range(1, n) if p.resets[t, b]), n]
        row = slice(b, b + 1)
        for t0, t1 in pairwise(cuts):
            # Which passes are entered by the initial state here, and left by the final one.
            at_front = t0 == 0 and not (n and p.resets[0, b])
            entered = np.where(reverse, t1 == n, at_front)[:, None, None]
            left = np.where(reverse, t0 == 0, t1 == n)[:, None, None]
            alone = run(
                cell,
                p.params,
                p.x[t0:t1, row],
                p.dy[t0:t1, row],
                like(p.state, [s[:, row] * entered for s in arrays_of(p.state)]),
                like(p.state, [ds[:, row] * left for ds in arrays_of(p.dstate)]),
                dropout_masks=[m[t0:t1, row] for m in p.masks],
            )
            for name in ("y", "dx"):
                assert_close(whole[name][t0:t1, row], alone[name], SAME_FORMULA, name)
            for k in range(find(cell).states):
                s, ds = whole[f"s{k}"][:, row], whole[f"ds{k}"][:, row]
                assert_close(s * left, alone[f"s{k}"] * left, SAME_FORMULA, f"s{k}")
                assert_close(ds * entered, alone[f"ds{k}"] * entered, SAME_FORMULA, f"ds{k}")
            for name in total:
                total[name] += alone[f"d{name}"]
        if n and p.resets[0, b]:
            for k in range(find(cell).states):
                assert not whole[f"ds{k}"][~reverse, b].any()
    for name in total:
        assert_close(whole[f"d{name}"], total[name], SAME_FORMULA, name)


def test_a_nan_does_not_cross_a_reset():
    p = Problem("lstm", T=4, B=1, D=2)
    resets = np.array([[False], [False], [True], [False]])
    p.x[0] = np.nan
    for s in arrays_of(p.state):
        s[0] = np.inf
    y, (h, c), tape = reference.forward("lstm", p.x, p.params, p.state, resets=resets)
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[2:]).all()
    assert np.isfinite(h[0]).all()
    assert np.isfinite(c[0]).all()
    dx, _, _ = reference.backward("lstm", p.params, tape, p.dy)
    assert np.isnan(dx[0]).all()
    assert np.isfinite(dx[2:]).all()


@pytest.mark.parametrize("cell", CELLS)
def test_reverse_reads_each_row_from_its_end(cell):
    p = Problem(cell, D=1)
    expected = run(cell, p.params, p.x, p.dy, p.state, p.dstate, lengths=p.lengths, reverse=True)
    back = np.arange(p.T)[:, None].repeat(p.B, 1)
    for b, n in enumerate(p.lengths):
        back[:n, b] = np.arange(n)[::-1]
    x, dy = (np.take_along_axis(a, back[:, :, None], 0) for a in (p.x, p.dy))
    actual = run(cell, p.params, x, dy, p.state, p.dstate, lengths=p.lengths)
    for name in ("y", "dx"):
        actual[name] = np.take_along_axis(actual[name], back[:, :, None], 0)
    for name in expected:
        assert_close(actual[name], expected[name], SAME_FORMULA, name)


def with_directions_swapped(cell):
    """Name the cell whose directions have each other's functions."""
    name = _cell_names.find(cell)
    if name is None:
        return cell
    forward, reverse = name.of_direction(0), name.of_direction(1)
    return cell if forward == name.functions else str(name._replace(functions=reverse + forward))


@pytest.mark.parametrize("cell", CELLS)
def test_reverse_swaps_two_directions(cell):
    p = Problem(cell, L=1, D=2)
    options = {"lengths": p.lengths, "resets": p.resets}
    expected = run(cell, p.params, p.x, p.dy, p.state, p.dstate, **options)

    def swapped(name):
        return name.removesuffix("_reverse") if "_reverse" in name else f"{name}_reverse"

    def halves(a):
        return np.concatenate(np.split(a, 2, -1)[::-1], -1)

    params = {swapped(name): array for name, array in p.params.items()}
    state, dstate = (like(s, [a[::-1] for a in arrays_of(s)]) for s in (p.state, p.dstate))
    other = with_directions_swapped(cell)
    actual = run(other, params, p.x, halves(p.dy), state, dstate, reverse=True, **options)
    for name, array in expected.items():
        if name == "y":
            assert_close(halves(actual["y"]), array, SAME_FORMULA, name)
        elif name == "dx":
            assert_close(actual["dx"], array, SAME_FORMULA, name)
        elif name.startswith(("s", "ds")):
            assert_close(actual[name][::-1], array, SAME_FORMULA, name)
        else:
            assert_close(actual[swapped(name)], array, SAME_FORMULA, name)


# ---------------------------------------------------------------------------------------------
# Layouts and empty problems


@pytest.mark.parametrize("cell", CELLS)
def test_batch_first_is_a_transposition(cell):
    p = Problem(cell, L=2, D=2)
    options = {"lengths": p.lengths, "resets": p.resets, "dropout_masks": p.masks}
    expected = run(cell, p.params, p.x, p.dy, p.state, p.dstate, **options)
    options["resets"] = p.resets.T
    options["dropout_masks"] = [m.swapaxes(0, 1) for m in p.masks]
    x, dy = p.x.swapaxes(0, 1), p.dy.swapaxes(0, 1)
    actual = run(cell, p.params, x, dy, p.state, p.dstate, batch_first=True, **options)
    for name in ("y", "dx"):
        actual[name] = actual[name].swapaxes(0, 1)
    for name in expected:
        assert_close(actual[name], expected[name], SAME_FORMULA, name)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_unbatched_is_a_batch_of_one(cell, batch_first):
    p = Problem(cell, B=1, L=2, D=2)
    expected = run(
        cell,
        p.params,
        p.x,
        p.dy,
        p.state,
        p.dstate,
        resets=p.resets,
        dropout_masks=p.masks,
    )
    actual = run(
        cell,
        p.params,
        p.x[:, 0],
        p.dy[:, 0],
        like(p.state, [s[:, 0] for s in arrays_of(p.state)]),
        like(p.state, [s[:, 0] for s in arrays_of(p.dstate)]),
        resets=p.resets[:, 0],
        dropout_masks=[m[:, 0] for m in p.masks],
        batch_first=batch_first,
    )
    for name, array in expected.items():
        batched = name in ("y", "dx", "s0", "s1", "ds0", "ds1")
        assert_close(actual[name], array[:, 0] if batched else array, SAME_FORMULA, name)


@pytest.mark.parametrize(("T", "B"), [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("cell", CELLS)
def test_empty(cell, T, B):
    p = Problem(cell, T=T, B=B, L=2, D=2)
    options = {"lengths": p.lengths, "resets": p.resets, "dropout_masks": p.masks}
    for chosen in ({}, options):
        results = run(cell, p.params, p.x, p.dy, p.state, p.dstate, **chosen)
        assert results["y"].shape == p.dy.shape
        assert results["dx"].shape == p.x.shape
        for k, (s, ds) in enumerate(zip(arrays_of(p.state), arrays_of(p.dstate), strict=True)):
            assert_same_bits(results[f"s{k}"], s)
            assert_same_bits(results[f"ds{k}"], ds)
        for name, w in p.params.items():
            assert_same_bits(results[f"d{name}"], np.zeros_like(w))


@pytest.mark.parametrize("cell", CELLS)
def test_everything_is_computed_in_float64(cell):
    p = Problem(cell)
    expected = run(cell, p.params, np.float32(p.x), p.dy, p.state, p.dstate)
    actual = run(
        cell,
        {name: w.tolist() for name, w in p.params.items()},
        np.float32(p.x).tolist(),
        p.dy.tolist(),
        p.state,
        p.dstate,
    )
    for name in expected:
        assert_same_bits(actual[name], expected[name])


# ---------------------------------------------------------------------------------------------
# torch.nn


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    # Its threads would spin against NumPy's for steps too small to share.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def torch_layer(torch, cell, params, input_size, H, **options):
    kind, _, nonlinearity = cell.partition("_")
    if cell == PROJECTED:
        options["proj_size"] = params["weight_hr_l0"].shape[0]
    elif nonlinearity:
        options["nonlinearity"] = nonlinearity
    options["bias"] = "bias_ih_l0" in params
    options["bidirectional"] = "weight_ih_l0_reverse" in params
    layer = getattr(torch.nn, kind.upper())(input_size, H, dtype=torch.float64, **options)
    layer.load_state_dict({name: torch.tensor(w) for name, w in params.items()})
    return layer


def run_torch(torch, layer, x, dy, state, dstate, lengths=None):
    """Give what `run` gives, by torch; `state` may be None."""
    x = torch.tensor(x, requires_grad=True)
    given = () if state is None else arrays_of(state)
    leaves = [torch.tensor(s, requires_grad=True) for s in given]
    initial = like(state, leaves) if leaves else None
    if lengths is None:
        y, final = layer(x, initial)
    else:
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(
            x, torch.tensor(lengths), batch_first=layer.batch_first, enforce_sorted=False
        )
        packed_y, final = layer(packed, initial)
        T = x.shape[1 if layer.batch_first else 0]
        y, _ = rnn.pad_packed_sequence(packed_y, layer.batch_first, total_length=T)
    finals = arrays_of(final)
    dfinals = [torch.tensor(ds) for ds in arrays_of(dstate)]
    torch.autograd.backward([y, *finals], [torch.tensor(dy), *dfinals])
    results = {"y": y, "dx": x.grad}
    results |= {f"s{k}": s for k, s in enumerate(finals)}
    results |= {f"ds{k}": s.grad for k, s in enumerate(leaves)}
    results |= {f"d{name}": w.grad for name, w in layer.named_parameters()}
    return {name: a.detach().numpy() for name, a in results.items()}


@pytest.mark.parametrize("layout", ["time_first", "batch_first", "lengths", "unbatched"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("L", [1, 2, 3])
@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru", PROJECTED])
def test_agrees_with_torch(torch, cell, L, D, bias, layout):
    for seed, with_state in ((0, True), (1, False)):
        p = Problem(cell, T=7, B=5, I=4, H=3, L=L, D=D, bias=bias, seed=seed)
        x, dy, state, dstate = p.x, p.dy, p.state, p.dstate
        options = {}
        if layout == "lengths":
            options["lengths"] = np.maximum(p.lengths, 1)
        if layout == "batch_first":
            x, dy = x.swapaxes(0, 1), dy.swapaxes(0, 1)
        if layout == "unbatched":
            x, dy = x[:, 0], dy[:, 0]
            state, dstate = (like(s, [a[:, 0] for a in arrays_of(s)]) for s in (state, dstate))
        state = state if with_state else None
        batch_first = layout == "batch_first"
        actual = run(cell, p.params, x, dy, state, dstate, batch_first=batch_first, **options)
        layer = torch_layer(torch, cell, p.params, 4, 3, num_layers=L, batch_first=batch_first)
        expected = run_torch(torch, layer, x, dy, state, dstate, **options)
        if state is None:
            assert set(actual) - set(expected) == {"ds0", "ds1"} & set(actual)
        else:
            assert set(actual) == set(expected)
        for name in expected:
            assert_close(actual[name], expected[name], TORCH, name)


def test_reset_before_agrees_with_torch(torch):
    """The equations of the paper, in torch's operations and with its derivatives."""
    p = Problem("gru_reset_before", T=7, B=5, I=4, H=3)
    actual = run(p.cell, p.params, p.x, p.dy, p.state, p.dstate)
    leaves = {name: torch.tensor(w, requires_grad=True) for name, w in p.params.items()}
    leaves |= {"x": torch.tensor(p.x, requires_grad=True)}
    leaves |= {"s0": torch.tensor(p.state, requires_grad=True)}
    w_ih, w_hh, b_ih, b_hh, x, h = leaves.values()
    h, outputs = h[0], []
    for x_t in x:
        x_r, x_z, x_n = (x_t @ w_ih.T + b_ih).chunk(3, 1)
        w_r, w_z, w_n = w_hh.chunk(3)
        b_r, b_z, b_n = b_hh.chunk(3)
        r = torch.sigmoid(x_r + h @ w_r.T + b_r)
        z = torch.sigmoid(x_z + h @ w_z.T + b_z)
        n = torch.tanh(x_n + (r * h) @ w_n.T + b_n)
        h = (1 - z) * n + z * h
        outputs.append(h)
    y = torch.stack(outputs)
    torch.autograd.backward([y, h[None]], [torch.tensor(p.dy), torch.tensor(p.dstate)])
    assert_close(actual["y"], y.detach().numpy(), TORCH, "y")
    for name, leaf in leaves.items():
        assert_close(actual[f"d{name}"], leaf.grad.numpy(), TORCH, name)


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru", PROJECTED])
def test_long_sequence_agrees_with_torch(torch, cell):
    p = Problem(cell, T=1000, B=8, I=16, H=64, seed=3)
    # As torch initialises: with weights of this size gradients neither die nor explode.
    params = {name: w / (0.8 * np.sqrt(64)) for name, w in p.params.items()}
    actual = run(cell, params, p.x, p.dy, p.state, p.dstate)
    layer = torch_layer(torch, cell, params, 16, 64)
    expected = run_torch(torch, layer, p.x, p.dy, p.state, p.dstate)
    for name in expected:
        assert_close(actual[name], expected[name], TORCH, name)


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru", PROJECTED])
def test_dropout_masks_agree_with_torch(torch, cell):
    p = Problem(cell, L=2, D=2, B=3, I=4)
    actual = run(cell, p.params, p.x, p.dy, p.state, p.dstate, dropout_masks=p.masks)
    layers = [
        torch_layer(
            torch,
            cell,
            {n.replace("_l1", "_l0"): w for n, w in p.params.items() if f"_l{k}" in n},
            (4, 2 * p.P)[k],
            p.H,
        )
        for k in range(2)
    ]
    x = torch.tensor(p.x, requires_grad=True)
    halves = [
        like(p.state, [torch.tensor(s[2 * k : 2 * k + 2]) for s in arrays_of(p.state)])
        for k in range(2)
    ]
    below, final_below = layers[0](x, halves[0])
    y, final = layers[1](below * torch.tensor(p.masks[0]), halves[1])
    finals = [*arrays_of(final_below), *arrays_of(final)]
    dfinals = [torch.tensor(ds[2 * k : 2 * k + 2]) for k in range(2) for ds in arrays_of(p.dstate)]
    torch.autograd.backward([y, *finals], [torch.tensor(p.dy), *dfinals])
    assert_close(actual["y"], y.detach().numpy(), TORCH, "y")
    assert_close(actual["dx"], x.grad.numpy(), TORCH, "dx")
    for k, layer in enumerate(layers):
        for name, w in layer.named_parameters():
            name = f"d{name.replace('_l0', f'_l{k}')}"
            assert_close(actual[name], w.grad.numpy(), TORCH, name)


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru", PROJECTED])
def test_nan_and_infinities_pass_as_in_torch(torch, cell):
    p = Problem(cell, T=4, B=6, H=3)
    p.x[1, 0, 0] = np.nan
    p.x[1, 1, 0] = np.inf
    p.x[2, 2, 1] = -np.inf
    p.x[0, 3] = 1e300
    arrays_of(p.state)[-1][0, 5, 0] = np.inf
    layer = torch_layer(torch, cell, p.params, 3, 3)
    expected = run_torch(torch, layer, p.x, p.dy, p.state, p.dstate)
    actual = run(cell, p.params, p.x, p.dy, p.state, p.dstate)
    for name in ("y", "dx", "s0", "ds0"):
        np.testing.assert_allclose(actual[name], expected[name], rtol=TORCH, atol=TORCH)


# ---------------------------------------------------------------------------------------------
# Activations


def test_rnn_sigmoid_is_a_shifted_tanh():
    p = Problem("rnn_sigmoid", T=6, B=1, I=3, H=4)
    w = p.params
    h = p.state[0, 0]
    y, _, _ = reference.forward("rnn_sigmoid", p.x, w, p.state)
    for t in range(6):
        a = w["weight_ih_l0"] @ p.x[t, 0] + w["weight_hh_l0"] @ h
        h = 0.5 + 0.5 * np.tanh((a + w["bias_ih_l0"] + w["bias_hh_l0"]) / 2)
        assert_close(y[t, 0], h, SAME_FORMULA)


def test_sigmoid():
    a = np.array([0.0, np.inf, -np.inf, 800.0, -800.0, -745.0, -710.0, -40.0, 40.0])
    expected = [0.5, 1, 0, 1, 0, np.exp(-745.0), np.exp(-710.0), np.exp(-40.0), 1]
    # Subnormal results count in units of the smallest one.
    np.testing.assert_allclose(sigmoid(a), expected, rtol=4e-16, atol=0)
    assert 0 < sigmoid(np.array(-745.0)) < 1e-322
    assert np.isnan(sigmoid(np.array(np.nan)))
    around = np.linspace(-30, 30, 601)
    np.testing.assert_allclose(sigmoid(around), 0.5 + 0.5 * np.tanh(around / 2), atol=3e-16)


def test_relu_passes_no_gradient_at_its_kink():
    params = {"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.zeros((1, 1))}
    x = np.array([-1.0, -0.0, 0.0, 1.0])[:, None]
    _, _, tape = reference.forward("rnn_relu", x, params)
    dx, _, _ = reference.backward("rnn_relu", params, tape, np.full((4, 1), np.inf))
    # Nothing at all passes where the unit is off, not even an infinite gradient times 0.
    np.testing.assert_array_equal(dx[:3], 0)
    assert dx[3] == np.inf


@pytest.mark.parametrize("cell", CELLS)
def test_no_warning_escapes(cell):
    p = Problem(cell, L=2, D=2)
    p.x[...] = np.array([np.nan, np.inf, 1e308])
    p.params["weight_hh_l0"][...] = 1e308
    p.dy[...] = np.inf
    before = np.geterr()
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        results = run(cell, p.params, p.x, p.dy, p.state, p.dstate)
    assert np.isnan(results["y"]).any()
    assert np.geterr() == before


# ---------------------------------------------------------------------------------------------
# Refusals: what NumPy would broadcast or ignore


def test_cells_are_found_by_name():
    assert {"rnn_tanh", "rnn_relu", "rnn_sigmoid", "lstm", "gru"} <= set(CELLS)
    with pytest.raises(ValueError, match=r"\[reference\] cell must be one of gru.*, got 'rnx'"):
        reference.forward("rnx", np.zeros((1, 1, 1)), {})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x", np.zeros(5), "x must have 2 or 3 dimensions, got 1"),
        ("x", np.zeros((5, 4, 1)), r"weight_ih_l0 must have the shape \(6, 1\), got \(6, 3\)"),
        ("state", np.zeros((4, 1, 2)), r"state must have the shape \(4, 4, 2\)"),
        ("state", np.zeros((1, 4, 2)), r"state must have the shape \(4, 4, 2\)"),
        ("lengths", [5], r"lengths must have the shape \(4,\), got \(1,\)"),
        ("lengths", 5, r"lengths must have the shape \(4,\), got \(\)"),
        ("resets", np.zeros((5, 1)), r"resets must have the shape \(5, 4\), got \(5, 1\)"),
        ("resets", np.zeros((4, 5)), r"resets must have the shape \(5, 4\), got \(4, 5\)"),
        ("dropout_masks", [], "dropout_masks must be 1 arrays, got 0"),
        ("dropout_masks", [np.ones((5, 4, 1))], r"dropout_masks must have the shape \(5, 4, 4\)"),
        (
            "recurrent_masks",
            np.ones((4, 4, 1)),
            r"recurrent_masks must have the shape \(4, 1, 4, 2",
        ),
        (
            "recurrent_masks",
            np.ones((4, 2, 4, 2)),
            r"recurrent_masks must have the shape \(4, 3, 4",
        ),
        ("weight_hh_l1", np.zeros((6, 1)), r"weight_hh_l1 must have the shape \(6, 2\)"),
        ("bias_ih_l1_reverse", np.zeros(1), r"bias_ih_l1_reverse must have the shape \(6,\)"),
        ("bias_ih_l2", np.zeros(6), "parameters must be weight_ih_l0, .*, got .*bias_ih_l2"),
    ],
)
def test_wrong_shapes_are_refused_by_forward(name, value, message):
    p = Problem("gru", L=2, D=2)
    call = {"x": p.x, "state": p.state, "resets": p.resets, "lengths": p.lengths}
    if name in call or name.endswith("_masks"):
        call[name] = value
    else:
        p.params[name] = value
    with pytest.raises(ValueError, match=r"^\[gru\] " + message):
        reference.forward("gru", params=p.params, **call)


def test_lengths_of_an_unbatched_sequence_are_refused():
    p = Problem("gru", B=1)
    with pytest.raises(ValueError, match=r"\[gru\] lengths need a batch, got unbatched x"):
        reference.forward("gru", p.x[:, 0], p.params, lengths=[5])


@pytest.mark.parametrize("state", [np.zeros((1, 4, 2)), (np.zeros((1, 4, 2)),) * 3])
def test_a_wrong_number_of_states_is_refused(state):
    p = Problem("lstm")
    with pytest.raises(ValueError, match=r"\[lstm\] state must be 2 arrays, got"):
        reference.forward("lstm", p.x, p.params, state)


@pytest.mark.parametrize(
    ("dy_shape", "dstate_shape", "message"),
    [
        ((5, 4, 1), (1, 4, 2), r"dy must have the shape \(5, 4, 2\), got \(5, 4, 1\)"),
        ((1, 4, 2), (1, 4, 2), r"dy must have the shape \(5, 4, 2\), got \(1, 4, 2\)"),
        ((5, 4, 2), (1, 1, 2), r"dstate must have the shape \(1, 4, 2\), got \(1, 1, 2\)"),
    ],
)
def test_wrong_shapes_are_refused_by_backward(dy_shape, dstate_shape, message):
    p = Problem("gru")
    _, _, tape = reference.forward("gru", p.x, p.params)
    with pytest.raises(ValueError, match=r"^\[gru\] " + message):
        reference.backward("gru", p.params, tape, np.zeros(dy_shape), np.zeros(dstate_shape))


def test_stored_results_are_those_of_the_reference():
    """`tests/cpp/test_stored.cpp` compares with them; its inputs are exact, the results rounded."""
    made = runpy.run_path(str(ROOT / "tests" / "data" / "reference_results.py"))
    stored = made["FILE"].read_text(encoding="utf-8").splitlines()
    wanted = made["text"]().splitlines()
    for kept, new in zip(stored, wanted, strict=True):
        (name, *values), (new_name, *new_values) = (
            (line.partition(":")[0], *line.partition(":")[2].split()) for line in (kept, new)
        )
        assert name == new_name
        a, b = (np.array(v, float) for v in (values, new_values))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
