"""How weights of layers may be quantized: the engine's schemes, and what their arrays are."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _parameters


class Scheme(NamedTuple):
    """What the matrices of a layer are; see `fastrnn.Quantized`."""

    dtype: str
    scaled: bool  # has each row a scale?


SCHEMES = {
    "int8": Scheme("int8", True),
    "int8_weights": Scheme("int8", True),
    "float16_weights": Scheme("float16", False),
    "bfloat16_weights": Scheme("bfloat16", False),
}


def check(op: str, name: Any) -> str:
    """The name of a scheme."""
    if not isinstance(name, str) or name not in SCHEMES:
        raise ValueError(f"[{op}] weights must be one of {tuple(SCHEMES)}, got {name!r}")
    return name


def dtype_of(scheme: str, name: str, dtype: str) -> str:
    """The dtype of a parameter of layers of a scheme, or of none, of which all else has `dtype`."""
    matrix = _parameters.kind_of(name) in _parameters.MATRICES
    return SCHEMES[scheme].dtype if scheme and matrix else dtype
