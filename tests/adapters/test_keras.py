"""`fastrnn.keras` on each backend of Keras, in a process of its own, and Keras's own tests.

Keras reads its backend once, so what is asserted stands in `tests/keras_checks`, which pytest runs
there with one backend after the other.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import tiers
from builds import ROOT

CHECKS = ROOT / "tests" / "keras_checks"
# TensorFlow takes 5 s to be imported, and 10 times as long as others for what it traces.
TIERS = {"torch": "dev", "numpy": "dev", "jax": "ci", "tensorflow": "full"}
backends = pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=pytest.mark.tier(tier)) for name, tier in TIERS.items()]
)
SECONDS = 1500
SEEDS = tiers.choose(dev=60, ci=240, full=900)  # of random configurations; JAX compiles each


def needs(backend: str) -> None:
    for package in ("keras", *([] if backend == "numpy" else [backend])):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def environment(backend: str, folder: Path) -> dict[str, str]:
    return os.environ | {
        "KERAS_BACKEND": backend,
        "KERAS_HOME": str(folder),  # where Keras writes its settings
        "JAX_ENABLE_X64": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def run(backend: str, folder: Path, *arguments: str | Path, **variables: str) -> None:
    """Run pytest on a backend; its output is this test's where it fails."""
    needs(backend)
    pytest_alone = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist") is not None:
        pytest_alone += ["-p", "no:xdist"]
    done = subprocess.run(
        [*pytest_alone, *map(str, arguments)],
        cwd=folder,
        env=environment(backend, folder) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout.rstrip().rpartition("\n")[2]


@pytest.mark.parametrize("check", ["layers", "models"])
@backends
def test_on_each_backend(backend: str, check: str, tmp_path: Path) -> None:
    run_checks(backend, check, tmp_path)


@pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=pytest.mark.tier(TIERS[name])) for name in TIERS if name != "numpy"],
)
def test_what_a_backend_alone_has(backend: str, tmp_path: Path) -> None:
    run_checks(backend, backend, tmp_path)


def run_checks(backend: str, check: str, folder: Path) -> None:
    """Run a file of checks."""
    path = CHECKS / f"check_{check}.py"
    # What Keras and its backends warn of is theirs; our warnings are asserted by name.
    options = ("python_files=check_*.py", "filterwarnings=")
    given = [value for option in options for value in ("-o", option)]
    arguments = ["--tier", tiers.chosen, "-c", ROOT / "pyproject.toml", *given, path]
    seeds = SEEDS // 8 if backend == "jax" else SEEDS
    run(backend, folder, *arguments, FASTRNN_SEEDS=str(seeds))


# ---- the example ---------------------------------------------------------------------------------


def first_program(backend: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    needs(backend)
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "keras_first_program.py", *arguments],
        env=environment(backend, folder),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@tiers.full
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_the_first_program_learns_the_same_with_either_import(backend: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    found = {}
    for layers in ("keras", "fastrnn"):
        done = first_program(backend, tmp_path, "--layers", layers, "--epochs", "2")
        assert done.returncode == 0, done.stderr[-3000:]
        lines = re.findall(r"(\w+ \w+.*): loss (.*), accuracy (.*), .* of training", done.stdout)
        found[layers] = {name: (float(loss), float(right)) for name, loss, right in lines}
    assert found["keras"].keys() == {"rows of 8", "single pixels"}
    for name, (loss, accuracy) in found["keras"].items():
        assert found["fastrnn"][name] == pytest.approx((loss, accuracy), abs=5e-3)
        assert accuracy > 0.6


def test_the_first_program_says_where_keras_trains_nothing(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    done = first_program("numpy", tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("set KERAS_BACKEND to torch, jax or tensorflow\n")


# ---- Keras's own tests ---------------------------------------------------------------------------

# Of what they call on a layer of a class that has been replaced; the others call cells that they
# define, and stacks of cells.
LEAST_CALLS = 100


def passed(report: Path) -> set[str]:
    """The tests of a report of pytest's that passed."""
    cases = ElementTree.parse(report).getroot().iter("testcase")
    return {f"{case.get('classname')}.{case.get('name')}" for case in cases if not len(case)}


# JAX compiles each call of each of them.
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=pytest.mark.tier("full" if name == "jax" else tier))
        for name, tier in TIERS.items()
    ],
)
def test_the_tests_of_keras_pass_with_our_layers(backend: str, tmp_path: Path) -> None:
    """Those beside the layers in Keras's wheel: what passes with Keras's, passes with ours."""
    spec = importlib.util.find_spec("keras")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("keras is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "src" / "layers" / "rnn"
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = *_test.py\n", encoding="utf-8")
    calls = tmp_path / "calls.json"
    found = {}
    for name, plugin in {"theirs": [], "ours": ["-p", "in_place_of_kerass"]}.items():
        report = tmp_path / f"{name}.xml"
        path = os.pathsep.join(filter(None, [str(CHECKS), os.environ.get("PYTHONPATH")]))
        variables = {"PYTHONPATH": path, "FASTRNN_CALLS": str(calls)}
        ini = ["-c", tmp_path / "pytest.ini", f"--junit-xml={report}"]
        try:
            run(backend, tmp_path, *plugin, *ini, folder, **variables)
        except AssertionError:
            if not report.exists():
                raise
        found[name] = passed(report)
    assert len(found["theirs"]) > 60
    assert found["theirs"] <= found["ours"], found["theirs"] - found["ours"]
    counts = json.loads(calls.read_text(encoding="utf-8"))
    assert sum(counts["fused"].values()) >= LEAST_CALLS
    assert {"rnn_tanh", "lstm", "gru", "gru_reset_before"} <= counts["fused"].keys()
    assert all("its cell is" in reason for reason in counts["fallbacks"])
