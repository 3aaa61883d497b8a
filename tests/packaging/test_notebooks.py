"""The notebooks are those of the pages in docs/start, and have their code."""

from __future__ import annotations

import json
import re

import pytest

import snippets
import tiers
from builds import ROOT

START, FOLDER = ROOT / "docs" / "start", ROOT / "docs" / "notebooks"
NAMES = sorted(path.stem for path in START.glob("*.md") if path.stem != "index")


def test_there_is_one_for_each_page() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"{name}.ipynb" for name in NAMES]
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_code_is_the_page_s(name: str) -> None:
    """So that a notebook runs as its page does, which test_snippets.py runs."""
    book = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    page = (START / f"{name}.md").read_text(encoding="utf-8")
    assert code == [block.code.rstrip("\n") for block in snippets.blocks(page)]
    assert not [cell for cell in book["cells"] if cell.get("outputs")]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    book = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    prose = "".join(line for cell in book["cells"] for line in cell["source"])
    targets = re.findall(r"\]\((?![a-z]+:)([^()#\s]+)", prose)
    assert targets
    assert not [target for target in targets if not (FOLDER / target).exists()]


@tiers.ci
@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_the_script_makes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jupytext")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import make_notebooks

    written = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    made = make_notebooks.notebook(START / f"{name}.md")
    assert written == made, "python tools/make_notebooks.py makes them anew"
