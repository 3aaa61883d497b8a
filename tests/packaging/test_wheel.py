"""The wheel: built offline from the sdist, repaired, in a clean environment, beside torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiers
from builds import ROOT, run
from fastrnn import _native

sys.path.insert(0, str(ROOT / "tools"))
import cuda_resources as resources
import repair_wheel as tool

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="wheels are built on Linux"
)

# A closed port: whatever asks an index in spite of the options fails.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
# On two quiet cores one runtime gives 1.0, two give 13 where fastrnn is imported first; a busy
# machine hides the difference.
SLOW = 3.0

# What the preset `wheel` adds to a build for this machine.
PRESETS = json.loads((ROOT / "CMakePresets.json").read_text(encoding="utf-8"))["configurePresets"]
(WHEEL,) = (preset["cacheVariables"] for preset in PRESETS if preset["name"] == "wheel")
NVCC = shutil.which("nvcc")
# Architectures of the wheel's CUDA module: in ci that of the card whose figures docs/gpu.md has,
# and the newest, since all of them take nvcc ten minutes of a processor.
ARCHITECTURES = tiers.choose(dev="", ci="90-real;120", full=WHEEL["CMAKE_CUDA_ARCHITECTURES"])
needs_nvcc = pytest.mark.skipif(not NVCC, reason="kernels for a GPU are compiled by nvcc")

LSTM = """
import json
import numpy as np
fastrnn.set_num_threads(2)
layer = fastrnn.LSTM(64, 64, seed=0)
def recurrent():
    return layer(np.ones((20, 16, 64), np.float32))[0]
assert np.isfinite(recurrent()).all()
"""
# What every program ends with: where fastrnn is, and the OpenMP runtimes of the process.
RUNTIMES = """
maps = {line.split()[-1] for line in open("/proc/self/maps") if "omp" in line.split("/")[-1]}
print(json.dumps([fastrnn.__file__, sorted(maps)]))
"""
MIXED = """
import time
torch.set_num_threads(2)
x = torch.randn(256, 256)
def product():
    return torch.mm(x, x)
def seconds(*calls):
    start = time.perf_counter()
    for _ in range(10):
        for call in calls:
            call()
    return time.perf_counter() - start
def ratio():
    rounds = [seconds(product, recurrent) / (seconds(product) + seconds(recurrent))
              for _ in range(15)]
    return sorted(rounds)[7]
seconds(product, recurrent)
print(json.dumps(ratio()))
"""


Once = Callable[[Callable[[Path], Path], str], Path]


def make_sdist(once: Once) -> Path:
    def make(folder: Path) -> Path:
        command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", str(folder)]
        run([*command, str(ROOT)], env={**os.environ, **OFFLINE})
        (archive,) = folder.glob("*.tar.gz")
        return archive

    return once(make, "sdist")


def make_wheel(once: Once) -> Path:
    return once(lambda folder: build_wheel(make_sdist(once), folder), "built")


sdist = pytest.fixture(make_sdist, scope="module", name="sdist")
built = pytest.fixture(make_wheel, scope="module", name="built")


def build_wheel(sdist: Path, folder: Path) -> Path:
    """The one build: from the sdist, without an index; in ci with one level, as the others are the
    same files again, which the installation of these tests has compiled.

    With the CUDA module, where there is nvcc; `build.log` is beside it.
    """
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir", "-v"]
    levels = tiers.choose(ci="scalar", full=";".join(_native.engine.built_levels()))
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder)]
    cuda = {**WHEEL, "CMAKE_CUDA_ARCHITECTURES": ARCHITECTURES} if NVCC else {}
    defined = {"FASTRNN_LEVELS": levels, **cuda}
    settings = [f"-Ccmake.define.{name}={value}" for name, value in defined.items()]
    log = folder / "build.log"
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            [*command, *settings, str(sdist)],
            cwd=folder,
            env={**os.environ, **OFFLINE},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        pytest.fail(log.read_text(encoding="utf-8")[-8000:], False)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def repaired(once: Once, built: Path) -> Path:
    return once(lambda folder: tool.repair(built, folder), "repaired")


def environment(folder: Path, wheel: Path) -> Path:
    """The Python of an environment that has NumPy and a wheel, and nothing else."""
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    (site,) = folder.glob("lib/python*/site-packages")
    numpy = Path(np.__file__).parent
    for part in (numpy, numpy.with_name("numpy.libs")):
        if part.exists():
            (site / part.name).symlink_to(part)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index"]
    # With a PYTHONPATH, pip may find fastrnn there and be content.
    apart = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run([*install, "--no-deps", str(wheel)], env=apart)
    return python


@pytest.fixture(scope="module")
def clean(once: Once, repaired: Path) -> Path:
    return once(lambda folder: environment(folder, repaired), "clean")


def output(python: Path, *code: str) -> Any:
    """What a program prints, in an environment that no variable leads out of."""
    done = subprocess.run([python, "-I", "-c", "\n".join(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def beside_torch(first: str) -> str:
    """Import both, in one order or the other; torch is the running interpreter's."""
    torch = pytest.importorskip("torch", minversion="2.13")  # older ones rename their libgomp
    order = {"torch": "import torch, fastrnn", "fastrnn": "import fastrnn, torch"}[first]
    # Behind the environment's own folder, so that fastrnn is the wheel's.
    return f"import sys\nsys.path.append({str(Path(torch.__file__).parent.parent)!r})\n{order}"


def test_sdist_holds_what_a_build_and_the_tests_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    wanted = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "pyproject.toml"}
    wanted |= {"CITATION.cff", "Dockerfile", ".dockerignore", ".gitignore", "CONTRIBUTING.md"}
    folders = ["csrc", "python", "tests", "bench", "tools", "examples", "docs", "cmake"]
    for folder in (*folders, "conda", ".ci", ".github"):
        wanted |= {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file()
            and path.suffix not in {".so", ".pyc", ".npz"}
            # What a build of the site writes, which git ignores.
            and "generated" not in path.parts
        }
    assert not wanted - names
    assert not [name for name in names if name.startswith((".git/", ".venv", "build/"))]
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


@tiers.ci
def test_build_for_this_machine_finds_its_libgomp(built: Path, tmp_path: Path) -> None:
    """$ORIGIN with no copy in it falls through to the system's."""
    found, runtimes = output(environment(tmp_path, built), "import fastrnn", LSTM, RUNTIMES)
    (runtime,) = runtimes
    assert found.startswith(str(tmp_path))
    assert re.search(r"/libgomp\.so\.1[.\d]*$", runtime)
    assert not runtime.startswith(str(tmp_path))


@tiers.ci
def test_repaired_wheel(repaired: Path) -> None:
    """Tag, libraries, search paths, licence; the wheel is small."""
    assert tool.check(repaired) == []
    assert repaired.stat().st_size < 30e6
    show = [str(Path(sys.executable).with_name("auditwheel")), "show", str(repaired)]
    shown = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    assert re.search(
        r'consistent with the following platform tag: "manylinux_', " ".join(shown.split())
    )


@tiers.ci
def test_the_benchmark_of_the_wheel(clean: Path, tmp_path: Path) -> None:
    """In an empty folder, with NumPy alone; it says what brings the others."""
    options = ["--shape", "5,2,3,4", "--rounds", "1", "--threads", "1", "--json", "run.json"]
    done = subprocess.run(
        [clean, "-I", "-m", "fastrnn", "bench", *options],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for packages in ("torch", "onnx onnxruntime"):
        assert f"left out: not installed: pip install {packages}\n" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "run.json").read_text("utf-8").splitlines()]
    assert [(row["cell"], row["mode"]) for row in rows] == [
        (cell, mode) for cell in ("rnn_tanh", "lstm", "gru") for mode in ("forward", "train")
    ]
    assert all(row["share"] > 0 for row in rows)


def compiled_architectures() -> set[str]:
    return {each.removesuffix("-real") for each in ARCHITECTURES.split(";")}


@needs_nvcc
@tiers.ci
def test_registers_are_those_of_the_table(built: Path) -> None:
    """docs/cuda-registers.txt; by another nvcc only that nothing is spilled and nothing is missing.

    That a spilled register fails the build is what the build's options say (CMakeLists.txt).
    """
    log = (built.parent / "build.log").read_text(encoding="utf-8")
    lines = list(resources.registers_table(log))
    whole = (ROOT / "docs" / "cuda-registers.txt").read_text(encoding="utf-8").splitlines()
    table = list(resources.of_architectures(whole, compiled_architectures()))
    if lines[0] == table[0]:
        assert lines == table
    assert [line.split("  ")[0] for line in lines] == [line.split("  ")[0] for line in table]
    assert not [line for line in lines[4:] if "spilled" in line]


@needs_nvcc
def test_a_warning_of_another_nvcc_stops_no_build_for_this_machine(tmp_path: Path) -> None:
    """Only wheels and tests, whose nvcc is known, are strict."""
    options = ["-DFASTRNN_MODULE=OFF", "-DFASTRNN_CUDA=ON", "-DFASTRNN_LEVELS=scalar"]
    run(["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(tmp_path), *options])
    ninja = (tmp_path / "build.ninja").read_text(encoding="utf-8")
    assert "--fmad=false" in ninja
    assert "-Werror" not in ninja
    assert WHEEL["FASTRNN_CUDA_STRICT"] == "ON"


@needs_nvcc
@tiers.ci
def test_architectures_of_the_wheel(built: Path, tmp_path: Path) -> None:
    """Machine code for each, and PTX of the newest for GPUs to come."""
    run([sys.executable, "-m", "wheel", "unpack", "-d", str(tmp_path), str(built)])
    (module,) = tmp_path.rglob("_cuda.*.so")
    log = (built.parent / "build.log").read_text(encoding="utf-8")
    compiled = {a for uses in resources.read_log(log).values() for a in uses}
    assert compiled == compiled_architectures()
    *others, newest = WHEEL["CMAKE_CUDA_ARCHITECTURES"].split(";")
    assert set(ARCHITECTURES.split(";")) <= {*others, newest}
    assert all(each.endswith("-real") for each in others), "machine code alone"
    assert newest.isdigit(), "to CMake: machine code and PTX"
    assert module.stat().st_size < 30e6


@needs_nvcc
@tiers.ci
def test_cuda_layers_without_a_driver(clean: Path) -> None:
    """The repaired wheel is imported, says what is missing, and the CPU's layers work."""
    code = """
import json, fastrnn
import numpy as np
why = fastrnn.cuda.why_not_available()
try:
    fastrnn.LSTM(3, 4, device="cuda")
except RuntimeError as error:
    refused = str(error)
else:
    refused = ""
fastrnn.LSTM(3, 4)(np.zeros((2, 1, 3), np.float32))
print(json.dumps([fastrnn.cuda.is_available(), why, refused]))
"""
    available, why, refused = output(clean, code)
    if available:
        assert why == ""
        assert "array-api-compat" in refused
    else:
        assert why.startswith(("cudaGetDeviceCount: cudaError", "no device"))
        assert refused == f"[lstm] a GPU must be available, got none: {why}"


@tiers.ci
def test_check_refuses_a_wheel_that_was_not_repaired(built: Path) -> None:
    wrong = "\n".join(tool.check(built))
    assert "tag must be manylinux, got linux_" in wrong
    assert "libraries must be fastrnn/libgomp.so.1 alone, got []" in wrong


@tiers.ci
def test_check_refuses_a_default_repair(built: Path, tmp_path: Path) -> None:
    """The reason for tools/repair_wheel.py: alone, auditwheel brings a second, renamed runtime."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run(
        ["auditwheel", "repair", "-w", str(tmp_path), str(built)],
        env={**os.environ, "PATH": tools},
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert re.search(r"alone, got \['fastrnn\.libs/libgomp-\w+\.so", "\n".join(tool.check(wheel)))


@tiers.ci
def test_clean_environment(clean: Path) -> None:
    """Without torch: an LSTM on two threads, and the wheel's libgomp alone."""
    run([str(clean), "-I", "-c", "import importlib.util as u; assert not u.find_spec('torch')"])
    run([str(clean), "-I", tool.__file__, "smoke"])


@tiers.ci
def test_the_installed_wheel_checks_itself(clean: Path, tmp_path: Path) -> None:
    run([str(clean), "-I", "-m", "fastrnn", "check"], cwd=tmp_path)


@pytest.mark.parametrize("first", ["torch", "fastrnn"])
@tiers.ci
def test_one_runtime_beside_torch(clean: Path, first: str) -> None:
    """Whichever comes first brings the libgomp of both."""
    use = "torch.mm(torch.ones(256, 256), torch.ones(256, 256))"
    found, runtimes = output(clean, beside_torch(first), LSTM, use, RUNTIMES)
    (runtime,) = runtimes
    assert Path(found).is_relative_to(clean.parent.parent)
    assert ("/torch/" in runtime) == (first == "torch")
    assert Path(runtime).name == "libgomp.so.1"


@pytest.mark.parametrize("first", ["torch", "fastrnn"])
@tiers.ci
def test_calls_in_turns_are_not_slow(clean: Path, first: str) -> None:
    """Against the same calls apart, medians of short rounds; a busy machine may have more tries."""
    program = beside_torch(first)
    ratios: list[float] = []
    while not ratios or (ratios[-1] > SLOW and len(ratios) < 3):
        ratios.append(output(clean, program, LSTM, MIXED))
    assert ratios[-1] < SLOW, ratios
