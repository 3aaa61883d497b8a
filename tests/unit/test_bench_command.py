"""``python -m fastrnn bench``: what it prints and writes, what it refuses, and its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastrnn
from bench import shapes
from fastrnn import __main__ as cli
from fastrnn import _native
from fastrnn._bench import cases, limits, peers, report, runner

TINY = ["bench", "--shape", "5,2,3,4", "--rounds", "1", "--threads", "1"]
MEASURED = {
    "fma_gflops": [100.0, 190.0],
    "bfloat16_gflops": [200.0, 380.0],
    "int8_gops": [400.0, 760.0],
    "bandwidth": {level: [20.0, 30.0] for level in limits.LEVELS},
    "step_ns": dict.fromkeys(cases.CELLS, 30.0),
    "exchange_ns": 100.0,
    "caches": {"l1": 32 << 10, "l2": 1 << 20, "l3": 32 << 20},
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's limits are not measured."""
    monkeypatch.setattr(limits, "probe", lambda threads: {**MEASURED, "threads": threads})


@pytest.fixture
def without(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """without(name, ...): from now on a new Python finds no package of these names."""

    def hide(*names: str) -> None:
        folder = tmp_path_factory.mktemp("site")
        hidden = f"import sys\nsys.modules.update(dict.fromkeys({names}))\n"
        (folder / "sitecustomize.py").write_text(hidden, encoding="utf-8")
        paths = [str(folder), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

    return hide


def start(*arguments: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, which starts itself again for its BLAS."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    return subprocess.Popen(
        [sys.executable, "-m", "fastrnn", *arguments],
        cwd=cwd,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        **options,
    )


# ---- what it prints and writes -------------------------------------------------------------------


def test_beside_torch_in_an_empty_folder(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    chosen = ["--cell", "lstm", "--mode", "forward", "train", "stream", "--peers", "torch"]
    process = start(*TINY, *chosen, "--json", "run.json", cwd=tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    lines = out.splitlines()
    assert lines[0].startswith(f"fastrnn {fastrnn.__version__}, ")
    (titles,) = (line for line in lines if line.startswith("case "))
    words = "case fastrnn ms torch ms ratio (10 .. 90 %) of limit"
    assert titles.split() == words.split()
    rows = report.read(tmp_path / "run.json")
    assert [row["case"] for row in rows] == [
        "lstm_f32_T5_B2_I3_H4_D1 forward",
        "lstm_f32_T5_B2_I3_H4_D1 train",
        "lstm_f32_T1_B2_I3_H4_D1 stream",
    ]
    for row in rows:
        (printed,) = (line for line in lines if line.startswith(f"{row['case']} "))
        assert report.milliseconds(row["ms"]["torch"]["median"]).strip() in printed.split()
        assert f"{row['ratios']['torch']['median']:.2f} (" in printed
        assert (row["rounds"], row["threads"], row["best"]) == (1, 1, "torch")
        assert row["command"] == (
            "python -m fastrnn bench --shape 5,2,3,4 --rounds 1 --threads 1 --cell lstm "
            "--mode forward train stream --peers torch --json run.json"
        )
    assert lines[-4:] == ["", *report.totals(rows)]


def test_every_cell_alone_in_both_dtypes(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON lines have what the suite's have, whose commands read them."""
    found = tmp_path / "run.json"
    for dtype in ("float32", "float64"):
        arguments = [*TINY, "--dtype", dtype, "--peers", "--json", str(found)]
        assert cli.main(arguments) == 0
    rows = report.read(found)
    assert [(row["cell"], row["mode"], row["shape"]["dtype"]) for row in rows] == [
        (cell, mode, dtype)
        for dtype in ("float32", "float64")
        for cell in cases.CELLS
        for mode in ("forward", "train")
    ]
    of_the_suite = {"case", "cell", "mode", "sweep", "shape", "ms", "ratios", "best", "rounds"}
    of_the_suite |= {"ways", "without", "threads", "level", "limits", "machine", "command"}
    of_the_suite |= {"versions", "bound_ms", "share"}
    for row in rows:
        assert set(row) == of_the_suite
        assert row["share"] == row["bound_ms"] / row["ms"]["fastrnn"]["median"] > 0
        assert cases.Case(**row["shape"]).id == row["case"]
    assert "share of the limit" in capsys.readouterr().out


def test_common_shapes_are_the_default() -> None:
    from fastrnn._commands import _bench

    assert [case.id for case in _bench._cases({})] == [
        f"{cell}_f32_T100_B32_I256_H256_D1 {mode}"
        for cell in ("rnn_tanh", "lstm", "gru")
        for mode in ("forward", "train")
    ]
    streams = {"cell": ["gru"], "mode": ["stream"]}
    (case,) = _bench._cases(streams)
    assert case.id == "gru_f32_T1_B1_I128_H128_D1 stream"
    # A stream has one step a call, so that these are one.
    (case,) = _bench._cases({**streams, "shape": ["9,2,3,4", "8,2,3,4"]})
    assert case.id == "gru_f32_T1_B2_I3_H4_D1 stream"
    grid = shapes.make_cases(shapes.read_shapes())
    assert {case.id for case in _bench._cases({})} <= {case.id for case in grid}


def test_what_is_not_installed_is_said_with_what_installs_it(
    quick: None, without: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also tqdm, in whose place there are plain lines."""
    without("torch", "onnx", "onnxruntime")
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert cli.main([*TINY, "--cell", "gru", "--mode", "forward"]) == 0
    printed = capsys.readouterr()
    assert "\ntorch: left out: not installed: pip install torch\n" in printed.out
    wanted = "\nonnxruntime: left out: not installed: pip install onnx onnxruntime\n"
    assert wanted in printed.out
    assert printed.out.splitlines()[-1].startswith("forward, 1 threads, ")
    assert printed.err.splitlines() == [
        "0/1 done: the machine's limits",
        "0/1 done: gru_f32_T5_B2_I3_H4_D1 forward",
    ]


def test_onnx_runtime_has_no_training(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is said once, and not of each case."""
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name)
    found = tmp_path / "run.json"
    chosen = ["--cell", "rnn", "--peers", "onnxruntime", "--json", str(found)]
    assert cli.main([*TINY, *chosen]) == 0
    assert capsys.readouterr().out.count("forward alone, in float32; in int8 the LSTM") == 1
    forward, train = report.read(found)
    assert list(forward["ms"]) == ["fastrnn", "onnxruntime"]
    assert list(train["ms"]) == ["fastrnn"]


# ---- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--shape 1,2,3", "--shape must be T,B,I,H, four positive integers, got 1,2,3"),
        ("--shape 1,2,0,3", "--shape must be T,B,I,H, four positive integers, got 1,2,0,3"),
        ("--shape 1,2,-3,x", "--shape must be T,B,I,H, four positive integers, got 1,2,-3,x"),
        ("--shape 1,1,1,9999999", "--shape must be of arrays that memory can hold, got"),
        ("--rounds 0", "--rounds must be a positive integer, got 0"),
        ("--threads 0", "--threads must be within 1..4096, got 0"),
        ("--json .", "--json must be a file, got the folder ."),
        ("--json no/run.json", "--json must be in a folder that can be written, got no/run.json"),
    ],
)
def test_wrong_options(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *options.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"fastrnn: {message}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("options", ["--cell peephole", "--mode cell", "--peers jax", "--shape"])
def test_words_that_no_option_has(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", *options.split()])
    assert caught.value.code == 2
    assert "usage: python -m fastrnn bench" in capsys.readouterr().err


def test_a_wrong_result_of_fastrnn_ends_it(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner.Worker, "case", lambda *_: {"failed": "y must be otherwise"})
    assert cli.main([*TINY, "--cell", "gru", "--peers"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "fastrnn: gru_f32_T5_B2_I3_H4_D1 forward: fastrnn: y must be otherwise"


def test_limits_refuse_what_they_cannot_measure() -> None:
    with pytest.raises(ValueError, match=r"^\[limits\] threads must be within 1\.\.4096, got 0$"):
        _native.engine.limits(0, 1 << 15, 1 << 20, 1 << 23)
    with pytest.raises(ValueError, match=r"^\[limits\] caches must be within .*, got 64 bytes$"):
        _native.engine.limits(1, 1 << 15, 64, 1 << 23)


# ---- its workers ---------------------------------------------------------------------------------


def test_the_threads_of_other_libraries_are_not_those_of_the_commands_blas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "fastrnn", "bench"])
    for name in [name for name in os.environ if name.endswith("_NUM_THREADS")]:
        monkeypatch.delenv(name)
    plain = runner.environment(3, None, elsewhere=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    cli._one_blas_thread()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert runner.environment(3, None, elsewhere=False) == plain
    assert {plain[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL", "BLIS")} == {"3"}


def loads_the_engine(worker: runner.Worker) -> bool:
    return "/fastrnn/_cpu." in Path(f"/proc/{worker._process.pid}/maps").read_text("utf-8")


def test_no_engine_is_loaded_beside_another_library() -> None:
    pytest.importorskip("torch")
    with runner.workers(["torch"], 1, None) as (ours, torch):
        assert "fastrnn" in ours.hello
        assert loads_the_engine(ours)
        assert torch.hello["version"]
        assert "fastrnn" not in torch.hello
        assert not loads_the_engine(torch)


def test_a_worker_has_the_fastrnn_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its Python would find: the command may have been started in fastrnn's own folder."""
    (tmp_path / "fastrnn").mkdir()
    (tmp_path / "fastrnn" / "__init__.py").write_text("raise ImportError('another')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with runner.Worker("fastrnn", 1, None) as worker:
        assert worker.hello["fastrnn"] == os.path.realpath(fastrnn.__file__)


def test_peers_of_both_places() -> None:
    names = {name: peers.load(name).__name__ for name in ("torch", "jax")}
    assert names == {"torch": "fastrnn._bench.peers.torch", "jax": "bench.peers.jax"}
    with pytest.raises(ModuleNotFoundError, match=r"^no peer nobody in fastrnn\._bench\.peers, "):
        peers.load("nobody")
    with runner.Worker("openvino", 1, None) as worker:
        assert worker.hello.get("version") or "pip install" in worker.absent
    with runner.Worker("nobody", 1, None) as worker:
        assert "no peer nobody" in worker.absent


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_its_workers(kill: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C reaches them all; the end of the command alone is seen by its workers."""
    sizes = [f"5,2,3,{H}" for H in range(1, 1000)]
    options = ["--shape", *sizes, "--cell", "lstm", "--mode", "forward", "--peers"]
    process = start("bench", *options, cwd=tmp_path, start_new_session=True)
    assert process.stdout is not None
    # In the midst: while NumPy loads its random numbers, it loses a Ctrl-C.
    assert any(line.startswith("lstm_") for line in process.stdout)
    send: Callable[[int, int], None] = os.killpg if kill == signal.SIGINT else os.kill
    send(process.pid, kill)
    _, err = process.communicate(timeout=60)  # for all that have its standard error
    assert "Traceback" not in err
    if kill == signal.SIGINT:
        assert process.returncode == 130
        assert err.splitlines()[-1].endswith("fastrnn: interrupted")
