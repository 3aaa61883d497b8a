"""The modules of `fastrnn.jax.nn` in their libraries: parameters, training, dropout, states."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastrnn.jax

equinox = pytest.importorskip("equinox")
nnx = pytest.importorskip("flax.nnx")

from fastrnn.jax.nn import equinox as of_equinox  # noqa: E402
from fastrnn.jax.nn import flax as of_flax  # noqa: E402

SIZES = {"num_layers": 2, "bidirectional": True}


def x_of(T: int = 5, B: int = 3, I: int = 4) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (T, B, I))


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_a_module_calls_the_layers_with_its_parameters(name: str) -> None:
    x = x_of()
    flax = getattr(of_flax, name)(4, 6, rngs=nnx.Rngs(0), **SIZES)
    own = getattr(of_equinox, name)(4, 6, key=jax.random.key(0), **SIZES)
    for module, params in (
        (flax, {n: getattr(flax, n)[...] for n in flax.names}),
        (own, own.params),
    ):
        y, state = module(x, lengths=[5, 2, 4])
        wanted = fastrnn.jax.recurrent(module.layer.cell, x, params, lengths=[5, 2, 4])
        for a, b in zip(jax.tree.leaves((y, state)), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(a, b)


def test_other_cells_and_functions() -> None:
    module = of_flax.Recurrent("lstm_peephole", 4, 6, rngs=nnx.Rngs(0))
    assert module.weight_diag_l0.shape == (18,)
    assert of_equinox.RNN(4, 6, nonlinearity="relu", key=jax.random.key(0)).layer.cell == "rnn_relu"


def test_flax_trains_jits_and_splits() -> None:
    x = x_of()
    module = of_flax.LSTM(4, 6, rngs=nnx.Rngs(0), **SIZES)

    @nnx.jit
    def step(module: Any, x: Any) -> Any:
        def loss(module: Any) -> Any:
            return (module(x)[0] ** 2).mean()

        value, gradients = nnx.value_and_grad(loss)(module)
        state = jax.tree.map(lambda p, g: p - 0.5 * g, nnx.state(module, nnx.Param), gradients)
        nnx.update(module, state)
        return value

    losses = [float(step(module, x)) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]
    graph, state = nnx.split(module)
    np.testing.assert_array_equal(nnx.merge(graph, state)(x)[0], module(x)[0])


def test_equinox_trains_jits_and_maps() -> None:
    x = x_of()
    module = of_equinox.GRU(4, 6, key=jax.random.key(0))

    @equinox.filter_jit
    @equinox.filter_value_and_grad
    def loss(module: Any, x: Any) -> Any:
        y = jax.vmap(lambda row: module(row)[0], in_axes=1)(x)
        return (y**2).mean()

    losses = []
    for _ in range(5):
        value, gradients = loss(module, x)
        module = equinox.apply_updates(module, jax.tree.map(lambda g: -0.5 * g, gradients))
        losses.append(float(value))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


def test_dropout_of_flax() -> None:
    x = x_of()
    module = of_flax.GRU(4, 6, num_layers=2, dropout=0.5, rngs=nnx.Rngs(0))
    first, second = module(x)[0], module(x)[0]
    assert not np.array_equal(first, second)
    module.eval()
    np.testing.assert_array_equal(module(x)[0], module(x)[0])
    module.train()
    assert not np.array_equal(module(x)[0], module(x)[0])


def test_dropout_of_equinox() -> None:
    x = x_of()
    module = of_equinox.GRU(4, 6, num_layers=2, dropout=0.5, key=jax.random.key(0))
    keys = jax.random.split(jax.random.key(2))
    assert not np.array_equal(module(x, key=keys[0])[0], module(x, key=keys[1])[0])
    np.testing.assert_array_equal(module(x, key=keys[0])[0], module(x, key=keys[0])[0])
    quiet = equinox.nn.inference_mode(module)
    np.testing.assert_array_equal(quiet(x)[0], quiet(x, key=keys[0])[0])
    with pytest.raises(RuntimeError, match=r"\[gru\] dropout needs a key, got none"):
        module(x)


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_masks_keep_the_mean(p: float) -> None:
    module = of_equinox.GRU(4, 300, num_layers=2, dropout=p, key=jax.random.key(0))
    (mask,) = module.layer._masks(jax.random.key(3), x_of(20, 10))
    assert set(np.unique(mask)) == ({0.0, 2.0} if p < 1 else {0.0})
    assert abs(float(mask.mean()) - (1.0 if p < 1 else 0.0)) < 0.02


def test_bad_options() -> None:
    with pytest.raises(ValueError, match=r"\[gru\] dropout must be within 0..1, got 2"):
        of_equinox.GRU(4, 6, dropout=2, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"\[lstm\] hidden_size must be at least 1"):
        of_flax.LSTM(4, 0, rngs=nnx.Rngs(0))
    assert jnp.float32 == of_equinox.GRU(4, 6, key=jax.random.key(0)).params["bias_ih_l0"].dtype
