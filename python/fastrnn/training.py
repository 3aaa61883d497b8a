"""What a plain training loop needs and no more: an output head with its loss, clipping, SGD, Adam.

All of it is NumPy on the host and works with the gradients that ``layer.backward`` returns::

    y, state, tape = layer.forward(x, state)
    loss, dy, head_grads = head.loss_and_grad(y, targets)
    _, _, layer_grads = layer.backward(tape, dy)
    grads = [layer_grads, head_grads]
    clip_grad_norm_(grads, 1.0)
    optimizer.step(grads)          # optimizer = Adam([layer, head])

NaN and inf in data pass through to the results, silently, as they do in torch.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arguments, _arrays, _dtypes
from ._optimizers import SGD, Adam
from .module import Module

__all__ = ["SGD", "Adam", "LinearCrossEntropy", "clip_grad_norm_"]

_Array = npt.NDArray[Any]

_HEAD = "linear_cross_entropy"

# Logits of one block of rows: small enough for the second-level cache, where the five passes of
# the softmax run, and never fewer than 64 rows, below which the GEMMs are bound by reading the
# weight.
_BLOCK_BYTES = 256 * 1024
_MIN_BLOCK_ROWS = 64


class LinearCrossEntropy(Module):
    """A linear output layer with softmax cross-entropy, forward and backward in one pass.

    The logits of all rows are never held at once: rows are taken in blocks, and a block's logits
    become its gradients in place. Rows whose target is `ignore_index` are left out of every
    computation, so what they hold (padding, NaN) does not matter.

    Parameters
    ----------
    hidden_size : int
        H, the last dimension of what the head reads.
    num_classes : int
        C, the number of classes.
    ignore_index : int
        The target value of a row that does not count.
    dtype : {"float32", "float64"}
        Type of the parameters and of `h`.
    seed : int or None
        Seed of the initial values, uniform in +-1/sqrt(H).

    Notes
    -----
    Parameters: ``weight`` (C, H) and ``bias`` (C,), named and initialised as ``torch.nn.Linear``'s.
    Sums over classes and the loss are accumulated in float64.
    """

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        ignore_index: int = -100,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.hidden_size = _arguments.size(_HEAD, "hidden_size", hidden_size)
        self.num_classes = _arguments.size(_HEAD, "num_classes", num_classes)
        try:
            self.ignore_index = operator.index(ignore_index)
        except TypeError:
            raise TypeError(
                f"[{_HEAD}] ignore_index must be an integer, got {ignore_index!r}"
            ) from None
        shapes = [("weight", (self.num_classes, self.hidden_size)), ("bias", (self.num_classes,))]
        super().__init__(
            _HEAD,
            _arguments.uniform(
                _HEAD,
                shapes,
                self.hidden_size,
                _arguments.float_dtype(_HEAD, dtype),
                _arguments.seed_sequence(_HEAD, seed),
            ),
        )

    def __call__(self, h: _Array) -> _Array:
        """The logits, as `logits`."""
        return self.logits(h)

    def logits(self, h: _Array) -> _Array:
        """The logits of every row, ``h weight^T + bias``.

        Parameters
        ----------
        h : (..., H)
            Any strides.

        Returns
        -------
        (..., C)
        """
        self._check_h(h)
        with np.errstate(all="ignore"):
            z: _Array = np.matmul(h, self.parameters["weight"].T)
            z += self.parameters["bias"]
        return z

    def loss(self, h: _Array, targets: npt.ArrayLike) -> float:
        """The mean cross-entropy, in nats, over the rows that are not ignored.

        Parameters and errors are those of `loss_and_grad`.

        Returns
        -------
        float
            NaN when no row counts (0 rows, or all of them ignored), as in torch.
        """
        return self._run(h, targets, None, None)

    def loss_and_grad(
        self, h: _Array, targets: npt.ArrayLike
    ) -> tuple[float, _Array, dict[str, _Array]]:
        """The mean cross-entropy and its gradients.

        Parameters
        ----------
        h : (..., H)
            In the head's dtype; any strides and leading dimensions, read-only too.
        targets : (...)
            Integers in [0, C), or `ignore_index`.

        Returns
        -------
        loss : float
            The mean over the rows that are not ignored, in nats; NaN when no row counts, as in
            torch (the gradients are zero then).
        dh : (..., H)
            Gradient of the loss with respect to `h`; zero in ignored rows.
        grads : dict
            Gradients of ``weight`` (C, H) and ``bias`` (C,).

        Raises
        ------
        ValueError
            Shapes that do not fit, a target out of range.
        TypeError
            `h` not an array of the head's dtype in native byte order, targets not integers.
        """
        self._check_h(h)
        dh = np.zeros(h.shape, h.dtype)
        grads = {name: np.zeros(p.shape, p.dtype) for name, p in self.parameters.items()}
        loss = self._run(h, targets, dh, grads)
        return loss, dh, grads

    def _check_h(self, h: _Array) -> None:
        dtype = self.parameters["weight"].dtype
        if not _arrays.is_numpy(h):
            raise TypeError(f"[{_HEAD}] h must be a NumPy array, got {type(h).__name__}")
        if h.dtype != dtype:
            raise TypeError(f"[{_HEAD}] h must be {dtype}, got {h.dtype}")
        if h.ndim == 0 or h.shape[-1] != self.hidden_size:
            raise ValueError(
                f"[{_HEAD}] h must have shape (..., {self.hidden_size}), got {h.shape}"
            )

    def _run(
        self,
        h: _Array,
        targets: npt.ArrayLike,
        dh: _Array | None,
        grads: dict[str, _Array] | None,
    ) -> float:
        """Loss of all blocks; with `dh` and `grads` (zeros), their gradients too."""
        self._check_h(h)
        goal = np.asarray(targets)
        if goal.dtype.kind not in "iu":
            raise TypeError(f"[{_HEAD}] targets must be integers, got {goal.dtype}")
        if goal.shape != h.shape[:-1]:
            raise ValueError(f"[{_HEAD}] targets must have shape {h.shape[:-1]}, got {goal.shape}")
        goal = goal.reshape(-1)
        rows = np.flatnonzero(goal != self.ignore_index)
        goal = goal[rows]
        outside = (goal < 0) | (goal >= self.num_classes)
        if outside.any():
            raise ValueError(
                f"[{_HEAD}] targets must be in [0, {self.num_classes}) or ignore_index "
                f"{self.ignore_index}, got {goal[outside.argmax()]}"
            )
        if not rows.size:
            return math.nan

        if h.ndim == 1:
            h = h[None]
            dh = None if dh is None else dh[None]
        weight, bias = self.parameters["weight"], self.parameters["bias"]
        block = max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (self.num_classes * weight.itemsize))
        block = min(block, rows.size)
        logits = np.empty((block, self.num_classes), weight.dtype)
        dweight = None if grads is None else np.empty_like(weight)
        total = 0.0
        with np.errstate(all="ignore"):
            for start in range(0, rows.size, block):
                # Rows are gathered by index: one way for any strides of h and any ignored rows.
                at = np.unravel_index(rows[start : start + block], h.shape[:-1])
                hb = h[at]
                target = goal[start : start + block]
                row = np.arange(len(target))
                z = logits[: len(target)]

                np.matmul(hb, weight.T, out=z)
                z += bias
                z -= z.max(axis=1, keepdims=True)
                z_target = z[row, target]
                np.exp(z, out=z)
                denominator = z.sum(axis=1, dtype=np.float64)
                total += float(np.sum(np.log(denominator) - z_target))
                if dh is None or grads is None or dweight is None:
                    continue

                # d loss / d logits = (softmax - onehot) / N
                z *= (1 / (rows.size * denominator)).astype(z.dtype)[:, None]
                z[row, target] -= z.dtype.type(1 / rows.size)
                dh[at] = np.matmul(z, weight)
                np.matmul(z.T, hb, out=dweight)
                grads["weight"] += dweight
                grads["bias"] += z.sum(axis=0)
        return total / rows.size


def clip_grad_norm_(grads: Sequence[Mapping[str, _Array]], max_norm: float) -> float:
    """Scale gradients in place so that their common 2-norm is at most about `max_norm`.

    The formula is torch's: every gradient is multiplied by ``min(1, max_norm / (norm + 1e-6))``.
    So an infinite norm makes the gradients zero (and NaN where they are infinite), and a NaN
    makes all of them NaN.

    Parameters
    ----------
    grads : sequence of dict
        One dict of float arrays per module, changed in place.
    max_norm : float
        Not negative; ``inf`` measures without clipping.

    Returns
    -------
    float
        The norm before scaling, accumulated in float64.

    Raises
    ------
    ValueError
        A negative or NaN `max_norm`, a read-only array.
    TypeError
        Not a sequence of dicts of float arrays.
    """
    op = "clip_grad_norm_"
    if not (isinstance(max_norm, (int, float, np.number)) and not isinstance(max_norm, bool)):
        raise TypeError(f"[{op}] max_norm must be a number, got {max_norm!r}")
    if not max_norm >= 0:
        raise ValueError(f"[{op}] max_norm must not be negative or NaN, got {max_norm!r}")
    if isinstance(grads, Mapping) or not all(isinstance(g, Mapping) for g in grads):
        raise TypeError(f"[{op}] grads must be a sequence of dicts, got {type(grads).__name__}")
    arrays = []
    for group in grads:
        for name, g in group.items():
            if not _arrays.is_numpy(g) or not _dtypes.is_float(g.dtype):
                got = g.dtype if _arrays.is_numpy(g) else type(g).__name__
                raise TypeError(f"[{op}] grads must be float arrays, got {got} for {name}")
            if not g.flags.writeable:
                raise ValueError(f"[{op}] grads must be writable, got a read-only {name}")
            arrays.append(g)
    with np.errstate(all="ignore"):
        norm = math.sqrt(sum(_sum_of_squares(g) for g in arrays))
        coefficient = float(max_norm) / (norm + 1e-6)
        if not coefficient >= 1:  # NaN too
            for g in arrays:
                if g.dtype.name in _dtypes.NARROW:  # rounded once
                    g[...] = (g.astype(np.float32) * coefficient).astype(g.dtype)
                else:
                    g *= coefficient
    return norm


def _sum_of_squares(g: _Array) -> float:
    wide = g.astype(np.float32) if g.dtype.name in _dtypes.NARROW else g
    return float(np.sum(np.square(wide, dtype=np.float64)))
