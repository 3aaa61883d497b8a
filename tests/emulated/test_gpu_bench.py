"""bench/gpu: all of it that needs no GPU."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tiers
from builds import ROOT, run

torch = pytest.importorskip("torch")

import on_gpu  # noqa: E402
from bench.gpu import __main__ as command  # noqa: E402
from bench.gpu import check, report, small, timing, ways, work  # noqa: E402

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
MICRO = {"barrier": 0.9, "barrier_per_block": 0.002, "launch": 2.0, "streamed_bytes": 20.0}


def test_the_grid_of_cases_is_the_one_that_was_asked_for() -> None:
    cases = timing.cases()
    shapes = {(c.T, c.B, c.H) for c in timing.squares()}
    assert {H for T, _, H in shapes if T == 256} == {128, 200, 256, 512, 650, 1024, 2048}
    assert {B for T, B, _ in shapes if T == 256} == {1, 16, 64, 128}
    assert (1024, 16, 768) in shapes
    assert len(cases) == len(set(cases)) == 29 * 3 * 3 * 2 + 2 * len(timing.MODELS)
    names = {case.id for case in cases}
    assert {
        "gru_bf16_T256_B64_I768_H768_D1-L5 train",
        "lstm_f16_T1667_B96_I1024_H1024_D1 forward",
    } < names
    names = [task.fields["case"] for task in check.tasks("cpu")]
    assert len(names) == len(set(names)) > 200


def test_a_case_is_timed_in_turns() -> None:
    """On the CPU, with a clock that only counts."""
    case = timing.square("gru", "float32", 4, 2, 8)
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
    for case in (timing.square("lstm", "float32", 256, 16, 512, kind) for kind in timing.KINDS):
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
    skipped = {**timing.square("gru", "float16", 256, 1, 2048).fields(), "mode": "best"}
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
    assert "  barrier = 0.9\n" in capsys.readouterr().out
    assert (tmp_path / "ratios.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_floor_grows_with_the_work() -> None:
    forward, train = rows(1.0)
    least = report.floor_us(forward, CARD, MICRO)
    # 2 * 16 * 512^2 * 4 operations at 50 TFLOP/s, twice, and the barrier of two blocks.
    assert least == pytest.approx(2 * 33.55e6 / 50e6 + 0.904, rel=1e-3)
    assert report.floor_us(train, CARD, MICRO) > 2 * least
    larger = {**forward, "shape": {**forward["shape"], "B": 64}}
    assert report.floor_us(larger, CARD, MICRO) > least
    deeper = {**forward, "shape": {**forward["shape"], "L": 5}}
    assert report.floor_us(deeper, CARD, MICRO) == pytest.approx(5 * least)


def task(name: str, run_it: Callable[[], dict[str, Any]]) -> work.Task:
    return work.Task({"case": name}, run_it)


def fails(error: Exception) -> Callable[[], dict[str, Any]]:
    def run_it() -> dict[str, Any]:
        raise error

    return run_it


def test_work_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, ran = tmp_path / "rows.jsonl", []

    def notes(name: str) -> work.Task:
        return task(name, lambda: ran.append(name) or {"value": 1})

    refused, wrong = fails(NotImplementedError("no")), fails(ValueError("wrong"))
    tasks = [notes("a"), task("b", refused), task("c", wrong)]
    assert work.work_through(path, tasks, 0, str) == 1
    assert work.work_through(path, [*tasks, notes("d")], 0, str) == 1
    assert ran == ["a", "d"]
    assert "FAILED c: ValueError: wrong" in capsys.readouterr().out
    assert [row["case"] for row in work.read_rows(path)] == ["a", "b", "c", "d"]


def test_a_case_that_began_and_never_ended_has_failed(tmp_path: Path) -> None:
    """It is written down before it runs, and not run again; one that was told to stop is."""
    path = tmp_path / "rows.jsonl"

    def killed() -> dict[str, Any]:
        raise KeyboardInterrupt  # as a process that ends here: no end is written

    with pytest.raises(KeyboardInterrupt):
        work.work_through(path, [task("a", killed)], 0, str)
    assert work.read_rows(path) == []
    again = [task("a", dict), task("b", dict)]
    assert work.work_through(path, again, 0, str) == 1
    assert [("failed" in row) for row in work.read_rows(path)] == [True, False]
    with pytest.raises(KeyboardInterrupt):
        work.work_through(path, [task("c", killed)], 0, str)
    work.end(path, {"stopped": "by a test"})
    work.work_through(path, [task("c", dict)], 0, str)
    assert work.read_rows(path)[-1] == {"case": "c"}


def test_a_device_that_is_lost_ends_the_worker(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    tasks = [task("a", fails(RuntimeError("an illegal access"))), task("b", dict)]
    assert work.work_through(path, tasks, 0, str, still_works=lambda: False) == work.LOST
    assert [row["case"] for row in work.read_rows(path)] == ["a"]
    assert work.work_through(path, tasks, 0, str, still_works=lambda: False) == 1
    assert [row["case"] for row in work.read_rows(path)] == ["a", "b"]


WORKER = """
import os, sys, time
from pathlib import Path
from bench.gpu import work

def hang(): time.sleep(60)
def crash(): os.kill(os.getpid(), 11)
def lost(): raise RuntimeError("device")

runs = {"hangs": hang, "crashes": crash, "loses the device": lost, "works": dict}
names = sys.argv[2].split(",")
tasks = [work.Task({"case": name}, runs[name.split(" again")[0]]) for name in names]
sys.exit(work.work_through(Path(sys.argv[1]), tasks, 0, str, lambda: False))
"""


def supervised(path: Path, names: str, minutes: float = 0, **options: float) -> int:
    command = [sys.executable, "-c", WORKER, str(path), names]
    return work.supervise(command, path, minutes, **options)


def test_one_bad_case_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hang, a crash and a lost device, each in a process of its own, and the rest is done."""
    monkeypatch.chdir(ROOT)
    path = tmp_path / "rows.jsonl"
    names = "works,hangs,works again,crashes,loses the device,works again again"
    assert supervised(path, names, patience=2.0) == 1
    found = {row["case"]: row.get("failed", "") for row in work.read_rows(path)}
    assert list(found) == names.split(",")
    assert "it hung: no end within 2 s" in found["hangs"]
    assert "its process ended with status -11" in found["crashes"]
    assert found["loses the device"] == "RuntimeError: device"
    assert not any(failed for name, failed in found.items() if name.startswith("works"))


def test_minutes_that_are_over_leave_the_case_for_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    path = tmp_path / "rows.jsonl"
    assert supervised(path, "works,hangs", minutes=0.02, patience=30, grace=1.0) == 0
    assert "cases left: run it again" in capfd.readouterr().out
    assert [row["case"] for row in work.read_rows(path)] == ["works"]
    assert supervised(path, "works,hangs", minutes=1e-5, patience=30, grace=0.0) == 0  # at once
    assert supervised(path, "works,hangs", patience=1.5) == 1
    assert "it hung" in work.read_rows(path)[-1]["failed"]


def test_a_worker_that_cannot_start_is_not_started_for_ever(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit(3)"]
    assert work.supervise(command, tmp_path / "rows.jsonl", 0) == 1


def test_cupy_does_not_go_unchecked_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "check.jsonl"
    monkeypatch.setitem(sys.modules, "cupy", None)
    work.append(path, check.cupy_row())
    assert work.work_through(path, [task("a", dict)], 0, str) == 1
    assert "NOT CHECKED CuPy's arrays: ModuleNotFoundError" in capsys.readouterr().out
    assert any("**NOT CHECKED**: CuPy's arrays" in text for text in report.checked(tmp_path))
    work.append(path, {"case": "CuPy's arrays", "with": "14"})  # a later call, with it
    assert work.work_through(path, [task("a", dict)], 0, str) == 0
    assert "- sanitize: has not run" in list(report.checked(tmp_path))


def test_checks_compare_with_products_in_full_precision() -> None:
    """What lets cuBLAS round more is off while cuDNN's numbers are made, and as before after it."""
    matmul = torch.backends.cuda.matmul
    names = [name for name in timing.ROUNDS_MORE if hasattr(matmul, name)]
    assert {"allow_tf32", "allow_fp16_reduced_precision_reduction"} < set(names)

    def settings() -> list[bool]:
        return [torch.backends.cudnn.allow_tf32, *(getattr(matmul, name) for name in names)]

    before, seen = settings(), []
    case = timing.square("gru", "float32", 3, 2, 4)
    layer_of = check.make_layer

    class Watched(torch.nn.GRU):
        def forward(self, *args: Any) -> Any:
            seen.append(settings())
            return super().forward(*args)

    def make(package: Any, *args: Any) -> Any:
        layer = layer_of(package, *args)
        if package is torch.nn:
            layer.__class__ = Watched
        return layer

    try:
        check.make_layer = make
        row = check.compare(case, "cpu", ("any",))
    finally:
        check.make_layer = layer_of
    assert "failed" not in row
    assert seen == [[False] * (1 + len(names))] * 2
    assert settings() == before
    assert before[1 + names.index("allow_fp16_reduced_precision_reduction")], (
        "nothing was turned off"
    )


def test_a_case_is_compared_on_a_packed_sequence() -> None:
    """On the CPU, whose engine has no modes; lengths go in as torch's own layers take them."""
    case = timing.square("lstm", "float32", 6, 3, 5, L=2, D=2, lengths=True)
    row = check.compare(case, "cpu", ("any",))
    assert row["modes"]["any"]["of_bound"] <= 1
    assert set(row["cudnn"]) > {"y", "hn", "cn", "dx", "dh0", "dc0"}


def test_what_decides_most_is_timed_first() -> None:
    chosen = timing.deciding()
    assert len(chosen) == len(set(chosen)) == 33
    assert {case.cell for case, _ in chosen} == set(timing.TIMED)
    assert {case.dtype for case, _ in chosen} == set(timing.DTYPES)
    assert {way for _, way in chosen} == {"best", *ways.WAYS}
    assert {case for case, _ in chosen} > set(timing.models())
    tasks = timing.tasks(chosen, "cpu", "none")
    assert len({work.key(each.fields) for each in tasks}) == len(chosen)


def test_ways_are_the_modes_and_tf32() -> None:
    assert set(ways.MODES) == set(on_gpu.MODES)
    assert ways.ways_of("float32") == (*ways.MODES, "tf32")
    assert ways.ways_of("float16") == ways.MODES


def test_every_kernel_runs_in_every_way() -> None:
    """And an LSTM and a GRU with weights that a cluster, or many blocks, have to share."""
    found = {(c.cell, c.dtype, c.way, c.sizes.H) for c in check.small_cases(check.SMALL_DTYPES)}
    for cell in small.all_cells():
        for way in (*on_gpu.MODES, "tf32"):
            assert (cell, "float32", way, 33) in found
    assert not any(way == "tf32" for _, dtype, way, _ in found if dtype != "float32")


@pytest.mark.parametrize("cell", small.WIDE_CELLS)
def test_wide_cases_are_shared_by_a_cluster(emulated: ModuleType, cell: str) -> None:
    """On a card like those that are measured, where a block would take all of a small case."""
    T, B, I, H, L = small.WIDE
    emulated.use_device(132, 227 << 10, True)
    for dtype in ("float32", "bfloat16"):
        stack = emulated.Stack(cell, dtype, L, 2, I, H, True)
        emulated.use_mode("cluster")
        plan = stack.plan(T, B, 0, False)
        assert plan["blocks"] > 2 * plan["replicas"]
    emulated.use_mode("best")


def test_the_numbers_of_costs_are_those_that_are_measured() -> None:
    """What micro.cu prints under a name of `Costs` is what the report prints, and is in costs.h."""
    source = (ROOT / "bench" / "gpu" / "micro.cu").read_text(encoding="utf-8")
    header = (ROOT / "csrc" / "cuda" / "costs.h").read_text(encoding="utf-8")
    assert set(re.findall(r'\bcost\("(\w+)"', source)) == set(report.COSTS)
    assert set(report.COSTS) < set(re.findall(r"^  double (\w+)", header, re.MULTILINE))


def test_predictions_are_those_of_the_page(emulated: ModuleType) -> None:
    """docs/gpu-predicted.md: what the model expects of each case that is timed, beside cuDNN."""
    sys.path.insert(0, str(ROOT / "tools"))
    import cuda_predictions

    page = (ROOT / "docs" / "gpu-predicted.md").read_text(encoding="utf-8").splitlines()
    assert list(cuda_predictions.predictions(emulated)) == page
    rows = [line for line in page if re.match(r"\| \w+( x \d)? \| \d", line)]
    assert len(rows) == 29 * 3 * 2 * 2 + len(timing.models())
    assert sum(not row.endswith("|  |") for row in rows) > 170, "cuDNN's times are found"


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
@pytest.mark.parametrize("name", tiers.thin(["check", "time", "one"], ["one"]))
def test_without_a_gpu_a_plain_message(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OUT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode != 0
    assert "torch sees none" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not shutil.which("nvcc"), reason="micro-benchmarks of a GPU need nvcc")
@pytest.mark.parametrize("architecture", tiers.thin(["75", "90"], ["90"]))
def test_micro_benchmarks_compile(tmp_path: Path, architecture: str) -> None:
    arch = f"-arch=sm_{architecture}"
    source, program = str(ROOT / "bench" / "gpu" / "micro.cu"), str(tmp_path / "micro")
    flags = ["-std=c++17", "--fmad=false", "-Werror=all-warnings", f"-I{ROOT / 'csrc'}"]
    run(["nvcc", arch, *flags, source, "-o", program])
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0 or "cuda" in (done.stderr + done.stdout)


STUB = """#!/bin/bash
echo "$*" >>"$LOG"
case "$*" in
  *"check --part small"*) exit 1 ;;
  *"-m bench.gpu time"*) if [ -n "${HANG:-}" ]; then sleep 60 & echo $! >"$LOG.pid"; wait; fi ;;
esac
"""


NVCC = """#!/bin/bash
cat >build/gpu-micro <<'END'
#!/bin/bash
echo '{"name": "streamed_bytes_memory", "value": 1}'
END
chmod +x build/gpu-micro
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """bench/gpu.sh in a folder of its own, with an interpreter and nvcc that only take notes."""
    for name, text in (("python", STUB), ("nvcc", NVCC)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "bench").mkdir()
    shutil.copy(ROOT / "bench" / "gpu.sh", tmp_path / "bench")
    for name, value in (
        ("PATH", f"{tmp_path}:{os.environ['PATH']}"),
        ("PYTHON", "python"),
        ("OUT", str(tmp_path / "out")),
        ("LOG", str(tmp_path / "log")),
    ):
        monkeypatch.setenv(name, value)
    return tmp_path / "bench" / "gpu.sh"


def lines(log: Path) -> list[str]:
    return [line for line in log.read_text(encoding="utf-8").splitlines() if line[:2] != "-c"]


def test_the_short_stage_does_what_decides_most_first(script: Path, tmp_path: Path) -> None:
    """A part that fails costs no other, and the stage says it; what is done is not done again."""
    for _ in range(2):
        done = subprocess.run(["bash", script, "short"], capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
    # How much is left of nine minutes depends on the machine.
    left = re.compile(r"--minutes ([0-8](\.\d+)?|9)\b")
    log = [left.sub("--minutes 9", line) for line in lines(tmp_path / "log")]
    assert [" ".join(line.split()[1:5]) for line in log[:4]] == [
        "bench.gpu check --part small",
        "bench.gpu time --part deciding",
        "bench.gpu check --minutes 9",
        "bench.gpu report",
    ]
    assert log[4:] == log[:4]
    assert done.stdout.count("==== micro") == 0
    assert report.read_micro(tmp_path / "out" / "micro.jsonl") == {"streamed_bytes_memory": 1}


def test_wheels_that_an_image_lacks_come_along(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "array_api_compat-1-py3-none-any.whl").touch()
    monkeypatch.setenv("WHEELS", str(folder))
    done = subprocess.run(["bash", script, "build"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nothing to build" in done.stdout  # the stub says that fastrnn is there
    options = f"--no-index --no-deps --find-links {folder} {folder}/array_api_compat"
    assert lines(tmp_path / "log")[0].startswith(f"-m pip install {options}")


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [("MINUTES", "4.5", "a whole number, got 4.5"), ("WHEELS", ".", "a folder of wheels, got ")],
)
def test_the_script_says_which_setting_is_wrong(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, wrong: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv(name, value)
    done = subprocess.run(["bash", script, "check"], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"[gpu.sh] {name} must be {wrong}" in done.stderr
    assert not (tmp_path / "log").exists()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("by", ["a signal", "its time"])
def test_a_stage_is_stopped_with_all_that_it_started(
    script: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: str
) -> None:
    monkeypatch.setenv("HANG", "1")
    if by == "its time":  # a second, where the script says minutes
        real = shutil.which("timeout")
        (tmp_path / "timeout").write_text(f'#!/bin/bash\nexec {real} "$1" 1 "${{@:3}}"\n')
        (tmp_path / "timeout").chmod(0o755)
    hangs = tmp_path / "log.pid"
    with subprocess.Popen(["bash", script, "time"]) as running:
        while not hangs.exists() or not hangs.read_text(encoding="utf-8"):
            time.sleep(0.05)
        if by == "a signal":
            running.terminate()
        assert running.wait(timeout=20) != 0
    for _ in range(100):
        if is_gone(int(hangs.read_text(encoding="utf-8"))):
            return
        time.sleep(0.05)
    pytest.fail("what the stage started must end with it, got one that goes on")


def test_the_script_knows_its_stages(tmp_path: Path) -> None:
    script = str(ROOT / "bench" / "gpu.sh")
    run(["bash", "-n", script])
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable}

    def refused(stage: str) -> str:
        command = ["bash", script, stage]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode != 0
        return done.stderr

    assert "the stage must be build, check, sanitize, micro, time, report, short or all" in refused(
        "other"
    )
    assert "run `bench/gpu.sh time` on a GPU first" in refused("report")
