"""What JAX alone has: what it compiles and transforms, and sizes that it does not know."""

from __future__ import annotations

from typing import Any

import jax
import keras
import numpy as np
import pytest

import fastrnn.keras
from configurations import fused

L = keras.layers


def pair(kind: str = "LSTM") -> tuple[Any, Any]:
    theirs, ours = (getattr(m, kind)(4, return_sequences=True) for m in (L, fastrnn.keras))
    for layer in (theirs, ours):
        layer.build((2, 5, 3))
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def random(*shape: int) -> Any:
    return jax.numpy.asarray(np.random.default_rng(0).standard_normal(shape).astype("float32"))


def test_a_compiled_call_counts_when_it_is_traced() -> None:
    theirs, ours = pair()
    run = jax.jit(lambda x: ours(x))
    before = fused()
    for seed in (1.0, 2.0):
        x = random(2, 5, 3) * seed
        assert np.asarray(run(x)) == pytest.approx(np.asarray(theirs(x)), abs=1e-5)
    assert fused() == before + 1


def test_vmap() -> None:
    theirs, ours = pair("GRU")
    x = random(3, 2, 5, 3)
    wanted = np.stack([theirs(each) for each in x])
    assert np.asarray(jax.vmap(ours)(x)) == pytest.approx(wanted, abs=1e-5)


def test_sizes_that_are_not_known() -> None:
    """Exported for any B, where Keras's own loop runs."""
    theirs, ours = pair()
    (B,) = jax.export.symbolic_shape("B")
    shape = jax.ShapeDtypeStruct((B, 5, 3), "float32")
    with pytest.warns(fastrnn.keras.FallbackWarning, match=r"the sizes \(B, 5, 3\) are not all"):
        exported = jax.export.export(jax.jit(lambda x: ours(x)))(shape)
    x = random(4, 5, 3)
    assert np.asarray(exported.call(x)) == pytest.approx(np.asarray(theirs(x)), abs=1e-5)
