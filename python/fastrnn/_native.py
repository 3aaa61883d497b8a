"""The compiled engine, in one place so that a test can put another build of it there."""

from __future__ import annotations

from . import _cpu as engine

__all__ = ["engine"]
