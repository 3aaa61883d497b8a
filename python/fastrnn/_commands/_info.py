"""``python -m fastrnn info``: what a bug report should hold."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fastrnn

if TYPE_CHECKING:
    from ._options import Commands


def add(commands: Commands) -> None:
    info = commands.add_parser("info", help="print what a bug report should hold")
    info.set_defaults(run=_info)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    except OSError:
        pass  # no such file outside Linux
    return platform.processor() or "unknown"


def _show(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_show(key, v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(str(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "caches" and isinstance(value, int):
        return f"{value / 1024:g} KiB" if value else "unknown"
    return str(value)


def _info(_: dict[str, Any]) -> None:
    build = fastrnn.build_info()
    facts: dict[str, Any] = {"fastrnn": build["version"]}
    facts.update((key, value) for key, value in build.items() if key != "version")
    facts.update(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        numpy=np.__version__,
        platform=platform.platform(),
        cpu=_cpu_model(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )
    for name in ("FASTRNN_ISA", "OMP_NUM_THREADS"):
        if name in os.environ:
            facts[name] = os.environ[name]
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:{width}}  {_show(key, value)}")
