"""Links out of this folder, which the repository has as they are and the site has not.

A link to a document that is a page here leads to that page; a link to another file lets a reader
download it; a folder becomes its path, as code. Documents that a page includes keep their links,
which are relative to their own folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

# The pages that stand for documents outside this folder; but for the first they include them.
PAGES = {
    "README.md": "index.md",
    "examples/README.md": "gallery.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
}
# Code, in which brackets are no links, then links without brackets in their text, and the ends of
# others.
PARTS = re.compile(
    r"(?P<code>^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)$|(?<!\[)`+[^`\n]+`+)"
    r"|(?P<image>!?)\[(?P<text>[^][]*)\]\(\s*(?P<target>[^()\s]+)\s*\)"
    r"|\]\(\s*(?P<end>[^()\s]+)\s*\)",
    re.MULTILINE | re.DOTALL,
)


def led(target: str, folder: Path, page: Path, root: Path) -> str:
    """Where a link of a document in `folder` leads from a page, which has that document's text."""
    if target.startswith("#") or re.match(r"[a-z]+:", target):
        return target
    name, hash_, anchor = target.partition("#")
    file = Path(os.path.normpath(folder / name))
    outside = file.relative_to(root).as_posix() if file.is_relative_to(root) else ""
    if outside in PAGES and (root / "docs" / PAGES[outside]).exists():
        file = root / "docs" / PAGES[outside]
        if outside == "README.md":  # whose headings the first page has not
            hash_ = anchor = ""
    elif file.suffix == ".md" and file.is_file() and not file.is_relative_to(root / "docs"):
        # To MyST it would be a page that is not there.
        return "path:" + Path(os.path.relpath(file, page.parent)).as_posix()
    return Path(os.path.relpath(file, page.parent)).as_posix() + hash_ + anchor


def follow(text: str, folder: Path, page: Path, root: Path) -> str:
    """A document's text with its links as the page of the site has them."""

    def part(match: re.Match[str]) -> str:
        if match["code"]:
            return match["code"]
        if match["end"]:
            return f"]({led(match['end'], folder, page, root)})"
        name = match["target"].partition("#")[0]
        file = Path(os.path.normpath(folder / name))
        if name and file.is_dir() and file.is_relative_to(root):
            path = f"`{file.relative_to(root).as_posix()}/`"
            text = match["text"].strip("`")
            return path if text.rstrip("/") in path else f"{match['text']} ({path})"
        return f"{match['image']}[{match['text']}]({led(match['target'], folder, page, root)})"

    return PARTS.sub(part, text)


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    if page.suffix == ".md":
        source[0] = follow(source[0], page.parent, page, app.srcdir.parent)


def read_included(app: Sphinx, path: Path, parent: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(app.env.docname))
    included = Path(os.path.normpath(app.srcdir / path))
    if included.suffix == ".md":
        source[0] = follow(source[0], included.parent, page, app.srcdir.parent)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", read_page, priority=400)
    app.connect("include-read", read_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
