"""The tiers themselves: each holds the one below it, and skips nothing to be smaller."""

from __future__ import annotations

import re
import subprocess
import sys

import tiers
from builds import ROOT

FILES = ["tests/kernels/test_kernels.py", "tests/kernels/test_bits.py"]
FILES += ["tests/kernels/test_mutants.py", "tests/kernels/test_native.py"]


def collected(tier: str) -> tuple[set[str], int]:
    """The tests of some files in a tier, and how many more there are."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--tier", tier, *FILES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    deselected = re.search(r"(\d+) deselected", done.stdout)
    tests = {line for line in done.stdout.splitlines() if "::" in line}
    return tests, int(deselected[1]) if deselected else 0


def test_each_tier_holds_the_one_below() -> None:
    (dev, not_dev), (ci, not_ci), (full, not_full) = map(collected, tiers.NAMES)
    assert dev < ci < full
    assert len(dev) + not_dev == len(ci) + not_ci == len(full) + not_full
    assert not_full == 0
