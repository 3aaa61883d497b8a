"""bench/gpu: all of it that needs no GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, run

torch = pytest.importorskip("torch")

sys.path.insert(0, str(ROOT))
from bench.gpu import __main__ as command  # noqa: E402
from bench.gpu import check, report, timing  # noqa: E402

CARD = {
    "case": "card",
    "card": "Imagined",
    "device": {"processors": 100, "shared_per_block": 100_000, "gigahertz": 1.5},
    "torch": "2",
    "cudnn": 9,
    "fastrnn": "0",
    "tflops": {"float32": 50.0, "float16": 500.0, "bfloat16": 500.0},
    "gigabytes_per_second": 2000.0,
}
MICRO = {"meeting": 0.9, "meeting_block": 0.002, "launch": 2.0, "streamed_bytes": 20.0}


def test_the_grid_of_cases_is_the_one_that_was_asked_for() -> None:
    cases = timing.cases()
    shapes = {(c.T, c.B, c.H) for c in cases}
    assert {H for T, _, H in shapes if T == 256} == {128, 200, 256, 512, 650, 1024, 2048}
    assert {B for T, B, _ in shapes if T == 256} == {1, 16, 64, 128}
    assert (1024, 16, 768) in shapes
    assert len(cases) == len(set(cases)) == 29 * 3 * 3 * 2
    names = [task.fields["case"] for task in check.tasks("cpu")]
    assert len(names) == len(set(names)) > 200


def test_a_case_is_timed_in_turns() -> None:
    """On the CPU, with a clock that only counts."""
    case = timing.Case("gru", "float32", 4, 2, 8)
    seen: list[str] = []

    def clock(call: Any, calls: int) -> float:
        seen.append("call")
        call()
        return 2.0

    row = timing.timed(case, "cpu", clock)
    assert set(row["ratios"]) == {"cudnn", "tf32"}
    assert row["us_per_step"]["fastrnn"] == pytest.approx(2e3 / 4)
    assert len(seen) > 3 * timing.ROUNDS


def rows(us: float) -> list[dict[str, Any]]:
    made = []
    for case in (timing.Case("lstm", "float32", 256, 16, 512, kind) for kind in timing.KINDS):
        ratio = {"median": 2.0, "low": 1.9, "high": 2.1}
        plan = {"mode": "grid", "blocks": 64, "model_us": 2.0}
        made.append(
            {
                **case.fields(),
                "mode": "best",
                "us_per_step": {"fastrnn": us, "cudnn": 2 * us, "tf32": us},
                "ms": {"fastrnn": ratio},
                "ratios": {"cudnn": ratio, "tf32": ratio},
                "plan": {"forward": plan},
            }
        )
    return made


def test_tables_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skipped = {**timing.Case("gru", "float16", 256, 1, 2048).fields(), "mode": "best"}
    lines = [CARD, *rows(10.0), {**skipped, "skipped": "[gru] does not fit"}]
    (tmp_path / "time.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    numbers = [{"name": name, "value": value} for name, value in MICRO.items()]
    (tmp_path / "micro.jsonl").write_text("\n".join(map(json.dumps, numbers)), encoding="utf-8")
    command.main(["report", "--out", str(tmp_path)])
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "Imagined" in table
    assert "| lstm | 256 | 16 | 512 | grid | 10.00 | 20.00 | 2.00 (1.90 .. 2.10) | 2.00 |" in table
    assert "2.00 times as fast as cuDNN over 1 cases" in table
    assert "not measured: gru_f16_T256_B1_I2048_H2048_D1 train: [gru] does not fit" in table
    assert "double meeting = 0.9;" in capsys.readouterr().out
    assert (tmp_path / "ratios.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_floor_grows_with_the_work() -> None:
    forward, train = rows(1.0)
    least = report.floor_us(forward, CARD, MICRO)
    # 2 * 16 * 512^2 * 4 operations at 50 TFLOP/s, twice, and the meeting of two blocks.
    assert least == pytest.approx(2 * 33.55e6 / 50e6 + 0.904, rel=1e-3)
    assert report.floor_us(train, CARD, MICRO) > 2 * least
    larger = {**forward, "shape": {**forward["shape"], "B": 64}}
    assert report.floor_us(larger, CARD, MICRO) > least


def test_work_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, ran = tmp_path / "rows.jsonl", []

    def task(name: str, error: Exception | None = None) -> report.Task:
        def run_it() -> dict[str, Any]:
            ran.append(name)
            if error:
                raise error
            return {"value": 1}

        return report.Task({"case": name}, run_it)

    tasks = [task("a"), task("b", NotImplementedError("no")), task("c", ValueError("wrong"))]
    assert report.work_through(path, tasks, 0, str) == 1
    assert report.work_through(path, [*tasks, task("d")], 0, str) == 1
    assert ran == ["a", "b", "c", "d"]
    assert "FAILED c: ValueError: wrong" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
@pytest.mark.parametrize("name", ["check", "time", "one"])
def test_without_a_gpu_a_plain_message(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", name], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "torch sees none" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not shutil.which("nvcc"), reason="micro-benchmarks of a GPU need nvcc")
@pytest.mark.parametrize("architecture", ["75", "90"])
def test_micro_benchmarks_compile(tmp_path: Path, architecture: str) -> None:
    arch = f"-arch=sm_{architecture}"
    source, program = str(ROOT / "bench" / "gpu" / "micro.cu"), str(tmp_path / "micro")
    flags = ["-std=c++17", "--fmad=false", "-Werror=all-warnings", f"-I{ROOT / 'csrc'}"]
    run(["nvcc", arch, *flags, source, "-o", program])
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0 or "cuda" in (done.stderr + done.stdout)


def test_the_script_knows_its_stages(tmp_path: Path) -> None:
    script = str(ROOT / "bench" / "gpu.sh")
    run(["bash", "-n", script])
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable}

    def refused(stage: str) -> str:
        command = ["bash", script, stage]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode != 0
        return done.stderr

    assert "the stage must be build, check, sanitize, micro, time, report or all" in refused(
        "other"
    )
    assert "run `bench/gpu.sh time` on a GPU first" in refused("report")
