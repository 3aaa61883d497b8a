"""The benchmark suite: its shapes, bounds, statistics and files, and one tiny run."""

from __future__ import annotations

import contextlib
import multiprocessing
import shlex
import shutil
import sys
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
import tiers
from apart import in_new_process
from bench import __main__ as suite
from bench import compare, keras_fit, markdown, memory, plots, ragged, scale, shapes
from bench import load as busy
from bench.micro import __main__ as micro
from builds import ROOT
from fastrnn._bench import cases, limits, report, runner, worker
from fastrnn._bench.cases import Case
from fastrnn._bench.peers import Way, load

BENCHMARKS = "docs/benchmarks.md"
LIMITS = {
    "fma_gflops": [100.0, 190.0],
    "bfloat16_gflops": [200.0, 380.0],
    "int8_gops": [400.0, 760.0],
    "bandwidth": {
        "l1": [300.0, 600.0],
        "l2": [118.0, 230.0],
        "l3": [80.0, 150.0],
        "memory": [20.0, 30.0],
    },
    "step_ns": {"rnn_tanh": 20.0, "lstm": 40.0, "gru": 40.0},
    "exchange_ns": 100.0,
    "threads": 2,
    "caches": {"l1": 32 << 10, "l2": 1 << 20, "l3": 32 << 20},
}


def grid(**options: Any) -> list[Case]:
    return shapes.make_cases(shapes.read_shapes(), sweeps=True, **options)


def model_cases(**options: Any) -> list[Case]:
    return shapes.make_cases(shapes.read_shapes(), purposes=["model"], **options)


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.id for case in grid()]
    assert len(set(names)) == len(names)
    assert "lstm_f32_T100_B32_I256_H256_D1 train" in names
    assert "gru_f32_T100_B16_I80_H320_D2-L2 forward" in names
    assert "rnn_tanh_f32_T100_B32_I256_H256_D1-len10to100 train" in names
    assert "lstm_f32_T1_B1_I16_H16_D1 stream" in names
    quick = grid(quick=True, cells=["gru"])
    assert 0 < len([case for case in quick if not case.sweep]) < len(names) / 6
    assert "lstm_f32_T1_B1_I64_H64_D1 cell" in names
    assert {case.mode for case in grid(modes=["train"])} == {"train"}


def test_models_have_names_cells_and_modes_of_their_own() -> None:
    names = [case.id for case in model_cases()]
    assert len(set(names)) == len(names)
    assert "lstm_f32_T1_B1_I128_H128_D1-silero stream" in names
    assert "lstm_f32_T589_B1_I60_H128_D2-L4-pyannote forward" in names
    assert "gru_f32_T2000_B32_I384_H384_D1-L3-rnnoise train" in names
    assert not {case.id for case in grid()} & {*names}
    assert {case.model for case in model_cases(cells=["gru"])} == {"medaka", "rnnoise", "gtcrn"}
    quick = model_cases(quick=True)
    assert [(case.model, case.mode) for case in quick] == [
        (case.model, case.mode) for case in model_cases()
    ]
    assert max(case.flops() for case in quick) < 4e10  # a second at most


def test_rows_of_large_models_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is proved is all of them, against a reference of the first ones alone."""
    assert all(case.distinct == case.B for case in grid())
    assert {case.model: case.distinct for case in model_cases()}["medaka"] == 4
    monkeypatch.setattr(cases, "LARGE", 100)
    case = Case("lstm", 7, 8, 6, 5, L=2, mode="train")
    data, right = cases.make_data(case), cases.expected(case)
    assert right["y"].shape == (7, 4, 5)
    for array in (data.x, data.dy, *data.state):
        np.testing.assert_array_equal(array[:, :4], array[:, 4:])
        assert not np.array_equal(array[:, 0], array[:, 1])
    (way,) = load("fastrnn").build(case, data).values()
    got = {name: np.array(array) for name, array in way.arrays(way.call()).items()}
    assert worker.difference(case, got, right) == ""
    for name, array in got.items():
        mistaken = array.copy()
        mistaken.reshape(-1)[-1] += 0.1
        text = worker.difference(case, {**got, name: mistaken}, right)
        assert text.startswith(f"{name} must be within"), name
    short = worker.difference(case, {**got, "y": got["y"][:, :4]}, right)
    assert short == "y must have the shape (7, 8, 5), got (7, 4, 5)"


def test_a_shape_can_be_given_as_text() -> None:
    (case,) = shapes.make_cases(shapes.read_shapes("5,3,7,11"), ["gru"], ["forward"])
    assert (case.T, case.B, case.I, case.H) == (5, 3, 7, 11)


def test_options_that_choose_nothing_are_refused() -> None:
    """A shape given as text is one of the grid, which single steps are not."""
    with pytest.raises(
        SystemExit, match="shapes must have a case of a mode, got none: --mode cell"
    ):
        suite.main(["--mode", "cell", "--shapes", "1,1,64,64"])


def test_bounds_are_positive_and_scale() -> None:
    for case in grid():
        phases = limits.phases(case, LIMITS)
        assert all(seconds > 0 for seconds in phases.values()), case.id
        assert set(phases) == {"inputs", "steps"} | (
            {"dh", "dx", "dw"} if case.mode == "train" else set()
        )
        # No bound is below the arithmetic.
        assert limits.bound(case, LIMITS) >= case.flops() / 190e9 * (1 - 1e-12)

    def bound(**sizes: Any) -> float:
        usual = {"cell": "lstm", "mode": "forward", "T": 100, "B": 32, "I": 256, "H": 256}
        return limits.bound(Case(**{**usual, **sizes}), LIMITS)

    assert bound(T=200) == pytest.approx(2 * bound(), rel=0.02)
    assert bound(B=64) == pytest.approx(2 * bound(), rel=0.02)
    assert bound(mode="train") > 2.5 * bound()
    assert bound(lengths=(10, 100)) < 0.7 * bound()
    # One row alone waits for each step: far more than its arithmetic.
    latency = 100 * LIMITS["step_ns"]["lstm"] * 1e-9
    assert bound(B=1, H=16, I=16) > latency
    # Weights that only memory holds are bound by its bandwidth.
    large = Case("lstm", 10, 1, 4096, 4096, mode="forward")
    assert limits.bound(large, LIMITS) > 10 * 4 * 4096**2 * 4 / 30e9


def test_flops_of_layers_and_lengths() -> None:
    case = Case("gru", T=10, B=4, I=3, H=5, L=2, D=2, lengths=(2, 8), mode="train")
    assert case.steps == 2 + 4 + 6 + 8
    assert case.flops() == 3 * case.steps * 2 * 2 * 15 * ((3 + 5) + (10 + 5))


def test_summary_takes_ratios_round_by_round() -> None:
    # The machine slows down ten times on the way; the ratio is 2 in each round.
    drift = np.geomspace(1, 10, 21)
    found = runner.summary({"fastrnn": drift, "torch": 2 * drift, "jax": 1.5 * drift})
    assert found["ratios"]["torch"] == pytest.approx({"median": 2, "low": 2, "high": 2})
    assert found["best"] == "jax"
    assert found["rounds"] == 21
    assert found["ms"]["fastrnn"]["median"] == pytest.approx(1e3 * np.median(drift))
    assert found["ms"]["fastrnn"]["low"] < found["ms"]["fastrnn"]["high"]
    alone = runner.summary({"fastrnn": drift})
    assert alone["best"] is None
    assert alone["ratios"] == {}


def row(ms: float, ratio: float, **other: Any) -> report.Row:
    case = Case("lstm", 10, 2, 3, 4, mode="train")
    spread = {"median": ratio, "low": ratio, "high": ratio}
    return {
        "case": case.id,
        "cell": case.cell,
        "mode": case.mode,
        "sweep": "",
        "shape": case.fields(),
        "threads": 2,
        "level": "avx2",
        "ms": {
            peer: {"median": t, "low": t, "high": t}
            for peer, t in (("fastrnn", ms), ("torch", ms * ratio))
        },
        "ratios": {"torch": spread},
        "best": "torch",
        "ways": {"fastrnn": "layer", "torch": "padded"},
        "share": 0.5,
        "machine": {"processor": "P", "system": "Linux", "python": "3"},
        "versions": {"fastrnn": "1", "torch": "2"},
        **other,
    }


def test_libraries_take_turns() -> None:
    events: list[str] = []

    class Timed:
        def __init__(self, name: str) -> None:
            self.name = name

        def block(self) -> float:
            events.append(self.name)
            return 1.0

    times = runner.alternate([Timed("a"), Timed("b")], 0, 5)  # type: ignore[list-item]
    assert events == ["a", "b"] * 6  # the first time to warm up
    assert times == {"a": [1.0] * 5, "b": [1.0] * 5}
    for seconds, rounds, done in ((0, 9, 5), (0, 2, 2), (60, 9, 9)):
        alone = runner.alternate([Timed("a")], seconds, rounds)  # type: ignore[list-item]
        assert len(alone["a"]) == done


def test_blocks_end_when_the_threads_of_a_library_are_at_rest() -> None:
    """A pool's threads spin for a while after a call, on the cores of whoever comes next."""
    spun = threading.Event()

    def spin() -> None:
        while time.thread_time() < 0.1:
            pass
        spun.set()

    thread = threading.Thread(target=spin)
    thread.start()
    worker.come_to_rest()
    assert spun.is_set()
    thread.join()


def test_json_lines_come_back_and_compare(tmp_path: Path) -> None:
    for name, rows in {
        "a": [row(4.0, 1.5), row(1.0, 1.0, threads=1)],
        "b": [row(9.0, 9.0), row(2.0, 3.0)],  # the last row of a case counts
    }.items():
        for each in rows:
            report.append(tmp_path / name, each)
        assert report.read(tmp_path / name) == rows
    lines = compare.lines(report.read(tmp_path / "a"), report.read(tmp_path / "b"))
    assert lines[1].split()[-4:] == ["4.00", "2.00", "2.00", "2.00"]
    assert lines[2].startswith("geometric mean")
    assert lines[3].startswith("only in A: lstm_f32_T10")
    assert len(lines) == 4


def test_table_and_totals() -> None:
    rows = [row(1.0, 2.0), row(1.0, 8.0, case="other", share=0.25), row(1.0, 99.0, sweep="T")]
    assert "0.50  torch, padded" in report.line(rows[0], ["torch", "best"])
    (text,) = report.totals(rows)
    assert "2 cases: against torch 4.00 (least 2.00)" in text
    assert "share of the limit 0.25 .. 0.50" in text


def test_markdown() -> None:
    jax = {
        "ratios": {"torch": {"median": 8.0}, "jax": {"median": 0.5}},
        "best": "jax",
        "share": 0.25,
    }
    again = row(9.0, 9.0), row(1.0, 2.0)  # the last row of a case counts
    rows = [*again, row(1.0, 8.0, case="other", **jax), row(3.0, 1.5, threads=1)]
    rows += [row(1.0, 99.0, sweep="T", versions={"fastrnn": "1"})]
    lines = markdown.tables([{**each, "command": "python -m bench"} for each in rows])
    assert lines[0] == "P, Linux, Python 3; fastrnn 1, torch 2; from `python -m bench`"
    assert "| LSTM train | 2 | 1.00 (0.50) | 4.00 (2.00) | 0.25 .. 0.50 |" in lines
    assert "| LSTM train T=10 B=2 I=3 H=4 | 1.00 | 0.50 (jax) | 8.00 | 0.25 |" in lines
    # torch alone has one column.
    assert lines[lines.index("1 threads, level avx2:") :][-3].endswith("| 3.00 | 1.50 | 0.50 |")
    assert "99" not in " ".join(lines)
    digits = [markdown.three_digits(ms) for ms in (0.00123456, 12.345, 1234.4)]
    assert digits == ["0.00123", "12.3", "1234"]
    long = row(1.0, 1.0, shape=Case("lstm", 9, 8, 7, 6, D=2, lengths=(2, 9), mode="train").fields())
    assert markdown.case_name(long) == "LSTM train T=9 B=8 I=7 H=6 D=2 lengths 2..9"


def copy_of_the_page(folder: Path) -> Path:
    """`docs/benchmarks.md` below another root."""
    page = folder / BENCHMARKS
    page.parent.mkdir()
    page.write_text((ROOT / BENCHMARKS).read_text("utf-8"), "utf-8")
    return page


def test_the_tables_of_a_run_go_into_the_page(tmp_path: Path) -> None:
    """Into their part, and nothing else of the page changes."""
    page = copy_of_the_page(tmp_path)
    before, _, after = table_parts(page.read_text("utf-8"))
    rows = [row(1.0, 8.0), row(3.0, 1.5, threads=1)]
    for _ in range(2):  # the second time over what the first has written
        markdown.write(rows, tmp_path)
        assert table_parts(page.read_text("utf-8")) == (before, markdown.tables(rows), after)
    assert "| LSTM train | 1 | 8.00 (8.00) | 0.50 .. 0.50 |" in page.read_text("utf-8")
    page.write_text("# No part\n")
    with pytest.raises(ValueError, match=r"must have one part <!-- table -->, got 0"):
        markdown.write(rows[:1], tmp_path)
    assert page.read_text("utf-8") == "# No part\n"


def test_the_tables_of_models_go_into_their_own_part(tmp_path: Path) -> None:
    page = copy_of_the_page(tmp_path)
    before = table_parts(page.read_text("utf-8"))[1]
    shape = Case("lstm", 10, 2, 3, 4, mode="train", L=2, model="nam").fields()
    rows = [row(1.0, 8.0), row(2.0, 3.0, shape=shape, case="model")]
    for chosen in (rows[1:], rows):
        markdown.write(chosen, tmp_path)
        new = page.read_text("utf-8")
        assert "\n| nam: LSTM train T=10 B=2 I=3 H=4 L=2 | 2.00 | 3.00 | 0.50 |\n" in new
        assert (table_parts(new)[1] == before) == (chosen is not rows)
    assert table_parts(new)[1] == markdown.tables(rows[:1])
    assert report.totals(rows)[1].startswith(
        "models train, 2 threads, avx2, 1 cases: against torch"
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("peer", ["float32", "onnxruntime_float32"])
def test_peers_in_float32_stand_beside_fewer_bits(peer: str, dtype: str) -> None:
    if peer != "float32":
        pytest.importorskip("onnxruntime")
    case = Case("lstm", 5, 2, 3, 4, dtype, mode="forward")
    answer, call = worker.prepare(load(peer), case, cases.expected(case))
    assert call is not None, answer
    wide = replace(case, dtype="float32")
    answer, call = worker.prepare(load(peer), wide, cases.expected(wide))
    assert call is None
    assert "for cases of 16 and 8 bits" in str(answer)


def test_tables_of_fewer_bits_have_a_part_and_columns_of_their_own(tmp_path: Path) -> None:
    page = copy_of_the_page(tmp_path)
    before, lines, _ = table_parts(page.read_text("utf-8"))
    shape = {**row(1.0, 2.0)["shape"], "dtype": "bfloat16"}
    spreads = {
        peer: {"median": r, "low": r, "high": r} for peer, r in (("torch", 3), ("float32", 2))
    }
    narrow = row(1.0, 2.0, shape=shape, ratios=spreads, best="float32")
    markdown.write([narrow], tmp_path)
    text = page.read_text("utf-8")
    assert table_parts(text)[:2] == (before, lines)
    part = text.split("<!-- table bfloat16 -->\n\n")[1].split("<!-- end -->")[0]
    assert "|  | ms | torch | float32 | of the limit |\n" in part
    assert "| LSTM train T=10 B=2 I=3 H=4 | 1.00 | 3.00 | 2.00 | 0.50 |\n" in part
    markdown.write([row(5.0, 2.0)], tmp_path)
    assert part in page.read_text("utf-8")


def table_parts(text: str) -> tuple[str, list[str], str]:
    """What stands before the tables of a document, their lines, and what stands after them."""
    before, rest = text.split("<!-- table -->\n\n")
    lines, after = rest.split("\n\n<!-- end -->", 1)
    return before, lines.splitlines(), after


def test_plots(tmp_path: Path) -> None:
    sweep = [
        row(float(T), 2.0, sweep="T", shape={**row(1.0, 1.0)["shape"], "T": T}) for T in (8, 16)
    ]
    written = plots.plot([row(1.0, 2.0), *sweep], tmp_path)
    names = ["summary.png", "ratios.png", "limits.png", "costs.png"]
    assert [path.name for path in written] == names
    assert all(path.stat().st_size > 1000 for path in written)


@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("cell", cases.CELLS)
def test_a_worker_proves_fastrnn_right_and_a_mistake_wrong(cell: str, mode: str) -> None:
    sizes, more = ((7, 4, 6, 5), {"lengths": (2, 7), "L": 2, "D": 2})
    if mode in ("stream", "cell"):
        sizes, more = (1, 1, 6, 5), {}
    case = Case(cell, *sizes, mode=mode, **more)
    right = cases.expected(case)
    answer, call = worker.prepare(load("fastrnn"), case, right)
    assert answer["way"] == ("cell" if mode == "cell" else "layer")
    assert call is not None
    for name in right:
        wrong = {**right, name: right[name] + 0.01}
        answer, call = worker.prepare(load("fastrnn"), case, wrong)
        assert answer["failed"].split(": ")[1].startswith(f"{name} must be within")
        assert call is None


@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("cell", cases.CELLS)
def test_torch_as_a_peer(cell: str, mode: str) -> None:
    pytest.importorskip("torch")
    sizes, more = ((7, 4, 6, 5), {"lengths": (2, 7)})
    if mode in ("stream", "cell"):
        sizes, more = (1, 1, 6, 5), {}
    if mode == "stream":
        more = {"L": 2}
    case = Case(cell, *sizes, mode=mode, **more)
    answer, _ = worker.prepare(load("torch"), case, cases.expected(case))
    ways = {"stream": {"layer", "cell"}, "cell": {"cell"}}
    assert answer.get("way") in ways.get(mode, {"padded", "packed"}), answer


def test_a_tiny_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run.json"
    options = "--shapes 6,3,4,8 --cell lstm --peers --threads 1 --rounds 5 --minutes 0.02 --json"
    suite.main([*options.split(), str(output)])
    rows = report.read(output)
    assert [r["mode"] for r in rows] == ["forward", "train"]
    for r in rows:
        assert r["ms"]["fastrnn"]["median"] > 0
        assert r["threads"] == 1
        assert list(r["versions"]) == ["fastrnn"]
        assert r["share"] > 0
        assert r["command"].startswith("python -m bench --shapes 6,3,4,8 --cell lstm")
    assert rows[0]["case"] in capsys.readouterr().out
    suite.main(["compare", str(output), str(output)])
    assert "1.00" in capsys.readouterr().out
    suite.main(["table", str(output)])
    assert "LSTM forward T=6 B=3 I=4 H=8" in capsys.readouterr().out


SHAPES_OF_ADAPTERS = """
    shape = [
        {kind = "sequence", T = 6, B = 3, I = 4, H = 8},
        {kind = "sequence", T = 6, B = 3, H = 8, L = 2, lengths = [2, 6]},
        {kind = "sequence", T = 6, B = 3, H = 8, D = 2},
        {kind = "stream", T = 1, B = 1, H = 8},
    ]
"""


@tiers.ci
@pytest.mark.parametrize(
    ("adapter", "peer", "modes", "version"),
    [
        ("torch", "torch", "forward train stream", "under torch"),
        ("onnx", "onnxruntime", "forward stream", "for onnx"),
        ("jax", "jax", "forward train stream", "under JAX"),
    ],
)
def test_adapters_run_in_the_place_of_fastrnn(
    tmp_path: Path, adapter: str, peer: str, modes: str, version: str
) -> None:
    """Every cell and mode, proved against the reference; the rows are as without an adapter."""
    pytest.importorskip(adapter)
    pytest.importorskip(peer)
    output = tmp_path / "run.json"
    shapes = tmp_path / "shapes.toml"
    shapes.write_text(SHAPES_OF_ADAPTERS, encoding="utf-8")
    options = f"--shapes {shapes} --adapter {adapter} --peers {peer} --mode {modes} --rounds 5"
    suite.main([*options.split(), "--minutes", "0.1", "--json", str(output)])
    rows = report.read(output)
    assert {row["mode"] for row in rows} == set(modes.split())
    for row in rows:
        assert set(row["ms"]) == {"fastrnn", peer}
        assert version in row["versions"]["fastrnn"]


@pytest.fixture
def other_python(tmp_path: Path) -> str:
    """A command that starts a Python whose fastrnn is another one, of the version "before", which
    was without a suite."""
    package = Path(fastrnn.__file__).parent
    other = tmp_path / "other" / "fastrnn"
    shutil.copytree(package, other, ignore=shutil.ignore_patterns("__pycache__", "_bench"))
    with (other / "__init__.py").open("a", encoding="utf-8") as file:
        file.write('\n__version__ = "before"\n')
    return shlex.join(["env", f"PYTHONPATH={other.parent}", sys.executable])


def test_against_another_build(
    other_python: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes part in each round; the suite there is this one, and fastrnn is not."""
    monkeypatch.chdir(Path(fastrnn.__file__).parent.parent)  # where this fastrnn could be found
    monkeypatch.setattr(limits, "probe", lambda _: LIMITS)
    shapes, output = tmp_path / "shapes.toml", tmp_path / "run.json"
    shapes.write_text(
        """
        shape = [
            {kind = "sequence", T = 5, B = 3, H = 8},
            {kind = "stream", T = 1, B = 1, H = 8},
            {kind = "cell", T = 1, B = 1, H = 8},
        ]
        """,
        encoding="utf-8",
    )
    options = ["--against", other_python, "--shapes", str(shapes), "--json", str(output)]
    options += ["--cell", "lstm", "--threads", "1", "--rounds", "5", "--minutes", "0.01"]
    suite.main(options)
    rows = report.read(output)
    assert [row["mode"] for row in rows] == list(cases.MODES)
    for row in rows:
        assert list(row["ms"]) == ["fastrnn", "against"]
        assert row["ratios"]["against"]["median"] > 0
        assert row["best"] is None
        here, there = (row["versions"][name].split()[0] for name in ("fastrnn", "against"))
        assert (here, there) == (fastrnn.__version__, "before")
    printed = capsys.readouterr().out
    assert "against ms" in printed
    assert printed.count("1 cases: against the other build") == 4
    suite.main(["table", str(output)])
    assert "the other build: mean (least)" in capsys.readouterr().out


@tiers.ci
def test_against_another_build_under_torch(other_python: str) -> None:
    pytest.importorskip("torch")
    case = Case("lstm", 1, 1, 6, 5, mode="cell")
    with runner.workers([], 1, None, "fastrnn_torch", shlex.split(other_python)) as team:
        row = runner.measure(team, case, 0.0, 5)
    assert row["ways"] == {"fastrnn": "cell", "against": "cell"}
    assert team[1].hello["version"].startswith("before under torch")


def test_paths_of_this_environment_do_not_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "here")
    assert runner.environment(2, "avx2", elsewhere=False)["PYTHONPATH"] == "here"
    there = runner.environment(2, "avx2", elsewhere=True)
    assert "PYTHONPATH" not in there
    assert (there["OMP_NUM_THREADS"], there["FASTRNN_ISA"]) == ("2", "avx2")


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("/nowhere/python", "/nowhere/python: No such file or directory"),
        ("true", "its process ended with 0"),
        (f"{sys.executable} -S", "No module named"),
        (f"env PYTHONPATH={Path(fastrnn.__file__).parent.parent} {sys.executable}", "its fastrnn"),
    ],
)
def test_against_what_has_no_other_fastrnn(python: str, message: str) -> None:
    with pytest.raises(SystemExit, match=rf"^\[bench\] against: .*{message}"):
        suite.main(["--against", python, "--shapes", "6,3,4,8"])


def test_the_other_build_is_no_rival_and_has_a_mean_of_its_own() -> None:
    times = {"fastrnn": [2.0] * 5, "against": [1.0] * 5, "torch": [4.0] * 5}
    found = runner.summary(times)
    assert found["ratios"]["against"]["median"] == 0.5
    assert found["best"] == "torch"
    alone = runner.summary({name: times[name] for name in ("fastrnn", "against")})
    assert alone["best"] is None
    names = {"versions": dict.fromkeys(times, "1")}
    rows = [{**row(1.0, 1.0), **names, **found}, {**row(1.0, 1.0, case="other"), **names}]
    rows[1]["ratios"] = {name: {"median": 2.0} for name in ("against", "torch")}
    (text,) = report.totals(rows)
    assert "2 cases: against the other build 1.00 (least 0.50); against torch 2.00" in text
    columns = suite.columns_of(times)
    titles, line = report.header(columns), report.line(rows[0], columns)
    assert line.split()[2:5] == ["2000.00", "1000.00", "0.50"]
    assert titles.index("against ms") < line.index("0.50") < titles.index("torch ms")


class Hungry:
    """A peer whose step needs 24 MB at once and returns 8 MB of them."""

    @staticmethod
    def build(case: Case, data: cases.Data) -> dict[str, Way]:
        def call() -> np.ndarray:
            kept = np.ones(1_000_000)
            np.ones(2_000_000)
            return kept

        return {"only": Way(call, lambda value: {"y": value})}


def footprint_of_hungry() -> dict[str, Any]:
    # What was resident and is free again does not count.
    np.ones(3_000_000)
    return memory.footprint(Hungry, Case("lstm", 2, 1, 3, 4, mode="train"), 0)


def test_the_peak_of_memory_is_that_of_the_step() -> None:
    """In a process of its own, as the command has it: other tests leave threads and memory."""
    found = in_new_process(footprint_of_hungry)
    assert found["bytes"] == pytest.approx(24e6, rel=0.05)
    assert found["ways"] == 1
    assert found["digests"] == {"y": memory.digest(np.ones(1_000_000))}
    assert memory.digest(np.zeros(2)) != memory.digest(-np.zeros(2))


def test_ragged_rows() -> None:
    for case in (*ragged.CASES, ragged.WARM_UP):
        lengths, sizes = case.lengths(), case.batch_sizes()
        assert len(lengths) == case.B
        assert len(sizes) == case.T == lengths.max()
        assert lengths.sum() == sizes.sum() == case.rows
        assert lengths.min() >= 1
    assert ragged.CASES[0].id == "lstm_f32_T3000_B256_I64_H128_D1-rows14820"
    row = {
        "case": "a",
        "bytes": {"torch": 3 << 20, "fastrnn_torch": 1 << 20},
        "ms": {"torch": 4.0, "fastrnn_torch": 2.0},
    }
    assert ragged.line(row).split() == ["a", "3.0", "1.0", "4.0", "2.0"]


def test_shares_of_memory() -> None:
    case = Case("gru", T=100, B=10, I=20, H=30, D=2, mode="train")
    y_and_dx = 100 * 10 * (60 + 20) * 4
    ours, other = ({"bytes": y_and_dx + n, "ms": 1.0} for n in (100, 400))
    row = memory.make_row(case, ours, other)
    assert row["share_beyond"] == 0.25
    assert row["share"] == (y_and_dx + 100) / (y_and_dx + 400)
    less = memory.make_row(replace(case, recompute=7), {**ours, "bytes": y_and_dx + 40}, other)
    assert less["case"] == "gru_f32_T100_B10_I20_H30_D2-recompute7 train"
    text = memory.totals([less, row])
    assert "plain, beyond y and dx: at most 0.250" in text[1]
    assert "recompute 7, beyond y and dx: at most 0.100" in text[3]


def test_memory_of_a_step_with_and_without_recompute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    output = tmp_path / "memory.json"
    options = "memory --shapes 1200,16,32,64 --cell lstm --threads 1 --recompute 50 --json"
    suite.main([*options.split(), str(output)])
    plain, anew = report.read(output)
    step = 1200 * 16 * 64 * 4
    assert plain["bytes"]["torch"] > 6 * step  # y, c and the gates
    assert plain["bytes"]["fastrnn"] > 6 * step
    assert anew["bytes"]["fastrnn"] < plain["bytes"]["fastrnn"] - 3 * step
    assert anew["case"] in capsys.readouterr().out


def test_recompute_must_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(peer: str, case: Case, *_: Any) -> dict[str, Any]:
        return {"bytes": 1, "ms": 1.0, "digests": {"dx": "a", "dh0": case.recompute}}

    monkeypatch.setattr(memory, "measure", measure)
    case = Case("rnn_tanh", 2, 1, 3, 4, mode="train")
    with pytest.raises(SystemExit, match="not the bits of the plain step: dh0"):
        list(memory.rows_of(case, [3], 1, None))


@tiers.ci
def test_steps_of_a_stream_in_cpp() -> None:
    found = micro.steps_ns()
    assert {cell: list(sizes) for cell, sizes in found.items()} == {
        cell: list(sizes) for cell, sizes in micro.RTNEURAL_US.items()
    }
    for sizes in found.values():
        for inside, call in sizes.values():
            assert 0 < inside < call
        # 64 times the arithmetic.
        assert sizes["128"][0] > 5 * sizes["16"][0]


def test_the_other_parts_in_cpp() -> None:
    found = micro.native(2)
    tiles = found["tile_gflops"]
    assert tiles[max(tiles, key=int)] > tiles["1"] > 0  # 6 rows with 32 registers, 3 with 16
    assert set(found["gates_ns"]) == set(cases.CELLS)
    assert found["gates_ns"]["lstm"] > found["gates_ns"]["rnn_tanh"] > 0
    assert found["barrier_ns"] > 0
    steps = {"threads": 2, "steps_ns": {"gru": {"64": [700.0, 1500.0]}}}
    last = micro.native_lines({**found, **steps})[-1]
    assert last.split()[-7:] == ["0.700", "us", "1.500", "us", "RTNeural", "1.000", "us"]


@tiers.ci
def test_the_probe_reads_each_level_no_faster_than_the_one_above() -> None:
    reads, gflops = np.zeros(len(limits.LEVELS)), 0.0
    # A rate is a limit: what else runs here can only lower one, and the best of a few probes is it.
    for _ in range(5):
        found = limits.probe(2)
        assert found["exchange_ns"] > 1
        reads = np.maximum(reads, [found["bandwidth"][level][0] for level in limits.LEVELS])
        gflops = max(gflops, found["fma_gflops"][0])
        # Processors load two operands from L1 in the time of two FMAs, 2 bytes a flop, and keep
        # that up in part: one of two is less than any of them does.
        if all(above > 0.9 * below for above, below in pairwise(reads)) and reads[0] > gflops:
            return
    pytest.fail(f"GB/s at each level {reads}, GF/s {gflops}")


def test_growth_is_compared_round_by_round() -> None:
    # The machine slows down ten times on the way; the cost is 3 + n.
    drift = np.geomspace(1, 10, 9)
    sizes = [1, 3, 9]
    found = scale.compare_sizes(sizes, [drift * (3 + n) for n in sizes])
    assert [row["per_unit"] for row in found] == pytest.approx([4 * 9 / 12, 2 * 9 / 12, 1])
    assert found[0]["slope"] is None
    slopes = [row["slope"] for row in found[1:]]
    assert slopes == pytest.approx(np.log([6 / 4, 12 / 6]) / np.log(3))

    cases = [Case("lstm", n, 1, 3, 4, sweep="T", mode="train") for n in sizes]
    rows = [{**report.identity(c), **row} for c, row in zip(cases, found, strict=True)]
    (text,) = scale.totals(rows)
    assert text == (
        "over T, train: cost per unit 1.00 .. 3.00 of the largest size's; "
        "slopes 0.37 .. 0.63, farthest from 1 up to T=3"
    )


def test_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes, output = tmp_path / "shapes.toml", tmp_path / "scale.json"
    shapes.write_text(
        """
        shape = [
            {kind = "sequence", T = 5, B = 16, H = 8},
            {kind = "sequence", T = 5, B = 15, H = 8},
            {kind = "sweep", over = "T", values = [400, 2], B = 3, H = 8},
            {kind = "sweep", over = "H", values = [8, 16], T = 3, B = 3},
        ]
        """,
        encoding="utf-8",
    )
    options = "--cell lstm --mode train --threads 2 --rounds 5 --minutes 0.01"
    suite.main(["scale", *options.split(), "--shapes", str(shapes), "--json", str(output)])
    gained, *sweep = report.read(output)
    assert gained["case"] == "lstm_f32_T5_B16_I8_H8_D1 train"
    times = gained["ms"]
    assert list(times) == ["fastrnn", "one thread"]
    assert gained["ratios"]["one thread"]["median"] > 0
    assert [row["shape"]["T"] for row in sweep] == [2, 400]
    assert sweep[0]["ms"]["fastrnn"]["median"] < sweep[1]["ms"]["fastrnn"]["median"]
    assert "least gain" in capsys.readouterr().out
    suite.main(["plot", str(output), str(tmp_path)])
    assert (tmp_path / "costs.png").exists()


# ---- a busy machine ------------------------------------------------------------------------------


def test_what_load_holds_the_engine_to() -> None:
    found = busy.reduce([9.0] * worker.WARM_CALLS + [2.0] * 94 + [20.0] * 6, 2.0)
    assert found == {"mean": pytest.approx(1.54), "p95": 10.0, "median": 1.0, "calls": 100}
    assert busy.bar_of("spin", found) == ("1.54<=3", True)
    assert busy.bar_of("half", found) == ("10.00<=6", False)
    assert busy.bar_of("after", {"mean": 1.06, "p95": 1.0}) == ("1.06<=1.05", False)
    assert busy.bar_of("quiet", found) == ("", True)


def test_load_tells_the_worst(capsys: pytest.CaptureFixture[str]) -> None:
    class Bar:
        def write(self, text: str, file: Any) -> None:
            print(text, file=file)

    keep = busy.Measured({"level": "avx2"}, None, Bar())
    case = Case("lstm", 4, 1, 3, 4, mode="forward")
    for threads, mean in ((1, 1.5), (2, 3.5)):
        keep.add(case, "fastrnn", threads, "spin", {"mean": mean, "p95": 9.0})
    keep.add(case, "torch", 2, "spin", {"mean": 7.0, "p95": 9.0}, held=False)
    assert [row["met"] for row in keep.rows] == [True, False, True]
    assert busy.totals(keep.rows) == [
        "spin: mean at most 3.50 (lstm_f32_T4_B1_I3_H4_D1 forward, 2 threads)",
        "3 rows, 1 bars missed",
    ]
    assert capsys.readouterr().out.count("missed") == 1


def test_neighbours_hold_the_cores_and_go() -> None:
    with busy.neighbours(2, 0.01, 0.0):
        others = multiprocessing.active_children()
        assert len(others) == 2
        assert all(other.is_alive() for other in others)
    assert not any(other.is_alive() for other in others)


def test_calls_at_once_are_counted() -> None:
    case = Case("lstm", 4, 1, 3, 4, mode="forward")
    before = fastrnn.get_num_threads()
    try:
        for threads, callers in ((0, 3), (1, 1)):
            assert busy.count_calls(load("fastrnn"), case, threads, callers, 0.05)["rate"] > 20
    finally:
        fastrnn.set_num_threads(before)


def test_a_worker_tells_each_call() -> None:
    case = Case("lstm", 4, 1, 3, 4, mode="forward")
    with runner.Worker("fastrnn", 1, None, pinned=False) as each:
        runner.prepare(each, case, cases.expected(case))
        times = each.record(0.01)
    assert len(times) >= 2 * worker.WARM_CALLS
    assert all(seconds > 0 for seconds in times)


@pytest.mark.parametrize(
    ("missing", "command"),
    [("tqdm", "memory"), ("tqdm", "scale"), ("tqdm", "--quick"), ("matplotlib", "plot {} .")],
)
def test_a_missing_package_is_named(
    missing: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.append(tmp_path / "run.json", row(1.0, 2.0))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit, match=rf"^{missing} is not installed: pip install"):
        suite.main(command.format(tmp_path / "run.json").split())


def test_a_missing_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.Worker, "_receive", lambda _: {"absent": "not installed: it"})
    with pytest.raises(SystemExit, match="lstm_f32_T2_B1_I3_H4_D1 train: torch: not installed: it"):
        memory.measure("torch", Case("lstm", 2, 1, 3, 4, mode="train"), 1, None)


def test_holds_against_lengths(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = tmp_path / "rows.json"
    arguments = [
        "holds",
        "--shapes",
        "6,3,4,5",
        "--cell",
        "gru",
        "--rounds",
        "1",
        "--json",
        str(found),
    ]
    with contextlib.suppress(SystemExit):  # a ratio over the bar, at a size that says nothing
        suite.main(arguments)
    rows = report.read(found)
    assert [row["case"].split()[-1] for row in rows] == ["forward", "train"]
    assert all(row["held"] > 0 and row["lengths"] > 0 for row in rows)
    with pytest.raises(SystemExit):
        suite.main(["holds", "--held", "1"])
    assert "must be within 0..1, got 1" in capsys.readouterr().err


def test_two_products_against_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = tmp_path / "rows.json"
    with contextlib.suppress(SystemExit):  # a share under the bar, at a size that says nothing
        suite.main(f"phases --shapes 6,3,4,8 --rounds 1 --json {found}".split())
    rows = report.read(found)
    assert [row["case"] for row in rows] == [
        "lstm_f32_T6_B3_I4_H8_D1-P2 forward",
        "lstm_f32_T6_B3_I4_H8_D1-P2 train",
        "gru_reset_before_f32_T6_B3_I4_H8_D1 forward",
        "gru_reset_before_f32_T6_B3_I4_H8_D1 train",
    ]
    assert all(row["gflops"] > 0 and row["one_product"] > 0 for row in rows)
    with pytest.raises(SystemExit, match="of gru and lstm, got rnn_tanh"):
        suite.main(["phases", "--shapes", "6,3,4,8", "--cell", "rnn", "--rounds", "1"])
    capsys.readouterr()


def test_calls_through_jax(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("jax")
    found = tmp_path / "rows.json"
    with contextlib.suppress(SystemExit):  # a figure over its bound, on a busy machine
        suite.main(f"jax --rounds 1 --json {found}".split())
    rows = report.read(found)
    assert [row["case"] for row in rows] == [
        "rnn_tanh_step",
        "gru_step",
        "lstm_step",
        "two layers",
        "a layer and a product",
    ]
    assert all(row["share"] > 0 for row in rows[3:])
    assert "no work" in capsys.readouterr().out


def test_fit_of_keras(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of the backend; the page gets a row of each case."""
    tiers.skip_without("keras")
    found, page = tmp_path / "rows.json", tmp_path / "page.md"
    page.write_text("before\n\n<!-- table -->\n\n<!-- end -->\n", encoding="utf-8")
    monkeypatch.setattr(keras_fit, "PAGE", page)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    suite.main(f"keras --backend numpy --cell rnn --rounds 1 --document --json {found}".split())
    rows = report.read(found)
    assert [(row["backend"], row["cell"], row["mask"]) for row in rows] == [
        ("numpy", "rnn", "none"),
        ("numpy", "rnn", "left"),
    ]
    assert all(row["ms"]["keras"] > row["ms"]["fastrnn"] > 0 for row in rows)
    assert page.read_text(encoding="utf-8").count("| numpy | SimpleRNN |") == 2
    monkeypatch.setattr(keras_fit, "CELLS", {"rnn": "SimpleRNN", "none": "none"})
    with pytest.raises(SystemExit, match="process ended with"):
        suite.main(["keras", "--backend", "numpy", "--cell", "none", "--rounds", "1"])
    capsys.readouterr()


def test_projections_are_of_the_lstm_and_of_torch() -> None:
    shape = {"kind": "sequence", "T": 5, "B": 3, "I": 4, "H": 6, "P": 2}
    chosen = shapes.make_cases([shape])
    assert [case.id for case in chosen] == [
        "lstm_f32_T5_B3_I4_H6_D1-P2 forward",
        "lstm_f32_T5_B3_I4_H6_D1-P2 train",
    ]
    case = chosen[1]
    assert case.flops() == 3 * 15 * 2 * (4 * 6 * (4 + 2) + 2 * 6)
    assert worker.prepare(object(), case, {})[0] == {"unsupported": "no projection"}
    answer, call = worker.prepare(load("fastrnn"), case, cases.expected(case))
    assert call is not None, answer
