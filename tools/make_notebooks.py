"""Makes the notebooks in docs/notebooks of the pages in docs/start.

    python tools/make_notebooks.py

A page's python blocks become cells of code, and the rest Markdown. The bytes depend on the page
alone: no outputs, identifiers by number, and nothing of the machine or of Jupytext's version. It
needs Jupytext, which the extra `docs` has.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jupytext

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "notebooks"
PAGES = sorted(set((ROOT / "docs" / "start").glob("*.md")) - {ROOT / "docs" / "start" / "index.md"})

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook(page: Path) -> str:
    """The notebook of a page, as its file is written."""
    text = page.read_text(encoding="utf-8")
    # Commands of a shell would become cells that run them, so they get a name that is none.
    text = re.sub(r"^```sh$", "```console", text, flags=re.MULTILINE)
    text = re.sub(r"\]\((?=[\w-]+\.md)", "](../start/", text)  # the pages beside it
    made = f"This notebook is made from [docs/start/{page.name}](../start/{page.name})."
    title, _, rest = text.partition("\n")
    cells = jupytext.reads(f"{title}\n\n{made}\n{rest}", fmt="md").cells
    whole = {
        "cells": [cell(each, k) for k, each in enumerate(cells)],
        "metadata": METADATA,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def cell(made: Any, k: int) -> dict[str, Any]:
    """A cell with what the format asks for and no more."""
    code = {"execution_count": None, "outputs": []} if made.cell_type == "code" else {}
    return {
        "cell_type": made.cell_type,
        "id": f"cell-{k}",
        "metadata": {},
        **code,
        "source": made.source.splitlines(keepends=True),
    }


def main() -> None:
    """Write them all."""
    FOLDER.mkdir(exist_ok=True)
    for page in PAGES:
        (FOLDER / f"{page.stem}.ipynb").write_text(notebook(page), encoding="utf-8")


if __name__ == "__main__":
    main()
