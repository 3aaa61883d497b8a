"""The optimisers of `fastrnn.training`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _dtypes
from .module import Module

_Array = npt.NDArray[Any]


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


_MASTER = "master"


def _is_narrow(p: _Array) -> bool:
    return p.dtype.name in _dtypes.NARROW


def _wide(p: _Array) -> _Array:
    """A copy in float32."""
    return p.astype(np.float32)


def _zeros(p: _Array) -> _Array:
    """What sums over steps begin with, in the dtype of their arithmetic."""
    return np.zeros(p.shape, np.float32 if _is_narrow(p) else p.dtype)


class _Optimizer:
    """Checks, moment buffers and saving, common to the optimisers.

    Of a parameter of 16 bits it keeps a master copy in float32, which steps change, and of which
    the parameter is what rounding leaves: most steps are too small to be seen in 16 bits.
    """

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
        if not all(_arrays.is_numpy(p) for m in self.modules for p in m.parameters.values()):
            raise TypeError(f"[{self._op}] modules must be on the CPU, got one on a GPU")
        self.lr = lr
        self._step = 0
        # One dict per module and buffer: name of the parameter -> array of its shape.
        self._moments: list[dict[str, dict[str, _Array]]] = [
            {
                **{b: {k: _zeros(p) for k, p in m.parameters.items()} for b in self._buffers},
                _MASTER: {k: _wide(p) for k, p in m.parameters.items() if _is_narrow(p)},
            }
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
                        own = [moments[b][name] for b in self._buffers]
                        if _is_narrow(p):
                            self._update_narrow(p, group[name], moments[_MASTER][name], own)
                        else:
                            self._update(p, group[name], *own)

    def _update_narrow(self, p: _Array, g: _Array, master: _Array, moments: list[_Array]) -> None:
        # Where somebody else has set the parameter, its value counts.
        np.copyto(master, _wide(p), where=master.astype(p.dtype) != p)
        self._update(master, _wide(g), *moments)
        p[...] = master.astype(p.dtype)

    def _update(self, p: _Array, g: _Array, *moments: _Array) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, _Array]:
        """Copies of what ``step`` has accumulated, so that training can be continued exactly.

        Returns
        -------
        dict
            ``step`` (an integer array of no dimension) and one array per buffer and parameter,
            named ``{buffer}.{module's index}.{parameter}``; of parameters of 16 bits in float32,
            with their master copies, the buffer ``master``. Hyperparameters are not in it.
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
            if not _arrays.is_numpy(array) or array.dtype != own[name].dtype:
                got = array.dtype if _arrays.is_numpy(array) else type(array).__name__
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
        Layers and heads whose parameters are trained. Those of 16 bits have master copies in
        float32, in which the updates are made.
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
        Layers and heads whose parameters are trained. Those of 16 bits have master copies in
        float32, in which the updates are made.
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
