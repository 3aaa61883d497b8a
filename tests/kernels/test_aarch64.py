"""The engine on 64-bit ARM: cross-compiled, and run by an emulator of the processor.

Everything that needs no Python: maths, cells, teams, the engine's own comparisons, and results of
the NumPy reference that are stored. Debian's packages are g++-aarch64-linux-gnu and qemu-user;
where they are not installed, conftest.py leaves these tests out.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from builds import ROOT, run

pytestmark = pytest.mark.needs_tools("aarch64-linux-gnu-g++", "qemu-aarch64")
REFERENCE = ROOT / "tests" / "data" / "reference.txt"


@pytest.mark.parametrize(
    "test",
    [
        ["test_math_neon"],
        ["test_cells"],
        ["test_team"],
        ["test_engine", "--calls", "8"],
        ["test_stored", str(REFERENCE)],
    ],
    ids=lambda test: test[0],
)
def test_program(native_build: Callable[..., Path], test: list[str]) -> None:
    folder = native_build("aarch64") / "tests" / "cpp"
    run(["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", str(folder / test[0]), *test[1:]])


def test_both_levels_are_built(native_build: Callable[..., Path]) -> None:
    """And the tile of the wider one keeps its accumulators in registers: 24, and no stack."""
    build = native_build("aarch64")
    kernels = (build / "generated" / "kernel_list.inc").read_text(encoding="utf-8")
    assert set(re.findall(r"\((\w+),", kernels)) == {"scalar", "neon"}
    unit = build / "CMakeFiles/fastrnn_kernel_neon_lstm_float.dir/csrc/cpu/kernel.cpp.o"
    text = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", unit], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    # tile<float, 6 rows, 4 vectors, ...>, twice: what is shared differs.
    tiles = re.findall(r"<\S*4tileIfLi6ELi4E\S*>:\n(.*?)\n\n", text, re.DOTALL)
    assert tiles
    for tile in tiles:
        assert len(re.findall(r"\tfmla\t", tile)) >= 24
        assert not re.findall(r"\t(?:str|stp|ldr|ldp)\tq\S+, .*\[sp", tile), "spilled"
