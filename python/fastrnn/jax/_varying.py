"""Within `jax.shard_map` JAX tracks over which axes of the mesh a value varies."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def alike(arrays: Any) -> Any:
    """The same tree, of arrays that vary over the same axes, as the operands of an operation must.

    JAX's own operations do this for themselves. The gradient of an array that did not vary is then
    the sum over the axes.
    """
    tree: Any
    leaves, tree = jax.tree.flatten(arrays)
    axes = [_axes(leaf) for leaf in leaves]
    union = frozenset().union(*axes)
    if all(own == union for own in axes):
        return arrays
    return tree.unflatten(
        [_vary(leaf, tuple(union - own)) for leaf, own in zip(leaves, axes, strict=True)]
    )


def zeros_like(a: Any) -> Any:
    """Zeros that vary as an array does, which those of JAX 0.6 do not."""
    return alike((a, jnp.zeros_like(a)))[1]


def _axes(leaf: Any) -> frozenset[Any]:
    aval = jax.typeof(leaf)
    of_manual = getattr(aval, "manual_axis_type", None)  # since JAX 0.10
    found: frozenset[Any] = (
        getattr(aval, "vma", frozenset()) if of_manual is None else of_manual.varying
    )
    return found


def _vary(leaf: Any, axes: tuple[Any, ...]) -> Any:
    if not axes:
        return leaf
    lax: Any = jax.lax
    if hasattr(lax, "pcast"):  # since JAX 0.8
        return lax.pcast(leaf, axes, to="varying")
    return lax.pvary(leaf, axes)
