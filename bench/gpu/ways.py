"""The ways to run a layer on a GPU that are checked and timed: each mode, and TF32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import fastrnn.cuda

MODES = ("grid", "flags", "cluster", "stepwise")
TF32 = "tf32"  # the best mode, where float32 may be multiplied as TF32
WAYS = (*MODES, TF32)


@contextmanager
def forced(way: str) -> Iterator[None]:
    """A way, or a mode's name; ``any`` where the engine has none."""
    with contextlib.ExitStack() as stack:
        if way == TF32:
            stack.enter_context(fastrnn.cuda.tf32())
        elif way != "any":
            stack.enter_context(fastrnn.cuda.mode(way))
        yield


def precision(way: str, dtype: str) -> str:
    """What products round their factors to: a dtype, or ``tf32``."""
    return TF32 if way == TF32 else dtype


def ways_of(dtype: str) -> tuple[str, ...]:
    """The ways that concern a dtype."""
    return WAYS if dtype == "float32" else MODES
