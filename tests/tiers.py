"""The tests by tier, `pytest --tier dev|ci|full`: the same tests, more of them in each.

* `dev`, the default: in minutes, while code is written; every kind of proof once that needs no
  build of its own (sanitizers and wheels do).
* `ci`: what must hold before a change is merged.
* `full`: the same for longer, and what takes hours.

A test knows no tier. What belongs to a higher one is marked: a whole test by `@ci` or `@full`, a
value of a parameter by `thin`; the lower tiers deselect it (tests/conftest.py), so it counts
neither as passed nor as skipped. Beside the tiers stand the tests that ask a registry for packages
(tests/strangers): no tier has them, `--strangers` does; but for one of `full`, whose linter comes
from npm (tests/packaging/test_project.py). How many seeds, examples or calls there are, `choose`
says.

Where a run of a lower tier has just passed, on the same sources and the same machine, `--above dev`
leaves out what it has proved: its tests, but for those that `grow` from tier to tier.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Collection, Iterable
from typing import Any

import pytest

NAMES = ("dev", "ci", "full")
chosen = NAMES[0]  # by --tier, before any test is collected

ci = pytest.mark.tier("ci")
full = pytest.mark.tier("full")


def has(tier: str, item: pytest.Item) -> bool:
    """Whether a test is of a tier: it begins there, or in one below."""
    begins = [mark.args[0] for mark in item.iter_markers("tier")]
    return all(NAMES.index(name) <= NAMES.index(tier) for name in begins)


def grows(item: pytest.Function) -> bool:
    """Whether a test may do more in a higher tier.

    Its file has a number that the tier chooses, or it takes a build, whose levels the tier chooses
    (tests/builds.py). What takes a module out of such a build runs at the levels that it names.
    """
    takes_a_build = "native_build" in inspect.signature(item.function).parameters
    return takes_a_build or "tiers.choose(" in item.path.read_text(encoding="utf-8")


def choose(**values: Any) -> Any:
    """The chosen tier's value, of one for each: how many seeds, examples or calls."""
    return values[chosen]


def thin(values: Iterable[Any], dev: Collection[Any]) -> list[Any]:
    """Values of a parameter, of which the dev tier takes those that are in `dev`.

    A tuple stands for the values of several parameters, as in `pytest.mark.parametrize`.
    """
    values = list(values)
    assert all(value in values for value in dev), f"{dev} must be among {values}"
    return [value if value in dev else _param(value) for value in values]


def _param(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=ci)


def skip_without(*modules: str) -> None:
    """Skip a test whose processes import what is not installed.

    The process of the tests itself imports none of it: Keras would choose its backend for all.
    """
    absent = [module for module in modules if not importlib.util.find_spec(module)]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
