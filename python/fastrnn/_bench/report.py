"""What a run leaves: a table in the terminal, its summary, JSON lines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Case
from .peers import AGAINST, OURS

Row = dict[str, Any]
WIDTH = 54  # of a case's name


def machine() -> dict[str, Any]:
    """The processor by name and count, and how busy it was in the last minute."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [s for s in cpuinfo.read_text().splitlines() if s.startswith("model name")]
        if names:
            model = f"{names[0].split(':', 1)[1].strip()} x {len(names)}"
    return {
        "processor": model,
        "system": platform.system(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def warn_if_busy(machine: Mapping[str, Any]) -> None:
    if machine["load"] > 0.5:
        print(
            f"the machine is busy (load {machine['load']:.1f}): threads that wait for each other "
            "become many times slower, so these figures say little"
        )


# ---- JSON lines ----------------------------------------------------------------------------------


def append(path: str | Path, row: Row) -> None:
    with open(path, "a", encoding="utf-8") as out:
        print(json.dumps(row), file=out)


def read(path: str | Path) -> list[Row]:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def identity(case: Case) -> Row:
    """What says which case a row is of."""
    return {
        "case": case.id,
        "cell": case.cell,
        "mode": case.mode,
        "sweep": case.sweep,
        "shape": case.fields(),
    }


def key(row: Row) -> tuple[str, int, str]:
    """What two runs have in common of a row."""
    return row["case"], row["threads"], row["level"]


# ---- the table -----------------------------------------------------------------------------------


def header(columns: Sequence[str], width: int = WIDTH) -> str:
    """The titles of `line`."""
    ratio = f"{'ratio (10 .. 90 %)':>21}"
    others = "".join(f" {f'{name} ms':>10} {ratio}" for name in columns)
    best = "  best peer" if "best" in columns else ""
    return f"{'case':{width}} {'fastrnn ms':>10}{others} {'of limit':>8}{best}"


def line(row: Row, columns: Sequence[str], width: int = WIDTH) -> str:
    """One row of the table. A ratio is a peer's time over fastrnn's.

    A column is a peer's, or with the name "best" that of the row's best peer.
    """

    def column(title: str) -> str:
        peer = row["best"] if title == "best" else title
        space = max(10, len(f"{title} ms"))
        if peer not in row["ratios"]:
            return f" {'':{space}} {'':21}"
        r = row["ratios"][peer]
        spread = f"{r['median']:6.2f} ({r['low']:5.2f} .. {r['high']:5.2f})"
        return f" {milliseconds(row['ms'][peer]['median']):>{space}} {spread:>21}"

    share = f"{row['share']:8.2f}" if row.get("share") else f"{'':8}"
    best = row["best"] if "best" in columns else None
    way = f"  {best}, {row['ways'][best]}" if best else ""
    ours = milliseconds(row["ms"][OURS]["median"])
    others = "".join(map(column, columns))
    return f"{row['case']:{width}} {ours}{others} {share}{way}".rstrip()


def milliseconds(value: float) -> str:
    return f"{value:10.4f}" if value < 1 else f"{value:10.2f}"


def geometric_mean(values: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(np.fromiter(values, float)))))


def grid(rows: Iterable[Row]) -> list[Row]:
    """The rows of the grid, without sweeps; of a case that was run again the last."""
    return last(row for row in rows if not row["sweep"] and not model_of(row))


def models(rows: Iterable[Row]) -> list[Row]:
    """The rows of models; of a case that was run again the last."""
    return last(row for row in rows if model_of(row))


def model_of(row: Row) -> str:
    """The model whose shape a row has; runs from before there were models tell of none."""
    return str(row["shape"].get("model", ""))


def last(rows: Iterable[Row]) -> list[Row]:
    return list({key(row): row for row in rows}.values())


def cell_name(cell: str) -> str:
    """As people write it."""
    return cell.split("_")[0].upper()


def groups(rows: Iterable[Row], *fields: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by what they hold in these fields, in the order of the rows."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[field] for field in fields), []).append(row)
    return found


def ratios(rows: Iterable[Row], peer: str) -> list[float]:
    """Ratios to a peer, or to each row's best peer ("best"), where there is one."""
    named = [(row, row["best"] if peer == "best" else peer) for row in rows]
    return [row["ratios"][name]["median"] for row, name in named if name in row["ratios"]]


def totals(rows: Sequence[Row]) -> list[str]:
    """Geometric means and least ratios for each threads, level and mode."""
    lines = []
    found_groups = [
        (what, group, chosen)
        for what, part in (("", grid(rows)), ("models ", models(rows)))
        for group, chosen in sorted(groups(part, "threads", "level", "mode").items())
    ]
    for what, (threads, level, mode), chosen in found_groups:
        text = f"{what}{mode}, {threads} threads, {level}, {len(chosen)} cases:"
        named = {AGAINST: "the other build", "torch": "torch", "best": "the best peer"}
        for peer, name in named.items():
            found = ratios(chosen, peer)
            if found:
                text += f" against {name} {geometric_mean(found):.2f} (least {min(found):.2f});"
        shares = [row["share"] for row in chosen if row.get("share")]
        if shares:
            text += f" share of the limit {min(shares):.2f} .. {max(shares):.2f};"
        lines.append(text.rstrip(";:"))
    return lines
