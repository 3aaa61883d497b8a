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

from . import _arguments
from .module import Module

__all__ = ["SGD", "Adam", "LinearCrossEntropy", "clip_grad_norm_"]

_Array = npt.NDArray[Any]

_HEAD = "linear_cross_entropy"

# Logits of one block of rows: small enough for the second-level cache, where the five passes of
# the softmax run, and never fewer than 64 rows, below which the GEMMs are bound by reading the
# weight.
_BLOCK_BYTES = 256 * 1024
_MIN_BLOCK_ROWS = 64


def _number(op: str, name: str, value: float, *, below: float = math.inf) -> float:
    """`value` as a float with 0 <= value < below."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"[{op}] {name} must be a number, got {value!r}") from None
    if not 0 <= number < below:
        rule = "finite and not negative" if below == math.inf else f"in [0, {below:g})"
        raise ValueError(f"[{op}] {name} must be {rule}, got {value!r}")
    return number


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
        if not isinstance(h, np.ndarray):
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
            if not isinstance(g, np.ndarray) or g.dtype.kind != "f":
                got = g.dtype if isinstance(g, np.ndarray) else type(g).__name__
                raise TypeError(f"[{op}] grads must be float arrays, got {got} for {name}")
            if not g.flags.writeable:
                raise ValueError(f"[{op}] grads must be writable, got a read-only {name}")
            arrays.append(g)
    with np.errstate(all="ignore"):
        norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in arrays))
        coefficient = float(max_norm) / (norm + 1e-6)
        if not coefficient >= 1:  # NaN too
            for g in arrays:
                g *= coefficient
    return norm


class _Optimizer:
    """Checks, moment buffers and saving, common to the optimisers."""

    _op: str
    _buffers: tuple[str, ...]

    def __init__(self, modules: Sequence[Module], lr: float) -> None:
        if isinstance(modules, Module) or not all(isinstance(m, Module) for m in modules):
            raise TypeError(f"[{self._op}] modules must be a sequence of modules, got {modules!r}")
        self.modules = tuple(modules)
        if not self.modules:
            raise ValueError(f"[{self._op}] modules must not be empty, got {modules!r}")
        if len({id(m) for m in self.modules}) < len(self.modules):
            raise ValueError(f"[{self._op}] modules must be distinct, got one of them twice")
        if not all(isinstance(p, np.ndarray) for m in self.modules for p in m.parameters.values()):
            raise TypeError(f"[{self._op}] modules must be on the CPU, got one on a GPU")
        self.lr = lr
        self._step = 0
        # One dict per module and buffer: name of the parameter -> array of its shape.
        self._moments: list[dict[str, dict[str, _Array]]] = [
            {b: {k: np.zeros_like(p) for k, p in m.parameters.items()} for b in self._buffers}
            for m in self.modules
        ]

    @property
    def lr(self) -> float:
        """The learning rate; set it between steps for a schedule."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = _number(self._op, "lr", value)

    def step(self, grads: Sequence[Mapping[str, _Array]]) -> None:
        """Update the parameters of every module, and with them its ``version``.

        Parameters
        ----------
        grads : sequence of dict
            One dict per module, in the order of the modules: name of a parameter -> gradient of
            its shape and dtype. Not changed.

        Raises
        ------
        ValueError
            A missing or unknown name, another number of dicts than of modules, a wrong shape.
        TypeError
            A wrong dtype. Nothing is written in either case.
        """
        if isinstance(grads, Mapping) or not all(isinstance(g, Mapping) for g in grads):
            raise TypeError(
                f"[{self._op}] grads must be a sequence of dicts, got {type(grads).__name__}"
            )
        if len(grads) != len(self.modules):
            raise ValueError(
                f"[{self._op}] grads must hold one dict per module ({len(self.modules)}), "
                f"got {len(grads)}"
            )
        for module, group in zip(self.modules, grads, strict=True):
            self._check(group, dict(module.parameters), "grads")
        self._step += 1
        with np.errstate(all="ignore"):
            for module, group, moments in zip(self.modules, grads, self._moments, strict=True):
                with module.mutable() as parameters:
                    for name, p in parameters.items():
                        self._update(p, group[name], *(moments[b][name] for b in self._buffers))

    def _update(self, p: _Array, g: _Array, *moments: _Array) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, _Array]:
        """Copies of what ``step`` has accumulated, so that training can be continued exactly.

        Returns
        -------
        dict
            ``step`` (an integer array of no dimension) and one array per buffer and parameter,
            named ``{buffer}.{module's index}.{parameter}``. Hyperparameters are not in it.
        """
        state: dict[str, _Array] = {"step": np.array(self._step, np.int64)}
        state.update((name, array.copy()) for name, array in self._named().items())
        return state

    def load_state_dict(self, state: Mapping[str, _Array]) -> None:
        """Take over (copies of) what `state_dict` gave for modules of the same shapes.

        Raises
        ------
        ValueError
            A missing or unknown name, a wrong shape, a negative step.
        TypeError
            A wrong dtype. Nothing is written in either case.
        """
        own = self._named()
        self._check(state, {"step": np.array(0, np.int64), **own}, "state")
        if state["step"] < 0:
            raise ValueError(f"[{self._op}] step must not be negative, got {state['step']}")
        self._step = int(state["step"])
        for name, array in own.items():
            array[...] = state[name]

    def _named(self) -> dict[str, _Array]:
        return {
            f"{buffer}.{i}.{name}": array
            for i, moments in enumerate(self._moments)
            for buffer, arrays in moments.items()
            for name, array in arrays.items()
        }

    def _check(self, given: Mapping[str, _Array], own: Mapping[str, _Array], what: str) -> None:
        for name in own:
            if name not in given:
                raise ValueError(f"[{self._op}] {what} must hold {name}, got none")
        for name, array in given.items():
            if name not in own:
                raise ValueError(f"[{self._op}] {what} must name known arrays, got {name!r}")
            if not isinstance(array, np.ndarray) or array.dtype != own[name].dtype:
                got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise TypeError(f"[{self._op}] {name} must be {own[name].dtype}, got {got}")
            if array.shape != own[name].shape:
                raise ValueError(
                    f"[{self._op}] {name} must have shape {own[name].shape}, got {array.shape}"
                )


class SGD(_Optimizer):
    """Stochastic gradient descent with momentum, as ``torch.optim.SGD``.

    ``v = momentum v + g;  p -= lr v`` (without momentum ``p -= lr g``).

    Parameters
    ----------
    modules : sequence of Module
        Layers and heads whose parameters are trained.
    lr : float
        Learning rate, not negative.
    momentum : float
        Not negative; 0 keeps no buffer.
    """

    _op = "sgd"

    def __init__(self, modules: Sequence[Module], lr: float, momentum: float = 0.0) -> None:
        self.momentum = _number(self._op, "momentum", momentum)
        self._buffers = ("momentum",) if self.momentum else ()
        super().__init__(modules, lr)

    def _update(self, p: _Array, g: _Array, *moments: _Array) -> None:
        if moments:
            (v,) = moments
            v *= self.momentum
            v += g
            g = v
        p -= self.lr * g


class Adam(_Optimizer):
    """Adam, as ``torch.optim.Adam``.

    ``m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2`` and, with the corrections of step t,
    ``p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)``.

    Parameters
    ----------
    modules : sequence of Module
        Layers and heads whose parameters are trained.
    lr : float
        Learning rate, not negative.
    betas : tuple of float
        Decay of the two moments, each in [0, 1).
    eps : float
        Added to the denominator, not negative.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.
    """

    _op = "adam"
    _buffers = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        modules: Sequence[Module],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"[{self._op}] betas must be two numbers, got {betas!r}")
        self.betas = (
            _number(self._op, "betas", betas[0], below=1),
            _number(self._op, "betas", betas[1], below=1),
        )
        self.eps = _number(self._op, "eps", eps)
        super().__init__(modules, lr)

    def _update(self, p: _Array, g: _Array, *moments: _Array) -> None:
        m, v = moments
        b1, b2 = self.betas
        scratch = g * (1 - b1)
        m *= b1
        m += scratch
        np.multiply(g, g, out=scratch)
        scratch *= 1 - b2
        v *= b2
        v += scratch
        np.sqrt(v, out=scratch)
        scratch /= math.sqrt(1 - b2**self._step)
        scratch += self.eps
        np.divide(m, scratch, out=scratch)
        scratch *= self.lr / (1 - b1**self._step)
        p -= scratch
