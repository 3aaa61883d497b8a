"""Networks that other packages ship trained: fastrnn gives what their own code gives.

``pytest --strangers tests/strangers`` runs them all: pip installs the packages from a registry,
each into a folder of this run, and nothing of them is kept. Without the option those tests are
deselected, and the ones of the program itself are left, which ask nobody.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tiers
from builds import ROOT

SCRIPT = ROOT / "examples" / "strangers.py"
TITLES = (
    "silero-vad, LSTM 128, whole recordings",
    "silero-vad, LSTM 128, step by step",
    "faster-whisper, LSTM 128",
    "g2p_en, GRU 256, GRU 256",
    "g2pM, LSTM 32, two directions",
    "Resemblyzer, LSTM 256 x 3",
    "textgenrnn, LSTM 128 x 2",
    "sleepecg, GRU 8 x 2, wrn-gru-mesa",
    "sleepecg, GRU 8 x 2, wrn-gru-mesa-weighted",
    "sleepecg, GRU 8 x 2, ws-gru-mesa",
)
# Of a probability, what rounding leaves open; where it leaves more, float64 shows that it does.
FLOAT32 = 1e-6
# With the packages of strangers; how they are written is their own.
strangers = [pytest.mark.strangers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def networks(program: Callable[[str], ModuleType]) -> dict[str, Any]:
    found = program("_strangers").NETWORKS
    return {network.name.partition(":")[0]: network for network in found}


@pytest.fixture
def pair(
    networks: dict[str, Any],
    program: Callable[[str], ModuleType],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    one_thread_of_torch: None,
) -> Callable[[str], Any]:
    """pair(title): a network's two sides; skips where something is missing, and says what."""
    folder = tmp_path_factory.getbasetemp()
    registry = program("_registry")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("KERAS_HOME", str(folder / "keras"))

    def read(title: str) -> Any:
        network = networks[title]
        try:
            return network.read(registry.install(network.package, folder), 0)
        except registry.Unavailable as why:
            pytest.skip(str(why))
        except ModuleNotFoundError as error:
            pytest.skip(f"needs {error.name}")

    return read


def test_every_network_is_tested(networks: dict[str, Any]) -> None:
    assert tuple(networks) == TITLES


@pytest.mark.parametrize("title", [pytest.param(title, marks=strangers) for title in TITLES])
def test_a_network_gives_what_its_own_code_gives(
    title: str,
    pair: Callable[[str], Any],
    networks: dict[str, Any],
    program: Callable[[str], ModuleType],
) -> None:
    found = pair(title)
    own, ours = found.own(), found.ours()
    assert own.values.size > 100
    assert np.ptp(own.values) > 0.1  # it says something
    difference = program("_pairs").difference
    assert difference(own, ours) <= networks[title].within
    if "probabilities" in networks[title].compared and networks[title].within > FLOAT32:
        assert difference(*found.exact()) <= FLOAT32
    # Both go from the same state again.
    np.testing.assert_array_equal(found.own().values, own.values)
    np.testing.assert_array_equal(found.ours().values, ours.values)


@pytest.mark.parametrize("title", [pytest.param(title, marks=strangers) for title in TITLES])
def test_a_mistake_in_the_weights_is_seen(
    title: str,
    pair: Callable[[str], Any],
    networks: dict[str, Any],
    program: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One bias of one unit that is 0.01 too large."""

    def mistaken(layer: Any, params: dict[str, np.ndarray]) -> Any:
        name = next(name for name in params if name.startswith("bias_hh"))
        wrong = params[name].copy()
        wrong[-1] += 0.01
        layer.load_state_dict({**params, name: wrong})
        return layer

    for module in ("_strangers", "_detectors"):
        monkeypatch.setattr(program(module), "load", mistaken)
    found = pair(title)
    assert program("_pairs").difference(found.own(), found.ours()) > networks[title].within


# ---- without a registry --------------------------------------------------------------------------


def test_a_difference_counts_what_is_said(program: Callable[[str], ModuleType]) -> None:
    pairs = program("_pairs")
    a = pairs.Result(np.array([1.0, 2.0]), ["x", "y"])
    assert pairs.difference(a, pairs.Result(np.array([1.0, 1.5]), ["x", "y"])) == 0.5
    assert pairs.difference(a, pairs.Result(a.values, ["x", "z"])) == math.inf
    assert pairs.difference(a, pairs.Result(a.values[:1], ["x", "y"])) == math.inf


def test_a_class_comes_alone_out_of_its_module(
    program: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "import missing\n\nclass Other(missing.Thing): ...\n\n"
        "class Wanted:\n    def file(self, x: missing.Thing):\n        return __file__, given\n"
    )
    wanted = program("_registry").class_of(file, "Wanted", given=3)
    assert wanted().file(None) == (str(file), 3)


@tiers.ci
def test_without_a_registry_the_program_says_so(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    alone = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--packages", tmp_path / "packages"],
        cwd=tmp_path,
        env={**os.environ, **alone},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("no network is left\n")
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(TITLES)
    for title, line in zip(TITLES, lines, strict=True):
        assert line.startswith(f"{title}: "), line
        assert ": left out: pip install --no-deps " in line
        assert "No matching distribution found" in line
    assert not any((tmp_path / "packages").glob("*"))
