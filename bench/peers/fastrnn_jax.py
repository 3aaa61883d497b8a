"""fastrnn.jax: the calls that the JAX peer makes, with the layers in the place of its scan."""

from __future__ import annotations

from typing import Any

import fastrnn
from fastrnn._bench.cases import Case, Data
from fastrnn._bench.peers import Unsupported, Way

from . import jax as plain

PROJECTS = True
available = plain.available


def version() -> str:
    info = fastrnn.build_info()
    return f"{info['version']} under JAX {plain.version()} {info['level']}"


def setup(threads: int) -> None:
    plain.setup(threads)
    fastrnn.set_num_threads(threads)


def layer(case: Case, params: Any, x: Any, state: Any) -> Any:
    """y (T, B, D * P) and the final states, a tuple."""
    import fastrnn.jax

    given = state if len(state) > 1 else state[0]
    lengths = case.row_lengths if case.lengths else None
    y, final = fastrnn.jax.recurrent(case.cell, x, params, given, lengths=lengths)
    return y, final if isinstance(final, tuple) else (final,)


def build(case: Case, data: Data) -> dict[str, Way]:
    if case.recompute:
        raise Unsupported("recompute is measured without JAX")
    return plain.build(case, data, layer)
