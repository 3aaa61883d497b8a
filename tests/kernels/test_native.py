"""The C++ tests, the sanitizers, and the fence between instruction sets."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tiers
from builds import (
    DEV_LEVELS,
    LEVELS,
    OF_BFLOAT16,
    ROOT,
    program,
    run,
    without_address_randomisation,
)

Build = Callable[..., Path]
REFERENCE = ROOT / "tests" / "data" / "reference.txt"


def test_ctest_knows_every_program(native_build: Build) -> None:
    """What `ctest` runs are the programs that are run here and by emulated/test_cuda_native.py."""
    command = ["ctest", "--test-dir", str(native_build("tests")), "--show-only=json-v1"]
    listed = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    names = {test["name"] for test in listed["tests"]}
    of_levels = {name for name in names if name.startswith(("test_math_", "test_narrow_"))}
    assert of_levels >= {f"test_{of}_{level}" for of in ("math", "narrow") for level in DEV_LEVELS}
    assert names - of_levels == {
        "test_cells", "test_emulator", "test_engine", "test_linear", "test_micro", "test_queue",
        "test_races", "test_storage", "test_stored", "test_team",
    }  # fmt: skip


@pytest.mark.parametrize("level", tiers.thin(LEVELS, DEV_LEVELS))
def test_maths(native_build: Build, level: str) -> None:
    """exp, tanh and sigmoid: ULP, range, exact values, subnormals."""
    run([program(native_build("tests"), f"test_math_{level}")])


@pytest.mark.parametrize("level", [*tiers.thin(LEVELS, DEV_LEVELS), *OF_BFLOAT16])
def test_numbers_of_16_bits(native_build: Build, level: str) -> None:
    """float16 and bfloat16: every number, every middle between two; products of pairs."""
    run([program(native_build("tests"), f"test_narrow_{level}")])


def test_cells_by_dual_numbers(native_build: Build) -> None:
    run([program(native_build("tests"), "test_cells")])


def test_drivers_in_linear_mode(native_build: Build) -> None:
    run([program(native_build("tests"), "test_linear")])


def test_engine_at_every_level(native_build: Build) -> None:
    calls = tiers.choose(dev=20, ci=60, full=3000)
    run([program(native_build("tests"), "test_engine"), "--calls", str(calls)])


@pytest.mark.parametrize("test", ["test_stored", "test_storage"])
def test_stored_results_of_the_reference(native_build: Build, test: str) -> None:
    """The levels, and drivers whose arrays are narrower than their sums."""
    run([program(native_build("tests"), test), str(REFERENCE)])


def test_team_on_a_busy_machine(native_build: Build) -> None:
    """A member is stopped at every point of a task; the others go on, and the bits stay."""
    run([program(native_build("tests"), "test_team")])


@tiers.ci
def test_engine_under_address_and_undefined_behaviour_sanitizers(native_build: Build) -> None:
    build = native_build("asan", targets=("test_engine", "test_cells"))
    calls = tiers.choose(ci=40, full=1000)
    run([program(build, "test_engine"), "--calls", str(calls), "--seed", "2"])
    run([program(build, "test_cells")])


@tiers.ci
def test_team_under_thread_sanitizer(native_build: Build) -> None:
    build = native_build("tsan", targets=("test_engine", "test_team"))
    calls = tiers.choose(ci=24, full=600)
    engine = [program(build, "test_engine"), "--calls", str(calls), "--seed", "3"]
    for command in (engine, [program(build, "test_team")]):
        run(without_address_randomisation(command))


def kernel_list(build: Path) -> str:
    return (build / "generated" / "kernel_list.inc").read_text(encoding="utf-8")


def test_no_symbol_escapes_its_level(native_build: Build) -> None:
    """A weak or global symbol without its level's namespace could stand in for another level's."""
    build = native_build("tests")
    kernels = re.findall(r"^FASTRNN_KERNEL\((\w+), (\w+), (\w+)\)$", kernel_list(build), re.M)
    assert len(kernels) >= 10
    units = {f"kernel_{level}_{cell}": "cpu/kernel" for level, cell, _ in kernels}
    for level, element in re.findall(
        r"^FASTRNN_PRODUCTS\((\w+), (\w+)\)$", kernel_list(build), re.M
    ):
        source = "cpu/quantized" if element == "int8" else "cpu/products"
        units[f"kernel_{level}_products_{element}"] = source
        units[f"limits_{level}"] = "limits/jobs"
    escaped = []
    for name, source in units.items():
        level = name.split("_")[1]
        unit = build / f"CMakeFiles/fastrnn_{name}.dir/csrc/{source}.cpp.o"
        listing = subprocess.run(
            ["nm", "--defined-only", unit], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        symbols = [line.split()[-2:] for line in listing.splitlines()]
        assert any(kind in "WTVDRBu" for kind, _ in symbols), unit
        escaped += [
            f"{name}: {kind} {symbol}"
            for kind, symbol in symbols
            if not kind.islower() and f"isa_{level}" not in symbol
        ]
        # No static initialisers: they would run this level's code on every processor.
        escaped += [f"{name}: {symbol}" for _, symbol in symbols if "_GLOBAL__sub_I" in symbol]
    assert not escaped, "\n".join(escaped)


def test_units_of_a_wheel(tmp_path: Path) -> None:
    """How many kernels are compiled is what a build from source takes: seconds each. Of a cell, and
    of the products that cells share, by levels and element types:
    """
    preset = ["cmake", "--preset", "release", "-B", str(tmp_path)]
    run([*preset, "-DFASTRNN_MODULE=OFF", "-DFASTRNN_CUDA=OFF"], cwd=ROOT)
    of_cell, shared = {"x86_64": (3 * 4 + 1, 3 * 5 + 2), "aarch64": (2 * 4, 2 * 5)}.get(
        platform.machine(), (4, 5)
    )
    registry = (ROOT / "csrc" / "cells" / "registry.h").read_text(encoding="utf-8")
    units = kernel_list(tmp_path)
    cells = len(re.findall("^FASTRNN_", registry, re.M))
    assert units.count("FASTRNN_KERNEL(") == cells * of_cell
    assert units.count("FASTRNN_PRODUCTS(") == shared


def test_modules_ask_for_no_streams(native_build: Build) -> None:
    """A library of CUDA in the same process may export its own copies of the C++ library's streams;
    an `import fastrnn` after torch's then calls a mixture of two versions, and crashes."""
    modules = list(native_build("tests").glob("_*.so"))
    assert modules
    for module in modules:
        wanted = subprocess.run(
            ["nm", "-DC", "--undefined-only", module],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        assert "std::runtime_error" in wanted
        streams = re.findall(r".*std::.*(?:stream|streambuf|filebuf|basic_ios|locale).*", wanted)
        assert not streams, f"{module.name}\n" + "\n".join(streams)


def test_level_can_be_capped() -> None:
    code = "import fastrnn; print(fastrnn.build_info()['level'])"
    for level in LEVELS:
        if level == "wide":
            continue
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "FASTRNN_ISA": level},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert done.stdout.strip() == level


# Imports a module; then arithmetic of the process with a subnormal, and calls with special numbers.
FOREIGN_FLAGS = """
import importlib.util, sys
import numpy as np
import fastrnn
from fastrnn import _native

tiny = np.full(64, 1e-40, np.float32)
before = (tiny * np.float32(1)).tobytes(), 5e-324 * float(sys.argv[2])
spec = importlib.util.spec_from_file_location("_cpu", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert before == ((tiny * np.float32(1)).tobytes(), 5e-324 * float(sys.argv[2])), "flushed to zero"
assert before[1] > 0

def results():
    _native.engine.use_level("scalar")
    arrays = []
    for make in (fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN):
        for dtype in ("float32", "float64"):
            layer = make(5, 7, dtype=dtype, seed=0)
            x = np.random.default_rng(0).standard_normal((9, 4, 5)).astype(dtype)
            x[2, 1], x[3, 2, 0], x[4, 3], x[1, 0] = np.nan, np.inf, np.finfo(dtype).tiny / 8, -0.0
            y, _, tape = layer.forward(x)
            dx, _, grads = layer.backward(tape, np.ones_like(y))
            arrays += [y, dx, *grads.values()]
    return [a.tobytes() for a in arrays], [np.isnan(a).any() for a in arrays]

wanted = results()
assert any(wanted[1])
_native.engine = module
assert results() == wanted, "other numbers"
"""


def test_flags_of_the_builder_change_nothing(native_build: Build) -> None:
    """CXXFLAGS=-ffast-math: neither the numbers nor, by an import, a whole process.

    The preset asks for it, so that the other tests of that build see it too.
    """
    (module,) = native_build("tests").glob("_cpu.*.so")
    run([sys.executable, "-c", FOREIGN_FLAGS, str(module), "1"])
