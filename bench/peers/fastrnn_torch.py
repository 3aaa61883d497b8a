"""fastrnn.torch, called as torch.nn is."""

from __future__ import annotations

import fastrnn
from fastrnn._bench.cases import Case, Data
from fastrnn._bench.peers import Unsupported, Way
from fastrnn._bench.peers import torch as plain

PROJECTS = True
available = plain.available
setup = plain.setup


def version() -> str:
    info = fastrnn.build_info()
    return f"{info['version']} under torch {plain.version()} {info['level']}"


def build(case: Case, data: Data) -> dict[str, Way]:
    import fastrnn.torch

    if case.recompute:
        raise Unsupported("recompute is measured without torch")
    return plain.build(case, data, fastrnn.torch)
