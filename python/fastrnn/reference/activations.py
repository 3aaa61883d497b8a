"""The activation functions, each with its derivative.

They are those of ONNX's operators RNN, GRU and LSTM (https://onnx.ai/onnx/operators/), and at a
kink the derivative is that of the branch which the definition gives the point to, but 0 for relu,
as in torch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import _cell_names

Array: TypeAlias = NDArray[np.float64]
Arrays: TypeAlias = tuple[Array, ...]


class Maths(Protocol):
    """What activations are made of, for the arrays of one library."""

    def tanh(self, a: Any, /) -> Any: ...
    def sigmoid(self, a: Any, /) -> Any: ...
    def relu(self, a: Any, /) -> Any: ...
    def softplus(self, a: Any, /) -> Any: ...
    def expm1(self, a: Any, /) -> Any: ...
    def clip(self, a: Any, low: float, high: float, /) -> Any: ...
    def where(self, condition: Any, a: Any, b: Any, /) -> Any: ...


class Activation(NamedTuple):
    """A function and its derivative.

    Attributes
    ----------
    value : callable
        ``value(m, a)``, where m is a `Maths`.
    slope : callable
        ``slope(a)``, the derivative at a, in NumPy.
    lines : bool
        Whether the function is made of lines: then it is flat where its slope is 0, and elsewhere a
        slope of 0 is one that was rounded.
    limit : float
        The function is flat beyond it, and below its negative.
    """

    value: Callable[[Maths, Any], Any]
    slope: Callable[[Array], Array]
    lines: bool = False
    limit: float = np.inf

    def gradient(self, a: Array, dy: Array) -> Array:
        """Give the gradient of a from that of the value.

        A choice, as in torch, and not a product: where the function is flat nothing passes, be it
        infinite.
        """
        slope = self.slope(a)
        flat = np.abs(a) > self.limit
        result: Array = np.where(flat | (self.lines & (slope == 0)), 0.0, dy) * slope
        return result

    def clipped(self, limit: float) -> "Activation":
        """The function of its argument bounded to ``[-limit, limit]``."""
        return Activation(
            lambda m, a: self.value(m, m.clip(a, -limit, limit)),
            lambda a: np.where(np.abs(a) > limit, 0.0, self.slope(a)),
            self.lines,
            limit,
        )


def sigmoid(a: Array) -> Array:
    """Compute 1 / (1 + exp(-a)) without overflow; small results keep their last bits.

    exp(-|a|) never overflows, and for a < 0 the form exp(a) / (1 + exp(a)) is accurate down to
    subnormal results, where 1 / (1 + exp(-a)) would already have given 0.
    """
    e = np.exp(-np.abs(a))
    result: Array = np.where(a >= 0, 1.0, e) / (1.0 + e)
    return result


def _sigmoid_slope(a: Array) -> Array:
    y = sigmoid(a)
    return y * (1 - y)


def _affine(alpha: float, beta: float) -> Activation:
    return Activation(lambda m, a: alpha * a + beta, lambda a: np.full_like(a, alpha), True)


def _leaky_relu(alpha: float) -> Activation:
    return Activation(
        lambda m, a: m.where(a >= 0, a, alpha * a), lambda a: np.where(a >= 0, 1.0, alpha), True
    )


def _thresholded_relu(alpha: float) -> Activation:
    return Activation(
        lambda m, a: m.where(a >= alpha, a, 0.0), lambda a: np.where(a >= alpha, 1.0, 0.0), True
    )


def _scaled_tanh(alpha: float, beta: float) -> Activation:
    return Activation(
        lambda m, a: alpha * m.tanh(beta * a), lambda a: alpha * beta * (1 - np.tanh(beta * a) ** 2)
    )


def _hard_sigmoid(alpha: float, beta: float) -> Activation:
    def slope(a: Array) -> Array:
        y = alpha * a + beta
        return np.where((y > 0) & (y < 1), alpha, 0.0)

    return Activation(lambda m, a: m.clip(alpha * a + beta, 0.0, 1.0), slope, True)


def _elu(alpha: float) -> Activation:
    # -relu(-a) is min(a, 0), whose exponential is finite on the side where it is not wanted too.
    return Activation(
        lambda m, a: m.where(a >= 0, a, alpha * m.expm1(-m.relu(-a))),
        lambda a: np.where(a >= 0, 1.0, alpha * np.exp(np.minimum(a, 0.0))),
    )


# By name; what makes them of their numbers.
_MAKERS: dict[str, Callable[..., Activation]] = {
    "sigmoid": lambda: Activation(lambda m, a: m.sigmoid(a), _sigmoid_slope),
    "tanh": lambda: Activation(lambda m, a: m.tanh(a), lambda a: 1 - np.tanh(a) ** 2),
    "relu": lambda: Activation(lambda m, a: m.relu(a), lambda a: np.where(a <= 0, 0.0, 1.0), True),
    "softsign": lambda: Activation(lambda m, a: a / (1 + abs(a)), lambda a: (1 + np.abs(a)) ** -2),
    "softplus": lambda: Activation(lambda m, a: m.softplus(a), sigmoid),
    "affine": _affine,
    "leaky_relu": _leaky_relu,
    "thresholded_relu": _thresholded_relu,
    "scaled_tanh": _scaled_tanh,
    "hard_sigmoid": _hard_sigmoid,
    "elu": _elu,
}


class Clip(NamedTuple):
    """The clip of a state that a step has made: to ``[low, high]``.

    Attributes
    ----------
    limits : (float, float), optional
        None leaves the state as it is.
    """

    limits: tuple[float, float] | None = None

    def value(self, m: Maths, raw: Any) -> Any:
        """The state; NaN stays NaN."""
        return raw if self.limits is None else m.clip(raw, *self.limits)

    def gradient(self, raw: Array, d: Array) -> Array:
        """Give the gradient of raw from that of the state, as that of torch.clamp."""
        if self.limits is None:
            return d
        low, high = self.limits
        return np.where((low <= raw) & (raw <= high), d, 0.0)


def of_cell(name: _cell_names.CellName, direction: int) -> tuple[Activation, ...]:
    """Make the functions of a direction, clipped where the name says so."""
    made = [_MAKERS[f.name](*f.numbers) for f in name.of_direction(direction)]
    return tuple(made if name.clip is None else [f.clipped(name.clip) for f in made])
