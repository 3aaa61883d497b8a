"""Layers against torch.nn's in float64, over random configurations that cross every option: those
of NumPy and those of `fastrnn.torch`, against one run of torch's.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastrnn
import tiers
from cases import flat_state
from tolerances import assert_gradient, assert_output

LAYERS = ["RNN", "LSTM", "GRU"]
SEEDS = range(tiers.choose(dev=10, ci=100, full=1000))  # of each layer in each dtype


@pytest.fixture(scope="module")
def torch() -> ModuleType:
    return pytest.importorskip("torch")


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


class Drawn:
    """A random configuration of a layer, and a call of it: inputs, and gradients of its results."""

    def __init__(self, name: str, dtype: str, seed: int) -> None:
        self.name, self.dtype = name, dtype
        self.rng = rng = np.random.default_rng([seed, LAYERS.index(name)])
        self.I, self.H = int(rng.integers(1, 50)), int(rng.integers(2, 70))
        self.T, self.B = int(rng.integers(1, 16)), int(rng.integers(1, 12))
        self.options: dict[str, Any] = {
            "num_layers": int(rng.integers(1, 4)),
            "bias": bool(rng.integers(2)),
            "batch_first": bool(rng.integers(2)),
            "bidirectional": bool(rng.integers(2)),
        }
        if name == "RNN":
            self.options["nonlinearity"] = str(rng.choice(["tanh", "relu"]))
        # What the layers of NumPy do not have, or draw in their own way.
        self.torchs: dict[str, Any] = {}
        self.training = rng.random() < 0.8
        if self.options["num_layers"] > 1 and rng.random() < 0.4 and dtype == "float64":
            self.torchs["dropout"] = 0.3
        if name == "LSTM" and rng.random() < 0.2:
            self.options["proj_size"] = int(rng.integers(1, self.H))
        self.recompute = int(rng.integers(0, 4))
        self.batched = rng.random() < 0.85
        self.ragged = self.batched and rng.random() < 0.4
        self.lengths = rng.integers(1, self.T + 1, self.B)
        self.enforce_sorted = bool(rng.integers(2))
        if self.enforce_sorted:
            self.lengths = np.sort(self.lengths)[::-1].copy()
        with_state = rng.random() < 0.6
        D = 2 if self.options["bidirectional"] else 1
        outputs = self.options.get("proj_size", self.H)
        self.x, self.dy = self.sequence(self.I), self.sequence(D * outputs)
        passes = self.options["num_layers"] * D
        shape = (passes, self.B) if self.batched else (passes,)
        widths = [outputs, self.H][: 2 if name == "LSTM" else 1]
        self.state, self.dfinal = (
            tuple(self.normal(*shape, width) for width in widths) for _ in range(2)
        )
        if not with_state:
            self.state = ()

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def sequence(self, width: int) -> np.ndarray:
        if not self.batched:
            return self.normal(self.T, width)
        lead = (self.B, self.T) if self.options["batch_first"] else (self.T, self.B)
        return self.normal(*lead, width)


# y, the final states; dx, those of the initial states, those of the parameters by name
Found = tuple[list[np.ndarray], list[np.ndarray], dict[str, np.ndarray]]


def given(state: tuple[Any, ...]) -> Any:
    """One state or a tuple of them, as calls take it."""
    return (state if len(state) > 1 else state[0]) if state else None


def by_torch(torch: ModuleType, module: Any, drawn: Drawn, dtype: Any) -> Found:
    """A call of torch's module or of ours under torch, and autograd's gradients."""
    utils = torch.nn.utils.rnn

    def tensor(a: np.ndarray) -> Any:
        return torch.from_numpy(a).to(dtype)

    inputs = [tensor(a).requires_grad_(True) for a in (drawn.x, *drawn.state)]
    torch.manual_seed(7)
    x = inputs[0]
    if drawn.ragged:
        x = utils.pack_padded_sequence(
            x, torch.from_numpy(drawn.lengths), module.batch_first, drawn.enforce_sorted
        )
    y, final = module(x, given(tuple(inputs[1:])))
    if drawn.ragged:
        y, _ = utils.pad_packed_sequence(y, module.batch_first, total_length=drawn.T)
    results = [y, *flat_state(final)]
    grads = torch.autograd.grad(
        results, [*inputs, *module.parameters()], [tensor(a) for a in (drawn.dy, *drawn.dfinal)]
    )
    arrays = [grad.double().numpy() for grad in grads]
    names = [name for name, _ in module.named_parameters()]
    return (
        [r.detach().double().numpy() for r in results],
        arrays[: len(inputs)],
        dict(zip(names, arrays[len(inputs) :], strict=True)),
    )


def by_numpy(layer: fastrnn.Recurrent, drawn: Drawn) -> Found:
    lengths = drawn.lengths if drawn.ragged else None
    y, final, tape = layer.forward(drawn.x, given(drawn.state), lengths=lengths)
    dx, dstate, grads = layer.backward(tape, drawn.dy, given(drawn.dfinal))
    dstates = flat_state(dstate) if drawn.state else ()
    return [y, *flat_state(final)], [dx, *dstates], grads


def compare(found: Found, wanted: Found, dtype: str) -> None:
    for a, b in zip(found[0], wanted[0], strict=True):
        assert_output(a, b, dtype, "y or a final state")
    for a, b in zip(found[1], wanted[1], strict=True):
        assert_gradient(a, b, dtype, "dx or that of an initial state")
    assert found[2].keys() == wanted[2].keys()
    for name, a in found[2].items():
        assert_gradient(a, wanted[2][name], dtype, f"d{name}")


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # for which torch has no kernel
@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", LAYERS)
def test_random_configuration(torch: ModuleType, name: str, dtype: str, seed: int) -> None:
    import fastrnn.torch

    drawn = Drawn(name, dtype, seed)
    sizes, options = (drawn.I, drawn.H), drawn.options
    torch.manual_seed(seed)
    theirs = getattr(torch.nn, name)(*sizes, dtype=torch.float64, **options, **drawn.torchs)
    theirs.train(drawn.training)
    wanted = by_torch(torch, theirs, drawn, torch.float64)

    kind = getattr(torch, dtype)
    ours = getattr(fastrnn.torch, name)(*sizes, dtype=kind, **options, **drawn.torchs)
    ours.load_state_dict(theirs.state_dict())
    ours.recompute = drawn.recompute
    ours.train(drawn.training)
    compare(by_torch(torch, ours, drawn, kind), wanted, dtype)
    if not drawn.torchs:
        layer = getattr(fastrnn, name)(*sizes, dtype=dtype, recompute=drawn.recompute, **options)
        layer.load_state_dict({k: v.numpy().astype(dtype) for k, v in theirs.state_dict().items()})
        compare(by_numpy(layer, drawn), wanted, dtype)


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
