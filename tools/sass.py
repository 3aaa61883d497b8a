"""The machine code of CUDA kernels (SASS), as NVIDIA's disassembler reads it, and ways through it.

An instruction is known by its number in its kernel; its address is 16 times that. Sets of numbers
stand for kinds of instructions.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cuda_resources import demangled

BYTES = 16  # of an instruction, on every architecture since 7.5
STORES = {"ST", "STG", "STS", "STL", "STAS", "RED", "REDG"}
WITHOUT_RESULT = STORES | {"WARPSYNC"}
PREDICATE_FIRST = {"SHFL", "ATOM", "ATOMG", "ATOMS"}  # of what they write

# ---- instructions --------------------------------------------------------------------------------


class Instruction:
    """A predicate, an opcode and operands: ``@!P0 LDG.E.128.STRONG.GPU R4,[R2.64]``."""

    def __init__(self, opcode: str, text: str, predicate: str) -> None:
        self.opcode, self.text, self.predicate = opcode, text, predicate
        self.name, *self.modifiers = opcode.split(".")
        self.operands = text.split(",") if text else []

    def __str__(self) -> str:
        return f"{self.predicate} {self.opcode} {self.text}".strip()

    def has(self, *modifiers: str) -> bool:
        """Whether it has all of these modifiers."""
        return all(each in self.modifiers for each in modifiers)

    @cached_property
    def target(self) -> int | None:
        """Where it may go on besides the next instruction."""
        jumps = self.name in {"BRA", "CALL"} or self.opcode == "WARPSYNC.COLLECTIVE"
        found = re.search(r"\b0x([0-9a-f]+)$", self.text) if jumps else None
        return int(found[1], 16) // BYTES if found else None

    @cached_property
    def goes_on(self) -> bool:
        """Whether the next instruction may follow."""
        if self.name == "BRA":
            return bool(self.predicate) or len(self.operands) > 1 or self.has("DIV")
        return self.name not in {"EXIT", "RET", "BPT"} or bool(self.predicate)

    @cached_property
    def bits(self) -> int:
        """How wide an access to memory is."""
        widths = [each.lstrip("US") for each in self.modifiers]
        return next((int(each) for each in widths if each in {"8", "16", "64", "128"}), 32)

    @cached_property
    def writes(self) -> int:
        """The registers that it writes, a bit for each."""
        return _registers(self.operands[self._result], self._words) if self._result >= 0 else 0

    @cached_property
    def reads(self) -> int:
        """The registers whose values it takes, but for those of addresses."""
        words = self._words if self.name in STORES else 1
        values = [each for each in self.operands[self._result + 1 :] if "[" not in each]
        if self.name == "PRMT" and re.fullmatch("0x76..", values[1]):
            values.pop()  # it lends an upper half, beside a new value of 16 bits
        return functools.reduce(lambda mask, each: mask | _registers(each, words), values, 0)

    @cached_property
    def _result(self) -> int:
        """Which of the operands it writes, or -1 where that is no register."""
        place = 1 if self.name in PREDICATE_FIRST else 0
        written = self.name not in WITHOUT_RESULT and len(self.operands) > place
        return place if written and re.match(r"R[Z\d]", self.operands[place]) else -1

    @cached_property
    def _words(self) -> int:
        if self.name.startswith(("LD", "ST", "ATOM", "RED")):
            return max(self.bits // 32, 1)
        if self.name in {"HMMA", "IMMA"}:
            return 4
        return 2 if self.has("WIDE") or self.has("64") or self.name in {"FADD2", "FFMA2"} else 1


def _registers(operand: str, count: int) -> int:
    """The mask of so many registers, from the one that an operand names on."""
    found = re.match(r"[-|~!]*R(\d+)\b", operand)
    return ((1 << count) - 1) << int(found[1]) if found else 0


def _places(mask: int) -> Iterator[int]:
    """Of the bits that are set."""
    while mask:
        yield mask.bit_length() - 1
        mask ^= 1 << mask.bit_length() - 1


_instruction = functools.cache(Instruction)  # kernels have many of the same

# ---- kernels -------------------------------------------------------------------------------------


class Loop(NamedTuple):
    """Instructions each of which leads to all the others, and those where they are entered."""

    body: set[int]
    entries: set[int]
    depth: int


class Kernel:
    """The instructions of a kernel, and which may follow which.

    Threads that meet again (BSYNC) go on with the next instruction, as nvcc lays them out, and a
    subroutine returns to the one after its call.
    """

    def __init__(self, name: str, architecture: str, code: list[Instruction]) -> None:
        self.name, self.architecture, self.code = name, architecture, code
        self.after = [self._after(i) for i in range(len(code))]
        self.before: list[list[int]] = [[] for _ in code]
        for i, following in enumerate(self.after):
            for j in following:
                self.before[j].append(i)

    def _after(self, i: int) -> list[int]:
        one = self.code[i]
        next_one = [i + 1] if one.goes_on and i + 1 < len(self.code) else []
        return next_one if one.target is None else [*next_one, one.target]

    def where(self, condition: Callable[[Instruction], bool]) -> set[int]:
        """The instructions that meet a condition."""
        kinds = {one for one in set(self.code) if condition(one)}
        return {i for i, one in enumerate(self.code) if one in kinds}

    def first(self, start: int, edges: list[list[int]], kinds: set[int]) -> set[int]:
        """On each way from an instruction the first of some kinds; -1 is an end of the kernel.

        `edges` is `after` or, for ways back, `before`.
        """
        found, seen, left = set(), set(), [start]
        while left:
            for i in edges[left.pop()] or [-1]:
                if i < 0 or i in kinds:
                    found.add(i)
                elif i not in seen:
                    seen.add(i)
                    left.append(i)
        return found

    @cached_property
    def loops(self) -> list[Loop]:
        """All loops; the depth of those in no other is 0."""
        reached = {0} | self._all_ahead({0}, self.after)
        alone = {i for i in reached if self.before[i] == [i - 1] and self.after[i - 1] == [i]}
        blocks: dict[int, range] = {}
        for i in sorted(reached):
            head = next(reversed(blocks)) if i in alone else i
            blocks[head] = range(head, i + 1)
        return list(_loops(self, blocks))

    @cached_property
    def _forward(self) -> list[list[int]]:
        """`before` without the ways by which loops begin again."""
        edges = [list(each) for each in self.before]
        for loop in self.loops:
            for i in loop.entries:
                edges[i] = [j for j in edges[i] if j not in loop.body]
        return edges

    def leading_to(self, goals: set[int]) -> set[int]:
        """What goals come after, in the same round of every loop."""
        return self._all_ahead(goals, self._forward)

    def _all_ahead(self, starts: Iterable[int], edges: list[list[int]]) -> set[int]:
        seen, left = set(), list(starts)
        while left:
            for i in edges[left.pop()]:
                if i not in seen:
                    seen.add(i)
                    left.append(i)
        return seen

    @cached_property
    def _writers(self) -> dict[int, set[int]]:
        """What writes each register."""
        found = collections.defaultdict(set)
        for i, one in enumerate(self.code):
            for register in _places(one.writes):
                found[register].add(i)
        return found

    def sources(self, reader: int, moves: set[int], ends: Collection[int] = ()) -> set[int]:
        """What brings the values that an instruction reads, at first hand or through moves.

        It is looked for on the ways back, as far as the `ends`. What is written under another
        predicate than the reader's may not be written, so that what was there before counts too.
        """
        found, done = set(), set()
        left = [(reader, register) for register in _places(self.code[reader].reads)]
        while left:
            asked = left.pop()
            if asked not in done:
                done.add(asked)
                for i in self._last_writers(*asked, ends):
                    if i in moves:
                        left += [(i, register) for register in _places(self.code[i].reads)]
                    else:
                        found.add(i)
        return found

    def _last_writers(self, reader: int, register: int, ends: Collection[int]) -> set[int]:
        """Of a register, before the reader."""
        writers, sure = self._writers[register], ("", self.code[reader].predicate)
        found, seen, left = set(), set(), [reader]
        while left:
            for i in self.before[left.pop()]:
                if i in seen or i in ends:
                    continue
                seen.add(i)
                if i in writers:
                    found.add(i)
                if i not in writers or self.code[i].predicate not in sure:
                    left.append(i)
        return found


def _loops(kernel: Kernel, blocks: dict[int, range], depth: int = 0) -> Iterator[Loop]:
    """Those of some of the blocks, which are known by their first instructions."""
    after = {head: kernel.after[block[-1]] for head, block in blocks.items()}
    for heads in list(_cycles(after)):
        body = {i for head in heads for i in blocks[head]}
        entries = {i for i in heads if any(j not in body for j in kernel.before[i])}
        yield Loop(body, entries, depth)
        yield from _loops(kernel, {i: blocks[i] for i in heads - entries}, depth + 1)


def _cycles(after: dict[int, list[int]]) -> Iterator[set[int]]:
    """The strongly connected components that hold a cycle, by Tarjan's algorithm."""
    number: dict[int, int] = {}
    low: dict[int, int] = {}  # of those on the stack
    stack: list[int] = []
    ways: list[tuple[int, Iterator[int]]] = []

    def enter(i: int) -> None:
        number[i] = low[i] = len(number)
        stack.append(i)
        ways.append((i, iter(after[i])))

    for root in sorted(after):
        if root not in number:
            enter(root)
        while ways:
            i, following = ways[-1]
            j = next(following, None)
            if j in low:
                low[i] = min(low[i], low[j])
            elif j in after and j not in number:
                enter(j)
            elif j is None:
                ways.pop()
                if ways:
                    low[ways[-1][0]] = min(low[ways[-1][0]], low[i])
                if low[i] == number[i]:
                    at = stack.index(i)
                    body, stack[at:] = set(stack[at:]), []
                    for each in body:
                        del low[each]
                    if len(body) > 1 or i in after[i]:
                        yield body


# ---- files ---------------------------------------------------------------------------------------


def kernels(files: Iterable[Path], architecture: str = "*") -> Iterator[Kernel]:
    """Those of modules and objects, for one architecture or for all."""
    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(files):
            into = Path(folder) / str(number)
            into.mkdir()
            _run("cuobjdump", "-xelf", "all", file.resolve(), cwd=into)
        images = sorted(Path(folder).glob(f"*/*.sm_{architecture}.cubin"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for text in pool.map(lambda image: _run("nvdisasm", "-json", image), images):
                yield from _kernels(json.loads(text))


def _kernels(disassembled: Any) -> Iterator[Kernel]:
    about, functions = disassembled
    version = about["SM"]["version"]
    names = [each["function-name"] for each in functions]
    readable = demangled(names)
    for name, function in zip(names, functions, strict=True):
        code = [
            _instruction(each["opcode"], each.get("operands", ""), each.get("predicate", ""))
            for each in function["sass-instructions"]
        ]
        yield Kernel(readable[name], f"{version['major']}{version['minor']}", code)


def _run(tool: str, *arguments: object, cwd: Path | None = None) -> str:
    # NVIDIA's packages put programs where no PATH leads.
    packages = Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin")
    places = os.pathsep.join([*map(str, packages), os.environ.get("PATH", "")])
    path = shutil.which(tool, path=places)
    if not path:
        raise SystemExit(f"[sass] {tool} must be installed (pip install nvidia-cuda-{tool})")
    command = [path, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout
