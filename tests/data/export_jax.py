"""Makes `lstm.jax`: a program that jax.export saved, which later versions must load.

    JAX_PLATFORMS=cpu python tests/data/export_jax.py

It holds calls forward and back of two layers in two directions, for any T and B. To be run again
only where JAX itself stops loading the file, and then with the oldest JAX that is supported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

import fastrnn.jax as fj

# Programs name the files that made them, here without the folders of the machine.
jax.config.update("jax_hlo_source_file_canonicalization_regex", ".*/")


def value_and_gradients(x: Any, params: Any, lengths: Any) -> Any:
    def loss(x: Any, params: Any) -> Any:
        y, (h, c) = fj.lstm(x, params, lengths=lengths, batch_first=True, recompute=2)
        return jnp.sum(y**2) + jnp.sum(h * c)

    return jax.value_and_grad(loss, (0, 1))(x, params)


if __name__ == "__main__":
    B, T = export.symbolic_shape("B, T")
    params = fj.init(jax.random.key(0), "lstm", 3, 4, 2, bidirectional=True)
    arguments = (
        jax.ShapeDtypeStruct((B, T, 3), jnp.float32),
        jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params),
        jax.ShapeDtypeStruct((B,), jnp.int32),
    )
    ours = [export.DisabledSafetyCheck.custom_call(target) for target in fj.TARGETS]
    program = export.export(jax.jit(value_and_gradients), disabled_checks=ours, platforms=["cpu"])(
        *arguments
    )
    Path(__file__).with_name("lstm.jax").write_bytes(program.serialize())
