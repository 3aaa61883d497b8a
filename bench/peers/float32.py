"""fastrnn in float32, beside which it is in the narrower types."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from fastrnn._bench.cases import Case, Data, make_data
from fastrnn._bench.peers import Unsupported, Way
from fastrnn._bench.peers import fastrnn as ours

NOTE = "for cases of 16 and 8 bits"
PROJECTS = True
available, setup, version = ours.available, ours.setup, ours.version


def build(case: Case, data: Data) -> dict[str, Way]:
    return in_float32(ours, case)


def in_float32(peer: ModuleType, case: Case) -> dict[str, Way]:
    """The ways of a peer through the same case in float32."""
    if case.dtype in ("float32", "float64"):
        raise Unsupported(NOTE)
    wide = replace(case, dtype="float32")
    found: dict[str, Way] = peer.build(wide, make_data(wide))
    return found
