"""Which versions of jaxlib the handler may be registered with.

A handler that gives a wrong answer when it is asked for its version keeps JAX's CPU backend from
starting, for all of the process. So it is decided here, before anything is registered. The handler
reads what the versions below have in common (`csrc/xla/abi.h`), and answers with the version of the
runtime that asks.
"""

from __future__ import annotations

import re

# Of jaxlib; CI compares its headers with ours for the oldest and for the newest that is to be had.
OLDEST, BELOW = (0, 6), (0, 13)


def require_supported(version: str) -> None:
    """Raise ImportError for a jaxlib whose interface this handler has not been compared with."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    found = tuple(map(int, numbers.groups())) if numbers else None
    if found is None or not OLDEST <= found < BELOW:
        oldest, below = (".".join(map(str, limit)) for limit in (OLDEST, BELOW))
        raise ImportError(
            f"[jax] jaxlib must be at least {oldest} and below {below} for this fastrnn, "
            f"got {version}"
        )
