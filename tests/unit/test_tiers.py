"""The tiers themselves: each holds the one below it, and skips nothing to be smaller."""

from __future__ import annotations

import functools
import re
import subprocess
import sys

import pytest

import tiers
from builds import ROOT

FILES = ["tests/kernels/test_kernels.py", "tests/kernels/test_bits.py"]
FILES += ["tests/kernels/test_mutants.py", "tests/kernels/test_native.py"]


def collect(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--tier", *options, *FILES]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@functools.cache
def collected(tier: str, *options: str) -> tuple[set[str], int]:
    """The tests of some files in a tier, and how many more there are."""
    done = collect(tier, *options)
    assert done.returncode == 0, done.stdout
    deselected = re.search(r"(\d+) deselected", done.stdout)
    tests = {line for line in done.stdout.splitlines() if "::" in line}
    return tests, int(deselected[1]) if deselected else 0


def test_each_tier_holds_the_one_below() -> None:
    (dev, not_dev), (ci, not_ci), (full, not_full) = map(collected, tiers.NAMES)
    assert dev < ci < full
    assert len(dev) + not_dev == len(ci) + not_ci == len(full) + not_full
    assert not_full == 0


def test_above_a_tier_is_what_it_has_not_proved() -> None:
    """With what grows: the C++ tests, of which one has a number and others a build's levels."""
    (dev, _), (ci, not_ci) = collected("dev"), collected("ci")
    above, not_above = collected("ci", "--above", "dev")
    again = {test for test in dev if "test_native.py" in test}
    assert above == ci - dev | again
    assert again
    assert len(above) + not_above == len(ci) + not_ci


def test_one_in_some_has_every_function() -> None:
    every, _ = collected("dev")
    some, left_out = collected("dev", "--one-in", "4")
    assert some < every
    assert left_out > 0

    def functions(tests: set[str]) -> set[str]:
        return {test.partition("[")[0] for test in tests}

    assert functions(some) == functions(every)
    assert len(some) < 0.3 * len(every) + len(functions(every))


def test_above_is_below() -> None:
    done = collect("ci", "--above", "ci")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--above must be below --tier ci, got ci" in done.stderr


def test_numbers_of_a_tier_stand_in_the_files_of_their_tests() -> None:
    """Where `tiers.grows` looks for them."""
    files = (ROOT / "tests").rglob("*.py")
    found = {path.name for path in files if "choose(" in path.read_text(encoding="utf-8")}
    assert {name for name in found if not name.startswith("test_")} == {"tiers.py"}
