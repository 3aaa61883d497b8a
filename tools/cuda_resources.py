"""What each CUDA kernel takes of each architecture, as the tables that tests compare.

    python tools/cuda_resources.py registers build.log > docs/cuda-registers.txt
    python tools/cuda_resources.py plans FOLDER > docs/cuda-plans.txt

`registers` reads what ptxas said in the log of a build (the preset `wheel`, or `pip wheel -v`): for
each kernel and architecture its registers, its static shared memory and how many blocks of 256
threads these let reside on one SM. `plans` asks the planner of the emulated module in FOLDER for a
typical card of each architecture.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

THREADS = 256  # kMaxThreads
REGISTERS = 65_536  # of an SM, on every architecture since 7.5


class Card(NamedTuple):
    """SMs, shared memory of a block in KiB, GHz, blocks of a cluster."""

    name: str
    processors: int
    shared: int
    gigahertz: float
    cluster: int
    architecture: int = 90


# A card of each architecture.
CARDS = {
    "75": Card("T4", 40, 64, 1.59, 0, 75),
    "80": Card("A100", 108, 163, 1.41, 0, 80),
    "86": Card("RTX 3090", 82, 99, 1.70, 0, 86),
    "89": Card("L4", 58, 99, 2.04, 0, 89),
    "90": Card("H100", 132, 227, 1.83, 16),
    "100": Card("B200", 148, 227, 1.96, 16, 100),
    "120": Card("RTX 5090", 170, 99, 2.41, 8, 120),
}
DTYPES = ("float32", "float16")
UNITS, ROWS = (128, 256, 512, 1024, 2048), (1, 64)


class Use(NamedTuple):
    """What ptxas says of a kernel on an architecture."""

    registers: int
    shared: int
    spilled: int

    def blocks(self) -> int:
        """Of 256 threads on one SM, as far as registers decide (given in lots of 8 a thread)."""
        return REGISTERS // (-(-self.registers // 8) * 8 * THREADS)


def read_log(text: str) -> dict[str, dict[str, Use]]:
    """The uses of a build's log: by kernel, by architecture."""
    found: dict[str, dict[str, Use]] = {}
    pattern = re.compile(
        r"Compiling entry function '(\w+)' for 'sm_(\w+)'(.*?)Used (\d+) registers([^\n]*)",
        re.DOTALL,
    )
    for name, architecture, between, registers, rest in pattern.findall(text):
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", between)))
        shared = re.search(r"(\d+) bytes smem", rest)
        use = Use(int(registers), int(shared[1]) if shared else 0, spilled)
        found.setdefault(name, {})[architecture] = use
    readable = demangled(list(found))
    return {readable[name]: uses for name, uses in found.items()}


def demangled(names: list[str]) -> dict[str, str]:
    """``grid_forward<Lstm, Exact, float>`` for each mangled name of a kernel."""
    done = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    short = [
        re.sub(r"fastrnn::(gpu::)?", "", line.removeprefix("void ").partition("(")[0])
        for line in done.stdout.splitlines()
    ]
    return dict(zip(names, short, strict=True))


def registers_table(log: str) -> Iterator[str]:
    """The lines of docs/cuda-registers.txt."""
    found = read_log(log)
    if not found:
        raise SystemExit("[cuda_resources] the log must hold what ptxas says, got none of it")
    yield f"nvcc {compiler()}: registers of a thread and, after the"
    yield f"slash, blocks of {THREADS} threads that they let reside on one SM. Static shared memory"
    yield "and spilled registers: none, or named."
    yield ""
    cells = {
        name: {a: f"{use.registers}/{use.blocks()}" for a, use in uses.items()}
        for name, uses in found.items()
    }
    notes = {
        name: "".join(
            f"  sm_{a}: {use.shared} B shared, {use.spilled} B spilled"
            for a, use in uses.items()
            if use.shared or use.spilled
        )
        for name, uses in found.items()
    }
    head, *lines = columns(cells)
    yield head
    for name, line in zip(sorted(found), lines, strict=True):
        yield line + notes[name]


def columns(cells: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A line for each kernel, a column for each architecture, and a head."""
    architectures = sorted({a for each in cells.values() for a in each}, key=int)
    width = max(map(len, cells))
    yield " " * width + "".join(f"{'sm_' + a:>9}" for a in architectures)
    for name in sorted(cells):
        yield f"{name:{width}}" + "".join(f"{cells[name][a]:>9}" for a in architectures)


def of_architectures(table: Sequence[str], kept: Collection[str]) -> Iterator[str]:
    """Lines of such a table, below four of text, with the columns of some architectures alone."""
    head = table[4]
    columns = list(re.finditer(r" +sm_(\d+)", head))
    name = slice(0, len(head) - 9 * len(columns))
    for line in table[:4]:
        yield line
    for line in table[4:]:
        cells = [line[name.stop + 9 * i :][:9] for i, c in enumerate(columns) if c[1] in kept]
        yield line[name] + "".join(cells) + line[len(head) :]


def compiler() -> str:
    """The version of nvcc."""
    done = subprocess.run(["nvcc", "--version"], capture_output=True, text=True)
    release = re.search(r"release ([\d.]+)", done.stdout)
    return release[1] if release else "unknown"


def plans_table(engine: Any) -> Iterator[str]:
    """The lines of docs/cuda-plans.txt."""
    yield "The plan of a layer with one direction at T = 256, by the model (csrc/cuda/costs.h), of"
    yield "which no card has run the kernels. Training: forward, then backward. A plan is"
    yield "  the mode: g grid, f flags, c cluster, s stepwise, which shares nothing out itself;"
    yield "  units of a block x groups of rows; after the slash, rows that are multiplied at once;"
    yield "  ~ where weights are streamed. A card of each architecture stands for all."
    for cell in ("rnn_tanh", "gru", "lstm"):
        for dtype in DTYPES:
            for rows in ROWS:
                yield ""
                yield f"{cell} {dtype} B={rows}"
                yield " " * 16 + "".join(f"{'H=' + str(units):>23}" for units in UNITS)
                for architecture, card in CARDS.items():
                    plans = [_plans(engine, card, cell, dtype, units, rows) for units in UNITS]
                    name = f"sm_{architecture} {card.name}"
                    yield f"{name:16}" + "".join(f"{plan:>23}" for plan in plans)
    yield ""
    yield "The largest H whose weights the grid mode does not stream, one row and direction."
    kinds = [(cell, dtype) for cell in ("rnn_tanh", "gru", "lstm") for dtype in DTYPES]
    yield " " * 16 + "".join(f"{cell + ' ' + dtype:>20}" for cell, dtype in kinds)
    engine.use_mode("grid")
    for architecture, card in CARDS.items():
        use(engine, card)
        name = f"sm_{architecture} {card.name}"
        yield f"{name:16}" + "".join(f"{_largest(engine, *kind):>20}" for kind in kinds)
    engine.use_mode("best")


def use(engine: Any, card: Card) -> None:
    """Let the emulated device be a card."""
    engine.use_device(
        card.processors, card.shared << 10, True, card.gigahertz, card.cluster, card.architecture
    )


def _plans(engine: Any, card: Card, cell: str, dtype: str, units: int, rows: int) -> str:
    use(engine, card)
    stack = engine.Stack(cell, dtype, 1, 1, 1, units, False)
    both = (stack.plan(256, rows, 0, backward) for backward in (False, True))
    return "  ".join(map(_plan, both))


def _largest(engine: Any, cell: str, dtype: str) -> int:
    """The most units whose weights the grid mode does not stream, forward and backward."""

    def fits(units: int) -> bool:
        stack = engine.Stack(cell, dtype, 1, 1, 1, units, False)
        try:
            plans = [stack.plan(256, 1, 0, backward) for backward in (False, True)]
        except NotImplementedError:
            return False
        return not any(plan["streamed"] for plan in plans)

    low, high = 1, 1 << 14
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _plan(plan: dict[str, Any]) -> str:
    if plan["mode"] == "stepwise":
        return "s"
    streamed = "~" if plan["streamed"] else ""
    return f"{plan['mode'][0]}{plan['units']}x{plan['replicas']}/{plan['tile_rows']}{streamed}"


def load(folder: Path, name: str) -> Any:
    """A module of a folder."""
    (path,) = folder.glob(f"{name}.*")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("registers", help="of a build's log").add_argument("log", type=Path)
    commands.add_parser("plans", help="by the emulated module").add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "registers":
        print(*registers_table(options.log.read_text(encoding="utf-8")), sep="\n")
        return
    engine = load(options.folder, "_cuda_emulated")
    print(*plans_table(engine), sep="\n")


if __name__ == "__main__":
    main()
