"""Builds that only tests need, and the levels that tests run at.

A build goes through a preset of CMakePresets.json into `build/pytest`, where the next run finds it;
one of a copy of the sources goes into the copy. They never enter the wheel.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pybind11
import pytest

import tiers
from fastrnn import _native

ROOT = Path(__file__).resolve().parent.parent
# Builds of one interpreter do not serve another.
KEPT = ROOT / "build" / "pytest" / (sys.implementation.cache_tag or "python")
X86 = "avx2" in _native.engine.built_levels()


def elements_of(level: str) -> list[str]:
    """The element types of a level's row."""
    rows = (ROOT / "csrc" / "simd" / "levels.def").read_text(encoding="utf-8")
    found = re.search(rf'^FASTRNN_LEVEL\({level}, [^"]*"([^"]*)"', rows, re.MULTILINE)
    assert found, level
    return found[1].split()


# Levels that this processor has, and those that tests run at, which have kernels for float32;
# without AVX-512 also `wide`, whose lanes and tiles are the same.
USABLE = _native.engine.usable_levels()
LEVELS = [level for level in USABLE if "float" in elements_of(level)]
# The dev tier's: the lowest, which is without vectors, and the highest.
DEV_LEVELS = sorted({LEVELS[0], LEVELS[-1]}, key=LEVELS.index)
# Beside them, those that have kernels for bfloat16 alone, or products of 8 bits.
OF_BFLOAT16, OF_INT8 = (
    [level for level in USABLE if level not in LEVELS and element in elements_of(level)]
    for element in ("bfloat16", "int8")
)
if X86 and "avx512" not in LEVELS:
    LEVELS = [*LEVELS, "wide"]


def kernel_levels(preset: str) -> list[str]:
    """The option for a tier whose build has other levels than the preset says.

    What this processor lacks takes minutes to compile and cannot run. (That it compiles, the
    installation shows.) Under AddressSanitizer ci leaves `wide`, nearly half of what would be
    compiled, to full; without the sanitizer its lanes run in ci too.
    """
    levels = {
        ("dev", "tests"): ";".join(DEV_LEVELS + OF_INT8 + OF_BFLOAT16),
        ("ci", "tests"): ";".join(LEVELS + OF_INT8 + OF_BFLOAT16),
        ("ci", "asan"): "scalar;neon;avx2",
        ("full", "tsan"): "scalar;avx2;wide",
    }
    found = levels.get((tiers.chosen, preset))
    return [f"-DFASTRNN_LEVELS={found}"] if found else []


def run(command: list[str], **options: object) -> None:
    """Run a command; its output becomes the test's failure."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-8000:]}", False)


def build(
    preset: str, *definitions: str, source: Path = ROOT, targets: tuple[str, ...] = ("all",)
) -> Path:
    """Configure and build a preset; returns the build's folder."""
    # A copy of the sources is gone after the test, and its build with it.
    folder = KEPT / preset if source == ROOT else source / "build"
    tools = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    with locked(folder):
        run(
            [
                "cmake",
                "--preset",
                preset,
                "-B",
                str(folder),
                f"-DPython_EXECUTABLE={sys.executable}",
                f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
                *kernel_levels(preset),
                *definitions,
            ],
            cwd=source,
            env=environment,
        )
        run(["cmake", "--build", str(folder), "--target", *targets], env=environment)
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time: workers of a run (pytest-xdist), and runs side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def program(folder: Path, name: str) -> str:
    """A C++ test of a build."""
    (path,) = (each for each in folder.glob(f"tests/*/{name}") if each.is_file())
    return str(path)


def without_address_randomisation(command: list[str]) -> list[str]:
    """For ThreadSanitizer, whose shadow does not fit some kernels' layouts; where it is allowed."""
    prefix = ["setarch", platform.machine(), "-R"]
    allowed = subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL).returncode == 0
    return [*prefix, *command] if allowed else command


def load_engine(folder: Path, name: str = "_cpu") -> ModuleType:
    """An extension module of a build, beside the installed one."""
    (path,) = folder.glob(f"{name}.*.so")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
