"""fastrnn in float32, beside which it is in the narrower types."""

from __future__ import annotations

from dataclasses import replace

from fastrnn._bench.cases import Case, Data, make_data
from fastrnn._bench.peers import Unsupported, Way
from fastrnn._bench.peers import fastrnn as ours

NOTE = "for cases of 16 and 8 bits"
PROJECTS = True
available, setup, version = ours.available, ours.setup, ours.version


def build(case: Case, data: Data) -> dict[str, Way]:
    if case.dtype in ("float32", "float64"):
        raise Unsupported(NOTE)
    wide = replace(case, dtype="float32")
    return ours.build(wide, make_data(wide))
