"""The order of the pages: hidden tables of contents, so that the Markdown files need none.

A page of `CONTENTS` is given its tables at its end, unless it has one of its own. An entry is a
page, or a pattern, which stands for all pages that match it and are named nowhere. In the place of
a page that is not there stand those below it. So a page that is added to a folder is on the site,
and one that nothing here matches fails the build.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from sphinx.application import Sphinx


class Table(NamedTuple):
    """A table of contents below a page."""

    caption: str
    entries: tuple[str, ...]


START = ("numpy", "torch", "keras", "jax", "cupy", "onnx")
GUIDE = ("conventions", "sequences", "training", "long-sequences", "streaming")
GUIDE += ("threads", "determinism", "quantization", "devices", "limits", "migrating")
LIBRARIES = ("numpy", "torch", "keras", "jax", "onnx", "weights", "serving", "processes")

CONTENTS = {
    "index": [
        Table(
            "", ("start/index", "guide/index", "gallery", "api/index", "benchmarks", "developers")
        )
    ],
    "start/index": [Table("", (*(f"start/{name}" for name in START), "start/*"))],
    "guide/index": [
        Table("By subject", (*(f"guide/{name}" for name in GUIDE), "guide/*", "promises")),
        Table("Each library in full", LIBRARIES),
    ],
    "developers": [
        Table("Work on it", ("contributing", "architecture", "glossary", "changes")),
        Table("Add to it", ("adding-a-cell", "adding-*")),
        Table("Builds and machines", ("wheels", "gpu", "gpu-h200", "gpu-predicted", "*")),
    ],
}
NAMED = {entry for tables in CONTENTS.values() for table in tables for entry in table.entries}
NAMED |= {"index"}


def pages_of(entry: str, found: set[str]) -> Iterator[str]:
    """The pages that an entry stands for."""
    if entry in found:
        yield entry
    elif entry in CONTENTS:
        for table in CONTENTS[entry]:
            for below in table.entries:
                yield from pages_of(below, found)
    elif "*" in entry:
        matching = (page for page in found - NAMED if fnmatchcase(page, entry))
        yield from sorted(page for page in matching if page.count("/") == entry.count("/"))


def table_texts(tables: list[Table], found: set[str]) -> Iterator[str]:
    """Tables as MyST writes them; a page stands in the first that has it."""
    written: set[str] = set()
    for caption, entries in tables:
        all_pages = (page for entry in entries for page in pages_of(entry, found))
        pages = [page for page in dict.fromkeys(all_pages) if page not in written]
        options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
        yield "\n".join(["```{toctree}", *options, "", *(f"/{page}" for page in pages), "```", ""])
        written.update(pages)


def add_tables(app: Sphinx, page: str, source: list[str]) -> None:
    """Give a page its tables, as it is read."""
    if page in CONTENTS and "{toctree}" not in source[0]:
        texts = table_texts(CONTENTS[page], set(app.env.found_docs))
        source[0] = "\n\n".join([source[0].rstrip(), *texts])


def reread(
    app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]
) -> set[str]:
    """The pages with tables, where a page came or went."""
    return set(CONTENTS) & set(env.found_docs) if added or removed else set()


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", add_tables)
    app.connect("env-get-outdated", reread)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
