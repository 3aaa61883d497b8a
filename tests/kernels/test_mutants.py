"""The tests can fail: each mutant of the engine is caught by those that are named with it."""

from __future__ import annotations

import sys

import tiers
from builds import ROOT, run


@tiers.full
def test_every_mutant_is_caught() -> None:
    run([sys.executable, str(ROOT / "tests" / "mutants.py")])
