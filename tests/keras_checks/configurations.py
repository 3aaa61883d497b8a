"""Random configurations of Keras's layers and calls, and what both layers give for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

import fastrnn.keras

BACKEND = keras.backend.backend()
KINDS = ("SimpleRNN", "LSTM", "GRU")
ACTIVATIONS = ("tanh", "sigmoid", "relu", "softsign", "softplus", "elu", "leaky_relu",
               "hard_sigmoid", "linear")  # fmt: skip
GATES = ("sigmoid", "hard_sigmoid", "tanh", "softsign")  # with others states grow beyond bounds
MASKS = ("none", "right", "left", "holes", "none runs", "all run")


@dataclass
class Configuration:
    """A layer, its inputs, and what is random about them."""

    kind: str
    units: int
    options: dict[str, Any]
    x: np.ndarray
    mask: np.ndarray | None
    states: list[np.ndarray] | None
    training: bool
    weights: list[np.ndarray] = field(default_factory=list)

    def layers(self) -> tuple[Any, Any]:
        """Keras's layer and fastrnn's, with the same weights."""
        pair = []
        for module in (keras.layers, fastrnn.keras):
            layer = getattr(module, self.kind)(self.units, **self.options)
            if hasattr(layer, "use_cudnn"):
                # Whose path refuses the masks of each gate; the results are the same.
                layer.use_cudnn = False
            layer.build(self.x.shape)
            pair.append(layer)
        if not self.weights:
            rng = np.random.default_rng(self.x.size)
            self.weights = [
                rng.uniform(-0.8, 0.8, w.shape).astype(w.dtype) for w in pair[0].weights
            ]
        for layer in pair:
            layer.set_weights(self.weights[: len(layer.get_weights())])
        return pair[0], pair[1]


def draw(seed: int) -> Configuration:
    rng = np.random.default_rng(seed)

    def one_of(values: Any) -> Any:
        return values[rng.integers(len(values))]

    def flag(chance: float = 0.5) -> bool:
        return bool(rng.random() < chance)

    B, T, I, H = (int(n) for n in rng.integers(1, (6, 9, 5, 8)))
    kind = KINDS[seed % 3]
    dtype = one_of(["float32", "float32", "float64"])
    options: dict[str, Any] = {
        "dtype": dtype,
        "use_bias": flag(0.8),
        "return_sequences": flag(),
        "return_state": flag(),
        "go_backwards": flag(0.3),
        "stateful": flag(0.2),
        "zero_output_for_mask": flag(0.4),
        "activation": one_of(ACTIVATIONS) if flag(0.4) else "tanh",
        "seed": int(rng.integers(1000)),
    }
    if kind != "SimpleRNN":
        options["recurrent_activation"] = one_of(GATES)
        options["implementation"] = one_of([1, 2])
    if kind == "GRU":
        options["reset_after"] = flag()
    training = flag(0.6)
    for name in ("dropout", "recurrent_dropout"):
        options[name] = one_of([0.0, 0.0, 0.4])
    x = rng.standard_normal((B, T, I)).astype(dtype)
    count = 2 if kind == "LSTM" else 1
    states = [rng.standard_normal((B, H)).astype(dtype) for _ in range(count)] if flag() else None
    return Configuration(kind, H, options, x, _mask(rng, one_of(MASKS), B, T), states, training)


def _mask(rng: np.random.Generator, kind: str, B: int, T: int) -> np.ndarray | None:
    lengths = rng.integers(0, T + 1, B)[:, None]
    masks = {
        "none": None,
        "right": np.arange(T) < lengths,
        "left": np.arange(T) >= lengths,
        "holes": rng.random((B, T)) < 0.5,
        "none runs": np.zeros((B, T), bool),
        "all run": np.ones((B, T), bool),
    }
    mask = masks[kind]
    # Keras takes masks of any dtype.
    return mask if mask is None or rng.random() < 0.8 else mask.astype("float32")


def fused() -> int:
    """Calls that the engine has served so far."""
    return sum(fastrnn.keras.report().fused.values())


def fallbacks() -> int:
    """Calls on Keras's own path so far."""
    return sum(fastrnn.keras.report().fallbacks.values())


def flat(results: Any) -> list[Any]:
    return list(keras.tree.flatten(results))


def call(layer: Any, c: Configuration, x: Any, states: Any) -> list[Any]:
    mask = None if c.mask is None else keras.ops.convert_to_tensor(c.mask)
    return flat(layer(x, mask=mask, initial_state=states, training=c.training))


def outputs(layer: Any, c: Configuration, calls: int = 1) -> list[np.ndarray]:
    """Of some calls, one after the other: a stateful layer goes on."""
    found = []
    for _ in range(calls):
        states = None if c.states is None else list(map(keras.ops.convert_to_tensor, c.states))
        found += call(layer, c, keras.ops.convert_to_tensor(c.x), states)
    return [keras.ops.convert_to_numpy(a) for a in found]


def _coefficients(results: list[Any]) -> list[Any]:
    rng = np.random.default_rng(5)
    return [
        keras.ops.cast(keras.ops.convert_to_tensor(rng.standard_normal(tuple(r.shape))), r.dtype)
        for r in results
    ]


def _loss(layer: Any, c: Configuration, x: Any, states: Any) -> Any:
    results = call(layer, c, x, states)
    pairs = zip(results, _coefficients(results), strict=True)
    return sum(keras.ops.sum(a * b) for a, b in pairs)


def gradients(layer: Any, c: Configuration) -> list[np.ndarray]:
    """Of x, the states that were given, and the weights."""
    given = [c.x, *(c.states or [])]
    return [np.asarray(g) for g in _GRADIENTS[BACKEND](layer, c, given)]


def _by_torch(layer: Any, c: Configuration, given: list[np.ndarray]) -> list[Any]:
    import torch

    tensors = [torch.tensor(a, requires_grad=True) for a in given]
    weights = [w.value for w in layer.trainable_weights]
    loss = _loss(layer, c, tensors[0], tensors[1:] or None)
    found = torch.autograd.grad(loss, tensors + weights, allow_unused=True)
    pairs = zip(found, tensors + weights, strict=True)
    return [(torch.zeros_like(of) if g is None else g).numpy() for g, of in pairs]


def _by_tensorflow(layer: Any, c: Configuration, given: list[np.ndarray]) -> list[Any]:
    import tensorflow as tf

    def run(*arrays: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            loss = _loss(layer, c, arrays[0], list(arrays[1:]) or None)
        sources = [*arrays, *(w.value for w in layer.trainable_weights)]
        zero = tf.UnconnectedGradients.ZERO
        return tape.gradient(loss, sources, unconnected_gradients=zero)

    tensors = list(map(tf.convert_to_tensor, given))
    # Every other configuration in a graph.
    return list((tf.function(run) if c.x.size % 2 else run)(*tensors))


def _by_jax(layer: Any, c: Configuration, given: list[np.ndarray]) -> list[Any]:
    import jax

    others = [v.value for v in layer.non_trainable_variables]

    def loss(weights: Any, arrays: Any) -> Any:
        mapping = zip(layer.trainable_variables + layer.non_trainable_variables,
                      [*weights, *others], strict=True)  # fmt: skip
        with keras.StatelessScope(state_mapping=list(mapping)):
            return _loss(layer, c, arrays[0], arrays[1:] or None)

    weights = [v.value for v in layer.trainable_variables]
    arrays = list(map(jax.numpy.asarray, given))
    of_weights, of_arrays = jax.jit(jax.grad(loss, (0, 1)))(weights, arrays)
    return [*of_arrays, *of_weights]


_GRADIENTS = {"torch": _by_torch, "tensorflow": _by_tensorflow, "jax": _by_jax}
