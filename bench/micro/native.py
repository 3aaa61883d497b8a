"""Compiles the C++ programs of this folder against `csrc`, and runs them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent.parent / "csrc"


def level() -> str:
    """The level of this machine's float32 kernels, which the programs are for."""
    import fastrnn

    of_float32: str = fastrnn.explain(fastrnn.LSTM(1, 1), (1, 1, 1))["level"]
    return of_float32


def compile_program(source: Path, folder: str, *options: str) -> Path:
    """Compile a C++ file for this very machine; seconds.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        There is no C++ compiler, or it fails.
    """
    program = Path(folder) / source.stem
    command = [
        *shlex.split(os.environ.get("CXX", "g++")),
        *("-O3", "-std=c++17", "-march=native", "-ffp-contract=off", "-fno-math-errno"),
        *("-fno-trapping-math", "-pthread", "-I", str(SOURCES), "-I", str(HERE)),
        f"-DFASTRNN_UNIT_LEVEL={level()}",
        *(str(source), *options, "-o", str(program)),
    ]
    subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return program


def run_program(program: Path, *arguments: int) -> dict[str, Any]:
    """The JSON that a program prints."""
    # What it is compiled for is what it runs.
    environment = {name: v for name, v in os.environ.items() if name != "FASTRNN_ISA"}
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed
