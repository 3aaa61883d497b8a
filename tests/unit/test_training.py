"""fastrnn.training: the fused head, clipping and the optimisers, against torch and against finite
differences in float64; and the smallest model that learns."""

from __future__ import annotations

import math
import runpy
import tracemalloc

import numpy as np
import pytest

import fastrnn
from builds import ROOT
from fastrnn import training
from fastrnn.training import SGD, Adam, LinearCrossEntropy, clip_grad_norm_

# The same sums in another order: a few roundings of the largest term.
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}
# Central differences with step 1e-5: truncation 1e-10, cancellation 1e-16 / 1e-5.
DIFFERENCES = 1e-9


def relative(a, b):
    """max|a - b| / max|b|."""
    b = np.asarray(b)
    return float(np.max(np.abs(np.asarray(a, np.float64) - b)) / max(np.max(np.abs(b)), 1e-300))


def problem(shape, hidden, classes, dtype, seed=0, ignored=0.0):
    rng = np.random.default_rng(seed)
    head = LinearCrossEntropy(hidden, classes, dtype=dtype, seed=seed)
    h = rng.standard_normal((*shape, hidden)).astype(dtype)
    targets = rng.integers(0, classes, shape)
    targets[rng.random(shape) < ignored] = -100
    return head, h, targets


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 5 rows, so that small problems take several and an uneven last one."""
    monkeypatch.setattr(training, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(training, "_MIN_BLOCK_ROWS", 5)


# --- head --------------------------------------------------------------------------------------


def test_head_parameters_have_torch_names_shapes_and_bounds():
    head = LinearCrossEntropy(16, 7, seed=3)
    assert {k: (p.shape, p.dtype.name) for k, p in head.parameters.items()} == {
        "weight": ((7, 16), "float32"),
        "bias": ((7,), "float32"),
    }
    for p in head.parameters.values():
        assert 0 < np.abs(p).max() <= 0.25
    again, other = LinearCrossEntropy(16, 7, seed=3), LinearCrossEntropy(16, 7, seed=4)
    assert np.array_equal(again.parameters["weight"], head.parameters["weight"])
    assert not np.array_equal(other.parameters["weight"], head.parameters["weight"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
@pytest.mark.parametrize("shape", [(), (1,), (13,), (6, 4), (2, 3, 4)])
def test_head_agrees_with_torch(small_blocks, dtype, ignored, shape):
    torch = pytest.importorskip("torch")
    head, h, targets = problem(shape, 8, 11, dtype, ignored=ignored if shape else 0.0)
    if shape == (1,):
        targets[:] = 3
    th = torch.tensor(h, requires_grad=True)
    p = {k: torch.tensor(v, requires_grad=True) for k, v in head.parameters.items()}
    logits = torch.nn.functional.linear(th, p["weight"], p["bias"])
    expected = torch.nn.functional.cross_entropy(
        logits.reshape(-1, 11), torch.tensor(targets).reshape(-1)
    )
    expected.backward()

    loss, dh, grads = head.loss_and_grad(h, targets)
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected.item(), rel=TOLERANCE[dtype])
    assert head.loss(h, targets) == loss
    assert dh.shape == h.shape
    assert relative(head(h), logits.detach().numpy()) < TOLERANCE[dtype]
    assert np.array_equal(head.logits(h), head(h))
    assert relative(dh, th.grad.numpy()) < TOLERANCE[dtype]
    for name, g in grads.items():
        assert g.dtype == dtype
        assert relative(g, p[name].grad.numpy()) < TOLERANCE[dtype]


def test_head_gradients_agree_with_finite_differences(small_blocks):
    head, h, targets = problem((4, 3), 5, 6, "float64", ignored=0.2)
    _, dh, grads = head.loss_and_grad(h, targets)

    def slope(array):
        out, step = np.zeros_like(array), 1e-5
        for i in np.ndindex(array.shape):
            value = array[i]
            array[i] = value + step
            above = head.loss(h, targets)
            array[i] = value - step
            out[i] = (above - head.loss(h, targets)) / (2 * step)
            array[i] = value
        return out

    assert np.max(np.abs(slope(h) - dh)) < DIFFERENCES
    with head.mutable() as p:
        for name in ("weight", "bias"):
            assert np.max(np.abs(slope(p[name]) - grads[name])) < DIFFERENCES


def test_head_takes_any_strides_and_changes_nothing(small_blocks):
    head, h, targets = problem((6, 4), 8, 11, "float32", ignored=0.3)
    expected = head.loss_and_grad(h, targets)
    wide = np.zeros((4, 6, 16), np.float32)
    views = {
        "transposed": np.ascontiguousarray(h.swapaxes(0, 1)).swapaxes(0, 1),
        "every other": wide.swapaxes(0, 1)[..., ::2],
        "backwards": np.ascontiguousarray(h[::-1, :, ::-1])[::-1, :, ::-1],
        "columns first": np.asfortranarray(h),
    }
    views["every other"][...] = h
    for view in views.values():
        view.flags.writeable = False
        before = view.copy(), targets.copy()
        loss, dh, grads = head.loss_and_grad(view, np.asfortranarray(targets))
        assert (loss, head.loss(view, targets)) == (expected[0], expected[0])
        assert np.array_equal(dh, expected[1])
        assert all(np.array_equal(grads[k], expected[2][k]) for k in grads)
        assert np.array_equal(view, before[0])
        assert np.array_equal(targets, before[1])
    same, target = np.broadcast_to(h[0, 0], (5, 8)), np.full(5, 2)
    _, dh, _ = head.loss_and_grad(same, target)
    assert np.array_equal(dh, head.loss_and_grad(np.ascontiguousarray(same), target)[1])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", ">i4", "uint64"])
@pytest.mark.parametrize("classes", [5, 300])
def test_head_takes_any_integers(dtype, classes):
    head, h, targets = problem((9,), 4, classes, "float32")
    targets %= 100
    assert head.loss(h, targets.astype(dtype)) == head.loss(h, targets)


def test_head_ignores_rows_altogether():
    head, h, targets = problem((20,), 4, 5, "float32", ignored=0.5)
    counted = targets != -100
    h[~counted] = np.nan
    loss, dh, grads = head.loss_and_grad(h, targets)
    alone = head.loss_and_grad(h[counted], targets[counted])
    assert loss == alone[0]
    assert np.array_equal(dh[counted], alone[1])
    assert not dh[~counted].any()
    assert all(np.array_equal(grads[k], alone[2][k]) for k in grads)

    other = LinearCrossEntropy(4, 5, ignore_index=2, seed=0)
    assert other.loss(h[counted], targets[counted]) == head.loss(
        h[counted], np.where(targets == 2, -100, targets)[counted]
    )


@pytest.mark.parametrize("shape", [(3,), (0,), (0, 4), (4, 0)])
def test_head_without_a_row_gives_nan_and_zero_gradients(shape):
    head = LinearCrossEntropy(4, 5)
    loss, dh, grads = head.loss_and_grad(
        np.ones((*shape, 4), np.float32), np.full(shape, -100, np.int64)
    )
    assert math.isnan(loss)
    assert dh.shape == (*shape, 4)
    assert not any(g.any() for g in (dh, *grads.values()))


def test_head_is_stable_for_large_logits():
    head = LinearCrossEntropy(1, 3)
    with head.mutable() as p:
        p["weight"][:, 0] = [1e4, -1e4, 0]
        p["bias"][:] = 0
    h = np.array([[1.0], [1.0], [-3.0]], np.float32)
    loss, dh, _ = head.loss_and_grad(h, np.array([0, 1, 1]))
    assert loss == pytest.approx(2e4 / 3)
    assert dh[:, 0].tolist() == pytest.approx([0, 2e4 / 3, 0])


def test_head_lets_nan_and_inf_through():
    head, h, targets = problem((3, 2), 4, 5, "float32")
    h[1, 0] = np.nan
    loss, dh, grads = head.loss_and_grad(h, targets)
    assert math.isnan(loss)
    assert np.isnan(dh[1, 0]).all()
    assert np.isfinite(dh[[0, 2]]).all()
    assert np.isnan(grads["weight"]).all()
    with head.mutable() as p:
        p["bias"][2] = -np.inf
    assert head.loss(h[2, :1], np.array([2])) == math.inf
    assert math.isfinite(head.loss(h[2, :1], np.array([1])))
    assert np.isneginf(head(h[2])[:, 2]).all()
    h[1, 0] = [np.inf, -np.inf, 3e38, 0]
    assert math.isnan(head.loss_and_grad(h, np.minimum(targets, 1))[0])


def test_head_adds_up_the_loss_in_float64():
    head = LinearCrossEntropy(1, 2)
    with head.mutable() as p:
        p["weight"][:] = 0
        p["bias"][:] = 0
    rows = 300_000
    loss = head.loss(np.ones((rows, 1), np.float32), np.zeros(rows, np.int64))
    assert loss == pytest.approx(math.log(2), rel=1e-12)


def test_head_never_holds_the_logits_of_all_rows():
    rows, classes, hidden = 20_000, 1_000, 4
    head, h, targets = problem((200, 100), hidden, classes, "float32")
    logits = rows * classes * 4  # bytes
    tracemalloc.start()
    try:
        head.loss_and_grad(h, targets)
        _, both = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        head.loss(h, targets)
        _, forward = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert both < logits / 40
    assert forward < logits / 40


@pytest.mark.parametrize(
    ("error", "h", "targets", "message"),
    [
        (TypeError, np.zeros((3, 4)), [0, 0, 0], "h must be float32, got float64"),
        (TypeError, np.zeros((3, 4), ">f4"), [0, 0, 0], "h must be float32, got >f4"),
        (TypeError, [[0.0] * 4], [0], "h must be a NumPy array, got list"),
        (ValueError, np.zeros((3, 5), "f4"), [0] * 3, "h must have shape (..., 4), got (3, 5)"),
        (ValueError, np.float32(0)[...], 0, "h must have shape (..., 4), got ()"),
        (ValueError, np.zeros((3, 4), "f4"), [0], "targets must have shape (3,), got (1,)"),
        (ValueError, np.zeros((3, 4), "f4"), [[0]] * 3, "targets must have shape (3,), got (3, 1)"),
        (TypeError, np.zeros((3, 4), "f4"), [0.0] * 3, "targets must be integers, got float64"),
        (TypeError, np.zeros((3, 4), "f4"), [True] * 3, "targets must be integers, got bool"),
        (
            ValueError,
            np.zeros((3, 4), "f4"),
            [0, 5, -1],
            "targets must be in [0, 5) or ignore_index -100, got 5",
        ),
        (
            ValueError,
            np.zeros((1, 4), "f4"),
            np.array([2**64 - 100], np.uint64),
            "targets must be in [0, 5) or ignore_index -100, got 18446744073709551516",
        ),
        (
            ValueError,
            np.zeros((3, 4), "f4"),
            [0, -1, -100],
            "targets must be in [0, 5) or ignore_index -100, got -1",
        ),
    ],
)
def test_head_refuses(error, h, targets, message):
    head = LinearCrossEntropy(4, 5)
    for call in (head.loss, head.loss_and_grad):
        with pytest.raises(error) as caught:
            call(h, targets)
        assert str(caught.value) == f"[linear_cross_entropy] {message}"


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {"hidden_size": 0}, "hidden_size must be at least 1 and below 2**40, got 0"),
        (ValueError, {"num_classes": -2}, "num_classes must be at least 1 and below 2**40, got -2"),
        (TypeError, {"hidden_size": 4.0}, "hidden_size must be an integer, got 4.0"),
        (TypeError, {"ignore_index": None}, "ignore_index must be an integer, got None"),
        (TypeError, {"dtype": "float16"}, "dtype must be float32 or float64, got 'float16'"),
        (ValueError, {"seed": -1}, "seed must not be negative, got -1"),
        (
            MemoryError,
            {"hidden_size": 2**39, "num_classes": 2**39},
            "memory for the parameters must be available, "
            "got none for (549755813888, 549755813888)",
        ),
    ],
)
def test_head_refuses_to_be_made(error, arguments, message):
    with pytest.raises(error) as caught:
        LinearCrossEntropy(**{"hidden_size": 4, "num_classes": 5, **arguments})
    assert str(caught.value) == f"[linear_cross_entropy] {message}"


# --- clipping ----------------------------------------------------------------------------------


def gradients(dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"a": rng.standard_normal((3, 4)).astype(dtype), "b": rng.standard_normal(5).astype(dtype)},
        {"a": rng.standard_normal((2, 2)).astype(dtype)},
    ]


def flat(groups):
    return [g for group in groups for g in group.values()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [None, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1, 100.0, math.inf])
def test_clipping_agrees_with_torch(dtype, value, max_norm):
    torch = pytest.importorskip("torch")
    groups = gradients(dtype)
    if value is not None:
        groups[0]["b"][2] = value
    parameters = []
    for g in flat(groups):
        parameters.append(torch.nn.Parameter(torch.zeros(g.shape, dtype=getattr(torch, dtype))))
        parameters[-1].grad = torch.tensor(g)
    expected = torch.nn.utils.clip_grad_norm_(parameters, max_norm).item()
    norm = clip_grad_norm_(groups, max_norm)
    np.testing.assert_allclose(norm, expected, rtol=TOLERANCE[dtype])
    for g, p in zip(flat(groups), parameters, strict=True):
        np.testing.assert_allclose(g, p.grad.numpy(), rtol=TOLERANCE[dtype])


def test_clipping_leaves_small_gradients_alone():
    groups, before = gradients(), gradients()
    norm = clip_grad_norm_(groups, 1e3)
    assert norm == pytest.approx(math.sqrt(sum(float((g**2).sum()) for g in flat(before))))
    assert all(np.array_equal(a, b) for a, b in zip(flat(groups), flat(before), strict=True))
    assert clip_grad_norm_([], 1.0) == 0.0


def test_clipping_takes_views_and_large_values():
    base = np.full((4, 6), 3e38, np.float32)
    view = base[::2, ::-3]
    assert clip_grad_norm_([{"a": view}], 1.0) == pytest.approx(3e38 * 2, rel=1e-6)
    assert view.ravel().tolist() == pytest.approx([0.5] * 4)
    assert (base[1] == np.float32(3e38)).all()


@pytest.mark.parametrize(
    ("error", "spoil", "max_norm", "message"),
    [
        (ValueError, None, -1.0, "max_norm must not be negative or NaN, got -1.0"),
        (ValueError, None, math.nan, "max_norm must not be negative or NaN, got nan"),
        (TypeError, None, "1", "max_norm must be a number, got '1'"),
        (TypeError, lambda g: g[0], 1.0, "grads must be a sequence of dicts, got dict"),
        (TypeError, lambda g: flat(g), 1.0, "grads must be a sequence of dicts, got list"),
        (
            TypeError,
            lambda g: [g[0], {"c": np.zeros(2, np.int64)}],
            1.0,
            "grads must be float arrays, got int64 for c",
        ),
        (
            TypeError,
            lambda g: [g[0], {"c": [1.0]}],
            1.0,
            "grads must be float arrays, got list for c",
        ),
        (
            ValueError,
            lambda g: [g[0], {"c": np.broadcast_to(1.0, 3)}],
            1.0,
            "grads must be writable, got a read-only c",
        ),
    ],
)
def test_clipping_refuses_before_it_writes(error, spoil, max_norm, message):
    groups, before = gradients(), gradients()
    with pytest.raises(error) as caught:
        clip_grad_norm_(spoil(groups) if spoil else groups, max_norm)
    assert str(caught.value) == f"[clip_grad_norm_] {message}"
    assert all(np.array_equal(a, b) for a, b in zip(flat(groups), flat(before), strict=True))


# --- optimisers --------------------------------------------------------------------------------

OPTIMIZERS = [
    ("SGD", SGD, {"lr": 0.1}),
    ("SGD", SGD, {"lr": 0.1, "momentum": 0.9}),
    ("Adam", Adam, {"lr": 0.01}),
    ("Adam", Adam, {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3}),
    ("Adam", Adam, {"lr": 0.01, "betas": (0.0, 0.0)}),
]


def modules(dtype="float32"):
    return [
        LinearCrossEntropy(3, 4, dtype=dtype, seed=0),
        LinearCrossEntropy(5, 2, dtype=dtype, seed=1),
    ]


def draw(of, rng):
    """Random gradients, one dict per module."""
    return [
        {k: rng.standard_normal(p.shape).astype(p.dtype) for k, p in m.parameters.items()}
        for m in of
    ]


def parameters_of(of):
    return [p for m in of for p in m.parameters.values()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "kind", "options"), OPTIMIZERS)
def test_optimizers_agree_with_torch(name, kind, options, dtype):
    torch = pytest.importorskip("torch")
    ours = modules(dtype)
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in parameters_of(ours)]
    optimizer = kind(ours, **options)
    oracle = getattr(torch.optim, name)(theirs, **options)
    rng = np.random.default_rng(0)
    for step in range(30):
        if step == 20:  # a schedule
            optimizer.lr = oracle.param_groups[0]["lr"] = options["lr"] / 2
        grads = draw(ours, rng)
        before = [g.copy() for g in flat(grads)]
        optimizer.step(grads)
        assert all(np.array_equal(a, b) for a, b in zip(flat(grads), before, strict=True))
        for p, g in zip(theirs, before, strict=True):
            p.grad = torch.tensor(g)
        oracle.step()
        for p, q in zip(parameters_of(ours), theirs, strict=True):
            assert relative(p, q.detach().numpy()) < 10 * TOLERANCE[dtype]


@pytest.mark.parametrize(("name", "kind", "options"), OPTIMIZERS)
def test_optimizers_go_on_from_their_state_with_the_same_bits(name, kind, options):
    rng = np.random.default_rng(0)
    one = modules()
    first = kind(one, **options)
    for _ in range(3):
        first.step(draw(one, rng))
    saved = first.state_dict()
    copies = {k: v.copy() for k, v in saved.items()}
    other = modules()
    for a, b in zip(other, one, strict=True):
        a.load_state_dict(b.state_dict())
    second = kind(other, **options)
    second.step(draw(other, rng))
    for a, b in zip(other, one, strict=True):
        a.load_state_dict(b.state_dict())
    second.load_state_dict(saved)
    for _ in range(3):
        grads = draw(one, rng)
        first.step(grads)
        second.step(grads)
    for p, q in zip(parameters_of(one), parameters_of(other), strict=True):
        assert np.array_equal(p, q)
    assert saved["step"] == 3
    assert all(np.array_equal(saved[k], copies[k]) for k in saved)  # not the optimisers' own
    assert first.state_dict()["step"] == second.state_dict()["step"] == 6
    expected = {"Adam": 9, "SGD": 5 if "momentum" in options else 1}[name]
    assert len(saved) == expected


def narrow_and_wide(dtype):
    """A layer of 16 bits, and one of float32 with the same parameters."""
    narrow, wide = fastrnn.GRU(3, 4, seed=0, dtype=dtype), fastrnn.GRU(3, 4)
    wide.load_state_dict(narrow.state_dict())
    return narrow, wide


def as_float32(grads):
    return [{k: g.astype(np.float32) for k, g in group.items()} for group in grads]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("name", "kind", "options"), OPTIMIZERS)
def test_optimizers_add_up_steps_that_16_bits_do_not_see(name, kind, options, dtype):
    narrow, wide = narrow_and_wide(dtype)
    options = {**options, "lr": 1e-5}
    ours, theirs = kind([narrow], **options), kind([wide], **options)
    begin = narrow.state_dict()
    rng = np.random.default_rng(0)
    for step in range(60):
        if step == 30:  # goes on from what was saved
            other = kind([narrow], **options)
            other.load_state_dict(ours.state_dict())
            ours = other
        if step == 40:  # a value that somebody sets counts
            for layer in (narrow, wide):
                with layer.mutable() as parameters:
                    parameters["weight_hh_l0"][0, :2] = 0.5, np.nan
        grads = draw([narrow], rng)
        ours.step(grads)
        theirs.step(as_float32(grads))
        for k, p in narrow.parameters.items():
            np.testing.assert_array_equal(p, wide.parameters[k].astype(p.dtype))
    assert any((p != begin[k]).mean() > 0.05 for k, p in narrow.parameters.items())
    assert {a.dtype for k, a in ours.state_dict().items() if k != "step"} == {np.dtype("float32")}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_clipping_rounds_gradients_of_16_bits_once(dtype):
    narrow, _ = narrow_and_wide(dtype)
    grads = draw([narrow], np.random.default_rng(0))
    wide = as_float32(grads)
    assert clip_grad_norm_(grads, 0.3) == clip_grad_norm_(wide, 0.3)
    for a, b in zip(flat(grads), flat(wide), strict=True):
        np.testing.assert_array_equal(a, b.astype(a.dtype))


def test_optimizers_advance_the_version_of_each_module():
    ours = modules()
    optimizer = SGD(ours, lr=0.1)
    before = [m.version for m in ours]
    optimizer.step(draw(ours, np.random.default_rng(0)))
    assert all(m.version > v for m, v in zip(ours, before, strict=True))


def test_optimizers_let_nan_and_inf_through():
    for kind in (SGD, Adam):
        ours = modules()
        grads = draw(ours, np.random.default_rng(0))
        grads[0]["bias"][:2] = [np.nan, np.inf]
        grads[0]["weight"][0, 0] = 1e30  # its square is not a float32
        optimizer = kind(ours, lr=0.1)
        optimizer.step(grads)
        assert np.isnan(ours[0].parameters["bias"][0])
        assert not np.isfinite(ours[0].parameters["bias"][1])
        assert np.isfinite(ours[0].parameters["bias"][2:]).all()


@pytest.mark.parametrize(
    ("error", "spoil", "message"),
    [
        (ValueError, lambda g: g[:1], "grads must hold one dict per module (2), got 1"),
        (TypeError, lambda g: g[0], "grads must be a sequence of dicts, got dict"),
        (ValueError, lambda g: [g[0], {"bias": g[1]["bias"]}], "grads must hold weight, got none"),
        (
            ValueError,
            lambda g: [g[0], {**g[1], "extra": g[1]["bias"]}],
            "grads must name known arrays, got 'extra'",
        ),
        (
            ValueError,
            lambda g: [g[0], {**g[1], "bias": np.zeros(3, np.float32)}],
            "bias must have shape (2,), got (3,)",
        ),
        (
            TypeError,
            lambda g: [g[0], {**g[1], "bias": np.zeros(2)}],
            "bias must be float32, got float64",
        ),
        (TypeError, lambda g: [g[0], {**g[1], "bias": [0, 0]}], "bias must be float32, got list"),
    ],
)
@pytest.mark.parametrize("kind", [SGD, Adam])
def test_optimizers_refuse_gradients_before_they_write(kind, error, spoil, message):
    ours, same = modules(), modules()
    optimizer = kind(ours, lr=0.1)
    saved = optimizer.state_dict()
    with pytest.raises(error) as caught:
        optimizer.step(spoil(draw(ours, np.random.default_rng(0))))
    assert str(caught.value) == f"[{kind.__name__.lower()}] {message}"
    for p, q in zip(parameters_of(ours), parameters_of(same), strict=True):
        assert np.array_equal(p, q)
    assert all(np.array_equal(v, saved[k]) for k, v in optimizer.state_dict().items())


@pytest.mark.parametrize(
    ("error", "change", "message"),
    [
        (ValueError, {"step": None}, "state must hold step, got none"),
        (ValueError, {"exp_avg.1.bias": None}, "state must hold exp_avg.1.bias, got none"),
        (ValueError, {"x": np.zeros(2)}, "state must name known arrays, got 'x'"),
        (TypeError, {"step": np.array(1.0)}, "step must be int64, got float64"),
        (ValueError, {"step": np.array(-1)}, "step must not be negative, got -1"),
        (
            ValueError,
            {"exp_avg.1.bias": np.zeros(3, np.float32)},
            "exp_avg.1.bias must have shape (2,), got (3,)",
        ),
    ],
)
def test_optimizers_refuse_another_state_before_they_write(error, change, message):
    ours = modules()
    optimizer = Adam(ours)
    optimizer.step(draw(ours, np.random.default_rng(0)))
    saved = optimizer.state_dict()
    state = {k: v for k, v in {**Adam(ours).state_dict(), **change}.items() if v is not None}
    with pytest.raises(error) as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value) == f"[adam] {message}"
    assert all(np.array_equal(v, saved[k]) for k, v in optimizer.state_dict().items())


@pytest.mark.parametrize(
    ("error", "make", "message"),
    [
        (ValueError, lambda m: SGD(m, lr=-1), "[sgd] lr must be finite and not negative, got -1"),
        (
            ValueError,
            lambda m: SGD(m, lr=math.nan),
            "[sgd] lr must be finite and not negative, got nan",
        ),
        (TypeError, lambda m: SGD(m, lr="fast"), "[sgd] lr must be a number, got 'fast'"),
        (
            ValueError,
            lambda m: SGD(m, 1, momentum=-0.5),
            "[sgd] momentum must be finite and not negative, got -0.5",
        ),
        (
            ValueError,
            lambda m: Adam(m, betas=(0.9, 1.0)),
            "[adam] betas must be in [0, 1), got 1.0",
        ),
        (
            ValueError,
            lambda m: Adam(m, betas=(0.9,)),
            "[adam] betas must be two numbers, got (0.9,)",
        ),
        (
            ValueError,
            lambda m: Adam(m, eps=math.inf),
            "[adam] eps must be finite and not negative, got inf",
        ),
        (ValueError, lambda m: SGD([], 1), "[sgd] modules must not be empty, got []"),
        (
            ValueError,
            lambda m: SGD([m[0], m[0]], 1),
            "[sgd] modules must be distinct, got one of them twice",
        ),
    ],
)
def test_optimizers_refuse_to_be_made(error, make, message):
    with pytest.raises(error) as caught:
        make(modules())
    assert str(caught.value) == message


def test_optimizers_refuse_what_is_no_module():
    for wrong in (modules()[0], [1], ["layer"]):
        with pytest.raises(
            TypeError, match=r"^\[adam\] modules must be a sequence of modules, got"
        ):
            Adam(wrong)


# --- all of it ---------------------------------------------------------------------------------


def test_the_example_learns_ello_from_hell(capsys):
    example = ROOT / "examples" / "hello.py"
    assert runpy.run_path(str(example))["main"]() == "ello"
    assert capsys.readouterr().out.endswith("hell -> ello\n")
