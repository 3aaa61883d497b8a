"""Two runs of the suite beside each other, case by case."""

from __future__ import annotations

from collections.abc import Sequence

from fastrnn._bench.report import Row, geometric_mean, key, milliseconds


def lines(a: Sequence[Row], b: Sequence[Row]) -> list[str]:
    """Lines that say how much faster run b is than run a, case by case.

    The second figure is the change of the ratio to torch, which a machine that became slower as a
    whole does not move; it stands only where both runs had torch. The last row of a case counts.
    """
    before, after = {key(row): row for row in a}, {key(row): row for row in b}
    found = [f"{'case':62} {'A ms':>10} {'B ms':>10} {'A / B':>7} {'by torch':>8}"]
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
        found.append(text)
    if changes:
        text = f"{'geometric mean':62} {'':10} {'':10} {geometric_mean(changes):7.2f}"
        found.append(text + (f" {geometric_mean(by_torch):8.2f}" if by_torch else ""))
    for name, one, other in (("A", before, after), ("B", after, before)):
        only = [k[0] for k in one if k not in other]
        if only:
            found.append(f"only in {name}: {', '.join(only)}")
    return found
