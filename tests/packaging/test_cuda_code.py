"""The machine code of the CUDA module: rules, the size of a step, and that the rules see mistakes.

The emulated device runs the kernels with primitives of its own. So what gpu_cuda.h has in their
place is seen here alone, where there is no GPU.
"""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import builds
import test_wheel as wheel
import tiers
from builds import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import cuda_code
import cuda_resources
import sass

# In ci the kernels for the card whose figures docs/gpu.md has: what is for another architecture is
# the same text, and each takes most of a minute.
ARCHITECTURE = tiers.choose(dev="", ci="90", full="*")
# Of a step's size, where it is another nvcc's. From one architecture to the next it changes by up
# to a fifth, and so it may from compiler to compiler; one more tile in the loop is a quarter.
TOLERANCE = 0.2

# What stands in gpu_cuda.h, what is put in its place, and what must be said of it.
HEADER = Path("csrc", "cuda", "gpu_cuda.h")
SCOPE, FENCE = "smaller scope than the GPU", "no fence of the GPU"
KEPT, STALE = "a value that L1 may have kept is staged", "L1 that is not emptied"
QUADS, REPORT = "no quad of other blocks is staged", "store that may be kept back"
SYSTEM = "no fence of the system"
MUTANTS = [
    ("fence.acq_rel.gpu;", "fence.acq_rel.cta;", FENCE),
    (r"fence.acq_rel.gpu;\n\tred.", "red.", FENCE),
    ("red.relaxed.gpu.", "red.relaxed.cta.", SCOPE),
    ("ld.acquire.gpu.", "ld.acquire.cta.", SCOPE),
    ("ld.acquire.gpu.", "ld.relaxed.gpu.", STALE),
    ("ld.acquire.gpu.", "ld.weak.", "in no known way"),
    ("__syncthreads();", "__syncwarp();", "no barrier of the block"),
    ("__shfl_xor_sync(0xffffffffu,", "__shfl_xor_sync(0x0000ffffu,", "a part of a warp"),
    ("(const uint4* p) { return __ldcg(p); }", "(const uint4* p) { return *p; }", QUADS),
    ("(const uint4* p) { return __ldcg(p); }", "(const uint4* p) { return __ldg(p); }", QUADS),
    ("(const uint2* p) { return __ldcg(p); }", "(const uint2* p) { return *p; }", KEPT),
    ("*const_cast<volatile int*>(&to->code) = code;", "to->code = code;", REPORT),
    ("  __threadfence_system();\n  *const_cast<vol", "  *const_cast<vol", SYSTEM),
    ("*const_cast<const char* volatile*>(&to->abandoned)", "to->abandoned", REPORT),
    ("  __threadfence_system();\n  __trap();", "  __trap();", SYSTEM),
]


@pytest.fixture(scope="module")
def kernels(once: wheel.Once, tmp_path_factory: pytest.TempPathFactory) -> list[sass.Kernel]:
    """Those of the wheel that tests/packaging/test_wheel.py builds."""
    folder = tmp_path_factory.mktemp("module")
    with zipfile.ZipFile(wheel.make_wheel(once)) as archive:
        (name,) = (each for each in archive.namelist() if "_cuda." in each and each[-3:] == ".so")
        archive.extract(name, folder)
    return list(sass.kernels([folder / name], ARCHITECTURE))


@wheel.needs_nvcc
@tiers.ci
def test_kernels_keep_the_rules(kernels: list[sass.Kernel]) -> None:
    """From 8.0 on: for 7.5 nvcc moves a part of the loop out of what the rules take for it."""
    read = [kernel for kernel in kernels if kernel.architecture != "75"]
    assert read
    assert not [fault for kernel in read for fault in cuda_code.faults(kernel)]


@wheel.needs_nvcc
@tiers.ci
def test_steps_are_as_long_as_in_the_table(kernels: list[sass.Kernel]) -> None:
    """docs/cuda-code.txt; by another nvcc within the tolerance."""
    lines = list(cuda_code.table(kernels))
    whole = (ROOT / "docs" / "cuda-code.txt").read_text(encoding="utf-8").splitlines()
    architectures = {kernel.architecture for kernel in kernels}
    table = list(cuda_resources.of_architectures(whole, architectures))
    if lines[0] == table[0]:
        assert lines == table
    assert [line.split("  ")[0] for line in lines] == [line.split("  ")[0] for line in table]
    for line, expected in zip(lines[5:], table[5:], strict=True):
        sizes, others = (map(int, re.findall(r" (\d+)\b", each)) for each in (line, expected))
        for size, other in zip(sizes, others, strict=True):
            assert abs(size - other) <= TOLERANCE * other, line


# A kernel with the least that the rules ask for; a label stands for the line below it.
KERNEL = """
    LDC R1,c[0x0][0x28]
step:
    LDG.E R8,[R2.64]
    LDG.E.128.STRONG.GPU R4,[R6.64]
    STS.128 [R10],R4
    BAR.SYNC 0x0
product:
    LDS.128 R12,[R10]
    FFMA R16,R12,R13,R16 x16
    @P0 BRA product
    FADD R8,R8,R16
    STG.E [R2.64],R8
    BAR.SYNC 0x0
    @P1 BRA wait
    MEMBAR.ALL.GPU
    REDG.E.ADD.STRONG.GPU [R20.64],R3
poll:
    LDG.E.STRONG.GPU R21,[R20.64]
    CCTL.IVALL
    ISETP.GE.AND P2,PT,R21,R22,PT
    @!P2 BRA poll
wait:
    BAR.SYNC 0x0
    @P3 BRA step
    EXIT
"""
COUNT = KERNEL[KERNEL.index("    BAR.SYNC 0x0\n    @P1") : KERNEL.index("    @P3")]
# Instead of a count, words of a value and its step, and the shared memory of a cluster.
WORDS = KERNEL.replace(COUNT, "").replace(
    "    LDG.E.128.STRONG.GPU R4,[R6.64]\n",
    "poll:\n    LDG.E.64.STRONG.GPU R4,[R6.64]\n    ISETP.NE P2,R5,R22\n    @P2 BRA poll\n",
)
WORDS = WORDS.replace("STG.E [R2.64],R8", "STG.E.64.STRONG.GPU [R2.64],R8")
CLUSTER = KERNEL.replace(COUNT, "").replace(
    "    LDG.E.128.STRONG.GPU R4,[R6.64]\n    STS.128 [R10],R4\n    BAR.SYNC 0x0",
    "poll:\n    SYNCS.PHASECHK.TRANS64.TRYWAIT P2,[UR6],R10\n    @!P2 BRA poll\n    BAR.SYNC 0x0",
)
CLUSTER = CLUSTER.replace("STG.E [R2.64],R8", "ST.E [R2],R8")


def assembled(text: str) -> sass.Kernel:
    """A kernel of lines such as those above."""
    lines = re.sub(r"^(.*) x16$", r"\1\n" * 16, text, flags=re.MULTILINE).split("\n")
    lines = [line for line in lines if line.strip()]
    labels, code = {}, []
    for line in lines:
        if line.endswith(":"):
            labels[line[:-1]] = hex(sass.BYTES * len(code))
        else:
            code.append(re.fullmatch(r" *(@\S+ )?(\S+) ?(.*)", line))
    return sass.Kernel(
        "grid<float>",
        "90",
        [
            sass.Instruction(each[2], labels.get(each[3], each[3]), (each[1] or "").strip())
            for each in code
        ],
    )


@pytest.mark.parametrize("text", [KERNEL, WORDS, CLUSTER], ids=["count", "words", "cluster"])
def test_each_way_to_exchange_values_keeps_the_rules(text: str) -> None:
    kernel = assembled(text)
    assert not cuda_code.faults(kernel)
    assert list(cuda_code.sizes([kernel])) == ["grid<float>"]


@pytest.mark.parametrize(
    ("text", "old", "new", "fault"),
    [
        (KERNEL, COUNT, "", "in no known way"),
        (KERNEL, "REDG.E.ADD.STRONG.GPU", "REDG.E.ADD.STRONG.SM", SCOPE),
        (KERNEL, "    MEMBAR.ALL.GPU\n", "", FENCE),
        (KERNEL, "MEMBAR.ALL.GPU", "MEMBAR.ALL.CTA", FENCE),
        (KERNEL, "MEMBAR.ALL.GPU", "MEMBAR.ALL.GPU\n    STG.E [R2.64],R9", FENCE),
        (KERNEL, "    BAR.SYNC 0x0\n    @P1", "    @P1", "between what was written and the fence"),
        (KERNEL, "    CCTL.IVALL\n", "", STALE),
        (KERNEL, "wait:\n    BAR.SYNC 0x0", "wait:", "no barrier of the block between this poll"),
        (KERNEL, "LDG.E.128.STRONG.GPU", "LDG.E.128", QUADS),
        (KERNEL, "R4,[R6.64]", "R4,[R6.64]\n    @P4 LDG.E R5,[R6.64]", KEPT),
        (KERNEL, "LDS.128", "LDS", "a load of the product is none of a quad"),
        (KERNEL, "LDS.128 R12", "LDG.E.128 R12", "a load of the product is none of a quad"),
        (KERNEL, " x16", "", "no loop multiplies"),
        (KERNEL, "    LDG.E.128", "    FADD R8,R8,R9\n    LDG.E.128", "an input of the step"),
        (KERNEL, "FADD R8,R8,R16", "FADD R8,R8,R16\n    STL [R1],R8", "local memory"),
        (KERNEL, "STG.E [R2.64],R8", "ST.E [R2],R8", "of a kind that is not named"),
        (KERNEL, "LDC", "MOV R7,0xffff\n    WARPSYNC R7\n    LDC", "a part of a warp"),
        (KERNEL, "EXIT", "STG.E.STRONG.SYS [R2.64],R8\n    BPT.TRAP 0x1", SYSTEM),
        (KERNEL, "EXIT", "STG.E [R2.64],R8\n    MEMBAR.SC.SYS\n    BPT.TRAP 0x1", REPORT),
        (KERNEL, "EXIT", "MEMBAR.SC.SYS\n    STG.E [R2.64],R8\n    EXIT", REPORT),
        (WORDS, "STG.E.64.STRONG.GPU", "STG.E.STRONG.GPU", "no strong store of 64 bits"),
        (WORDS, "LDG.E.64.STRONG.GPU", "LDG.E.64.STRONG.SM", SCOPE),
        (WORDS, "poll:", "    FADD R8,R8,R9\npoll:", "an input of the step"),
        (CLUSTER, "poll:", "    FADD R8,R8,R9\npoll:", "an input of the step"),
    ],
)
def test_a_rule_sees_its_mistake(text: str, old: str, new: str, fault: str) -> None:
    assert text.count(old)
    found = cuda_code.faults(assembled(text.replace(old, new, 1)))
    assert any(fault in each for each in found), found


def test_the_mutants_apply() -> None:
    text = (ROOT / HEADER).read_text(encoding="utf-8")
    assert not [old for old, *_ in MUTANTS if text.count(old) != 1]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """broken(header): the rules that one cell's kernels for one architecture break with it.

    Of two storage types, which have all of the header's loads, so that it takes seconds.
    """
    copy = tmp_path_factory.mktemp("unit")
    for name in ("cmake", "csrc"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("CMakeLists.txt", "CMakePresets.json"):
        shutil.copy(ROOT / name, copy)
    unit = copy / "csrc" / "cuda" / "kernel.cu.in"
    others = r" *FASTRNN_KERNEL_SET\((?:double|Bfloat16), .*\n"
    unit.write_text(re.sub(others, "", unit.read_text(encoding="utf-8")), encoding="utf-8")
    built = "CMakeFiles/fastrnn_cuda_kernels.dir/generated/cuda_rnn_tanh.cu.o"
    options = ["MODULE=OFF", "CUDA_STRICT=OFF", "LEVELS=scalar"]
    definitions = [f"-DFASTRNN_{each}" for each in options]
    definitions.append("-DCMAKE_CUDA_ARCHITECTURES=90-real")

    def faults(header: str) -> list[str]:
        (copy / HEADER).write_text(header, encoding="utf-8")
        folder = builds.build("wheel", *definitions, source=copy, targets=(built,))
        return [f for kernel in sass.kernels([folder / built]) for f in cuda_code.faults(kernel)]

    return faults


@wheel.needs_nvcc
@tiers.full
@pytest.mark.parametrize(("old", "new", "fault"), [("", "", ""), *MUTANTS])
def test_a_mutant_breaks_a_rule(
    broken: Callable[[str], list[str]], old: str, new: str, fault: str
) -> None:
    """And what is not changed breaks none."""
    text = (ROOT / HEADER).read_text(encoding="utf-8")
    found = broken(text.replace(old, new, 1))
    assert any(fault in each for each in found) if fault else not found, found
