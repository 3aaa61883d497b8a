"""Data of a case as arrays of the library that pretends to be on a GPU, and results back."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

import fake_gpu
from builds import ROOT
from cases import Case, Data
from fastrnn import functional, reference
from fastrnn._check import _data
from fastrnn.reference.cell import find

Results = dict[str, np.ndarray]

# Those of the sources, because tests are collected before the engine is built.
MODES: list[str] = re.findall(
    r"^FASTRNN_MODE\((\w+)\)$",
    (ROOT / "csrc" / "cuda" / "modes.def").read_text(encoding="utf-8"),
    re.MULTILINE,
)
# The same kernel, one launch for all steps: they differ by how its blocks exchange rows.
GRIDS = ["grid", "flags", "cluster"]
WITHOUT_FLOAT64 = set(GRIDS)
WITH_TWO_PRODUCTS = {"stepwise"}  # in a step


def modes(case: Case) -> list[str]:
    """The modes that serve a case."""
    two_products = case.P > 0 or find(case.cell).inner is not None
    return [
        mode
        for mode in MODES
        if (case.dtype != "float64" or mode not in WITHOUT_FLOAT64)
        and (not two_products or mode in WITH_TWO_PRODUCTS)
    ]


def put(values: Any) -> Any:
    """Host arrays, alone or in containers, on the GPU."""
    if isinstance(values, dict):
        return {name: put(value) for name, value in values.items()}
    if isinstance(values, (tuple, list)):
        return type(values)(put(value) for value in values)
    return fake_gpu.asarray(values) if isinstance(values, np.ndarray) else values


def put_state(state: Any) -> Any:
    """A state: those beside h are float32 at least."""
    if not isinstance(state, tuple):
        return put(state)
    h, *others = state
    wide = np.result_type(h.dtype, np.float32) if h.dtype != fake_gpu.bfloat16 else np.float32
    return (put(h), *(put(s.astype(wide)) for s in others))


def named(*results: Any) -> Results:
    """The results of a training step by name, on the host."""
    return read(_data.named(*results))


def read(every: dict[str, Any]) -> Results:
    """Arrays, by name, on the host."""
    return {name: a.get() if isinstance(a, fake_gpu.Array) else a for name, a in every.items()}


def run(case: Case, data: Data, recompute: int = 0) -> Results:
    """A training step on the GPU; its inputs have died there before a result is read."""
    return named(*_train(case, data, recompute))


def _train(case: Case, data: Data, recompute: int) -> tuple[Any, ...]:
    params, options = put(data.params), put(data.options)
    x, state = put(data.x), put_state(data.state)
    y, final, tape = functional.forward(case.cell, x, params, state, recompute=recompute, **options)
    back = functional.backward(case.cell, params, tape, put(data.dy), put_state(data.dstate))
    return (y, final, *back)


def wanted(case: Case, data: Data) -> Results:
    """The same by the reference."""
    y, final, tape = reference.forward(case.cell, data.x, data.params, data.state, **data.options)
    back = reference.backward(case.cell, data.params, tape, data.dy, data.dstate)
    return named(y, final, *back)
