"""What each CUDA kernel takes of each architecture, as the tables that tests compare.

    python tools/cuda_resources.py registers build.log > docs/cuda-registers.txt
    python tools/cuda_resources.py plans FOLDER > docs/cuda-plans.txt

`registers` reads what ptxas said in the log of a build (the preset `wheel`, or `pip wheel -v`): for
each kernel and architecture its registers, its static shared memory and how many blocks of 256
threads these let reside on one SM. `plans` asks the planner of the emulated module in FOLDER for a
typical card of each architecture: what a block of the grid mode keeps in shared memory.
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

# A card of each architecture: SMs, shared memory of a block in KiB, GHz.
CARDS = {
    "75": ("T4", 40, 64, 1.59),
    "80": ("A100", 108, 163, 1.41),
    "86": ("RTX 3090", 82, 99, 1.70),
    "89": ("L4", 58, 99, 2.04),
    "90": ("H100", 132, 227, 1.83),
    "100": ("B200", 148, 227, 1.96),
    "120": ("RTX 5090", 170, 99, 2.41),
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
    yield "The plan of a layer with one direction, by the model's assumed numbers: s, stepwise, or"
    yield "units of a block x groups of rows, KiB of shared memory of a block, blocks. Training:"
    yield "forward, then backward. A card of each architecture stands for all."
    for cell in ("rnn_tanh", "gru", "lstm"):
        for dtype in DTYPES:
            for rows in ROWS:
                yield ""
                yield f"{cell} {dtype} B={rows}"
                yield " " * 16 + "".join(f"{'H=' + str(units):>30}" for units in UNITS)
                for architecture, card in CARDS.items():
                    plans = [_plans(engine, card, cell, dtype, units, rows) for units in UNITS]
                    name = f"sm_{architecture} {card[0]}"
                    yield f"{name:16}" + "".join(f"{plan:>30}" for plan in plans)
    yield ""
    yield "The largest H of the grid mode, one row and direction."
    kinds = [(cell, dtype) for cell in ("rnn_tanh", "gru", "lstm") for dtype in DTYPES]
    yield " " * 16 + "".join(f"{cell + ' ' + dtype:>20}" for cell, dtype in kinds)
    engine.use_mode("grid")
    for architecture, card in CARDS.items():
        _use(engine, card)
        name = f"sm_{architecture} {card[0]}"
        yield f"{name:16}" + "".join(f"{_largest(engine, *kind):>20}" for kind in kinds)
    engine.use_mode("best")


def _plans(engine: Any, card: Any, cell: str, dtype: str, units: int, rows: int) -> str:
    _use(engine, card)
    stack = engine.Stack(cell, dtype, 1, 1, 1, units, False)
    both = (stack.plan(256, rows, 0, backward) for backward in (False, True))
    return "  ".join(map(_plan, both))


def _use(engine: Any, card: Any) -> None:
    _, processors, shared, gigahertz = card
    engine.use_device(processors, shared << 10, True, gigahertz)


def _largest(engine: Any, cell: str, dtype: str) -> int:
    """The most units that the grid mode takes for one row, forward and backward."""

    def fits(units: int) -> bool:
        stack = engine.Stack(cell, dtype, 1, 1, 1, units, False)
        try:
            for backward in (False, True):
                stack.plan(256, 1, 0, backward)
        except NotImplementedError:
            return False
        return True

    low, high = 1, 1 << 14
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _plan(plan: dict[str, Any]) -> str:
    if plan["mode"] == "stepwise":
        return "s"
    shared = plan["shared_bytes"] >> 10
    return f"{plan['units']}x{plan['replicas']},{shared}K,{plan['blocks']}"


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
