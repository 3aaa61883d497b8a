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

import tiers
from builds import ROOT, run

pytestmark = [tiers.full, pytest.mark.needs_tools("aarch64-linux-gnu-g++", "qemu-aarch64")]
REFERENCE = ROOT / "tests" / "data" / "reference.txt"


@pytest.mark.parametrize(
    "test",
    [
        ["test_math_neon"],
        ["test_cells"],
        ["test_linear"],
        ["test_team"],
        ["test_engine", "--calls", "8"],
        ["test_stored", str(REFERENCE)],
    ],
    ids=lambda test: test[0],
)
def test_program(native_build: Callable[..., Path], test: list[str]) -> None:
    folder = native_build("aarch64") / "tests" / "cpp"
    run(["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", str(folder / test[0]), *test[1:]])


def test_levels_that_are_built(native_build: Callable[..., Path]) -> None:
    kernels = native_build("aarch64") / "generated" / "kernel_list.inc"
    found = re.findall(r"\((\w+),", kernels.read_text(encoding="utf-8"))
    assert set(found) == {"scalar", "neon"}


def test_tiles_stay_in_registers(native_build: Callable[..., Path]) -> None:
    """24 accumulators of 32 registers, and no vector of a tile is kept on the stack."""
    unit = "CMakeFiles/fastrnn_kernel_neon_products_float.dir/csrc/cpu/products.cpp.o"
    text = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", native_build("aarch64") / unit],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    tiles = re.findall(r"<(\S*4tileI\S*|\S*8row_tileI\S*)>:\n(.*?)\n\n", text, re.DOTALL)
    assert any("4tileIffLi6ELi4E" in name for name, _ in tiles), "6 rows of 4 vectors"
    spilled = [n for n, body in tiles if re.search(r"\t(?:ld|st)[rp]\tq.*\[sp", body)]
    assert not spilled
