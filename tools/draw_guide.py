"""Draw the pictures of docs/guide: cells, rows of unequal length, windows of a recomputed tape.

``python tools/draw_guide.py`` writes them to docs/images/guide/; a test compares what it draws with
what is there. Letters are those of the equations of docs/guide/conventions.md, and so of
csrc/cells/ and python/fastrnn/reference/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images" / "guide"

STYLE = """\
    rect { fill: #f4f6f8; stroke: #5b6b7b; }
    circle { fill: #ffffff; stroke: #5b6b7b; stroke-width: 1.5; }
    text { fill: #1c2733; text-anchor: middle; }
    path { stroke: #5b6b7b; stroke-width: 1.5; fill: none; }
    .gate { fill: #e3eefb; }
    .product { fill: #fdf0dc; }
    .state { stroke: #2f6f3e; stroke-width: 2.5; }
    .option { stroke-dasharray: 5 4; }
    .to { marker-end: url(#to); }
    .dot { fill: #5b6b7b; stroke: none; }
    .runs { fill: #cfe3f7; }
    .held { fill: #fdf0dc; }
    .over { fill: #ffffff; stroke-dasharray: 3 3; }
    .kept { fill: #2f6f3e; }
    .small { font-size: 12px; fill: #4a5866; }"""

GATE_Y, UNDER_GATES, PRODUCT_Y, CELL_STATE_Y = 205, 223, 290, 55


def _markup(text: str) -> str:
    """A label as SVG: ``h_t`` and ``h_{t-1}`` have subscripts, lowered by hand for all browsers."""
    parts = re.split(r"_(?:\{([^}]*)\}|(\w))", text)
    out = _escaped(parts[0])
    for braced, single, after in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        low = _escaped(braced or single).replace("-", "−")
        out += (
            f'<tspan dy="4" font-size="72%">{low}</tspan><tspan dy="-4">{_escaped(after)}</tspan>'
        )
    return out


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


class Picture:
    """An SVG that grows by shapes; white below them, so that it reads in dark themes too."""

    def __init__(self, title: str, width: int, height: int, top: int = 0) -> None:
        self.lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {top} {width} {height}" '
            f'width="{width}" font-family="sans-serif" font-size="15">',
            f"  <title>{_escaped(title)}</title>",
            f"  <style>\n{STYLE}\n  </style>",
            '  <marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
            'markerHeight="6" orient="auto">',
            '    <path d="M0 0 L8 4 L0 8 z" style="fill:#5b6b7b;stroke:none"/>',
            "  </marker>",
            f'  <rect y="{top}" width="{width}" height="{height}" '
            'style="fill:#ffffff;stroke:none"/>',
        ]

    def text(self, x: int, y: int, label: str, style: str = "") -> None:
        """A label; y is its base line."""
        kind = f' class="{style}"' if style else ""
        self.lines.append(f'  <text x="{x}" y="{y}"{kind}>{_markup(label)}</text>')

    def box(self, x: int, y: int, label: str, width: int = 54, style: str = "gate") -> None:
        """A box around its centre, with its label inside."""
        self.lines.append(
            f'  <rect x="{x - width // 2}" y="{y - 18}" width="{width}" height="36" rx="5" '
            f'class="{style}"/>'
        )
        self.text(x, y + 5, label)

    def dot(self, x: int, y: int, sign: str = "") -> None:
        """An operation element by element, or without a sign a place where a line parts."""
        style = "" if sign else ' class="dot"'
        self.lines.append(f'  <circle cx="{x}" cy="{y}" r="{12 if sign else 3}"{style}/>')
        if sign:
            self.text(x, y + 5, sign)

    def wire(self, *points: tuple[int, int], style: str = "to") -> None:
        """A line through points, with an arrow at its end where the style has one."""
        way = " L".join(f"{x} {y}" for x, y in points)
        self.lines.append(f'  <path d="M{way}" class="{style}"/>')

    def cell(self, x: int, y: int, style: str, label: str, size: int = 46) -> None:
        """A step of a row."""
        self.lines.append(
            f'  <rect x="{x}" y="{y}" width="{size - 4}" height="32" rx="3" class="{style}"/>'
        )
        self.text(x + (size - 4) // 2, y + 21, label)

    def __str__(self) -> str:
        return "\n".join([*self.lines, "</svg>", ""])


# ---- cells ---------------------------------------------------------------------------------------


def _product(p: Picture, left: int, right: int, label: str) -> None:
    """The product that all gates share, with x and h below it."""
    middle = (left + right) // 2
    p.box(middle, PRODUCT_Y, label, right - left, "product")
    for x, name in ((middle - 60, "x_t"), (middle + 60, "h_{t-1}")):
        p.wire((x, PRODUCT_Y + 52), (x, PRODUCT_Y + 19))
        p.text(x, PRODUCT_Y + 70, name)


def _gate(p: Picture, x: int, letter: str, function: str, after: str = "_t") -> None:
    """A gate above the product: its function in the box, its letter where its value comes out."""
    p.wire((x, PRODUCT_Y - 18), (x, UNDER_GATES + 1))
    p.box(x, GATE_Y, function)
    p.text(x - 14, GATE_Y - 26, letter + after)


def draw_rnn() -> Picture:
    """Draw the simple layer."""
    p = Picture("A step of the simple layer", 470, 285, top=95)
    _product(p, 70, 400, "W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh}")
    p.wire((235, PRODUCT_Y - 18), (235, UNDER_GATES + 1))
    p.box(235, GATE_Y, "act")
    p.wire((235, GATE_Y - 18), (235, 120), (400, 120), style="state to")
    p.text(425, 125, "h_t")
    return p


def draw_lstm(
    title: str = "A step of the LSTM",
    *,
    peepholes: bool = False,
    coupled: bool = False,
    projected: bool = False,
) -> Picture:
    """Draw the LSTM, or one of its variants."""
    p = Picture(title, 780 if projected else 700, 385)
    _product(p, 125, 520, "W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh}")
    # c goes along the top: times f, plus i g.
    p.text(45, CELL_STATE_Y + 5, "c_{t-1}")
    p.wire((72, CELL_STATE_Y), (158, CELL_STATE_Y), style="state to")
    p.wire((182, CELL_STATE_Y), (298, CELL_STATE_Y), style="state to")
    p.wire((322, CELL_STATE_Y), (620, CELL_STATE_Y), style="state to")
    p.text(645, CELL_STATE_Y + 5, "c_t")
    if coupled:
        p.wire((240, 150), (170, 150), (170, 133))
        p.dot(240, 150)
        p.box(170, 115, "1 − i_t", 64)
        p.wire((170, 97), (170, CELL_STATE_Y + 13))
    else:
        _gate(p, 170, "f", "σ")
        p.wire((170, GATE_Y - 18), (170, CELL_STATE_Y + 13))
    _gate(p, 240, "i", "σ")
    _gate(p, 380, "g", "tanh")
    p.wire((240, GATE_Y - 18), (240, 120), (297, 120))
    p.wire((380, GATE_Y - 18), (380, 120), (323, 120))
    p.wire((310, 108), (310, CELL_STATE_Y + 13))
    p.dot(170, CELL_STATE_Y, "×")
    p.dot(310, CELL_STATE_Y, "+")
    p.dot(310, 120, "×")
    # The output: o times a tanh of c.
    _gate(p, 480, "o", "σ")
    p.dot(560, CELL_STATE_Y)
    p.wire((560, CELL_STATE_Y), (560, 86))
    p.box(560, 105, "tanh")
    p.wire((560, 123), (560, 147))
    p.wire((480, GATE_Y - 18), (480, 160), (547, 160))
    p.dot(560, 160, "×")
    if projected:
        p.wire((572, 160), (618, 160))
        p.text(595, 150, "v_t")
        p.box(655, 160, "W_{hr} v_t", 72, "product")
        p.wire((691, 160), (725, 160), style="state to")
        p.text(748, 165, "h_t")
        p.text(595, 185, "H", "small")
        p.text(708, 185, "P", "small")
    else:
        p.wire((572, 160), (620, 160), style="state to")
        p.text(645, 165, "h_t")
    if peepholes:
        _peepholes(p, coupled)
    return p


def _peepholes(p: Picture, coupled: bool) -> None:
    """The ways by which gates see the cell state."""
    p.dot(100, CELL_STATE_Y)
    if not coupled:
        p.wire((100, CELL_STATE_Y), (100, GATE_Y), (142, GATE_Y), style="option to")
        p.text(122, GATE_Y + 18, "p_f")
        p.dot(100, 145)
        p.wire((100, 145), (206, 145), (206, GATE_Y), (212, GATE_Y), style="option to")
        p.text(130, 139, "p_i")
    else:
        p.wire((100, CELL_STATE_Y), (100, GATE_Y), (212, GATE_Y), style="option to")
        p.text(155, GATE_Y + 18, "p_i")
    p.dot(430, CELL_STATE_Y)
    p.wire((430, CELL_STATE_Y), (430, GATE_Y), (452, GATE_Y), style="option to")
    p.text(443, GATE_Y + 34, "p_o")


def _mix(p: Picture, x: int) -> None:
    """The end of a GRU from n, which comes at height 150: (1 - z) n + z h."""
    _gate(p, x, "z", "σ")
    p.dot(x, 180)
    p.wire((x, GATE_Y - 18), (x, CELL_STATE_Y + 13))
    p.wire((x, 180), (x + 38, 180))
    p.box(x + 72, 180, "1 − z_t", 66)
    p.wire((x + 105, 180), (x + 140, 180), (x + 140, 163))
    p.dot(x + 140, 150, "×")
    p.wire((x + 140, 138), (x + 140, CELL_STATE_Y + 13))
    p.text(45, CELL_STATE_Y + 5, "h_{t-1}")
    p.wire((75, CELL_STATE_Y), (x - 12, CELL_STATE_Y), style="state to")
    p.wire((x + 12, CELL_STATE_Y), (x + 128, CELL_STATE_Y), style="state to")
    p.wire((x + 152, CELL_STATE_Y), (x + 210, CELL_STATE_Y), style="state to")
    p.dot(x, CELL_STATE_Y, "×")
    p.dot(x + 140, CELL_STATE_Y, "+")
    p.text(x + 235, CELL_STATE_Y + 5, "h_t")


def _new_gate(p: Picture, x: int, end: int) -> None:
    """The new gate of a GRU at height 150, from its sum at x to the product with 1 - z."""
    p.dot(x, 150, "+")
    p.wire((x + 12, 150), (x + 37, 150))
    p.box(x + 65, 150, "tanh")
    p.wire((x + 92, 150), (end - 13, 150))
    p.text(x + 110, 142, "n_t")


def draw_gru() -> Picture:
    """Draw the GRU that resets after the product."""
    p = Picture("A step of the GRU", 780, 385)
    _product(p, 95, 580, "rows of W_{ih} x_t + b_{ih} and of W_{hh} h_{t-1} + b_{hh}")
    _gate(p, 140, "r", "σ")
    p.wire((140, GATE_Y - 18), (140, 150), (217, 150))
    for x, to, label in ((230, 48, "W_{hn} h_{t-1} + b_{hn}"), (345, 40, "W_{in} x_t + b_{in}")):
        p.wire((x, PRODUCT_Y - 18), (x, 163))
        p.text(x + to, 240, label, "small")
    p.dot(230, 150, "×")
    p.wire((242, 150), (332, 150))
    _new_gate(p, 345, 660)
    _mix(p, 520)
    return p


def draw_gru_reset_before() -> Picture:
    """Draw the GRU that resets before the product: two products in a step."""
    p = Picture("A step of the GRU that resets before the product", 780, 385)
    _product(p, 95, 580, "rows of W_{ih} x_t + b_{ih}, and of W_{hh} h_{t-1} + b_{hh} for r, z")
    _gate(p, 140, "r", "σ")
    p.dot(140, CELL_STATE_Y)
    p.wire((140, CELL_STATE_Y), (140, 137))
    p.wire((140, GATE_Y - 18), (140, 163))
    p.dot(140, 150, "×")
    p.wire((152, 150), (194, 150))
    p.text(174, 142, "v_t")
    p.box(250, 150, "W_{hn} v_t + b_{hn}", 112, "product")
    p.wire((306, 150), (332, 150))
    p.wire((345, PRODUCT_Y - 18), (345, 163))
    p.text(385, 240, "W_{in} x_t + b_{in}", "small")
    _new_gate(p, 345, 660)
    _mix(p, 520)
    return p


# ---- sequences -----------------------------------------------------------------------------------

ROWS = (
    ("lengths = 8", "rrrrrrrr"),
    ("lengths = 5", "rrrrr---"),
    ("holds: padding on the left", "hhhrrrrr"),
    ("holds: a hole", "rrrhhrrr"),
    ("resets at t = 4", "rrrr|rrrr"),
)
STYLES = {"r": ("runs", "h_t"), "h": ("held", "0"), "-": ("over", "0")}


def draw_sequences() -> Picture:
    """Draw what rows do at each step under lengths, holds and resets."""
    p = Picture("What each row does at each step", 700, 300)
    left, size = 230, 46
    for t in range(8):
        p.text(left + t * size + 21, 30, f"t = {t}", "small")
    for row, (name, steps) in enumerate(ROWS):
        y = 42 + row * 40
        p.text(115, y + 21, name, "small")
        for t, step in enumerate(steps.replace("|", "")):
            p.cell(left + t * size, y, *STYLES[step], size)
        if "|" in steps:
            x = left + steps.index("|") * size - 2
            p.wire((x, y - 3), (x, y + 35), style="state")
            p.text(x, y + 50, "from zero", "small")
    for x, style, name in ((230, "runs", "runs"), (370, "held", "held"), (510, "over", "over")):
        p.cell(x, 262, style, "", 30)
        p.text(x + 50, 283, name, "small")
    return p


def draw_windows() -> Picture:
    """Draw what a tape with `recompute` keeps, and what backward makes again."""
    p = Picture("Checkpoints and windows with recompute=4", 700, 190)
    size, left = 46, 70
    for t in range(12):
        p.cell(left + t * size, 60, "held" if 4 <= t < 8 else "over", "", size)
        p.text(left + t * size + 21, 48, f"{t}", "small")
        if t % 4 == 3:
            p.lines.append(
                f'  <rect x="{left + t * size + 36}" y="54" width="10" height="44" class="kept"/>'
            )
    p.text(35, 81, "step")
    p.text(254 + 92, 118, "the window that backward takes now: its gates are made again", "small")
    p.wire((left + 12 * size - 4, 140), (left, 140))
    p.text(346, 160, "backward, one window after the other", "small")
    p.lines.append('  <rect x="215" y="168" width="10" height="16" class="kept"/>')
    p.text(350, 181, "a cell state that the tape keeps", "small")
    return p


PICTURES: dict[str, Callable[[], Picture]] = {
    "rnn": draw_rnn,
    "lstm": draw_lstm,
    "lstm-peepholes": lambda: draw_lstm("A step of the LSTM with peepholes", peepholes=True),
    "lstm-coupled": lambda: draw_lstm("A step of the LSTM with coupled gates", coupled=True),
    "lstm-projection": lambda: draw_lstm("A step of the LSTM with a projection", projected=True),
    "gru": draw_gru,
    "gru-reset-before": draw_gru_reset_before,
    "sequences": draw_sequences,
    "windows": draw_windows,
}


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main()
