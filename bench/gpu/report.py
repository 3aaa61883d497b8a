"""Tables and a plot of the JSON lines that the GPU's commands have left.

Needs nothing but NumPy and the standard library, so that the image with the GPU needs nothing else.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fastrnn._bench.report import Row, geometric_mean, groups, read

from .work import read_rows

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
REGISTER_BYTES = 256 << 10  # of an SM, on every GPU since 2014
# The numbers of csrc/cuda/costs.h that micro.cu measures.
COSTS = (
    "barrier",
    "barrier_per_block",
    "flags",
    "cluster",
    "staging",
    "launch",
    "fused",
    "tensor_fused",
    "shared_bytes",
    "slowdown",
    "streamed_bytes",
)


# ---- the time that no program can beat -----------------------------------------------------------


def handoff_us(row: Row, card: Row, micro: Mapping[str, float]) -> float:
    """Microseconds until all who compute a step have what the step before gave.

    None where one SM holds all of R. Else the least of what was measured: a barrier of two
    blocks through L2, the barrier of a cluster, a launch.
    """
    if weight_bytes(row) <= card["device"]["shared_per_block"] + REGISTER_BYTES:
        return 0.0
    ways = [micro["barrier"] + 2 * micro["barrier_per_block"], micro["launch"]]
    return min([*ways, *([micro["cluster_barrier"]] if "cluster_barrier" in micro else [])])


def weight_bytes(row: Row) -> int:
    """Of R, all gates."""
    H = row["shape"]["H"]
    return int(GATES[row["cell"]] * H * H * BYTES[row["dtype"]])


def _product_us(row: Row, card: Row) -> float:
    """Of one product of a step by the rate of a large one."""
    shape = row["shape"]
    operations = 2 * shape["B"] * shape["H"] ** 2 * GATES[row["cell"]]
    return float(operations / card["tflops"][row["dtype"]] * 1e-6)


def outside_us(row: Row, card: Row) -> float:
    """Microseconds of a layer's step that no program can beat, of its products without recurrence.

    Forward has one, W x; backward adds those of dx, dW_ih and dW_hh. Each costs the larger of its
    arithmetic, at the rate of a large product, and of reading x and writing y in memory.
    """
    shape = row["shape"]
    moved = 2 * shape["B"] * shape["H"] * BYTES[row["dtype"]]
    each = max(_product_us(row, card), moved / card["gigabytes_per_second"] * 1e-3)
    return each if row["kind"] == "forward" else 4 * each


def floor_us(row: Row, card: Row, micro: Mapping[str, float]) -> float:
    """Microseconds of a step that no program can beat on this card, by what was measured on it.

    Beside the products outside there is the recurrence, R h, and going back the one of dh. It costs
    the larger of its arithmetic and of reading what of R does not fit in the shared memory and
    registers of all SMs, plus the handoff.
    """
    facts = card["device"]
    on_chip = facts["processors"] * (facts["shared_per_block"] + REGISTER_BYTES)
    rate = micro["streamed_bytes"] * facts["processors"] * facts["gigahertz"] * 1e3
    streamed = max(0, weight_bytes(row) - on_chip) / rate
    recurrent = max(_product_us(row, card), streamed) + handoff_us(row, card, micro)
    passes = 1 if row["kind"] == "forward" else 2
    return float(row["shape"]["L"] * (outside_us(row, card) + passes * recurrent))


def read_micro(path: Path) -> dict[str, float]:
    """The numbers of micro.cu by name; of those with blocks the least."""
    found: dict[str, float] = {}
    for row in read(path) if path.exists() else []:
        if "value" in row:
            found[row["name"]] = min(row["value"], found.get(row["name"], row["value"]))
    return found


# ---- tables --------------------------------------------------------------------------------------

HEADER = (
    "| cell | T | B | H | mode | us a step | cuDNN | ratio (10 .. 90 %) | TF32 | of the floor |",
    "|-|-:|-:|-:|-|-:|-:|-|-:|-:|",
)


def line(row: Row, share: float | None) -> str:
    """A row of the table. Ratios are cuDNN's time over ours."""
    shape, us, r = row["shape"], row["us_per_step"], row["ratios"]["cudnn"]
    modes = " / ".join(plan["mode"] for plan in row["plan"].values())
    tf32 = f"{row['ratios']['tf32']['median']:.2f}" if "tf32" in row["ratios"] else ""
    cells = [
        row["cell"],
        *(str(shape[size]) for size in "TBH"),
        modes,
        f"{us['fastrnn']:.2f}",
        f"{us['cudnn']:.2f}",
        f"{r['median']:.2f} ({r['low']:.2f} .. {r['high']:.2f})",
        tf32,
        "" if share is None else f"{100 * share:.0f} %",
    ]
    return f"| {' | '.join(cells)} |"


def table(rows: Sequence[Row], card: Row, micro: Mapping[str, float]) -> list[str]:
    """Markdown: a heading for the card, then a table for each dtype and kind."""
    lines = [
        f"{card['card']}: torch {card['torch']}, cuDNN {card['cudnn']}, fastrnn {card['fastrnn']}; "
        f"{card['gigabytes_per_second']:.0f} GB/s; TFLOP/s of a large product: "
        + ", ".join(f"{dtype} {rate:.0f}" for dtype, rate in card["tflops"].items())
    ]
    if not micro:
        lines.append("No floor: `bench/gpu.sh micro` has not run.")
    measured = [row for row in rows if "ms" in row]
    for (dtype, kind), chosen in groups(measured, "dtype", "kind").items():
        lines += ["", f"### {dtype}, {kind}", "", *HEADER]
        for row in chosen:
            ours = row["us_per_step"]["fastrnn"]
            lines.append(line(row, floor_us(row, card, micro) / ours if micro else None))
    lines += ["", *means(measured)]
    lines += [f"- not measured: {row['case']}: {reason(row)}" for row in rows if reason(row)]
    return lines


def reason(row: Row) -> str:
    """Why a case has no figures; empty where it has."""
    return str(row.get("skipped") or row.get("failed") or "")


def means(rows: Sequence[Row]) -> list[str]:
    """Geometric means of the ratios to cuDNN."""
    lines = []
    for (cell, dtype, kind), chosen in groups(rows, "cell", "dtype", "kind").items():
        found = [row["ratios"]["cudnn"]["median"] for row in chosen]
        lines.append(
            f"- {cell}, {dtype}, {kind}: {geometric_mean(found):.2f} times as fast as cuDNN over "
            f"{len(found)} cases (least {min(found):.2f}, most {max(found):.2f})"
        )
    return lines


def costs(micro: Mapping[str, float]) -> list[str]:
    """The numbers of `Costs` in csrc/cuda/costs.h that these replace."""
    lines = [f"  {name} = {micro[name]:.3g}" for name in COSTS if name in micro]
    title = "In csrc/cuda/costs.h replace, of `Costs` for this capability:"
    return [title, *lines] if lines else []


# ---- the plot: SVG, which no library has to draw -------------------------------------------------

COLOURS = ("#1b6ca8", "#2a9d5c", "#d98a1f", "#b8323a", "#7a4fa3")
LEFT, WIDTH, STRIP, TOP = 210, 620, 22, 46
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def text(x: float, y: float, value: str, more: str = "") -> str:
    value = value.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{value}</text>'


def plot(rows: Sequence[Row], card: str) -> str:
    """A strip for each cell, dtype and kind; in it a dot for each case at its ratio to cuDNN."""
    strips = list(groups([row for row in rows if "ms" in row], "cell", "dtype", "kind").items())
    ratios = [row["ratios"]["cudnn"]["median"] for _, strip in strips for row in strip]
    low, high = min([0.5, *ratios]) / 1.1, max([2.0, *ratios]) * 1.1
    batches = sorted({row["shape"]["B"] for _, strip in strips for row in strip})
    bottom = TOP + STRIP * len(strips)

    def x_of(ratio: float) -> float:
        return LEFT + WIDTH * math.log(ratio / low) / math.log(high / low)

    parts = [text(10, 18, f"{card}: cuDNN's time over fastrnn's, a dot a case", 'font-size="13"')]
    for tick in (t for t in TICKS if low < t < high):
        stroke = "#000" if tick == 1 else "#ccc"
        x = x_of(tick)
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="{stroke}"/>')
        parts.append(text(x, bottom + 14, f"{tick:g}", 'text-anchor="middle"'))
    for i, B in enumerate(batches):
        x, colour = LEFT + 70 * i, COLOURS[i % len(COLOURS)]
        parts.append(f'<circle cx="{x}" cy="32" r="4" fill="{colour}"/>')
        parts.append(text(x + 8, 36, f"B = {B}"))
    for i, ((cell, dtype, kind), strip) in enumerate(strips):
        y = TOP + STRIP * (i + 0.5)
        parts.append(text(10, y + 4, f"{cell} {dtype} {kind}"))
        for row in strip:
            colour = COLOURS[batches.index(row["shape"]["B"]) % len(COLOURS)]
            x = x_of(row["ratios"]["cudnn"]["median"])
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.6">'
                f"<title>{row['case']}</title></circle>"
            )
        mean = x_of(geometric_mean(row["ratios"]["cudnn"]["median"] for row in strip))
        parts.append(f'<path d="M{mean:.1f} {y - 8:.1f}v16" stroke="#000" stroke-width="2"/>')
    size = f'width="{LEFT + WIDTH + 20}" height="{bottom + 24}"'
    style = 'font-family="sans-serif" font-size="11"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n'
        '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


# ---- the command ---------------------------------------------------------------------------------


def forced(rows: Sequence[Row], mode: str) -> list[str]:
    """A table of what was timed in other modes than the one that the report is of."""
    others = [row for row in rows if row["mode"] != mode and "ms" in row]
    lines = [line(row, None) for row in others]
    return ["", f"### other modes than {mode}, all dtypes", "", *HEADER, *lines] if lines else []


def checked(folder: Path) -> Iterator[str]:
    """What the other stages found, in a line each, and what they did not look at."""
    for stage in ("check", "sanitize"):
        rows = read_rows(folder / f"{stage}.jsonl")
        if not rows:
            yield f"- {stage}: has not run"
            continue
        bad = [row for row in rows if "failed" in row]
        skipped = sum("skipped" in row for row in rows)
        yield f"- {stage}: {len(rows)} cases, {len(bad)} failed, {skipped} skipped"
        yield from (f"  - failed: {row['case']}: {row['failed']}" for row in bad)
        for row in rows:
            if "unchecked" in row:
                yield f"  - **NOT CHECKED**: {row['case']}: {row['unchecked']}"


def main(options: argparse.Namespace) -> None:
    """Write OUT/table.md and OUT/ratios.svg of what OUT has."""
    rows = read_rows(options.out / "time.jsonl")
    micro = read_micro(options.out / "micro.jsonl")
    cards = [row for row in rows if row["case"] == "card"]
    timed = [row for row in rows if row["case"] != "card"]
    found = list(checked(options.out))
    if not cards or not any("ms" in row for row in timed):
        print(*found, sep="\n")
        raise SystemExit(f"no times in {options.out}: run `bench/gpu.sh time` on a GPU first")
    best = [row for row in timed if row["mode"] == options.mode]
    lines = [
        *table(best, cards[-1], micro),
        *forced(timed, options.mode),
        "",
        *found,
    ]
    (options.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (options.out / "ratios.svg").write_text(plot(best, cards[-1]["card"]), encoding="utf-8")
    print(*lines, *costs(micro), sep="\n")
    print(f"written: {options.out / 'table.md'}, {options.out / 'ratios.svg'}")
