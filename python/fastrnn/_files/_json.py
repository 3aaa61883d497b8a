"""JSON from a file that may come from anybody."""

from __future__ import annotations

import json
import reprlib
from typing import Any


def json_object(text: str) -> dict[str, Any]:
    """The object of a text of JSON.

    Raises
    ------
    ValueError
        It is none, is nested without end, has a name twice, or a number that JSON has not.
    """
    try:
        found = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("the header must be nested a few times at most, got more") from None
    if not isinstance(found, dict):
        raise ValueError(f"the header must be an object of JSON, got {reprlib.repr(found)}")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"names must be distinct, got {reprlib.repr(name)} twice")
        found[name] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"numbers must be finite, got {name}")
