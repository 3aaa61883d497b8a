"""Keras on JAX: the calls of `fastrnn.jax`, which may be traced, compiled and differentiated."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from .. import jax
from ._call import Call, Tensors
from ._numpy import arguments, computes, keeps, without_layers

__all__ = ["STARTS_FROM_STATE", "computes", "keeps", "run", "where", "why_not"]

STARTS_FROM_STATE = True
where = jnp.where


def why_not(x: Any, recurrent_masks: bool) -> str:
    """See `_backends`."""
    if not all(isinstance(size, int) for size in x.shape):
        return f"the sizes {tuple(x.shape)} are not all known"
    return ""


def run(call: Call, tensors: Tensors) -> tuple[Any, tuple[Any, ...]]:
    """See `_backends`."""
    y, state = jax.recurrent(call.cell, **arguments(call, tensors))
    return y, without_layers(state)
