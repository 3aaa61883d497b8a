"""The libraries that are asked: onnx, which is needed, and ONNX Runtime, which need not be."""

from __future__ import annotations

from functools import cache
from typing import Any

try:
    import onnx
except ImportError:
    raise ImportError(
        'fastrnn.onnx needs onnx, which is not installed: pip install "fastrnn[onnx]"'
    ) from None

MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators
_ONNX = ("", "ai.onnx")  # both are the domain of ONNX itself
DOMAINS = {"RNN": _ONNX, "LSTM": _ONNX, "GRU": _ONNX, "DynamicQuantizeLSTM": (MICROSOFT,)}
RECURRENT = tuple(DOMAINS)


@cache
def runtime() -> Any:
    """ONNX Runtime, or None where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    return onnxruntime


def is_recurrent(node: onnx.NodeProto) -> bool:
    """Whether a node is an RNN, LSTM or GRU of ONNX itself, or the LSTM of integers."""
    return node.domain in DOMAINS.get(node.op_type, ())


def label(node: onnx.NodeProto) -> str:
    """A node in an error: its operator and its name, or that of its first output."""
    named = node.name or next((f"of {name}" for name in node.output if name), "without a name")
    return f"[{node.op_type} {named}]"
