"""The compiled CUDA engine, or why there is none; tests put an emulated one in its place."""

from __future__ import annotations

import importlib
from typing import Any

engine: Any = None
_missing = ""

try:
    engine = importlib.import_module("fastrnn._cuda")
except ImportError as error:
    _missing = f"this build has no CUDA engine ({error})"


def why_not_available() -> str:
    """What is missing; empty where nothing is."""
    if engine is None:
        return _missing
    return str(engine.why_none())


def require_engine(op: str) -> Any:
    """The engine, where it can be used.

    Raises
    ------
    RuntimeError
        There is no engine or no GPU.
    """
    missing = why_not_available()
    if missing:
        raise RuntimeError(f"[{op}] a GPU must be available, got none: {missing}")
    return engine
