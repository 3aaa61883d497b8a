"""What the documents say is done, and the result works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
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


def python_blocks(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    found: list[str] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found


def readme_examples() -> list[str]:
    return python_blocks(ROOT / "README.md")


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


def test_the_examples_of_the_page_on_numpy_run() -> None:
    names: dict[str, object] = {}
    first, second = python_blocks(ROOT / "docs" / "numpy.md")
    exec(compile(first, "numpy.md", "exec"), names)
    names["x"] = np.random.default_rng(0).standard_normal((3, 2, 80), np.float32)
    exec(compile(second, "numpy.md", "exec"), names)
    again = names["layer"].forward(names["x"])[0]
    assert again.tobytes() == names["y"].tobytes()
    assert names["layer"].forward(names["x"])[0].tobytes() != again.tobytes()


# ---- links ---------------------------------------------------------------------------------------

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md"]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))


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
