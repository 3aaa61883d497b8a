"""The tables of a run in Markdown, as the README has them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .report import Row, cell_name, geometric_mean, grid, groups, ratios

TITLES = {"best": "fastest peer", "torch": "torch"}


def tables(rows: Sequence[Row]) -> list[str]:
    """The machine, then for each setting a table of means and, folded, one of all cases."""
    # The newest of the rows with the most peers: some settings run against torch alone.
    lines = [description(max(reversed(rows), key=lambda row: len(row["versions"])))]
    for (threads, level), chosen in groups(grid(rows), "threads", "level").items():
        lines += ["", f"{threads} threads, level {level}:", "", *means(chosen)]
        lines += [
            "",
            "<details><summary>Every case</summary>",
            "",
            *cases(chosen),
            "",
            "</details>",
        ]
    return lines


def description(row: Row) -> str:
    """The machine, the versions of what ran on it, and the command."""
    machine = row["machine"]
    versions = ", ".join(f"{peer} {text}" for peer, text in row["versions"].items())
    command = f"; from `{row['command']}`" if "command" in row else ""
    where = f"{machine['processor']}, {machine['system']}, Python {machine['python']}"
    return f"{where}; {versions}{command}"


def means(rows: Sequence[Row]) -> list[str]:
    """Geometric mean and least ratio, and range of the shares, for each cell and mode."""
    peers = peers_of(rows)
    lines = []
    for (cell, mode), chosen in groups(rows, "cell", "mode").items():
        line = [f"{cell_name(cell)} {mode}", str(len(chosen))]
        for peer in peers:
            found = ratios(chosen, peer)
            line.append(f"{geometric_mean(found):.2f} ({min(found):.2f})" if found else "")
        shares = [row["share"] for row in chosen if row.get("share")]
        line.append(f"{min(shares):.2f} .. {max(shares):.2f}" if shares else "")
        lines.append(line)
    titles = [f"{TITLES[peer]}: mean (least)" for peer in peers]
    return markdown(["", "cases", *titles, "of the limit"], lines)


def cases(rows: Sequence[Row]) -> list[str]:
    """Time, ratios and share of each case."""
    peers = peers_of(rows)
    lines = []
    for row in rows:
        line = [case_name(row), three_digits(row["ms"]["fastrnn"]["median"])]
        for peer in peers:
            found = ratios([row], peer)
            who = f" ({row['best']})" if peer == "best" else ""
            line.append(f"{found[0]:.2f}{who}" if found else "")
        line.append(f"{row['share']:.2f}" if row.get("share") else "")
        lines.append(line)
    return markdown(["", "ms", *(TITLES[peer] for peer in peers), "of the limit"], lines)


def peers_of(rows: Sequence[Row]) -> list[str]:
    """The columns of ratios: the fastest peer's is left out where it would repeat torch's."""
    others = {row["best"] for row in rows} - {None, "torch"}
    wanted = ["best", "torch"] if others else ["torch"]
    return [peer for peer in wanted if ratios(rows, peer)]


def case_name(row: Row) -> str:
    """Cell, mode and the sizes that are not the usual ones."""
    shape: Mapping[str, Any] = row["shape"]
    sizes = [f"{size}={shape[size]}" for size in "TBIHLD" if size not in "LD" or shape[size] > 1]
    lengths = "lengths {}..{}".format(*shape["lengths"]) if shape["lengths"] else ""
    return " ".join(filter(None, [cell_name(row["cell"]), row["mode"], *sizes, lengths]))


def three_digits(value: float) -> str:
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose first column is text and whose others are figures."""
    rule = ["-", *["-:"] * (len(header) - 1)]
    return [f"| {' | '.join(line)} |" for line in (header, rule, *rows)]
