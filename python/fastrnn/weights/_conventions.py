"""The table of conventions: how each format holds the parameters of one layer, as data.

A further format is a row of `CONVENTIONS`; `docs/weights.md` shows them all.

Gates have this library's letters in every row: i f g o of an LSTM (Keras and ONNX say c for g), r z
n of a GRU (Keras, ONNX, cuDNN and haste say h for n, cuDNN i for z), h of a simple layer.

A layout names the axes of an array, outermost first: ``D`` directions, ``2`` biases (that of the
inputs, then that of the recurrence), ``G`` gates, ``H`` units, ``P`` values of a projected h, ``K``
columns of the matrix, which are I for the inputs, and H, or P, for the recurrence. Letters without
a space between them are one axis: ``GH`` has all units of the first gate, then all of the second.

Sources
-------
Keras: ``keras/src/layers/rnn/{lstm,gru,simple_rnn}.py``, where `call` splits the kernels.
ONNX: the operators LSTM, GRU and RNN of https://onnx.ai/onnx/operators/.
cuDNN: `linLayerID` and `pseudoLayer` of `cudnnGetRNNWeightParams`,
https://docs.nvidia.com/deeplearning/cudnn/backend/latest/api/cudnn-adv-library.html.
haste: `LSTM` and `GRU` of ``frameworks/pytorch``, https://github.com/lmnt-com/haste.
"""

from __future__ import annotations

from dataclasses import dataclass

SIMPLE = ("rnn_tanh", "rnn_relu", "rnn_sigmoid")


@dataclass(frozen=True)
class Part:
    """An array of a format: its name, its layout, and which parameters it holds.

    ``bias`` is the sum of both biases. A part that is needed is there also without biases, as 0.
    """

    name: str
    layout: str
    holds: tuple[str, ...]
    needed: bool = False

    @property
    def groups(self) -> list[str]:
        """The axes of the array."""
        return self.layout.split()

    @property
    def letters(self) -> str:
        """The axes where each letter is one."""
        return "".join(self.groups)


@dataclass(frozen=True)
class Convention:
    """The order of the gates, and the arrays: weights of the inputs, of the recurrence, biases.

    A gate that is `absent` has rows in the format and none in the cell: written as 0. `projection`
    is the matrix that may project h, which has no gates.
    """

    gates: str
    parts: tuple[Part, ...]
    absent: str = ""
    projection: Part | None = None

    @property
    def arrays(self) -> tuple[Part, ...]:
        """All arrays that the format may have."""
        return (*self.parts, self.projection) if self.projection else self.parts

    @property
    def own_gates(self) -> str:
        """Those that the cell has."""
        return "".join(gate for gate in self.gates if gate not in self.absent)


def _rows(parts: tuple[Part, ...], **gates: str) -> dict[str, Convention]:
    """One row for each cell, `simple` for all simple ones."""
    rows = {cell: Convention(order, parts) for cell, order in gates.items() if cell != "simple"}
    return dict.fromkeys(SIMPLE, Convention(gates["simple"], parts)) | rows


def _projection(name: str) -> Part:
    return Part(name, "P H", ("weight_hr",))


_TORCH = (
    Part("weight_ih", "GH K", ("weight_ih",), needed=True),
    Part("weight_hh", "GH K", ("weight_hh",), needed=True),
    Part("bias_ih", "GH", ("bias_ih",)),
    Part("bias_hh", "GH", ("bias_hh",)),
)
_KERNELS = (
    Part("kernel", "K GH", ("weight_ih",), needed=True),
    Part("recurrent_kernel", "K GH", ("weight_hh",), needed=True),
)
_KERAS = (*_KERNELS, Part("bias", "GH", ("bias",)))
_KERAS_GRU = (*_KERNELS, Part("bias", "2 GH", ("bias_ih", "bias_hh")))
_ONNX = (
    Part("W", "D GH K", ("weight_ih",), needed=True),
    Part("R", "D GH K", ("weight_hh",), needed=True),
    Part("B", "D 2GH", ("bias_ih", "bias_hh")),
)
# linLayerID counts gates, first with the input, then with the recurrence.
_CUDNN = (
    Part("matrices[:G]", "G H K", ("weight_ih",), needed=True),
    Part("matrices[G:]", "G H K", ("weight_hh",), needed=True),
    Part("biases", "2G H", ("bias_ih", "bias_hh")),
)
_HASTE_LSTM = (*_KERNELS, Part("bias", "GH", ("bias",), needed=True))
_HASTE_GRU = (
    *_KERNELS,
    Part("bias", "GH", ("bias_ih",), needed=True),
    Part("recurrent_bias", "GH", ("bias_hh",), needed=True),
)

_cudnn = _rows(_CUDNN, simple="h", gru="rzn")
del _cudnn["rnn_sigmoid"]

CONVENTIONS: dict[str, dict[str, Convention]] = {
    "torch": _rows(_TORCH, simple="h", lstm_coupled="igo", gru="rzn", gru_reset_before="rzn")
    | {"lstm": Convention("ifgo", _TORCH, projection=_projection("weight_hr"))},
    "keras": _rows(_KERAS, simple="h", lstm="ifgo", gru_reset_before="zrn")
    | {"gru": Convention("zrn", _KERAS_GRU)},
    "onnx": _rows(_ONNX, simple="h", lstm="iofg", gru="zrn", gru_reset_before="zrn")
    | {"lstm_coupled": Convention("iofg", _ONNX, absent="f")},
    "cudnn": _cudnn | {"lstm": Convention("ifgo", _CUDNN, projection=_projection("matrices[2G]"))},
    "haste": {"lstm": Convention("igfo", _HASTE_LSTM), "gru": Convention("zrn", _HASTE_GRU)},
}

# Cells whose activations and clip may be any have the weights of their bases; these formats have
# layers with such options.
OPTIONS = ("torch", "keras", "onnx")

# The gates whose peepholes a cell has, in its order and in that of ONNX's P. But for these, its
# parameters are those of a cell without.
PEEPHOLES = {"lstm_peephole": "ifo", "lstm_coupled_peephole": "io"}
ONNX_PEEPHOLES = "iof"

# Whether a GRU's reset gate comes after the recurrent product: r_t (W_hn h_(t-1) + b_hn), or
# before it: W_hn (r_t h_(t-1)). Both have arrays of the same shapes.
RESET_AFTER = {"gru": True, "gru_reset_before": False}
