"""The directive ``commands``: a section for each command of ``python -m fastrnn``, from its parser.

Options are entries of the index and of the search, and links may lead to them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import rst
from sphinx.util.docutils import SphinxDirective

from fastrnn.__main__ import _parser as parser

WIDTH = 72  # of a usage, which a page shows without scrolling


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below a parser."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def usage(command: argparse.ArgumentParser) -> Iterator[str]:
    """How a command is written, of one width on every terminal."""
    formatter = argparse.HelpFormatter(command.prog, width=WIDTH)
    formatter.add_usage(command.usage, command._actions, command._mutually_exclusive_groups, "")
    yield from formatter.format_help().rstrip().splitlines()


def entry(command: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    """What the reference says of one argument."""
    formatter = argparse.HelpFormatter(command.prog)
    value = "" if action.nargs == 0 else formatter._format_args(action, action.dest.upper())
    names = [f"{name} {value}".strip() for name in action.option_strings] or [value]
    yield f".. option:: {', '.join(names)}"
    yield ""
    yield f"   {rst.escape(formatter._expand_help(action)) if action.help else ''}"
    yield ""


def section(command: argparse.ArgumentParser) -> Iterator[str]:
    """The text of a command's section, in reStructuredText."""
    yield from [f".. program:: {command.prog}", "", rst.escape(command.description or ""), ""]
    yield from [".. code-block:: text", "", *(f"   {line}" for line in usage(command)), ""]
    for action in command._actions:
        if action.help != argparse.SUPPRESS:
            yield from entry(command, action)
    if command.epilog:
        yield from [rst.escape(command.epilog), ""]


class Commands(SphinxDirective):
    """``.. commands::``; it takes nothing."""

    def run(self) -> list[nodes.Node]:
        sections: list[nodes.Node] = []
        for name, command in commands_of(parser()).items():
            node = nodes.section(ids=[f"command-{name}"])
            node += nodes.title("", "", nodes.literal("", name))
            lines = StringList(list(section(command)), source=command.prog)
            self.state.nested_parse(lines, self.content_offset, node)
            sections.append(node)
        return sections


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
