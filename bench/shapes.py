"""The shapes that the suite runs, out of `shapes.toml` or a text, and the cases that they make."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastrnn._bench.cases import CELLS, MODES, Case

SHAPES = Path(__file__).with_name("shapes.toml")
# What shapes are for: the grid, or the shapes of models that people use.
PURPOSES = ("grid", "model")


def read_shapes(path: str | Path = SHAPES) -> list[dict[str, Any]]:
    """The tables of a shapes file, or the shapes of a text ``T,B,I,H``."""
    sizes = str(path).split(",")
    if len(sizes) == 4:
        return [{"kind": "sequence", **dict(zip("TBIH", map(int, sizes), strict=True))}]
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    with open(path, "rb") as file:
        return list(tomllib.load(file)["shape"])


def make_cases(
    shapes: Iterable[Mapping[str, Any]],
    cells: Sequence[str] = CELLS,
    modes: Sequence[str] = MODES,
    dtype: str = "float32",
    quick: bool = False,
    sweeps: bool = False,
    purposes: Sequence[str] = PURPOSES[:1],
) -> list[Case]:
    """The cases of these shapes.

    A sequence is run forward and in training with every cell, a model with its own cell and modes,
    a sweep or a projection with the LSTM.
    """
    cases = []
    for shape in shapes:
        over = shape.get("over", "")
        in_quick = shape.get("quick", bool(over))
        wanted = purpose_of(shape) in purposes and (sweeps or not over) and (in_quick or not quick)
        if not wanted:
            continue
        smaller = in_quick if quick and isinstance(in_quick, Mapping) else {}
        for values in [{over: n} for n in shape["values"]] if over else [smaller]:
            sizes = {**{k: shape[k] for k in "TBIHLDP" if k in shape}, **values}
            sizes.setdefault("I", sizes["H"])
            more = {"sweep": over, "model": shape.get("model", "")}
            more["lengths"] = tuple(shape["lengths"]) if "lengths" in shape else None
            cases += [
                Case(cell, mode=mode, **sizes, dtype=dtype, **more)
                for cell in cells_of(shape)
                if cell in cells
                for mode in modes_of(shape)
                if mode in modes
            ]
    return cases


def purpose_of(shape: Mapping[str, Any]) -> str:
    return "model" if shape["kind"] == "model" else "grid"


def cells_of(shape: Mapping[str, Any]) -> Sequence[str]:
    """The cells that a shape is for."""
    if shape["kind"] == "model":
        return [shape["cell"]]
    return ["lstm"] if shape["kind"] == "sweep" or "P" in shape else CELLS


def modes_of(shape: Mapping[str, Any]) -> Sequence[str]:
    """The modes that a shape is for."""
    if shape["kind"] == "model":
        return list(shape["modes"])
    return [shape["kind"]] if shape["kind"] in MODES else MODES[:2]
