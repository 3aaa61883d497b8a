"""Batches of calls under torch's transforms, which the kernels take one call at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function


def apply(function: type[Function], *args: Any) -> tuple[Any, ...]:
    """``function.apply``, without the 30 us for which it looks at its own signature."""
    if torch._C._are_functorch_transforms_active():
        results: tuple[Any, ...] = function.apply(*args)
    else:
        results = super(Function, function).apply(*args)  # type: ignore[misc]
    return results


_LEGACY_LEVELS = range(1, 65)  # as deep as torch's older vmap nests


def one_at_a_time(backward: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """A `Function.backward` that takes apart the batches of torch's older vmap.

    It serves ``is_grads_batched=True`` and ``vectorize=True``, and has no rules for a `Function`.
    """

    @functools.wraps(backward)
    def taking_apart(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        is_batched = torch._C._functorch.is_legacy_batchedtensor
        batched = next((d for d in grads if d is not None and is_batched(d)), None)
        if batched is None:
            return backward(ctx, *grads)
        # A tensor without the level would come out with as many elements as are asked for: none.
        sizes = ((n, torch._remove_batch_dim(batched, n, 0, 0).shape[0]) for n in _LEGACY_LEVELS)
        level, size = next(found for found in sizes if found[1])
        apart = [None if d is None else torch._remove_batch_dim(d, level, size, 0) for d in grads]
        calls = [
            taking_apart(ctx, *(None if d is None else d[n] for d in apart)) for n in range(size)
        ]
        return tuple(
            None if results[0] is None else torch._add_batch_dim(torch.stack(results), 0, level)
            for results in zip(*calls, strict=True)
        )

    return taking_apart


def call_each(
    function: type[Function], size: int, in_dims: tuple[Any, ...], args: tuple[Any, ...]
) -> tuple[Any, Any]:
    """vmap by one fused call for each element."""

    def element(n: int) -> tuple[Any, ...]:
        return tuple(a if d is None else a.select(d, n) for a, d in zip(args, in_dims, strict=True))

    calls = [apply(function, *element(n)) for n in range(size)]
    stacked = tuple(
        None if results[0] is None else torch.stack(results) for results in zip(*calls, strict=True)
    )
    return stacked, tuple(None if s is None else 0 for s in stacked)
