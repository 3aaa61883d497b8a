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
# the same text, and each takes half a minute.
ARCHITECTURE = tiers.choose(dev="", ci="90", full="*")
# Of one step's size, where it is another nvcc's. Code for two architectures differs by up to a
# fifth, as two compilers do; a loop that is unrolled no more, or twice, is a third or more.
TOLERANCE = 0.25

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
    ("(const float* p) { return __ldcg(p); }", "(const float* p) { return *p; }", KEPT),
    ("(const uint4* p) { return __ldcg(p); }", "(const uint4* p) { return *p; }", QUADS),
    ("(const uint4* p) { return __ldcg(p); }", "(const uint4* p) { return __ldg(p); }", QUADS),
    ("(const uint2* p) { return __ldcg(p); }", "(const uint2* p) { return *p; }", QUADS),
    ("__ldcg(&p->bits);", "p->bits;", KEPT),
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
    assert not [fault for kernel in kernels for fault in cuda_code.faults(kernel)]


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
