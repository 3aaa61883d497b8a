"""The recurrent nodes of a model as layers."""

from __future__ import annotations

from typing import Any

from .._recurrent import Recurrent
from ..quantized import Quantized
from . import _cells, _model, _node, _options, _quantized, _scopes
from ._options import Options


def layers(model: Any) -> dict[str, Recurrent | Quantized]:
    """The recurrent nodes of a model as layers with its weights, whatever other nodes it has.

    Weights that nodes make of constants (Transpose, Concat, Slice, Cast and so on) are computed,
    also where the recurrent node is in the body of an If, Loop or Scan.

    Parameters
    ----------
    model : str, Path, bytes or onnx.ModelProto
        Not executed, and not checked beyond its recurrent nodes.

    Returns
    -------
    dict of str to fastrnn.Recurrent, or to fastrnn.Quantized where weights are integers
        By the nodes' names, or where they have none, the operator and the first output:
        ``LSTM_y``. A further node of the same name has ``#2`` behind it. ``layout=1`` is
        `batch_first`, ``direction="reverse"`` is `reverse`. Initial states and lengths are
        arguments of a call, as everywhere; y has the directions inside the units,
        ``(T, B, D * H)``.

    Raises
    ------
    ValueError
        A node breaks a rule, its weights come with each call; or as `load`, of the file.
    TypeError
        As `prepare`.
    NotImplementedError
        The engine has no such cell, or no integers with such zero points.
    """
    found = _scopes.recurrent(_model.read(model))
    return {each.name: _layer(_options.read(each.node), each) for each in found}


def _layer(options: Options, found: _scopes.Found) -> Recurrent | Quantized:
    constants = found.constants()
    for what in _options.WEIGHTS:
        if what in options.inputs and options.inputs[what] not in constants:
            raise ValueError(
                f"{options.label} input {what} must be constant, got one that comes with each call"
            )
    named = {what: constants.get(name) for what, name in options.inputs.items()}
    arrays = _node.weights(options, named)
    D = len(options.reverse)
    cell = _cells.of_directions(options, "P" in arrays)
    _node.check_cells(options, (cell,))
    parameters = [_cells.parameters(options, arrays, direction) for direction in range(D)]
    sizes = arrays["W"].shape[2], arrays["R"].shape[2]
    kinds: dict[str, Any] = {
        "bias": "B" in arrays,
        "batch_first": options.batch_first,
        "bidirectional": D == 2,
        "reverse": options.reverse == (True,),
    }
    layer: Recurrent | Quantized
    if options.quantized:
        layer = Quantized(cell, *sizes, **kinds, weights=_quantized.SCHEME)
    else:
        layer = Recurrent(cell, *sizes, **kinds, dtype=arrays["W"].dtype)
    layer.load_state_dict(
        {
            name + ("_reverse" if direction else ""): array
            for direction, each in enumerate(parameters)
            for name, array in each.items()
        }
    )
    return layer
