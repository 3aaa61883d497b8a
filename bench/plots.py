"""The pictures of a run, from its JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastrnn._bench.cases import CELLS, MODES
from fastrnn._bench.report import Row, cell_name, geometric_mean, grid, ratios


def plot(rows: Sequence[Row], folder: str | Path) -> list[Path]:
    """Write the pictures that there are rows for: summary, ratios, limits, costs; .png each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # One setting: the one with the most cases.
    settings = [(row["threads"], row["level"]) for row in rows]
    setting = max(settings, key=settings.count)
    rows = [row for row in rows if (row["threads"], row["level"]) == setting]
    cases = grid(rows)
    compared = [row for row in cases if row["best"]]
    title = f"{rows[0]['machine']['processor']}, {setting[0]} threads, {setting[1]}"
    figures = {
        "summary.png": ratio_strips(plt, compared, title),
        "ratios.png": ratio_bars(plt, compared, title),
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


def ratio_strips(plt: Any, rows: Sequence[Row], title: str) -> Any:
    """A strip for each mode and cell; in it dots at the ratios of its cases."""
    from matplotlib.ticker import LogLocator, NullLocator

    if not rows:
        return None
    present = {(row["mode"], row["cell"]) for row in rows}
    strips = [(m, c) for m in MODES for c in CELLS if (m, c) in present]
    figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.36 * len(strips)), layout="constrained")
    for y, strip in enumerate(strips):
        chosen = [row for row in rows if (row["mode"], row["cell"]) == strip]
        for peer, color, height in (("torch", "tab:gray", 0.17), ("best", "tab:blue", -0.17)):
            found = ratios(chosen, peer)
            places = [y - height] * len(found)
            label = {"torch": "torch", "best": "fastest peer"}[peer] if y == 0 else None
            axes.plot(found, places, "o", ms=4.5, alpha=0.55, mew=0, color=color, label=label)
            if found:
                mean = geometric_mean(found)
                axes.plot(mean, y - height, "|", ms=11, mew=2, color=color)
                axes.annotate(
                    f"{mean:.1f}",
                    (1.01, y - height),
                    color=color,
                    fontsize=8,
                    xycoords=("axes fraction", "data"),
                    va="center",
                )
    axes.set_yticks(range(len(strips)), [f"{cell_name(c)} {m}" for m, c in strips])
    axes.set_ylim(len(strips) - 0.5, -0.5)
    for y in range(1, len(strips)):
        if strips[y][0] != strips[y - 1][0]:
            axes.axhline(y - 0.5, color="black", lw=0.4)
    axes.axvline(1.0, color="black", lw=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("how many times as fast fastrnn is; a dot a case, a bar the geometric mean")
    axes.set_title(title, fontsize=9, loc="left")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    return figure


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
        draw_sweep(axes, [row for row in rows if row["sweep"] == over], over)
    return figure


def draw_sweep(axes: Any, rows: Sequence[Row], over: str) -> None:
    """Time over one size, in fastrnn and in torch."""
    for mode in MODES:
        chosen = [row for row in rows if row["mode"] == mode]
        for peer, dashes in (("fastrnn", "o-"), ("torch", "o--")):
            points = sorted(
                (row["shape"][over], row["ms"][peer]["median"])
                for row in chosen
                if peer in row["ms"]
            )
            if points:
                axes.plot(*zip(*points, strict=True), dashes, ms=4, label=f"{peer} {mode}")
            if points and peer == "fastrnn" and over in "TB":
                size, ms = points[-1]
                ends = [points[0][0], size]
                axes.plot(ends, [ms / size * n for n in ends], "k:", lw=1)
    fixed = {name: rows[0]["shape"][name] for name in "TBH" if name != over}
    dotted = " (dotted: in proportion)" if over in "TB" else ""
    axes.set_title(", ".join(f"{k}={v}" for k, v in fixed.items()) + dotted, fontsize=8)
    axes.set_xlabel(over)
    axes.set_ylabel("ms")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
