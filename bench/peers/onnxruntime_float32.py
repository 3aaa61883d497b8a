"""ONNX Runtime in float32, which has the shortest steps of the others, beside narrower types."""

from __future__ import annotations

from fastrnn._bench.cases import Case, Data
from fastrnn._bench.peers import Way
from fastrnn._bench.peers import onnxruntime as theirs

from .float32 import in_float32

NOTE = "forward alone, for cases of 16 and 8 bits"
available, setup, version = theirs.available, theirs.setup, theirs.version


def build(case: Case, data: Data) -> dict[str, Way]:
    return in_float32(theirs, case)
