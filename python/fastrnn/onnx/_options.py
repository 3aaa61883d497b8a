"""What a recurrent node says: its attributes and names, checked against ONNX's text.

The rules are those of the operators RNN, LSTM and GRU at https://onnx.ai/onnx/operators/, from
version 7 to 22; version 1 has ``output_sequence`` beside, which changes no number. The rules of
DynamicQuantizeLSTM are in ONNX Runtime's ``docs/ContribOperators.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import onnx

from .. import _cell_names
from ._library import RECURRENT, is_recurrent, label

_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_OF_INTEGERS = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")
WEIGHTS = ("W", "R", "B", "P", *_OF_INTEGERS)
NEEDED = ("X", "W", "R", *_OF_INTEGERS)  # those of them that an operator has at all


@dataclass(frozen=True)
class Operator:
    """An operator: its inputs, outputs and gates, and the functions that it has by default."""

    equations: str  # the operator of ONNX that has the same
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    gates: int
    activations: tuple[str, ...]
    attributes: dict[str, Any]  # its own beside the common ones, with their values by default
    quantized: bool = False  # W and R are integers of 8 bits, and all else is float32


_OF_ONNX: dict[str, Any] = {"layout": 0, "output_sequence": 0}

OPERATORS = {
    "RNN": Operator("RNN", _INPUTS[:6], ("Y", "Y_h"), 1, ("tanh",), _OF_ONNX),
    "LSTM": Operator(
        "LSTM",
        _INPUTS,
        ("Y", "Y_h", "Y_c"),
        4,
        ("sigmoid", "tanh", "tanh"),
        {**_OF_ONNX, "input_forget": 0},
    ),
    "GRU": Operator(
        "GRU",
        _INPUTS[:6],
        ("Y", "Y_h"),
        3,
        ("sigmoid", "tanh"),
        {**_OF_ONNX, "linear_before_reset": 0},
    ),
}
OPERATORS["DynamicQuantizeLSTM"] = replace(
    OPERATORS["LSTM"],
    inputs=(*_INPUTS, *_OF_INTEGERS),
    attributes={"input_forget": 0},
    quantized=True,
)

# The functions of ONNX, by their names here. (What alpha and beta are where they are left out, this
# library has from ONNX: `fastrnn.cell_name`.)
FUNCTIONS = {
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Relu": "relu",
    "Softsign": "softsign",
    "Softplus": "softplus",
    "Affine": "affine",
    "LeakyRelu": "leaky_relu",
    "ThresholdedRelu": "thresholded_relu",
    "ScaledTanh": "scaled_tanh",
    "HardSigmoid": "hard_sigmoid",
    "Elu": "elu",
}
_IN_SMALL_LETTERS = {name.lower(): function for name, function in FUNCTIONS.items()}

_COMMON: dict[str, Any] = {
    "activation_alpha": (),
    "activation_beta": (),
    "activations": (),
    "clip": None,
    "direction": "forward",
    "hidden_size": None,
}
_TYPES = {
    "activation_alpha": onnx.AttributeProto.FLOATS,
    "activation_beta": onnx.AttributeProto.FLOATS,
    "activations": onnx.AttributeProto.STRINGS,
    "clip": onnx.AttributeProto.FLOAT,
    "direction": onnx.AttributeProto.STRING,
}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


Function: TypeAlias = tuple[Any, ...]  # its name here, alpha and beta where it has them


@dataclass(frozen=True)
class Options:
    """A node in plain values."""

    label: str
    operator: str  # that of ONNX with these equations
    quantized: bool
    inputs: dict[str, str]  # the names of the values by what they are, without those left out
    outputs: tuple[str, ...]  # what each output with a name is
    reverse: tuple[bool, ...]  # of each direction
    functions: tuple[tuple[Function, ...], ...]  # of each direction
    clip: float | None
    hidden_size: int | None
    batch_first: bool
    coupled: bool  # input_forget
    reset_after: bool  # linear_before_reset

    @property
    def plain(self) -> bool:
        """One direction, and the rows inside the steps, as the engine's own y has them."""
        return len(self.reverse) == 1 and not self.batch_first


def read(node: onnx.NodeProto) -> Options:
    """The options of a node.

    Raises
    ------
    ValueError
        The operator, an attribute or its value is not one that ONNX has.
    TypeError
        The node is none, or an attribute is of another type.
    """
    if not isinstance(node, onnx.NodeProto):
        raise TypeError(f"[onnx] node must be an onnx.NodeProto, got {type(node).__name__}")
    if not is_recurrent(node):
        raise ValueError(f"{label(node)} operator must be one of {RECURRENT}, got {node.op_type!r}")
    operator = OPERATORS[node.op_type]
    given = _attributes(node, operator)
    directions = _choice(node, given, "direction", tuple(_DIRECTIONS))
    reverse = _DIRECTIONS[directions]
    return Options(
        label(node),
        operator.equations,
        operator.quantized,
        _names(node, "input", node.input, operator.inputs),
        tuple(_names(node, "output", node.output, operator.outputs)),
        reverse,
        _functions(node, given, operator.activations, len(reverse)),
        _clip(node, given["clip"]),
        _hidden_size(node, given["hidden_size"]),
        _flag(node, given, "layout"),
        _flag(node, given, "input_forget"),
        given.get("linear_before_reset", 0) != 0,
    )


def as_written(value: float) -> float:
    """A number as it was before it became an attribute, which holds float32."""
    return float(str(np.float32(value)))


def _attributes(node: onnx.NodeProto, operator: Operator) -> dict[str, Any]:
    """Values by name, those of the defaults included."""
    values = {**_COMMON, **operator.attributes}
    for attribute in node.attribute:
        name = attribute.name
        if name not in values:
            raise ValueError(
                f"{label(node)} attribute must be one of {sorted(values)}, got {name!r}"
            )
        wanted = _TYPES.get(name, onnx.AttributeProto.INT)
        if attribute.type != wanted:
            kind = onnx.AttributeProto.AttributeType.Name
            raise TypeError(
                f"{label(node)} attribute {name} must be of type {kind(wanted)}, "
                f"got {kind(attribute.type)}"
            )
        value = onnx.helper.get_attribute_value(attribute)
        values[name] = _text(node, name, value) if name in ("activations", "direction") else value
    return values


def _text(node: onnx.NodeProto, name: str, value: Any) -> Any:
    try:
        return [each.decode() for each in value] if isinstance(value, list) else value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{label(node)} attribute {name} must be text, got {value!r}") from None


def _names(node: onnx.NodeProto, kind: str, given: Any, known: tuple[str, ...]) -> dict[str, str]:
    if len(given) > len(known):
        raise ValueError(
            f"{label(node)} {kind}s must be at most {len(known)}, {', '.join(known)}, "
            f"got {len(given)}"
        )
    names = {what: name for what, name in zip(known, given, strict=False) if name}
    for what in NEEDED if kind == "input" else ():
        if what in known and what not in names:
            raise ValueError(f"{label(node)} input {what} must be there, got none")
    return names


def _choice(node: onnx.NodeProto, given: dict[str, Any], name: str, of: tuple[Any, ...]) -> Any:
    if given[name] not in of:
        raise ValueError(f"{label(node)} attribute {name} must be one of {of}, got {given[name]!r}")
    return given[name]


def _flag(node: onnx.NodeProto, given: dict[str, Any], name: str) -> bool:
    """Whether an attribute is 1; not where the operator has none of this name."""
    return name in given and _choice(node, given, name, (0, 1)) == 1


def _clip(node: onnx.NodeProto, clip: float | None) -> float | None:
    if clip is not None and not 0 < clip < np.inf:
        raise ValueError(f"{label(node)} attribute clip must be a positive number, got {clip}")
    return clip


def _hidden_size(node: onnx.NodeProto, size: int | None) -> int | None:
    if size is not None and size < 1:
        raise ValueError(f"{label(node)} attribute hidden_size must be at least 1, got {size}")
    return size


def _functions(
    node: onnx.NodeProto, given: dict[str, Any], default: tuple[str, ...], directions: int
) -> tuple[tuple[Function, ...], ...]:
    """The functions of each direction, with their numbers.

    The values of ``activation_alpha`` and ``activation_beta`` go, in their order, to the functions
    that have one.
    """
    names = given["activations"] or default * directions
    count = len(default) * directions
    if len(names) != count:
        raise ValueError(
            f"{label(node)} attribute activations must have {count} functions, {len(default)} for "
            f"each direction, got {len(names)}"
        )
    lists = [list(given["activation_alpha"]), list(given["activation_beta"])]
    written = []
    for name in names:
        if name.lower() not in _IN_SMALL_LETTERS:
            raise ValueError(
                f"{label(node)} attribute activations must be of {list(FUNCTIONS)} in any "
                f"letters, got {name!r}"
            )
        function = _IN_SMALL_LETTERS[name.lower()]
        pairs = zip(lists, _cell_names.FUNCTIONS[function], strict=False)
        numbers = [as_written(values.pop(0)) if values else other for values, other in pairs]
        written.append((function, *numbers))
    for attribute, left in zip(("activation_alpha", "activation_beta"), lists, strict=True):
        if left:
            raise ValueError(
                f"{label(node)} attribute {attribute} must have no more values than functions "
                f"that take one, got {len(left)} more"
            )
    return tuple(tuple(written[at : at + len(default)]) for at in range(0, count, len(default)))
