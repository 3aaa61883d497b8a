"""What the documents say is done, and the result works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builds import ROOT, X86, run

DOCUMENT = ROOT / "docs" / "adding-a-cell.md"
PARTS = ["CMakeLists.txt", "CMakePresets.json", "pyproject.toml"]
PARTS += ["cmake", "csrc", "docs", "python", "tests", "tools"]


def blocks_with_a_path(text: str) -> dict[str, str]:
    """The fenced blocks that name a file, by file."""
    found = re.findall(r"^```\w+ (\S+/\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def test_adding_a_cell(tmp_path: Path, native_build: Callable[..., Path]) -> None:
    """Follow docs/adding-a-cell.md in a copy of the sources and run the tests of the new cell."""
    for part in PARTS:
        source = ROOT / part
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        if source.is_dir():
            shutil.copytree(source, tmp_path / part, ignore=ignore)
        else:
            shutil.copy(source, tmp_path / part)
    blocks = blocks_with_a_path(DOCUMENT.read_text(encoding="utf-8"))
    assert list(blocks) == [
        "csrc/cells/janet.h",
        "python/fastrnn/reference/janet.py",
        "csrc/cells/registry.h",
    ]
    for path, text in blocks.items():
        assert (tmp_path / path).exists() == path.endswith("registry.h")
        # The registry keeps the new line alone, so that only the new cell has to be built.
        (tmp_path / path).write_text(text, encoding="utf-8")

    levels = "scalar;avx2" if X86 else "scalar"
    build = native_build(
        "release",
        f"-DFASTRNN_LEVELS={levels}",
        "-DFASTRNN_TESTS=ON",
        "-DFASTRNN_CUDA=OFF",
        source=tmp_path,
        targets=("_cpu", "test_cells", "_cuda_emulated"),
    )
    run([str(build / "tests" / "cpp" / "test_cells")])
    (module,) = build.glob("_cpu.*.so")
    shutil.copy(module, tmp_path / "python" / "fastrnn")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "python"),
        "FASTRNN_EMULATED_BUILD": str(build),
    }
    environment.pop("FASTRNN_ISA", None)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-k",
            "janet and not wide",
            "-p",
            "no:cacheprovider",
            "tests/kernels/test_kernels.py",
            "tests/unit/test_reference.py",
            "tests/kernels/test_bits.py",
            "tests/emulated/test_cuda.py",
        ],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        pytest.fail(done.stdout[-5000:], False)
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed >= 150, f"only {passed} tests ran for the new cell"


def readme_examples() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found: list[str] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found


def test_the_readme_s_example_runs() -> None:
    example, _ = readme_examples()
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["dx"].shape == names["x"].shape


def test_the_readme_s_example_with_torch_runs(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    _, example = readme_examples()
    model = torch.nn.Sequential(torch.nn.GRU(3, 4))
    names: dict[str, object] = {"model": model}
    exec(compile(example, "README.md", "exec"), names)
    assert "0: now fastrnn.torch.GRU" in capsys.readouterr().out
    assert names["layer"](torch.zeros(2, 1, 80))[0].shape == (2, 1, 512)
