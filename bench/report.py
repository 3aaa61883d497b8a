"""What a run leaves: a table in the terminal, JSON lines, comparisons of two runs, plots."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]


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


# ---- JSON lines ----------------------------------------------------------------------------------


def append(path: str | Path, row: Row) -> None:
    with open(path, "a", encoding="utf-8") as out:
        print(json.dumps(row), file=out)


def read(path: str | Path) -> list[Row]:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def key(row: Row) -> tuple[str, int, str]:
    """What two runs have in common of a row."""
    return row["case"], row["threads"], row["level"]


# ---- the table -----------------------------------------------------------------------------------

HEADER = (
    f"{'case':54} {'fastrnn ms':>10} {'torch ms':>10} {'ratio (10 .. 90 %)':>21} "
    f"{'best ms':>10} {'ratio (10 .. 90 %)':>21} {'of limit':>8}  best peer"
)


def line(row: Row) -> str:
    """One row of the table. A ratio is a peer's time over fastrnn's."""

    def peer(name: str | None) -> str:
        if name not in row["ratios"]:
            return f"{'':10} {'':21}"
        r = row["ratios"][name]
        spread = f"{r['median']:6.2f} ({r['low']:5.2f} .. {r['high']:5.2f})"
        return f"{milliseconds(row['ms'][name]['median'])} {spread:>21}"

    best = row["best"]
    share = f"{row['share']:8.2f}" if row.get("share") else f"{'':8}"
    way = f"  {best}, {row['ways'][best]}" if best else ""
    ours = milliseconds(row["ms"]["fastrnn"]["median"])
    return f"{row['case']:54} {ours} {peer('torch')} {peer(best)} {share}{way}".rstrip()


def milliseconds(value: float) -> str:
    return f"{value:10.4f}" if value < 1 else f"{value:10.2f}"


def geometric_mean(values: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(np.fromiter(values, float)))))


def totals(rows: Sequence[Row]) -> list[str]:
    """Geometric means and least ratios for each threads, level and mode."""
    lines = []
    groups = sorted(
        {(row["threads"], row["level"], row["mode"]) for row in rows if not row["sweep"]}
    )
    for group in groups:
        chosen = [
            row
            for row in rows
            if (row["threads"], row["level"], row["mode"]) == group and not row["sweep"]
        ]
        threads, level, mode = group
        text = f"{mode}, {threads} threads, {level}, {len(chosen)} cases:"
        against = {
            "torch": [r["ratios"]["torch"]["median"] for r in chosen if "torch" in r["ratios"]],
            "the best peer": [r["ratios"][r["best"]]["median"] for r in chosen if r["best"]],
        }
        for name, ratios in against.items():
            if ratios:
                text += f" against {name} {geometric_mean(ratios):.2f} (least {min(ratios):.2f});"
        shares = [row["share"] for row in chosen if row.get("share")]
        if shares:
            text += f" share of the limit {min(shares):.2f} .. {max(shares):.2f};"
        lines.append(text.rstrip(";:"))
    return lines


# ---- two runs ------------------------------------------------------------------------------------


def compare(a: Sequence[Row], b: Sequence[Row]) -> list[str]:
    """Lines that say how much faster run b is than run a, case by case.

    The second figure is the change of the ratio to torch, which a machine that became slower as a
    whole does not move; it stands only where both runs had torch. The last row of a case counts.
    """
    before, after = {key(row): row for row in a}, {key(row): row for row in b}
    lines = [f"{'case':62} {'A ms':>10} {'B ms':>10} {'A / B':>7} {'by torch':>8}"]
    changes, by_torch = [], []
    for k in before:
        if k not in after:
            continue
        old, new = before[k], after[k]
        ms = [row["ms"]["fastrnn"]["median"] for row in (old, new)]
        changes.append(ms[0] / ms[1])
        text = f"{k[0]} t{k[1]} {k[2]}"
        text = f"{text:62} {milliseconds(ms[0])} {milliseconds(ms[1])} {changes[-1]:7.2f}"
        if "torch" in old["ratios"] and "torch" in new["ratios"]:
            ratios = [row["ratios"]["torch"]["median"] for row in (old, new)]
            by_torch.append(ratios[1] / ratios[0])
            text += f" {by_torch[-1]:8.2f}"
        lines.append(text)
    if changes:
        text = f"{'geometric mean':62} {'':10} {'':10} {geometric_mean(changes):7.2f}"
        lines.append(text + (f" {geometric_mean(by_torch):8.2f}" if by_torch else ""))
    for name, one, other in (("A", before, after), ("B", after, before)):
        only = [k[0] for k in one if k not in other]
        if only:
            lines.append(f"only in {name}: {', '.join(only)}")
    return lines


# ---- plots ---------------------------------------------------------------------------------------


def plot(rows: Sequence[Row], folder: str | Path) -> list[Path]:
    """Write ratios.png, limits.png and costs.png, those that there are rows for."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # One setting: the one with the most cases.
    settings = [(row["threads"], row["level"]) for row in rows]
    setting = max(settings, key=settings.count)
    rows = [row for row in rows if (row["threads"], row["level"]) == setting]
    cases = [row for row in rows if not row["sweep"]]
    title = f"{rows[0]['machine']['processor']}, {setting[0]} threads, {setting[1]}"
    figures = {
        "ratios.png": ratio_bars(plt, [row for row in cases if row["best"]], title),
        "limits.png": share_bars(plt, [row for row in cases if row.get("share")], title),
        "costs.png": cost_lines(plt, [row for row in rows if row["sweep"]], title),
    }
    written = []
    for name, figure in figures.items():
        if figure is not None:
            figure.savefig(folder / name, dpi=120)
            plt.close(figure)
            written.append(folder / name)
    return written


def bars(plt: Any, rows: Sequence[Row], title: str, label: str) -> Any:
    """A figure with a place for each case, from top to bottom."""
    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.19 * len(rows)), layout="constrained")
    axes.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=6)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    return figure


def ratio_bars(plt: Any, rows: Sequence[Row], title: str) -> Any:
    if not rows:
        return None
    figure = bars(plt, rows, title, "time of a peer / time of fastrnn (median, 10 .. 90 %)")
    axes = figure.axes[0]
    for name, color in (("torch", "tab:orange"), ("best", "tab:blue")):
        found = [
            (y, r["ratios"].get(r["best"] if name == "best" else name)) for y, r in enumerate(rows)
        ]
        places = [y for y, r in found if r]
        ratios = [r for _, r in found if r]
        middle = [r["median"] for r in ratios]
        errors = [
            [m - r["low"] for m, r in zip(middle, ratios, strict=True)],
            [r["high"] - m for m, r in zip(middle, ratios, strict=True)],
        ]
        label = "best peer" if name == "best" else name
        axes.errorbar(middle, places, xerr=errors, fmt="o", ms=3, color=color, label=label)
    axes.axvline(1.0, color="black", lw=0.8)
    axes.set_xscale("log")
    axes.legend()
    return figure


def share_bars(plt: Any, rows: Sequence[Row], title: str) -> Any:
    if not rows:
        return None
    figure = bars(plt, rows, title, "share of the limit: bound / time")
    axes = figure.axes[0]
    axes.barh(range(len(rows)), [row["share"] for row in rows], height=0.7)
    axes.axvline(1.0, color="black", lw=0.8)
    return figure


def cost_lines(plt: Any, rows: Sequence[Row], title: str) -> Any:
    if not rows:
        return None
    sizes = sorted({row["sweep"] for row in rows}, key="TBH".index)
    figure, grid = plt.subplots(
        1, len(sizes), figsize=(4 * len(sizes), 4), layout="constrained", squeeze=False
    )
    figure.suptitle(title, fontsize=8)
    for axes, over in zip(grid[0], sizes, strict=True):
        for mode in ("forward", "train"):
            chosen = [row for row in rows if (row["sweep"], row["mode"]) == (over, mode)]
            chosen.sort(key=lambda row: int(row["shape"][over]))
            for peer in ("fastrnn", "torch"):
                points = [
                    (row["shape"][over], row["ms"][peer]["median"])
                    for row in chosen
                    if peer in row["ms"]
                ]
                if points:
                    dashes = "-" if peer == "fastrnn" else "--"
                    axes.plot(
                        *zip(*points, strict=True), dashes, marker="o", label=f"{peer} {mode}"
                    )
        fixed = {k: v for k, v in rows_shape(rows, over).items() if k != over}
        axes.set_title(", ".join(f"{k}={v}" for k, v in fixed.items()), fontsize=8)
        axes.set_xlabel(over)
        axes.set_ylabel("ms")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return figure


def rows_shape(rows: Sequence[Row], over: str) -> Mapping[str, int]:
    """T, B, H of a sweep's first row."""
    shape = next(row["shape"] for row in rows if row["sweep"] == over)
    return {name: int(shape[name]) for name in "TBH"}
