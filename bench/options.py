"""The options that the commands of the suite share, and the cases that they choose."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fastrnn._bench.cases import CELL_NAMES, INFERENCE, ITEMSIZE, Case

from . import shapes


def make_parser(name: str, text: str | None) -> argparse.ArgumentParser:
    """A command's parser; its help is its module's text."""
    made = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", metavar="FILE", help="append what is found, line by line")
    return made


def add_grid(made: argparse.ArgumentParser, modes: Sequence[str]) -> None:
    """Options that choose cases, and how fastrnn runs them."""
    made.add_argument("--cell", nargs="+", choices=CELL_NAMES, default=list(CELL_NAMES))
    made.add_argument(
        "--shapes",
        nargs="+",
        default=[str(shapes.SHAPES)],
        metavar="FILE",
        help="files like bench/shapes.toml; or shapes T,B,I,H",
    )
    made.add_argument(
        "--kind",
        nargs="+",
        choices=shapes.PURPOSES,
        default=list(shapes.PURPOSES[:1]),
        help="shapes of the grid, or of models that people use (grid)",
    )
    if len(modes) > 1:
        made.add_argument("--mode", nargs="+", choices=modes, default=list(modes))
    else:
        made.set_defaults(mode=list(modes))
    made.add_argument("--threads", type=int, help="of each library (all)")
    made.add_argument("--isa", help="cap fastrnn's instruction set: scalar, avx2, avx512")
    made.add_argument("--dtype", choices=list(ITEMSIZE), default="float32")


def chosen_cases(
    options: argparse.Namespace, quick: bool = False, sweeps: bool = False
) -> list[Case]:
    """The cases of the options.

    Raises
    ------
    SystemExit
        There are none: a shape says which modes it is for.
    """
    quantized = options.dtype == "int8"
    chosen = shapes.make_cases(
        [shape for path in options.shapes for shape in shapes.read_shapes(path)],
        [CELL_NAMES[cell] for cell in options.cell],
        [mode for mode in options.mode if mode in INFERENCE or not quantized],
        options.dtype,
        quick,
        sweeps,
        options.kind,
    )
    if not chosen:
        quickly = "--quick, " if quick else ""
        raise SystemExit(
            f"[bench] shapes must have a case of a mode, got none: {quickly}--mode "
            f"{' '.join(options.mode)}, --kind {' '.join(options.kind)}, --shapes "
            f"{' '.join(options.shapes)}"
        )
    return chosen
