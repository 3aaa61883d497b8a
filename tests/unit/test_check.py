"""``python -m fastrnn check``: it passes, it finds what is wrong, and it leaves nothing out."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import __main__ as cli
from fastrnn import _cell_names, _check, _native, _schemes, functional
from fastrnn._check import _compare, _subjects, _tolerances
from fastrnn._check._data import Case, Data, make_data

LEVELS = [level.name for level in _check.levels()]
OF_FLOATS = [level.name for level in _check.levels() if level.has("float32")]
DTYPES = ("float32", "float64", "float16", "bfloat16")
CELL = "rnn_relu"  # of which a line at each level is all that there is
BUILD = fastrnn.build_info()

# The program, with NumPy and what Python brings, whatever else is installed.
NUMPY_ALONE = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "fastrnn"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Finder())
from fastrnn.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def lines_of(out: str) -> list[list[str]]:
    """The columns of the table's lines: place, cell, cases, shares, ok or FAILED."""
    found = (re.split(r"\s{2,}", line) for line in out.splitlines())
    return [columns for columns in found if columns[0] in LEVELS]


def run(folder: Path, *arguments: str) -> str:
    """The output of a process that knows of the package by PYTHONPATH alone."""
    package = Path(fastrnn.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(package), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(folder.iterdir())
    return done.stdout


@pytest.fixture
def check(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """A call of the command for one cell, in small cases: its status, and what it printed."""
    every = _check.cases_of
    monkeypatch.setattr(_check, "cases_of", lambda s: [c for c in every(s) if c.H < 50])

    def call(*arguments: str, cell: str = CELL) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["check", "--cell", cell, "--device", "cpu", *arguments])
        return code, *capsys.readouterr()

    return call


# ---- it passes -----------------------------------------------------------------------------------


def test_every_cell_passes_with_numpy_alone_in_an_empty_folder(tmp_path: Path) -> None:
    out = run(tmp_path, "-c", NUMPY_ALONE, "check", "--device", "cpu")
    # There bfloat16 is no dtype of NumPy.
    wanted, total = [], 0
    for subject in _check.subjects():
        cases = [c for c in _check.cases_of(subject) if "bfloat16" not in c.elements]
        for level in _check.levels():
            served = [case for case in cases if level.serves(case)]
            total += len(served)
            columns = [any(c.dtype == d for c in served if not c.weights) for d in DTYPES]
            columns.append(any(case.weights for case in served))
            if served:
                wanted.append([level.name, subject.label, str(len(served)), *columns])
    lines = lines_of(out)
    assert [[*line[:3], *(share != "-" for share in line[3:-1])] for line in lines] == wanted
    assert all(line[-1] == "ok" for line in lines)
    assert all(share == "-" or 0 < float(share) < 1 for line in lines for share in line[3:-1])
    assert "\nno bfloat16 is checked: ml_dtypes is not installed\n" in out
    table = [line for line in out.splitlines() if line.endswith("  ok")]
    assert len(table) == len(lines)
    assert len(set(map(len, table))) == 1
    assert re.search(rf"^All {total} cases agree with the reference.* \(\d+ s\)\.$", out, re.M)


def test_as_a_module(tmp_path: Path) -> None:
    """Beside whatever is installed."""
    lines = lines_of(run(tmp_path, "-m", "fastrnn", "check", "--cell", CELL))
    assert [line[:2] for line in lines] == [[at, CELL] for at in LEVELS]


@pytest.mark.parametrize("level", LEVELS)
def test_one_level(level: str, check: Callable[..., Any]) -> None:
    before = _native.engine.level(), fastrnn.get_num_threads()
    code, out, _ = check("--level", level, "--seed", "7")
    assert code == 0
    assert [line[0] for line in lines_of(out)] == [level]
    assert (_native.engine.level(), fastrnn.get_num_threads()) == before


def test_names_of_cells() -> None:
    def labels(name: str) -> list[str]:
        return [s.label for s in _check.find_subjects(name)]

    assert labels("gru") == ["gru", "gru(...)"]
    assert labels("rnn_relu") == ["rnn_relu"]
    assert {"rnn_tanh", "rnn_relu", "rnn(...)"} <= set(labels("rnn"))
    assert labels("lstm") == ["lstm", "lstm projected", "lstm(...)", "lstm(...) projected"]
    assert labels("gru(clip=3)") == ["gru(...)"]
    assert _check.find_subjects("gru(clip=3)")[0].cell == "gru(clip=3.0)"


def test_one_thread_has_no_other_bits_to_compare(check: Callable[..., Any]) -> None:
    for threads, said in ((1, False), (2, True)):
        fastrnn.set_num_threads(threads)
        code, out, _ = check()
        assert code == 0
        assert ("with the same bits for 1 and 2 threads" in out) == said


def test_progress_without_tqdm(monkeypatch: pytest.MonkeyPatch, check: Callable[..., Any]) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    now = iter(range(10**6))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    _, _, err = check("--level", LEVELS[0])
    cases = len(list(_check.cases_of(_check.Subject(CELL))))
    assert err.splitlines() == [f"case {n + 1}/{cases}" for n in range(cases)]


# ---- it leaves nothing out -----------------------------------------------------------------------


def test_every_cell_of_the_build_is_covered() -> None:
    covered = {(s.cell, s.projected) for s in _check.subjects()}
    for cell in _native.engine.cells():
        assert {(cell["name"], p) for p in (False, True)[: 1 + cell["projection"]]} <= covered
    for base in _cell_names.BASES:
        cells = [c for c, _ in covered if _subjects._base_of(c) == base]
        assert _cell_names.canonical(base) in cells
        assert any("clip=" in c and "state=" in c for c in cells)
    functions = {f.name for c, _ in covered for f in _cell_names.parsed(c).functions}
    assert functions == set(_cell_names.FUNCTIONS)


def test_a_new_cell_is_covered_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    new = "lstm(softsign, tanh, tanh)"
    assert new not in [s.cell for s in _check.subjects()]
    build = {**BUILD, "cells": [*BUILD["cells"], new]}
    monkeypatch.setattr(fastrnn, "build_info", lambda: build)
    assert {_check.Subject(new), _check.Subject(new, True)} < set(_check.subjects())


def test_what_the_build_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    make = _native.engine.Weights

    def without_grus(cell: str, *sizes: Any) -> Any:
        if cell.startswith("gru"):
            raise ValueError
        return make(cell, *sizes)

    fake = type("", (), {"Weights": staticmethod(without_grus)})
    monkeypatch.setattr(_subjects._native, "engine", fake)
    monkeypatch.setattr(fastrnn, "build_info", lambda: BUILD)
    found = {_subjects._base_of(s.cell) for s in _check.subjects()}
    assert found == {base for base in _cell_names.BASES if not base.startswith("gru")}


def test_every_option_is_on_and_off_in_all_dtypes() -> None:
    for subject in _check.subjects():
        cases = list(_check.cases_of(subject))
        for elements in (*DTYPES, "int8"):
            own = [case for case in cases if case.elements == elements]
            for field in dataclasses.fields(Case):
                if field.name not in ("cell", "dtype", "weights"):
                    values = {getattr(case, field.name) for case in own}
                    least = 1 if field.name == "P" and not subject.projected else 2
                    assert len(values) >= least, (subject, elements, field.name)
        assert {case.elements for case in cases} == {*DTYPES, *_schemes.SCHEMES}


def test_every_level_has_cases() -> None:
    """Also those that have nothing but products of fewer bits."""
    cases = list(_check.cases_of(_check.Subject("lstm")))
    for level in _check.levels():
        assert any(map(level.serves, cases)), level
    for elements in (*DTYPES, *_schemes.SCHEMES):
        assert any(level.has(elements) for level in _check.levels()), elements


def test_some_cases_are_large_enough_for_teams() -> None:
    """Of rows, and of units: where there are processors enough."""
    layers = [
        (fastrnn.Recurrent("lstm", c.I, c.H, c.L, bidirectional=c.D == 2), (c.T, c.B, c.I))
        for c in _check.cases_of(_check.Subject("lstm"))
        if c.dtype == "float32" and c.batched and not c.batch_first
    ]
    _native.engine.pretend_processors(64)
    fastrnn.set_num_threads(4)
    try:
        plans = [fastrnn.explain(*layer)["forward_with_tape"] for layer in layers]
    finally:
        _native.engine.pretend_processors(0)
    assert any(plan["row_groups"] > 1 for plan in plans)
    assert any(plan["unit_members"] > 1 for plan in plans)


# ---- it finds what is wrong ----------------------------------------------------------------------


def disturbed(array: np.ndarray, times: float, output: bool) -> np.ndarray:
    """The array with an error in one place, so many times what is allowed."""
    if array.size == 0:
        return array
    dtype = array.dtype.name
    allowed = _tolerances.output(dtype) if output else _tolerances.gradient(dtype)
    changed, largest = array.copy(), float(np.abs(array).max())
    changed.flat[changed.size // 2] += times * allowed * max(largest, 1.0 if output else 0.0)
    return changed


def disturb(monkeypatch: pytest.MonkeyPatch, name: str, times: float) -> None:
    """Let the engine's calls have an error in the result of a name."""
    run_forward, run_backward = functional.run_forward, functional.run_backward

    def forward(*given: Any) -> Any:
        y, final, tape = run_forward(*given)
        if name == "y":
            y = disturbed(y, times, True)
        if name == "hn":
            final = disturbed(final, times, True)
        if name == "cn":
            final = (final[0], disturbed(final[1], times, True))
        return y, final, tape

    def backward(*given: Any) -> Any:
        dx, dinitial, grads = run_backward(*given)
        if name == "dx":
            dx = disturbed(dx, times, False)
        if name == "dh0":
            dinitial = disturbed(dinitial, times, False)
        if name[1:] in grads:
            grads[name[1:]] = disturbed(grads[name[1:]], times, False)
        return dx, dinitial, grads

    monkeypatch.setattr(functional, "run_forward", forward)
    monkeypatch.setattr(functional, "run_backward", backward)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("y", CELL),
        ("hn", CELL),
        ("cn", "lstm(clip=9.0)"),
        ("dx", CELL),
        ("dh0", CELL),
        ("dweight_ih_l0", CELL),
        ("dweight_hh_l1_reverse", CELL),
        ("dbias_hh_l0", CELL),
        ("dweight_diag_l0", "lstm_peephole(clip=9.0)"),
        ("dweight_hr_l0", "lstm(clip=9.0)"),
    ],
)
def test_a_wrong_kernel_is_found(
    name: str, cell: str, monkeypatch: pytest.MonkeyPatch, check: Callable[..., Any]
) -> None:
    disturb(monkeypatch, name, 1.4)
    code, out, err = check("--level", OF_FLOATS[-1], cell=cell)
    assert code == 1
    wrong = [line for line in lines_of(out) if line[-1] == "FAILED"]
    assert wrong
    assert all(1 < float(share) < 2 for line in wrong for share in line[3:5])
    allowed = "1e-05" if name in ("y", "hn", "cn") else "1e-04"
    said = rf"^{OF_FLOATS[-1]}, {re.escape(cell)}[a-z ]*, float32, T \d+, B \d+, I \d+, H \d+, .*, "
    said += rf"threads 1: {name} has an error of 1\.\d\de-0\d, where {allowed} is allowed$"
    assert re.search(said, out, re.M), out
    assert "agree" not in out
    last = err.splitlines()[-1]
    where = ", ".join(f"{line[1]} at {line[0]}" for line in wrong)
    assert last == f"fastrnn: this build is wrong: {where}"
    assert any(re.fullmatch(rf"{OF_FLOATS[-1]}, .*: \d+ more", line) for line in out.splitlines())


@pytest.mark.parametrize("name", ["dx", "dh0", "dweight_ih_l0"])
def test_an_error_that_is_allowed_is_shown_alone(
    name: str, monkeypatch: pytest.MonkeyPatch, check: Callable[..., Any]
) -> None:
    disturb(monkeypatch, name, 0.7)
    code, out, _ = check("--level", OF_FLOATS[-1])
    assert code == 0
    (line,) = lines_of(out)
    assert all(0.6 < float(share) < 1 for share in line[3:5])


@pytest.mark.parametrize("name", ["y", "dweight_hh_l0"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_wrong_kernel_of_16_bits_is_found(
    dtype: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("lstm", 7, 3, 5, 9, dtype)
    places = [level for level in _check.levels() if level.serves(case)]
    assert not any(_check.check(place, case, 0).failures for place in places)
    disturb(monkeypatch, name, 4)
    for place in places:
        found = _check.check(place, case, 0)
        assert found.share > 1
        assert {failure.what.partition(" ")[0] for failure in found.failures} == {name}


@pytest.mark.parametrize("weights", _schemes.SCHEMES)
def test_a_wrong_kernel_of_quantized_weights_is_found(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("gru", 7, 3, 5, 9, weights=weights)
    place = next(level for level in _check.levels() if level.serves(case))
    assert not _check.check(place, case, 0).failures
    infer = functional.infer

    def wrong(*given: Any, **options: Any) -> Any:
        y, final = infer(*given, **options)
        y.flat[3] += 3 * _tolerances.output("int8" if weights == "int8" else "float32")
        return y, final

    monkeypatch.setattr(functional, "infer", wrong)
    (failure,) = _check.check(place, case, 0).failures
    assert failure.what.startswith("y has an error of ")


def test_other_bits_of_inference_are_found(
    monkeypatch: pytest.MonkeyPatch, check: Callable[..., Any]
) -> None:
    infer = functional.infer

    def other(*given: Any, **options: Any) -> Any:
        y, final = infer(*given, **options)
        return np.nextafter(y, 9, dtype=y.dtype), final

    monkeypatch.setattr(functional, "infer", other)
    code, out, _ = check("--level", LEVELS[0])
    assert code == 1
    assert ", inference: y has other bits than with threads 1\n" in out


def test_bits_that_depend_on_threads_are_found(
    monkeypatch: pytest.MonkeyPatch, check: Callable[..., Any]
) -> None:
    fastrnn.set_num_threads(2)
    run_backward = functional.run_backward

    def other(*given: Any) -> Any:
        dx, dinitial, grads = run_backward(*given)
        if fastrnn.get_num_threads() == 2:
            dx = np.nextafter(dx, 9, dtype=dx.dtype)
        return dx, dinitial, grads

    monkeypatch.setattr(functional, "run_backward", other)
    code, out, _ = check("--level", LEVELS[0])
    assert code == 1
    assert ", threads 2: dx has other bits than with threads 1\n" in out


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_found(
    value: float, monkeypatch: pytest.MonkeyPatch, check: Callable[..., Any]
) -> None:
    run_backward = functional.run_backward

    def lost(*given: Any) -> Any:
        dx, dinitial, grads = run_backward(*given)
        dx.flat[-1:] = value
        return dx, dinitial, grads

    monkeypatch.setattr(functional, "run_backward", lost)
    code, out, _ = check("--level", LEVELS[0])
    assert code == 1
    assert "dx has an error of inf, where 1e-04 is allowed\n" in out
    *shares, quantized, end = lines_of(out)[0][3:]
    assert shares == ["inf"] * len(DTYPES)
    assert float(quantized) < 1  # of inference alone
    assert end == "FAILED"


def test_results_of_another_shape_are_found(
    monkeypatch: pytest.MonkeyPatch, check: Callable[..., Any]
) -> None:
    run_backward = functional.run_backward

    def short(*given: Any) -> Any:
        dx, dinitial, grads = run_backward(*given)
        return dx[..., :-1], dinitial, grads

    monkeypatch.setattr(functional, "run_backward", short)
    code, out, _ = check("--level", LEVELS[0])
    assert code == 1
    assert "dx has an error of inf" in out


def test_a_kernel_that_raises_is_found(
    monkeypatch: pytest.MonkeyPatch, check: Callable[..., Any]
) -> None:
    def none(*_: Any) -> Any:
        raise RuntimeError("[rnn_relu] no such thing")

    monkeypatch.setattr(functional, "run_backward", none)
    code, out, _ = check("--level", LEVELS[0])
    assert code == 1
    assert ", no results: RuntimeError: [rnn_relu] no such thing\n" in out


# ---- kinks ---------------------------------------------------------------------------------------


def at_a_kink(case: Case, seed: tuple[int, int]) -> Data:
    """The first draw of a case: unit 0 of the first layer stands on relu's kink, but for 1e-9."""
    data = make_data(case, seed)
    if seed[1] == 0:
        data.params["weight_ih_l0"][0] = data.params["weight_hh_l0"][0] = 0
        data.params["bias_ih_l0"][0] = 0.5
        data.params["bias_hh_l0"][0] = -0.5
        if case.dtype == "float64":
            data.params["bias_ih_l0"][0] += 1e-16
    return data


def test_a_case_whose_numbers_prove_nothing_is_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, case = _check.levels()[0], Case(CELL, 3, 2, 4, 6)
    wrong = _check.Outcome(2.0, [_check.Failure(case, "", "")])
    right, draws = _check.Outcome(0.1, []), []

    def once(_: Any, __: Case, seed: tuple[int, int]) -> Any:
        draws.append(seed)
        return right if seed[1] else wrong

    monkeypatch.setattr(_compare, "make_data", at_a_kink)
    monkeypatch.setattr(_compare, "_check_once", once)
    _compare._drawn.cache_clear()
    _compare._by_roundings.cache_clear()
    assert _check.check(place, case, 5) is right
    assert draws == [(5, 0), (5, 1)]

    monkeypatch.setattr(_compare, "make_data", make_data)
    _compare._drawn.cache_clear()
    _compare._by_roundings.cache_clear()
    draws.clear()
    assert _check.check(place, case, 5) is wrong
    assert draws == [(5, 0)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_another_draw_excuses_no_kernel_of_16_bits(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where functions are smooth: other bits in one draw of three are still other bits."""
    place, case, draws = _check.levels()[0], Case("lstm", 3, 2, 4, 6, dtype), []
    wrong = _check.Outcome(2.0, [_check.Failure(case, "", "")])

    def once(_: Any, __: Case, seed: tuple[int, int]) -> Any:
        draws.append(seed)
        return wrong if seed[1] == 0 else _check.Outcome(0.1, [])

    monkeypatch.setattr(_compare, "_check_once", once)
    assert _check.check(place, case, 5) is wrong
    assert draws == [(5, 0)]


# ---- wrong options -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--level", "sse9"],
            "--level must be one that is built and that this processor has "
            f"({', '.join(LEVELS)}), got sse9",
        ),
        (
            ["--level", LEVELS[0], "--device", "cuda"],
            "--level must stand beside no --device but cpu, got cuda",
        ),
        (["--seed", "-1"], "--seed must be an integer >= 0, got -1"),
        (["--cell", "elman"], r"--cell must be one of rnn_tanh, .*, got 'elman'"),
        (["--cell", "gru(tanh)"], r"\[cell\] gru must have 2 functions, .*, got 1"),
        (["--device", "gpu"], r"--device must be cpu.*, got gpu"),
    ],
)
def test_wrong_options(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    pattern = message if "\\" in message or ".*" in message else re.escape(message)
    assert re.fullmatch(f"fastrnn: {pattern}\n", err)


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fastrnn.cuda._native, "engine", None)
    monkeypatch.setattr(fastrnn.cuda._native, "_missing", "none was built")
    assert cli.main(["check", "--cell", CELL]) == 0
    out = capsys.readouterr().out
    assert "\nno GPU is checked: none was built\n" in out
    assert cli.main(["check", "--device", "cuda"]) == 2
    rule = "--device must be cpu (no GPU can be checked: none was built), got cuda"
    assert capsys.readouterr().err == f"fastrnn: {rule}\n"
