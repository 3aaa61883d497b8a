"""Every python block of every document runs, and prints what the document says it prints.

How a page is read and run stands in tests/snippets.py. A page has a process of its own, so it may
set what a process sets once, such as Keras's backend. Those that need NumPy alone are of the tier
`dev`; what needs other packages, and the emulated device for CuPy, is of `ci`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fake_cupy
import fake_gpu
import snippets
import tiers
from builds import ROOT

START = ROOT / "docs" / "start"
RUNNER = ROOT / "tests" / "snippets.py"
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
NEEDS = {page: snippets.packages(snippets.blocks(page.read_text("utf-8"))) for page in PAGES}
GPU = {page for page, needs in NEEDS.items() if "cupy" in needs}


def pages_with_blocks() -> Iterator[Any]:
    """All but those for a GPU, as parameters."""
    for page in PAGES:
        if page not in GPU and snippets.blocks(page.read_text(encoding="utf-8")):
            marks = [tiers.ci] if NEEDS[page] else []
            yield pytest.param(page, marks=marks, id=page.relative_to(ROOT).as_posix())


def complaint(page: Path, folder: Path, *options: str) -> str:
    """What is wrong with a page; empty where nothing is."""
    # Keras has a folder of settings; torch's threads wait by spinning, which a busy machine feels.
    given = {"KERAS_BACKEND": "torch", "KERAS_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(page), *options],
        cwd=folder,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
    )
    assert bool(done.returncode) == bool(done.stderr), done
    return done.stderr


@pytest.mark.parametrize("page", list(pages_with_blocks()))
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    tiers.skip_without(*sorted(NEEDS[page]))
    wrong = complaint(page, tmp_path)
    assert not wrong


@tiers.ci
@pytest.mark.parametrize("page", sorted(GPU), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_on_a_gpu_run(
    page: Path, tmp_path: Path, emulated_engine: ModuleType
) -> None:
    assert NEEDS[page] == {"cupy"}
    wrong = complaint(page, tmp_path, "--emulated", str(emulated_engine.__file__))
    assert not wrong


def test_the_pages_for_beginners_have_blocks_with_output() -> None:
    """So that no page passes because nothing of it was read."""
    pages = sorted({*PAGES} & {*START.glob("*.md")} - {START / "index.md"})
    assert len(pages) == 6
    for page in pages:
        found = snippets.blocks(page.read_text(encoding="utf-8"))
        assert len([block for block in found if block.output]) >= 4, page
        assert page in GPU or "cupy" not in NEEDS[page]


# ---- how a page is read --------------------------------------------------------------------------

PAGE = """\
# A page

```python
x = 1.25
print(x)
```

It prints

```text
1.25
```

<!-- python
x = 2
-->

<!-- not run: a part of another program -->

```python
return x
```

```text
no output of it
```

````{note}
  ```python
  print(x)
  ```
````

```sh
not python
```

```text
no output either
```

```python docs/with-a-path.py
not run
```
"""


def test_blocks_are_found() -> None:
    found = snippets.blocks(PAGE)
    assert [block.code for block in found] == [
        "x = 1.25\nprint(x)\n",
        "x = 2\n",
        "return x\n",
        "print(x)\n",
    ]
    assert [block.output for block in found] == ["1.25\n", None, None, None]
    assert [block.runs for block in found] == [True, True, False, True]
    firsts = [PAGE.splitlines()[block.line].strip() for block in found]
    assert firsts == [block.code.splitlines()[0] for block in found]


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("import numpy as np, json\nimport fastrnn", set()),
        ("from fastrnn import weights, functional", set()),
        ("import fastrnn.torch", {"torch"}),
        ("from fastrnn import torch", {"torch"}),
        ("from fastrnn.keras import LSTM", {"keras"}),
        ("from fastrnn.jax.nn.flax import LSTM", {"flax"}),
        ("def f():\n    import cupy as cp\n    from onnx import helper", {"cupy", "onnx"}),
    ],
)
def test_packages_that_a_page_needs(code: str, needed: set[str]) -> None:
    assert snippets.packages([snippets.Block(0, code)]) == needed


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ("loss 0.81", "loss 0.84\n"),
        ("loss 1.5e-07 at step 60", "loss 1.8e-07 at step 60"),
        ("[[ 0.1 -0.2]\n [ 1.    3.5]]", "[[ 0.1  -0.2]\n   [ 1.  3.5]]"),
        ("3 calls on ...: lstm", "3 calls on fastrnn: lstm"),
        ("  a\n  b", "a\n b\n"),
        ("99.8% of 40", "100.0% of 40"),
    ],
)
def test_what_agrees(said: str, printed: str) -> None:
    assert snippets.agrees(said, printed)


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ("loss 0.81", "loss 0.86"),
        ("step 60", "step 61"),
        ("loss 0.81", "loss nan"),
        ("loss 0.01", "loss -0.04"),
        ("loss 1.5e-07", "loss 1.5e-06"),
        ("True", "True\nTrue"),
        ("True True", "TrueTrue"),
        ("[0. 0.]", "[0. 1.]"),
        ("3 calls on ...: lstm", "3 calls on fastrnn: gru"),
    ],
)
def test_what_does_not_agree(said: str, printed: str) -> None:
    assert not snippets.agrees(said, printed)


def test_the_stand_in_for_cupy_is_no_numpy() -> None:
    there = fake_cupy.asarray([1.0, 2.0])
    total = fake_cupy.sum(there)
    assert isinstance(total, fake_gpu.Array)
    assert fake_cupy.asnumpy(total) == 3
    with pytest.raises(TypeError, match="do not mix"):
        fake_cupy.sum(np.ones(2))
    with pytest.raises(AttributeError, match="no_such_function"):
        _ = fake_cupy.no_such_function


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "page.md:2: says\n    2\nand the block"),
        ("```python\nx = 1\nx.y\n```\n", 'page.md", line 3, in <module>'),
        ("```python\nimport warnings\nwarnings.warn('old')\n```\n", "page.md: UserWarning: old"),
        ("<!-- not run: why -->\n\n```python\nx = = 1\n```\n", 'page.md", line 4'),
        ("<!-- python\nassert False\n-->\n", "AssertionError"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(page: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(page)
    assert error in complaint(tmp_path / "page.md", tmp_path)
