"""What nvcc makes of the CUDA kernels: rules that their machine code keeps, and how much it is.

    python tools/cuda_code.py check FILE...                        # modules or objects
    python tools/cuda_code.py table FILE... > docs/cuda-code.txt   # of every architecture

No rule names a kernel. One that has a barrier of the block, or a count, in a loop takes its steps
itself; the outermost such loop is that of the steps. So its blocks exchange values, in a way that
is known here: a count that is polled, words that are polled and bring their step with them, or the
shared memory of a cluster. What is looked at is what the emulated device knows nothing of: caches,
scopes of accesses, their width, and the order in which a compiler puts them.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import sass
from cuda_resources import columns, compiler
from sass import Instruction, Kernel, Loop

ELEMENT_BITS = {"double": 64, "float": 32, "Half": 16, "Bfloat16": 16}
QUAD = 4  # neighbours, moved at once (gpu.h)
LEAST_PRODUCTS = 16  # of a round of the smallest tile (product.cuh)
ALL_LANES = {"-0x1", "-1", "0xffffffff"}


# ---- kinds of instructions -----------------------------------------------------------------------


def is_barrier(one: Instruction) -> bool:
    """Whether a block, or a cluster of them, meets there."""
    return one.opcode.startswith(("BAR.SYNC", "UCGABAR_WAIT"))


def is_count(one: Instruction) -> bool:
    """Whether it adds to a number in global memory."""
    return one.name in {"RED", "REDG", "ATOMG"} and not one.has("CAS")


def is_strong(one: Instruction) -> bool:
    """Whether an access is in order with those of other blocks, so that no L1 serves it."""
    return one.has("STRONG", "GPU") or one.has("STRONG", "SYS")


def is_fence(one: Instruction) -> bool:
    """Whether all of the GPU sees what a thread did before ahead of what it does after."""
    return one.name == "MEMBAR" and (one.has("GPU") or one.has("SYS"))


def is_store(one: Instruction) -> bool:
    """Whether it writes to global memory."""
    return one.name == "STG"


def is_arithmetic(one: Instruction) -> bool:
    """Whether it adds or multiplies (a comparison alone, as of ReLU, nvcc may move ahead)."""
    return bool(re.match(r"[FH](ADD|MUL|FMA|MMA)2?\b|MUFU", one.opcode)) and not (
        one.opcode.startswith("HADD2.F32")  # a conversion
    )


def is_move(one: Instruction) -> bool:
    """Whether its result is one of its values, perhaps in another type."""
    starts = ("IMAD.MOV", "IMAD.U32", "IMAD.SHL", "SHF.L", "HADD2.F32")
    moves = {"MOV", "SEL", "FSEL", "PRMT", "F2F", "F2FP"}
    return one.name in moves or one.opcode.startswith(starts)


class Steps:
    """The loop of steps of a kernel, and what exchanges values in it."""

    def __init__(self, kernel: Kernel, loop: Loop) -> None:
        self.kernel, self.loop = kernel, loop

    @classmethod
    def of(cls, kernel: Kernel) -> Steps | None:
        """Those of a kernel that has any."""
        meetings = kernel.where(is_barrier) | kernel.where(is_count)
        loops = [loop for loop in kernel.loops if loop.depth == 0 and loop.body & meetings]
        return cls(kernel, max(loops, key=lambda loop: len(loop.body))) if loops else None

    @cached_property
    def element(self) -> int:
        """Bits of an element of the arrays, by the kernel's name."""
        names = re.findall(r"\w+", self.kernel.name)
        return next(bits for name, bits in ELEMENT_BITS.items() if name in names)

    @cached_property
    def barriers(self) -> set[int]:
        """Where the block meets."""
        return self.kernel.where(is_barrier)

    @cached_property
    def loads(self) -> set[int]:
        """Loads of a step from global memory."""
        return self.kernel.where(lambda one: one.name == "LDG") & self.loop.body

    @cached_property
    def strong_loads(self) -> set[int]:
        """Those that no L1 serves."""
        return self.loads & self.kernel.where(is_strong)

    @cached_property
    def counts(self) -> set[int]:
        """Where a step counts in global memory."""
        return self.loop.body & self.kernel.where(is_count)

    @cached_property
    def polls(self) -> set[int]:
        """Loads that wait for a value, in a loop that does nothing else or straight before one."""
        busy = self.barriers | self.kernel.where(lambda one: one.name in {"STG", "STS"})
        waiting = [loop.body for loop in self.kernel.loops if not loop.body & busy]
        found = self.strong_loads & set().union(*waiting)
        meets = self.loads | self.barriers
        return found | {
            i for i in self.strong_loads if self.kernel.first(i, self.kernel.after, meets) & found
        }

    @cached_property
    def counters(self) -> set[int]:
        """Polls that bring no value."""
        return {i for i in self.polls if self.kernel.code[i].bits == 32}

    @cached_property
    def cluster_waits(self) -> set[int]:
        """Where a step waits for the shared memory of its cluster."""
        waits = ("SYNCS.PHASECHK", "UCGABAR_WAIT")
        return self.loop.body & self.kernel.where(lambda one: one.opcode.startswith(waits))

    @cached_property
    def rows(self) -> set[int]:
        """Loads of quads that other blocks have written."""
        wide = {i for i in self.strong_loads if self.kernel.code[i].bits >= QUAD * self.element}
        return wide - self.polls

    def computes_with(self, load: int) -> bool:
        """Whether what a load brings is an input: a number or an index that is computed with."""
        mask = self.kernel.code[load].writes
        touching = self.kernel.where(lambda one: (one.reads | one.writes) & mask != 0)
        first = self.kernel.first(load, self.kernel.after, touching) - {-1}
        readers = [one for one in map(self.kernel.code.__getitem__, first) if one.reads & mask]
        if any(one.name != "STS" and not is_move(one) for one in readers):
            return True
        return load in self._used

    @cached_property
    def _used(self) -> set[int]:
        """What brings the numbers that a step computes with."""
        kernel, moves = self.kernel, self.kernel.where(is_move)
        arithmetic = kernel.where(lambda one: is_arithmetic(one) or one.name == "FSETP")
        arithmetic &= self.loop.body
        return set().union(*(kernel.sources(i, moves) for i in arithmetic))


# ---- rules ---------------------------------------------------------------------------------------
#
# Each yields the instructions that break it, with what is wrong.

Fault = tuple[int, str]


def exchanges_in_a_known_way(steps: Steps) -> Iterator[Fault]:
    """By a count, by words, or in a cluster."""
    words = steps.polls - steps.counters
    counted = bool(steps.counts) == bool(steps.counters)  # what is counted is polled
    if not counted or not (steps.counts or words or steps.cluster_waits):
        yield min(steps.loop.entries), "the loop of steps exchanges values in no known way"


def accesses_are_of_the_whole_gpu(steps: Steps) -> Iterator[Fault]:
    """A scope below that of the GPU is one block's, or one SM's."""
    code = steps.kernel.code
    for i in steps.kernel.where(lambda one: one.has("STRONG")) | steps.counts:
        if not is_strong(code[i]):
            yield i, "an access that other blocks see has a smaller scope than the GPU"


def counts_are_releases(steps: Steps) -> Iterator[Fault]:
    """Back from a count: a fence, the barrier of the block, and only then what was written."""
    kernel = steps.kernel
    fences, stores = kernel.where(is_fence), kernel.where(is_store)
    for count in steps.counts:
        for i in kernel.first(count, kernel.before, fences | steps.barriers | stores):
            if i not in fences:
                yield count, "no fence of the GPU between what was written and the count"
            elif not kernel.first(i, kernel.before, steps.barriers | stores) <= steps.barriers:
                yield count, "no barrier of the block between what was written and the fence"


def polls_are_acquires(steps: Steps) -> Iterator[Fault]:
    """On from a poll of a counter: L1 is emptied, the block meets, and only then is read."""
    kernel = steps.kernel
    empties = kernel.where(lambda one: one.opcode == "CCTL.IVALL")
    reads = steps.loads - steps.polls
    for poll in steps.counters:
        if kernel.first(poll, kernel.after, empties | steps.barriers | reads) & (
            steps.barriers | reads
        ):
            yield poll, "what is read after this poll may come from an L1 that is not emptied"
        if kernel.first(poll, kernel.after, steps.barriers | steps.rows) & steps.rows:
            yield poll, "no barrier of the block between this poll and the rows of other blocks"


def words_are_whole(steps: Steps) -> Iterator[Fault]:
    """A word that brings its step with it is written at once, past L1."""
    kernel, words = steps.kernel, steps.polls - steps.counters
    stores = kernel.where(is_store) & kernel.where(is_strong) & steps.loop.body
    if words and not {i for i in stores if kernel.code[i].bits >= 64}:
        yield min(words), "no strong store of 64 bits writes the words that are polled"


def staged_rows_are_strong_and_wide(steps: Steps) -> Iterator[Fault]:
    """Rows of other blocks go to shared memory by quads, from L2."""
    if not steps.counts:
        return
    kernel, code = steps.kernel, steps.kernel.code
    moves, values = kernel.where(is_move), {steps.element, QUAD * steps.element}
    weak = {i for i in steps.loads - steps.strong_loads if code[i].bits in values}
    staged: set[int] = set()
    for i in steps.loop.body & kernel.where(lambda one: one.name == "STS"):
        sources = kernel.sources(i, moves)
        staged |= sources if sources & steps.strong_loads else set()
    if not staged & steps.rows:
        yield min(steps.loop.entries), "no quad of other blocks is staged"
    # A register that is not written on some way may still hold an input, which is not meant.
    for i in staged & weak:
        if not steps.computes_with(i):
            yield i, "a value that L1 may have kept is staged"


def products_read_shared_memory_by_quads(steps: Steps) -> Iterator[Fault]:
    """In the loops that multiply: weights and rows, with nothing else loaded."""
    kernel, code = steps.kernel, steps.kernel.code
    products = kernel.where(lambda one: one.name in {"FFMA", "FFMA2"})
    of_tensors = kernel.where(lambda one: one.name == "HMMA")
    of_cells = kernel.where(lambda one: one.name == "MUFU")  # their exp and tanh
    loads = kernel.where(lambda one: one.name in {"LDS", "LDG", "LD", "LDL"})
    multiply = [
        loop.body
        for loop in kernel.loops
        if loop.body < steps.loop.body
        and not loop.body & of_cells
        and (len(loop.body & products) >= LEAST_PRODUCTS or loop.body & of_tensors)
    ]
    inner = [body for body in multiply if not any(other < body for other in multiply)]
    if not inner:
        yield min(steps.loop.entries), "no loop multiplies"
    for i in set().union(*inner) & loads:
        if code[i].name != "LDS" or code[i].bits < QUAD * steps.element:
            yield i, "a load of the product is none of a quad in shared memory"


def inputs_are_awaited_last(steps: Steps) -> Iterator[Fault]:
    """What a step loads for itself, such as W x, is on its way while it waits for other blocks."""
    kernel, code = steps.kernel, steps.kernel.code
    inputs = {i for i in steps.loads - steps.strong_loads if code[i].bits >= steps.element}
    before = kernel.leading_to(steps.rows | (steps.polls - steps.counters) | steps.cluster_waits)
    moves, ends = kernel.where(is_move), steps.barriers | steps.cluster_waits
    for i in steps.loop.body & before & kernel.where(is_arithmetic):
        if kernel.sources(i, moves, ends) & inputs:
            yield i, "an input of the step is waited for before the rows of other blocks are there"


def memory_is_named(steps: Steps) -> Iterator[Fault]:
    """Nothing is kept in local memory or written by an address of no named kind.

    In clusters others' shared memory is written so; and by such addresses nvcc reads, for 10.0 and
    up, a kernel's arguments where a cell's functions are among them.
    """
    generic = set() if steps.cluster_waits else {"ST", "ATOM"}
    for i in steps.kernel.where(lambda one: one.name in {"LDL", "STL", *generic}):
        yield i, "an access to local memory, or to memory of a kind that is not named"


def warps_are_whole(steps: Steps) -> Iterator[Fault]:
    """All lanes of a warp take part in what they do together. (For 7.5 nvcc hands the mask to a
    subroutine, where it is not looked for.)"""
    kernel, code = steps.kernel, steps.kernel.code
    for i in kernel.where(lambda one: one.name == "WARPSYNC" and one.reads != 0):
        masks = kernel.where(lambda one, mask=code[i].reads: one.writes & mask != 0)
        for j in kernel.first(i, kernel.before, masks) - {-1}:
            if code[j].operands[-1] not in ALL_LANES:
                yield i, "a part of a warp does what all of its lanes do together"


STEP_RULES = (
    exchanges_in_a_known_way,
    accesses_are_of_the_whole_gpu,
    counts_are_releases,
    polls_are_acquires,
    words_are_whole,
    staged_rows_are_strong_and_wide,
    products_read_shared_memory_by_quads,
    inputs_are_awaited_last,
    memory_is_named,
    warps_are_whole,
)


def reports_arrive(kernel: Kernel) -> Iterator[Fault]:
    """In memory of the host: what an error is about, a fence of the system, and then its code; or
    the name of the kernel, a fence, and the trap that ends it."""
    fences = kernel.where(lambda one: one.name == "MEMBAR" and one.has("SYS"))
    stores, traps = kernel.where(is_store), kernel.where(lambda one: one.name == "BPT")
    strong = stores & kernel.where(lambda one: one.has("STRONG", "SYS"))
    for i in traps:
        if not kernel.first(i, kernel.before, fences | stores) <= fences:
            yield i, "no fence of the system between the last store and the trap"
    for i in fences:
        before = kernel.first(i, kernel.before, stores)
        after = kernel.first(i, kernel.after, stores | traps)
        last = before if after <= traps else after
        if not last <= strong:
            yield i, "a report to the host is written by a store that may be kept back"
    claims = kernel.where(lambda one: one.name == "ATOMG" and one.has("CAS"))
    for i in claims:
        if not kernel.first(i, kernel.after, fences) & fences:
            yield i, "no fence of the system orders this report"


def faults(kernel: Kernel) -> list[str]:
    """The rules that a kernel breaks, in words."""
    steps = Steps.of(kernel)
    found = [*reports_arrive(kernel)]
    for rule in STEP_RULES if steps else ():
        found += rule(steps)
    about = f"sm_{kernel.architecture} {kernel.name}"
    return [
        f"{about}: {what}: /*{sass.BYTES * i:04x}*/ {kernel.code[i]}"
        for i, what in sorted(set(found))
    ]


# ---- the table -----------------------------------------------------------------------------------


def sizes(kernels: Iterable[Kernel]) -> dict[str, dict[str, int]]:
    """Instructions of the loop of steps: by kernel, by architecture."""
    found: dict[str, dict[str, int]] = {}
    for kernel in kernels:
        steps = Steps.of(kernel)
        if steps:
            found.setdefault(kernel.name, {})[kernel.architecture] = len(steps.loop.body)
    return found


def table(kernels: Iterable[Kernel]) -> Iterator[str]:
    """The lines of docs/cuda-code.txt."""
    found = sizes(kernels)
    if not found:
        raise SystemExit("[cuda_code] a file must have kernels with a loop of steps, got none")
    yield f"nvcc {compiler()}: instructions of a step, which are those of the loop of steps:"
    yield "the tiles for 1, 4 and 8 rows are all in it, so a step runs a part of them. Kernels of"
    yield "the grid mode."
    yield ""
    yield from columns({name: {a: str(n) for a, n in of.items()} for name, of in found.items()})


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in ("check", "by the rules"), ("table", "how many instructions a step has"):
        commands.add_parser(name, help=about).add_argument("file", type=Path, nargs="+")
    options = parser.parse_args()
    kernels = sass.kernels(options.file)
    if options.command == "table":
        print(*table(kernels), sep="\n")
        return
    found = [fault for kernel in kernels for fault in faults(kernel)]
    print(*found or ["no rule is broken"], sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
