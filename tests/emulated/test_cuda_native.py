"""The emulator itself, the kernels under sanitizers, and that each of their barriers is missed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import tiers
from builds import ROOT, program, run, without_address_randomisation

Build = Callable[..., Path]

# What lanes of a warp do together, which orders no memory.
WITHOUT_ORDER = {
    "product: lanes add up",
    "product: lanes exchange sums",
    "product: rows are loaded",
    "product: tensor cores multiply",
    "product: weights are loaded",
}


def test_the_emulator_finds_mistakes(native_build: Build) -> None:
    run([program(native_build("tests"), "test_emulator")])


def test_the_queue_shows_mistakes(native_build: Build) -> None:
    """Launches, fills and copies: arguments, streams, events, buffers of the host."""
    run([program(native_build("tests"), "test_queue")])


def test_modes_agree(native_build: Build) -> None:
    run([program(native_build("tests"), "test_races")])


def test_micro_benchmarks_do_what_they_time(native_build: Build) -> None:
    run([program(native_build("tests"), "test_micro")])


@tiers.ci
def test_the_emulator_finds_races(native_build: Build) -> None:
    build = native_build("tsan", targets=("test_emulator",))
    run(without_address_randomisation([program(build, "test_emulator")]))


@tiers.ci
def test_no_races(native_build: Build) -> None:
    """Every cell under ThreadSanitizer, whose fibers the emulator's are; in ci the usual ones.

    Those whose functions are chosen, or that have two products, add no barrier.
    """
    schedules = tiers.choose(ci=["--quick"], full=[])
    command = [program(native_build("tsan", targets=("test_races",)), "test_races"), *schedules]
    run(without_address_randomisation(command))


@tiers.ci
def test_kernels_under_address_and_undefined_behaviour_sanitizers(native_build: Build) -> None:
    """test_cuda.py again, on kernels and host code that are instrumented; in ci a part of `dev`.

    That has every mode and option in float32, and a sanitizer makes a case ten times as long.
    """
    programs = ("test_emulator", "test_queue", "test_races")
    build = native_build("asan", targets=(*programs, "_cuda_emulated"))
    for name in programs:
        run([program(build, name)])

    def library(name: str) -> str:
        compiler = os.environ.get("CXX", "g++")
        found = subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True
        )
        return found.stdout.strip()

    environment = {
        **os.environ,
        "FASTRNN_EMULATED_BUILD": str(build),
        "FASTRNN_ONE_SCHEDULE": "1",
        # The C++ library with it, for the sanitizer to find what it replaces.
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "PYTEST_ADDOPTS": "",
    }
    # Without the long sequences, which touch no other memory and take minutes so; in ci also
    # without what takes all plans of a case, or many windows, of which others have one.
    left_out = tiers.choose(
        ci="long_sequences or depend_on_the_plan or small_tape or tf32", full="long_sequences"
    )
    options = ["-q", "-p", "no:cacheprovider", "--tier", tiers.choose(ci="dev", full="ci")]
    options += ["--one-in", tiers.choose(ci="4", full="1")]
    command = [sys.executable, "-m", "pytest", *options, "-k", f"not ({left_out})"]
    command += ["tests/emulated/test_cuda.py"]
    run(command, cwd=ROOT, env=environment)


@tiers.full
def test_every_barrier_is_missed(native_build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    """Each barrier, release and acquire taken away in turn: ThreadSanitizer or the numbers tell."""
    races = program(native_build("tsan", targets=("test_races",)), "test_races")
    listed = subprocess.run(
        [program(native_build("tests"), "test_races"), "--list"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.splitlines()
    # All that the kernels' text names.
    sources = [*sorted((ROOT / "csrc" / "cuda").glob("*.cuh")), ROOT / "csrc" / "cuda" / "gpu.h"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    named = set(re.findall(r'"((?:barrier|exchange|grid|forward|backward|product): [^"]+)"', text))
    assert named - set(listed) == WITHOUT_ORDER
    assert set(listed) <= named

    def caught(name: str) -> tuple[str, bool]:
        command = [races, "--quick", "--cell", "lstm", "--remove", name]
        command = without_address_randomisation(command)
        first = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
        return name, subprocess.run(command, env=first, capture_output=True).returncode != 0

    with ThreadPoolExecutor(2) as pool:
        results = dict(pool.map(caught, listed))
    with capsys.disabled():
        print()
        for name, found in results.items():
            print(f"  without '{name}': {'caught' if found else 'NOT caught'}")
    assert all(results.values())
