"""The python blocks of a document, run as a reader would run them.

    python tests/snippets.py docs/start/numpy.md

runs a page from its first block to its last, in one namespace and in the current folder, and says
where what is printed is not what the page says. Of a page count

* blocks of ``python``: they run;
* a block of ``text`` that follows one: what it prints. White space may differ, numbers with
  decimals by a few units of their last digit, so that machines may differ; ``...`` stands for any
  text;
* comments ``<!-- python``: blocks that readers do not see, which arrange and check;
* a comment ``<!-- not run: why -->`` right before a block: the block is a part of somebody else's
  program, and is only compiled.

A block that warns fails, since a reader would be warned too. Where a page wants CuPy, `--emulated`
names the compiled module of the emulated device, and `fake_cupy` stands in for the library.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import sys
import textwrap
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNITS = 3  # of the last printed digit, by which a number may differ

PART = re.compile(
    r"^<!-- python\n(?P<hidden>.*?)^-->$"
    r"|^<!-- not run: (?P<why>.+?) -->$"
    r"|^ *(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^ *(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
NUMBER = r"[-+]?\d+(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+)"
TOKEN = re.compile(rf"(?P<number>(?<![\w.]){NUMBER}(?![\w.]))|(?P<any>\.\.\.)|(?P<space>\s+)")


# ---- what a page says ----------------------------------------------------------------------------


@dataclass
class Block:
    """A block of code."""

    line: int  # of the page, counted from 0, where the code begins
    code: str
    runs: bool = True
    output: str | None = None  # what the page says that it prints

    def compiled(self, page: str) -> types.CodeType:
        """The code, with the page's lines for tracebacks."""
        if self.runs:
            return compile("\n" * self.line + self.code, page, "exec", dont_inherit=True)
        inside = "\n" * (self.line - 1) + "def part():\n" + textwrap.indent(self.code, " ")
        return compile(inside, page, "exec", dont_inherit=True)


def blocks(text: str) -> list[Block]:
    """The python blocks of a page, hidden ones too, in their order."""
    found: list[Block] = []
    before, runs = "", True
    for info, body, line in _parts(text, 0):
        if info == "not run":
            before, runs = info, False
            continue
        if info in ("python", "hidden"):
            found.append(Block(line, textwrap.dedent(body), runs or info == "hidden"))
        elif info == "text" and before == "python" and found[-1].runs:
            found[-1].output = textwrap.dedent(body)
        before, runs = info, True
    return found


def _parts(text: str, first: int) -> Iterator[tuple[str, str, int]]:
    """Fenced blocks and comments: what they are, what is in them, and where that begins."""
    for match in PART.finditer(text):
        line = first + text.count("\n", 0, match.start()) + 1
        if match["fence"] is None:
            hidden = match["hidden"]
            yield ("not run", "", line) if hidden is None else ("hidden", hidden, line)
        elif match["info"].startswith("{"):  # a directive, whose content may have blocks
            yield from _parts(match["body"], line)
        else:
            yield match["info"].strip(), match["body"], line


def packages(found: list[Block]) -> set[str]:
    """The packages that the blocks import, beside fastrnn, NumPy and Python's own."""
    modules: set[str] = set()
    for block in found:
        if block.runs:
            for node in ast.walk(ast.parse(block.code)):
                if isinstance(node, ast.Import):
                    modules |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return set(filter(None, map(_package, modules)))


def _package(module: str) -> str:
    top, *parts = module.split(".")
    if top == "fastrnn":  # fastrnn.jax.nn.flax needs flax, and that needs jax
        extensions = [part for part in parts if part in ("flax", "equinox")]
        known = [part for part in parts[:1] if part in ("torch", "keras", "jax", "onnx")]
        return (extensions or known or [""])[0]
    return "" if top == "numpy" or top in sys.stdlib_module_names else top


# ---- comparing what is printed -------------------------------------------------------------------


def agrees(said: str, printed: str) -> bool:
    """Whether what was printed is what the page says."""
    pattern, numbers, at = "", [], 0
    said = "\n".join(map(str.strip, said.strip().splitlines()))
    for token in TOKEN.finditer(said):
        pattern += re.escape(said[at : token.start()])
        at = token.end()
        if token["number"]:
            numbers.append(token["number"])
            pattern += f"({NUMBER})"
        else:
            pattern += ".*?" if token["any"] else r"\s+"
    match = re.fullmatch(pattern + re.escape(said[at:]), printed.strip(), re.DOTALL)
    return match is not None and all(map(_close, numbers, match.groups()))


def _close(said: str, printed: str) -> bool:
    digits, _, exponent = said.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return abs(float(said) - float(printed)) <= (UNITS + 0.5) * unit


# ---- running -------------------------------------------------------------------------------------


def run(page: str, found: list[Block]) -> list[str]:
    """Run the blocks of a page; what is wrong with them.

    An exception of a block is raised here, since those after it have nothing to stand on.
    """
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main  # for what is pickled by the name of its module
    wrong: list[str] = []

    def warned(message: Any, category: type, *_: Any, **__: Any) -> None:
        wrong.append(f"{page}: {category.__name__}: {message}")

    warnings.showwarning = warned
    for block in found:
        code, printed = block.compiled(page), io.StringIO()
        if block.runs:
            with contextlib.redirect_stdout(printed):
                exec(code, main.__dict__)
        if block.output is not None and not agrees(block.output, printed.getvalue()):
            said = textwrap.indent(block.output, "    ")
            got = textwrap.indent(printed.getvalue(), "    ")
            wrong.append(f"{page}:{block.line + 1}: says\n{said}and the block prints\n{got}")
    return wrong


def main() -> None:
    """Run the pages that are named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--emulated", type=Path, help="the compiled module of the emulated device")
    options = parser.parse_args()
    text = options.page.read_text(encoding="utf-8")
    with contextlib.ExitStack() as stack:
        if options.emulated:
            import fake_cupy

            stack.enter_context(fake_cupy.installed(options.emulated))
        wrong = run(str(options.page), blocks(text))
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
