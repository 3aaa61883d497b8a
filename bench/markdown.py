"""The tables of a run in Markdown, as `docs/benchmarks.md` has them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastrnn._bench import report
from fastrnn._bench.cases import ITEMSIZE
from fastrnn._bench.peers import IN_FLOAT32
from fastrnn._bench.report import Row, cell_name, geometric_mean, grid, groups, ratios

ROOT = Path(__file__).resolve().parent.parent
TITLES = {
    "against": "the other build",
    "best": "fastest peer",
    "torch": "torch",
    "onnxruntime": "ONNX Runtime",
    IN_FLOAT32: "float32",
    "onnxruntime_float32": "ONNX Runtime in float32",
}
# Columns where the dtype is narrower than float32: what is fastest there may be fastrnn itself.
OF_NARROW = ("against", "torch", "onnxruntime", IN_FLOAT32, "onnxruntime_float32")


def write(rows: Sequence[Row], root: Path = ROOT) -> None:
    """Put the tables that there are rows for into `docs/benchmarks.md`."""
    path = root / "docs" / "benchmarks.md"
    text = path.read_text("utf-8")
    for dtype in dict.fromkeys(map(dtype_of, grid(rows))):
        chosen = [row for row in rows if dtype_of(row) == dtype]
        text = filled(text, "table" if dtype == "float32" else f"table {dtype}", tables(chosen))
    if report.models(rows):
        text = filled(text, "models", models(rows))
    path.write_text(text, "utf-8")


def dtype_of(row: Row) -> str:
    return str(row["shape"]["dtype"])


def filled(text: str, part: str, lines: Sequence[str]) -> str:
    """A document with new lines in a part: between ``<!-- PART -->`` and ``<!-- end -->``."""
    start, end = f"<!-- {part} -->\n", "<!-- end -->"
    new = "\n".join([start, *lines, "", end])
    pattern = f"{re.escape(start)}.*?{re.escape(end)}"
    text, count = re.subn(pattern, lambda _: new, text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"[bench] document must have one part {start.strip()}, got {count}")
    return text


def models(rows: Sequence[Row]) -> list[str]:
    """The machine, then for each setting a table of the models."""
    chosen = report.models(rows)
    lines = [machine_line(chosen)]
    for setting, of_setting in groups(chosen, "threads", "level").items():
        lines += ["", setting_title(setting), "", *cases(of_setting)]
    return lines


def tables(rows: Sequence[Row]) -> list[str]:
    """The machine, then for each setting a table of means and, folded, one of all cases."""
    rows = grid(rows)
    lines = [machine_line(rows)]
    for setting, chosen in groups(rows, "threads", "level").items():
        lines += ["", *setting_lines(setting, chosen)]
        lines += [
            "",
            "<details><summary>Every case</summary>",
            "",
            *cases(chosen),
            "",
            "</details>",
        ]
    return lines


def setting_lines(setting: tuple[int, str], rows: Sequence[Row]) -> list[str]:
    """What a setting is, and its table of means."""
    return [setting_title(setting), "", *means(rows)]


def setting_title(setting: tuple[int, str]) -> str:
    threads, level = setting
    return f"{threads} threads, level {level}:"


def machine_line(rows: Sequence[Row]) -> str:
    """`description` of a whole run."""
    # The newest of the rows with the most peers: some settings run against torch alone.
    return description(max(reversed(rows), key=lambda row: len(row["versions"])))


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
    wanted: Sequence[str] = ["against", "best", "torch"] if others else ["against", "torch"]
    if any(ITEMSIZE[dtype_of(row)] < ITEMSIZE["float32"] for row in rows):
        wanted = OF_NARROW
    return [peer for peer in wanted if ratios(rows, peer)]


def case_name(row: Row) -> str:
    """The model if there is one, cell, mode and the sizes that are not the usual ones."""
    shape: Mapping[str, Any] = row["shape"]
    sizes = [f"{size}={shape[size]}" for size in "TBIHLD" if size not in "LD" or shape[size] > 1]
    lengths = "lengths {}..{}".format(*shape["lengths"]) if shape["lengths"] else ""
    model = f"{shape['model']}:" if report.model_of(row) else ""
    return " ".join(filter(None, [model, cell_name(row["cell"]), row["mode"], *sizes, lengths]))


def three_digits(value: float) -> str:
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose first column is text and whose others are figures."""
    rule = ["-", *["-:"] * (len(header) - 1)]
    return [f"| {' | '.join(line)} |" for line in (header, rule, *rows)]
