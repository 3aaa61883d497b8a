"""Layers with weights of 8 or 16 bits: for inference, faster and smaller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _arguments, _dtypes, _native, _parameters, _schemes
from ._recurrent import Recurrent
from ._stack import Stack
from .functional import Packed

__all__ = ["Quantized", "quantize"]

_MOST = np.float32(127)  # of either sign: -128 is not used


class Quantized(Stack):
    """A stack of layers of any cell with quantized weights, as `quantize` makes it.

    It is called as other layers are, and takes and gives float32; it has no `forward` and no
    `backward`. Its parameters are by torch's names: weights of 8 or 16 bits, those of int8 with a
    scale in float32 for each row (``scale_ih_l0`` of ``weight_ih_l0`` and so on), and all else in
    float32. A new one has zeros.

    Parameters
    ----------
    cell : str
        A name of `fastrnn.build_info()["cells"]`, or one that `fastrnn.cell_name` makes.
    input_size, hidden_size, num_layers, bias, batch_first, bidirectional, reverse, proj_size
        As those of `fastrnn.Recurrent`.
    weights : str
        ``"int8"``; or ``"int8_weights"``, ``"float16_weights"`` or ``"bfloat16_weights"``, where x
        and h stay as they are.

    Raises
    ------
    ValueError
        A size below 1, or above the 65,000 of which sums fit 32 bits; an unknown name.
    TypeError
        A size that is not an integer, an option that is neither True nor False.
    NotImplementedError
        `proj_size` with another cell than an LSTM.

    Notes
    -----
    With ``"int8"`` a product of a step, of a row x with the weights W and their scales s, is ::

        q_k   = round(127 x_k / m)             to the nearest, ties to even
        y_j   = (s_j sum_k q_k W_jk) (m / 127)   the sum in int32, without an error

    m is the largest magnitude in the row, of each row and step for itself; but 1 at least for an h
    that stays within 1 by itself: that of LSTM, GRU, RNN with tanh and the like, where it is not
    projected. (A given state may be larger.) So results do not depend on the other
    rows of a batch, and no value is cut off. A row that holds a NaN or an infinity gives NaN.
    Numbers below 4e-37 count as zero where all of their row are. All else is in float32; results
    have the same bits at every level of instructions.

    With the others products are of float32, of x with s_j W_jk or with the W_jk of 16 bits, which
    are widened as they are read.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        bidirectional: bool = False,
        weights: str = "int8",
        *,
        reverse: bool = False,
        proj_size: int = 0,
    ) -> None:
        self.cell = cell = _arguments.cell_name(cell)
        self.device, self.dtype = "cpu", np.dtype(np.float32)
        self.weights = _schemes.check(cell, weights)
        self._set_sizes(
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            bidirectional=bidirectional,
            reverse=reverse,
            proj_size=proj_size,
        )
        arrays = {}
        for name, shape in self._shapes(_native.engine, self.weights):
            dtype = _schemes.dtype_of(self.weights, name, "float32")
            arrays[name] = np.zeros(shape, _dtypes.numpy_dtype(dtype))
        super().__init__(cell, arrays)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy parameters in; see `fastrnn.Module.load_state_dict`.

        Raises
        ------
        ValueError
            Also a scale that is negative or not finite.
        """
        for name in self._arrays if isinstance(state, Mapping) else ():
            if _parameters.is_scale(name) and name in state:
                check_scales(self.cell, name, state[name])
        super().load_state_dict(state)

    def _pack(self, backward: bool) -> Packed:
        return Packed(self.cell, self._arrays, backward=backward, weights=self.weights)

    def _options(self) -> list[str]:
        return [*super()._options(), f"weights={self.weights!r}"]


def quantize(layer: Recurrent, weights: str = "int8") -> Quantized:
    """A copy of a layer with quantized weights, for inference.

    Each row of a weight is rounded to the nearest multiples, -127 to 127, of its scale, the largest
    magnitude in the row divided by 127; for 16 bits to the nearest number of these. What products
    are made of is in `Quantized`.

    Parameters
    ----------
    layer : Recurrent
        Of float32, on the CPU. Its `dropout` and `recompute`, which are of training, are dropped.
    weights : str
        ``"int8"``: weights, x and h in integers; or ``"int8_weights"``, ``"float16_weights"`` or
        ``"bfloat16_weights"``: the weights alone, which serves single rows whose steps wait for
        their weights.

    Returns
    -------
    Quantized

    Raises
    ------
    TypeError
        Not a layer, or one of another dtype.
    ValueError
        A weight that is not finite, or not in float16; a name of no scheme; with ``"int8"`` a size
        above 65,000.
    NotImplementedError
        A layer on a GPU.

    Examples
    --------
    >>> small = fastrnn.quantize(layer, "int8")
    >>> y, state = small(x)
    >>> small.save("small.safetensors")
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(f"[quantize] layer must be a fastrnn layer, got {type(layer).__name__}")
    _schemes.check(layer.cell, weights)
    if layer.device != "cpu":
        raise NotImplementedError(
            f"[{layer.cell}] a layer to quantize must be on the CPU, got one on {layer.device!r}"
        )
    if layer.dtype != np.float32:
        raise TypeError(
            f"[{layer.cell}] a layer to quantize must be of float32, got {layer.dtype.name}"
        )
    made = Quantized(
        layer.cell,
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        layer.bias,
        layer.batch_first,
        layer.bidirectional,
        weights,
        reverse=layer.reverse,
        proj_size=layer.proj_size,
    )
    made.load_state_dict(quantized_parameters(layer.cell, layer.parameters, weights))
    return made


def quantized_parameters(
    op: str, params: Mapping[str, np.ndarray], scheme: str
) -> dict[str, np.ndarray]:
    """Parameters of float32 as a scheme has them, with the scales of rows beside the weights."""
    made = {}
    for name, array in params.items():
        if _parameters.kind_of(name) not in _parameters.MATRICES:
            made[name] = array
        elif _schemes.SCHEMES[scheme].scaled:
            made[name], scales = _quantized_rows(op, name, array)
            made[_parameters.scale_name(name)] = scales
        else:
            made[name] = _rounded(op, name, array, _schemes.SCHEMES[scheme].dtype)
    return made


def _rounded(op: str, name: str, w: np.ndarray, dtype: str) -> np.ndarray:
    _check_finite(op, name, w)
    with np.errstate(over="ignore"):
        made = w.astype(_dtypes.numpy_dtype(dtype))
    beyond = ~np.isfinite(made.astype(np.float32))
    if beyond.any():
        raise ValueError(f"[{op}] {name} must be within {dtype}, got {w[beyond][0]}")
    return made


def _check_finite(op: str, name: str, w: np.ndarray) -> None:
    finite = np.isfinite(w)
    if not finite.all():
        row = finite.all(axis=1).argmin()
        raise ValueError(
            f"[{op}] {name} must be finite to be quantized, "
            f"got {w[row][~finite[row]][0]} in row {row}"
        )


def _quantized_rows(op: str, name: str, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers (N, K) and scales (N,), whose product is about w."""
    _check_finite(op, name, w)
    scales = (np.abs(w).max(axis=1) / _MOST).astype(np.float32)
    # In float64 the quotient of two floats of float32 is nearest to the same integer as the exact
    # one. A row of zeros, or of numbers so small that their scale is zero, is zeros.
    divisors = np.where(scales > 0, scales, np.float32(np.inf)).astype(np.float64)
    return np.rint(w / divisors[:, None]).clip(-127, 127).astype(np.int8), scales


def check_scales(op: str, name: str, scales: Any) -> None:
    """What is no array of numbers, the module says."""
    try:
        with np.errstate(over="ignore"):  # as they will be
            found = np.asarray(scales, np.float64).astype(np.float32)
    except (TypeError, ValueError):
        return
    for wrong in unusable(found):
        raise ValueError(f"[{op}] {name} must be finite and not negative, got {wrong}")


def unusable(scales: np.ndarray) -> np.ndarray:
    """Those of some scales that are not finite, or negative."""
    found: np.ndarray = scales[~(np.isfinite(scales) & (scales >= 0))]
    return found
