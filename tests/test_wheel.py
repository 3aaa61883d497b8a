"""The wheel: built offline from the sdist, repaired, in a clean environment, beside torch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT, run

sys.path.insert(0, str(ROOT / "tools"))
import repair_wheel as tool

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="wheels are built on Linux"
)

# What every program here ends with: the OpenMP runtimes of its process.
RUNTIMES = """
maps = {line.split()[-1] for line in open("/proc/self/maps") if "omp" in line.split("/")[-1]}
print(json.dumps({"runtimes": sorted(maps), "result": result}))
"""
LSTM = """
layer = fastrnn.LSTM(64, 64, seed=0)
fastrnn.set_num_threads(2)
def recurrent():
    return layer(np.ones((100, 64, 64), np.float32))[0]
result = float(recurrent().sum())
"""


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from a copy of the sources, without what git does not track."""
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "source"
    ignore = shutil.ignore_patterns("*.so", "__pycache__", ".*", "build")
    shutil.copytree(ROOT, source, ignore=ignore)
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", str(folder)]
    run([*command, str(source)])
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def built(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the scalar level alone, from the sdist and without an index."""
    folder = tmp_path_factory.mktemp("built")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder)]
    level = ["-C", "cmake.define.FASTRNN_LEVELS=scalar"]
    run([sys.executable, "-m", "pip", "wheel", *options, *level, str(sdist)])
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def repaired(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tool.repair(built, tmp_path_factory.mktemp("repaired"))


@pytest.fixture(scope="module")
def clean(repaired: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has NumPy and the wheel, and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    (site,) = folder.glob("lib/python*/site-packages")
    numpy = Path(np.__file__).parent
    for part in (numpy, numpy.with_name("numpy.libs")):
        if part.exists():
            (site / part.name).symlink_to(part)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index"]
    run([*install, "--no-deps", str(repaired)])
    return python


def output(python: Path, imports: str, code: str) -> Any:
    """What a program prints: its OpenMP runtimes and its result."""
    program = f"import json, sys\n{imports}\nimport numpy as np\n{code}\n{RUNTIMES}"
    done = subprocess.run([python, "-E", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_sdist_holds_what_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    for path in ("csrc", "python/fastrnn", "tests", "bench", "tools", "examples"):
        for file in (ROOT / path).rglob("*"):
            if file.suffix in {".h", ".cpp", ".in", ".py", ".pyi"} and "build" not in file.parts:
                assert file.relative_to(ROOT).as_posix() in names
    assert {"CMakeLists.txt", "pyproject.toml", "LICENSE", "README.md"} <= names


def test_repaired_wheel(repaired: Path) -> None:
    """One libgomp under its own name, found beside the module; nothing else is brought along."""
    facts = tool.show(repaired)
    assert re.fullmatch(r"manylinux_2_\d+_\w+", facts["tag"])
    assert facts["libraries"] == ["fastrnn/libgomp.so.1"]
    assert facts["search"] == "$ORIGIN"
    assert "libgomp.so.1" in facts["needed"]
    assert facts["bytes"] < 10e6
    verdict = subprocess.run(
        [Path(sys.executable).with_name("auditwheel"), "show", repaired],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f'tag: "{facts["tag"]}"' in " ".join(verdict.split())


def test_default_repair_would_bring_a_second_runtime(built: Path, tmp_path: Path) -> None:
    """The reason for tools/repair_wheel.py; should this fail one day, it may go."""
    auditwheel = Path(sys.executable).with_name("auditwheel")
    run([str(auditwheel), "repair", "-w", str(tmp_path), str(built)])
    (wheel,) = tmp_path.glob("*.whl")
    assert any(re.search(r"libgomp-\w+\.so", name) for name in tool.show(wheel)["libraries"])


def test_clean_environment(clean: Path) -> None:
    found = output(clean, "import fastrnn", LSTM)
    (runtime,) = found["runtimes"]
    assert runtime.endswith("site-packages/fastrnn/libgomp.so.1")
    done = subprocess.run(
        [clean, "-E", "-c", "import fastrnn.torch"], capture_output=True, text=True
    )
    assert "pip install 'fastrnn[torch]'" in done.stderr


@pytest.mark.parametrize("first", ["torch", "fastrnn"])
def test_one_runtime_beside_torch(clean: Path, first: str) -> None:
    """Whichever comes first serves both, and calls in turns are not slowed down by each other."""
    torch = pytest.importorskip("torch")
    site = Path(torch.__file__).parent.parent
    imports = {"torch": "import torch, fastrnn", "fastrnn": "import fastrnn, torch"}[first]
    code = (
        LSTM
        + """
import time
import fastrnn.torch
x = torch.randn(768, 768)
torch.set_num_threads(2)
def product():
    return x @ x
def seconds(*calls):
    start = time.perf_counter()
    for _ in range(10):
        for call in calls:
            call()
    return time.perf_counter() - start
seconds(product, recurrent)
rounds = [seconds(product, recurrent) / (seconds(product) + seconds(recurrent)) for _ in range(7)]
result = [torch.__version__, sorted(rounds)[3]]
"""
    )
    # Behind the clean environment's own folder, so that fastrnn is the wheel's.
    found = output(clean, f"sys.path.append({str(site)!r})\n{imports}", code)
    (runtime,) = found["runtimes"]
    assert ("/torch/" in runtime) == (first == "torch")
    version, ratio = found["result"]
    assert version == torch.__version__
    assert ratio < 2.0
