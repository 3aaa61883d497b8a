"""Which versions of jaxlib the handler may be registered with.

A handler that gives a wrong answer when it is asked for its version keeps JAX's CPU backend from
starting, for all of the process. So it is decided here, before anything is registered. The handler
reads what the versions below have in common (`csrc/xla/abi.h`), and answers with the version that
this jaxlib's own header says.
"""

from __future__ import annotations

import re
from pathlib import Path

# Of jaxlib; CI compares its headers with ours for the oldest and for the newest that is to be had.
OLDEST, BELOW = (0, 6), (0, 13)
HEADER = Path("xla", "ffi", "api", "c_api.h")


def require_supported(version: str, include: str) -> None:
    """Raise ImportError for a jaxlib whose interface this handler has not been compared with."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    found = tuple(map(int, numbers.groups())) if numbers else None
    if found is None or not OLDEST <= found < BELOW:
        oldest, below = (".".join(map(str, limit)) for limit in (OLDEST, BELOW))
        raise ImportError(
            f"[jax] jaxlib must be at least {oldest} and below {below} for this fastrnn, "
            f"got {version}"
        )
    major, minor = interface_version(include)
    if major != 0:
        raise ImportError(
            f"[jax] the foreign function interface of jaxlib {version} must have version 0, "
            f"got {major}.{minor}"
        )


def interface_version(include: str) -> tuple[int, int]:
    """The version of the foreign function interface, by the header that a jaxlib brings."""
    try:
        text = Path(include, HEADER).read_text(encoding="utf-8")
    except OSError as error:
        raise ImportError(f"[jax] jaxlib must bring {HEADER}, got {error}") from None
    found = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", text))
    if len(found) != 2:
        raise ImportError(f"[jax] {HEADER} must say its version, got {found or 'none'}")
    return int(found["MAJOR"]), int(found["MINOR"])
