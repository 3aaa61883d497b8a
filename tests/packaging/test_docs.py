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

import tiers
from builds import ROOT, X86, program, run

CELL = ROOT / "docs" / "adding-a-cell.md"
LEVEL = ROOT / "docs" / "adding-a-level.md"
MODE = ROOT / "docs" / "adding-a-mode.md"
PARTS = ["CMakeLists.txt", "CMakePresets.json", "pyproject.toml"]
PARTS += ["cmake", "csrc", "docs", "python", "tests", "tools", "bench"]


def all_blocks_with_a_path(text: str) -> list[tuple[str, str]]:
    """The fenced blocks that name a file, with its name."""
    found: list[tuple[str, str]] = re.findall(
        r"^```\w+ (\S+/\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    return found


def blocks_with_a_path(text: str) -> dict[str, str]:
    """The same of a page that has one for each file."""
    blocks = all_blocks_with_a_path(text)
    assert len(blocks) == len(dict(blocks))
    return dict(blocks)


def insert_below(path: Path, text: str) -> None:
    """Insert lines below the first of them, which the file has once."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    first, *others = text.splitlines(keepends=True)
    assert lines.count(first) == 1, (path, first)
    at = lines.index(first) + 1
    path.write_text("".join([*lines[:at], *others, *lines[at:]]), encoding="utf-8")


def copy_sources(folder: Path) -> None:
    for part in PARTS:
        source = ROOT / part
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=ignore)
        else:
            shutil.copy(source, folder / part)


def run_tests_of_copy(folder: Path, build: Path, keyword: str, *files: str) -> int:
    """How many tests of a copy of the sources passed, with the module of its build."""
    (module,) = build.glob("_cpu.*.so")
    shutil.copy(module, folder / "python" / "fastrnn")
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder / "python"),
        "FASTRNN_EMULATED_BUILD": str(build),
    }
    environment.pop("FASTRNN_ISA", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--tier", "ci", "-k", keyword]
    done = subprocess.run(
        [*command, *files],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        pytest.fail(done.stdout[-5000:], False)
    return int(re.search(r"(\d+) passed", done.stdout)[1])


@tiers.ci
def test_adding_a_cell(tmp_path: Path, native_build: Callable[..., Path]) -> None:
    """Follow docs/adding-a-cell.md in a copy of the sources and run the tests of the new cell."""
    copy_sources(tmp_path)
    blocks = blocks_with_a_path(CELL.read_text(encoding="utf-8"))
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
    passed = run_tests_of_copy(
        tmp_path,
        build,
        "janet and not wide",
        "tests/kernels/test_kernels.py",
        "tests/unit/test_reference.py",
        "tests/kernels/test_bits.py",
        "tests/emulated/test_cuda.py",
    )
    assert passed >= 150, f"only {passed} tests ran for the new cell"


EXPLAIN_LEVELS = """
import fastrnn
for dtype in ("float32", "float64"):
    print(fastrnn.explain(fastrnn.LSTM(4, 6, dtype=dtype), (3, 2, 4))["level"])
"""


@tiers.ci
@pytest.mark.skipif(not X86, reason="the document's level is one of x86-64")
def test_adding_a_level(tmp_path: Path, native_build: Callable[..., Path]) -> None:
    """Follow docs/adding-a-level.md in a copy of the sources and run the new level's tests."""
    copy_sources(tmp_path)
    blocks = blocks_with_a_path(LEVEL.read_text(encoding="utf-8"))
    header, table = "csrc/simd/vec_fma3.h", "csrc/simd/levels.def"
    assert list(blocks) == [header, table]
    (tmp_path / header).write_text(blocks[header], encoding="utf-8")
    rows = (tmp_path / table).read_text(encoding="utf-8")
    before, row, after = rows.partition("FASTRNN_LEVEL(avx2,")
    (tmp_path / table).write_text(before + blocks[table] + row + after, encoding="utf-8")
    # The LSTM alone, with its projection, so that little has to be built.
    lines = (
        "FASTRNN_CELL(lstm, Lstm, lstm.h)\n"
        "FASTRNN_PROJECTED(lstm_projected, Projected<Lstm>, projected.h)\n"
    )
    (tmp_path / "csrc/cells/registry.h").write_text(lines, "utf-8")

    build = native_build(
        "release",
        "-DFASTRNN_LEVELS=scalar;fma3",
        "-DFASTRNN_TESTS=ON",
        "-DFASTRNN_CUDA=OFF",
        source=tmp_path,
        targets=("_cpu", "test_math_fma3"),
    )
    run([str(build / "tests" / "cpp" / "test_math_fma3")])
    keyword = "test_against_reference and lstm and fma3"
    passed = run_tests_of_copy(tmp_path, build, keyword, "tests/kernels/test_kernels.py")
    assert passed >= 30, f"only {passed} tests ran for the new level"
    levels = subprocess.run(
        [sys.executable, "-c", EXPLAIN_LEVELS],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "python"), "FASTRNN_ISA": "fma3"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split()
    assert levels == ["fma3", "scalar"], "a level that serves float32 alone"


@tiers.ci
def test_adding_a_mode(tmp_path: Path, native_build: Callable[..., Path]) -> None:
    """Follow docs/adding-a-mode.md in a copy of the sources and run the new mode's tests."""
    copy_sources(tmp_path)
    blocks = all_blocks_with_a_path(MODE.read_text(encoding="utf-8"))
    kernel, host = "csrc/cuda/rowwise.cuh", "csrc/cuda/rowwise_mode.cpp"
    with_lines = [f"csrc/cuda/{name}" for name in ("kernels.h", "kernel.cu.in", "modes.def")]
    assert {path for path, _ in blocks} == {kernel, host, *with_lines}, "five files, and no other"
    for path, text in blocks:
        assert (ROOT / path).exists() == (path in with_lines)
        if path in with_lines:
            insert_below(tmp_path / path, text)
        else:
            (tmp_path / path).write_text(text, encoding="utf-8")
    # Two cells, so that little has to be built: one with two states, one with a split gate.
    cells = "FASTRNN_CELL(lstm, Lstm, lstm.h)\nFASTRNN_CELL(gru, Gru, gru.h)\n"
    (tmp_path / "csrc/cells/registry.h").write_text(cells, "utf-8")

    build = native_build(
        "release",
        "-DFASTRNN_LEVELS=scalar",
        "-DFASTRNN_TESTS=ON",
        "-DFASTRNN_CUDA=OFF",
        source=tmp_path,
        targets=("_cpu", "_cuda_emulated", "test_races"),
    )
    passed = run_tests_of_copy(tmp_path, build, "rowwise", "tests/emulated/test_cuda.py")
    assert passed >= 130, f"only {passed} tests ran for the new mode"
    races = [program(build, "test_races"), "--cell", "lstm"]
    run(races)
    barriers = re.findall(r'sync_block\("([^"]+)"\)', dict(blocks)[kernel])
    assert len(barriers) == 2
    for barrier in barriers:
        done = subprocess.run([*races, "--remove", barrier], stdout=subprocess.PIPE, text=True)
        assert "FAILED: rowwise lstm" in done.stdout, f"without '{barrier}'"


# ---- links ---------------------------------------------------------------------------------------

DOCUMENTS = [*sorted(ROOT.glob("*.md")), ROOT / "examples" / "README.md"]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))


def prose(path: Path) -> str:
    """A document without its code, in which brackets are no links and # opens no heading."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"(?<!\[)`[^`\n]*`", "", text)


def links(path: Path) -> list[str]:
    found: list[str] = re.findall(r"\]\(([^()\s]+)\)", prose(path))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(path: Path) -> set[str]:
    """What the headings of a document are called in links, by GitHub's rule."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    broken = []
    for target in links(path):
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    assert not broken_links(path)


def test_every_document_is_found_from_the_readme() -> None:
    found, todo = set(), [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            files = ((path.parent / link.partition("#")[0]).resolve() for link in links(path))
            todo += [file for file in files if file.suffix == ".md"]
    assert not set(DOCUMENTS) - found


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `name`: here\n\n```sh\n# no heading\n```\n")
    path = tmp_path / "page.md"
    good = ["other.md", "other.md#a-name-here", "#the-page", "https://example.org/none"]
    bad = ["none.md", "other.md#none", "other.md#no-heading", "#none", "images/none.png"]
    text = "".join(f"[`code`]({target}) and ![a picture]({target})\n" for target in good + bad)
    path.write_text(f"# The page\n\n{text}\n`[code](none)`\n\n    [code](none)\n")
    assert broken_links(path) == [target for target in bad for _ in range(2)]
