"""Two calls of fastrnn against each other, in one process: what `holds` and `phases` share."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastrnn
from fastrnn import _native
from fastrnn._bench.cases import Case
from fastrnn._bench.worker import pilot, record


def use_engine(options: argparse.Namespace) -> None:
    """Sets the threads and the level that the options ask for."""
    if options.threads:
        fastrnn.set_num_threads(options.threads)
    if options.isa:
        _native.engine.use_level(options.isa)


def call_of(case: Case, **options: Any) -> Callable[[], Any]:
    """The case on random numbers; `options` are those of a layer's call."""
    layer = fastrnn.Recurrent(case.cell, case.I, case.H, dtype=case.dtype, seed=0, proj_size=case.P)
    rng = np.random.default_rng(0)
    widths = case.I, case.outputs
    x, dy = (rng.standard_normal((case.T, case.B, n)).astype(case.dtype) for n in widths)

    def train() -> None:
        tape = layer.forward(x, **options)[2]
        layer.backward(tape, dy)

    return train if case.mode == "train" else lambda: layer(x, **options)


def compare(calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """The median seconds of each, of alternating blocks of a twentieth of a second."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        pilot(call)
    for _ in range(rounds):
        for call, taken in zip(calls, times, strict=True):
            taken += record(call, 0.05, least=1)
    return [statistics.median(t) for t in times]
