"""The layers against torch.nn, over random configurations that cross every option."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastrnn
from cases import flat_state
from tolerances import assert_gradient, assert_output

LAYERS = ["RNN", "LSTM", "GRU"]
CONFIGURATIONS = 80  # of each layer in each dtype


@pytest.fixture(scope="module")
def torch() -> ModuleType:
    return pytest.importorskip("torch")


def configuration(rng: np.random.Generator, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "num_layers": int(rng.integers(1, 4)),
        "bias": bool(rng.integers(2)),
        "batch_first": bool(rng.integers(2)),
        "bidirectional": bool(rng.integers(2)),
    }
    if name == "RNN":
        options["nonlinearity"] = str(rng.choice(["tanh", "relu"]))
    return options


def pair(
    torch: ModuleType,
    name: str,
    I: int,
    H: int,
    dtype: str,
    **options: Any,
) -> tuple[fastrnn.Recurrent, Any]:
    """The same layer in both libraries; torch's in float64."""
    ours = getattr(fastrnn, name)(I, H, dtype=dtype, seed=0, **options)
    theirs = getattr(torch.nn, name)(I, H, dtype=torch.float64, **options)
    theirs.load_state_dict(
        {k: torch.from_numpy(v.astype(np.float64)) for k, v in ours.state_dict().items()}
    )
    return ours, theirs


@pytest.mark.parametrize("seed", range(CONFIGURATIONS))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", LAYERS)
def test_random_configuration(torch: ModuleType, name: str, dtype: str, seed: int) -> None:
    rng = np.random.default_rng([seed, LAYERS.index(name)])
    options = configuration(rng, name)
    I, H = int(rng.integers(1, 50)), int(rng.integers(1, 70))
    T, B = int(rng.integers(1, 16)), int(rng.integers(1, 12))
    batched, with_state = rng.random() < 0.85, rng.random() < 0.6
    ragged = batched and rng.random() < 0.4
    ours, theirs = pair(torch, name, I, H, dtype, **options)
    D = 2 if options["bidirectional"] else 1
    lead = ((B, T) if options["batch_first"] else (T, B)) if batched else (T,)
    x = rng.standard_normal((*lead, I)).astype(dtype)
    dy = rng.standard_normal((*lead, D * H)).astype(dtype)
    state_shape = (options["num_layers"] * D, B, H) if batched else (options["num_layers"] * D, H)
    states = 2 if name == "LSTM" else 1

    def arrays() -> tuple[np.ndarray, ...]:
        return tuple(rng.standard_normal(state_shape).astype(dtype) for _ in range(states))

    def given(values: tuple[Any, ...]) -> Any:
        return values if states == 2 else values[0]

    h0, dh = arrays(), arrays()
    lengths = rng.integers(1, T + 1, B) if ragged else None

    def leaf(a: np.ndarray) -> Any:
        return torch.tensor(a.astype(np.float64), requires_grad=True)

    tx, th0 = leaf(x), tuple(leaf(a) for a in h0)
    tstate = given(th0) if with_state else None
    if ragged:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            tx, torch.from_numpy(lengths), options["batch_first"], enforce_sorted=False
        )
        packed_y, tfinal = theirs(packed, tstate)
        ty, _ = torch.nn.utils.rnn.pad_packed_sequence(
            packed_y, options["batch_first"], total_length=T
        )
    else:
        ty, tfinal = theirs(tx, tstate)
    tfinal = flat_state(tfinal)
    torch.autograd.backward(
        [ty, *tfinal],
        [torch.from_numpy(a.astype(np.float64)) for a in (dy, *dh)],
    )

    y, final, tape = ours.forward(x, given(h0) if with_state else None, lengths=lengths)
    assert_output(y, ty.detach().numpy(), dtype, "y")
    for a, b in zip(flat_state(final), tfinal, strict=True):
        assert_output(a, b.detach().numpy(), dtype, "final state")
    dx, dstate, grads = ours.backward(tape, dy, given(dh))
    assert_gradient(dx, tx.grad.numpy(), dtype, "dx")
    if with_state:
        for a, b in zip(flat_state(dstate), th0, strict=True):
            assert_gradient(a, b.grad.numpy(), dtype, "dh0")
    for key, parameter in theirs.named_parameters():
        assert_gradient(grads[key], parameter.grad.numpy(), dtype, f"d{key}")


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_through_masks(torch: ModuleType, name: str) -> None:
    """With the masks given, layer by layer in torch: the same numbers."""
    rng = np.random.default_rng(5)
    ours = getattr(fastrnn, name)(7, 19, num_layers=3, bidirectional=True, dtype="float64", seed=1)
    params = {k: torch.from_numpy(v) for k, v in ours.state_dict().items()}
    x, dy = rng.standard_normal((6, 4, 7)), rng.standard_normal((6, 4, 38))
    masks = [(rng.random((6, 4, 38)) < 0.6) / 0.6 for _ in range(2)]
    tx = torch.tensor(x, requires_grad=True)
    value, leaves = tx, {}
    for layer in range(3):
        single = getattr(torch.nn, name)(
            7 if layer == 0 else 38, 19, bidirectional=True, dtype=torch.float64
        )
        own = {k.replace(f"_l{layer}", "_l0"): v for k, v in params.items() if f"_l{layer}" in k}
        single.load_state_dict(own)
        value = single(value)[0]
        if layer < 2:
            value = value * torch.from_numpy(masks[layer])
        leaves.update({k.replace("_l0", f"_l{layer}"): p for k, p in single.named_parameters()})
    value.backward(torch.from_numpy(dy))
    functional = fastrnn.functional
    y, _, tape = functional.forward(ours.cell, x, ours.state_dict(), dropout_masks=masks)
    dx, _, grads = functional.backward(ours.cell, ours.state_dict(), tape, dy)
    assert_output(y, value.detach().numpy(), "float64")
    assert_gradient(dx, tx.grad.numpy(), "float64", "dx")
    for key, leaf in leaves.items():
        assert_gradient(grads[key], leaf.grad.numpy(), "float64", key)


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_cells(torch: ModuleType, name: str, bias: bool, batched: bool) -> None:
    rng = np.random.default_rng(2)
    ours = getattr(fastrnn, name)(6, 21, bias=bias, dtype="float64", seed=3)
    theirs = getattr(torch.nn, name)(6, 21, bias=bias, dtype=torch.float64)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    lead = (5,) if batched else ()
    states = 2 if name == "LSTMCell" else 1

    def arrays() -> tuple[np.ndarray, ...]:
        return tuple(rng.standard_normal((*lead, 21)) for _ in range(states))

    def given(values: tuple[Any, ...]) -> Any:
        return values if states == 2 else values[0]

    x, h0, dh = rng.standard_normal((*lead, 6)), arrays(), arrays()
    tx = torch.tensor(x, requires_grad=True)
    th0 = tuple(torch.tensor(a, requires_grad=True) for a in h0)
    tout = flat_state(theirs(tx, given(th0)))
    torch.autograd.backward(list(tout), [torch.from_numpy(a) for a in dh])
    out, tape = ours.forward(x, given(h0))
    for a, b, c in zip(flat_state(out), tout, flat_state(ours(x, given(h0))), strict=True):
        assert_output(a, b.detach().numpy(), "float64")
        assert a.tobytes() == c.tobytes()
    dx, dstate, grads = ours.backward(tape, given(dh))
    assert_gradient(dx, tx.grad.numpy(), "float64", "dx")
    for a, b in zip(flat_state(dstate), th0, strict=True):
        assert_gradient(a, b.grad.numpy(), "float64", "dh0")
    for key, parameter in theirs.named_parameters():
        assert_gradient(grads[key], parameter.grad.numpy(), "float64", key)


def test_nan_in_one_row_stays_there_as_in_torch(torch: ModuleType) -> None:
    for name in LAYERS:
        ours, theirs = pair(torch, name, 4, 9, "float64")
        x = np.random.default_rng(0).standard_normal((5, 3, 4))
        x[2, 1, 0], x[1, 2, 3] = np.nan, np.inf
        with torch.no_grad():
            wanted = theirs(torch.from_numpy(x))[0].numpy()
        assert_output(ours(x)[0], wanted, "float64", name)
