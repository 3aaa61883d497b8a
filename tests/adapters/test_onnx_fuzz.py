"""A fixed slice of tests/fuzz_onnx.py, and that it sees what it is there for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("onnx")

import fuzz_onnx
import tiers
from fastrnn.onnx import _node, _options

CASES = tiers.choose(dev=150, ci=1000, full=10000)


def test_random_nodes() -> None:
    counts = Counter(fuzz_onnx.check(seed) for seed in range(CASES))
    assert set(counts) <= {"ok", "rounding decides", "overflows"}
    assert counts["ok"] >= CASES / 4
    assert counts["rounding decides"] + counts["overflows"] <= CASES / 50


@pytest.mark.parametrize("wrong", ["reverse", "clip", "state"])
def test_a_wrong_node_is_seen(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """A time that is not reversed, a clip that is left out, another direction's state."""
    read, of_direction = _options.read, _node._of_direction
    changes = {"reverse": {"reverse": (False,)}, "clip": {"clip": None}, "state": {}}[wrong]

    def misread(node: Any) -> Any:
        options = read(node)
        return replace(options, **changes) if len(options.reverse) == 1 else options

    monkeypatch.setattr(_options, "read", misread)
    if wrong == "state":
        first = lambda options, initial, direction: of_direction(options, initial, 0)  # noqa: E731
        monkeypatch.setattr(_node, "_of_direction", first)

    def is_seen(seed: int) -> bool:
        try:
            fuzz_onnx.check(seed)
        except AssertionError:
            return True
        return False

    assert any(map(is_seen, range(CASES)))
