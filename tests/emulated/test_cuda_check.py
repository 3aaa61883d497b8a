"""``python -m fastrnn check`` on the emulated device, with an array library in CuPy's place."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import fake_gpu
import fastrnn
from fastrnn import __main__ as cli
from fastrnn import _arrays, _check, functional
from fastrnn._check import _subjects

CELL = "rnn_relu"  # of which a line is all that there is


@pytest.fixture
def gpu(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device, CuPy, and cases that the emulator runs in seconds."""
    device = SimpleNamespace(Device=lambda index: nullcontext())
    # No array is of its own class, so that the arrays are known by their namespace.
    cupy = SimpleNamespace(asarray=fake_gpu.asarray, cuda=device, ndarray=())
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(_arrays, "cupy_library", lambda op: cupy)
    every = _subjects.cases_of
    small = lambda subject: (c for c in every(subject) if c.B * c.H < 200)  # noqa: E731
    monkeypatch.setattr(_check, "cases_of", small)


def lines(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if line.startswith("cuda:")]


def test_a_gpu_is_checked(gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--device", "cuda"], ["--device", "cuda:0"], []):
        fastrnn.set_num_threads(2)
        assert cli.main(["check", "--cell", CELL, *options]) == 0
        out = capsys.readouterr().out
        ((place, cell, _, *shares, end),) = lines(out)
        assert (place, cell, end) == ("cuda:0", CELL, "ok")
        assert all(0 < float(share) < 1 for share in shares[:2])
        assert shares[2:] == ["-"] * 3  # of 16 bits and of quantized weights
        assert "no GPU is checked" not in out
        assert ("with the same bits" in out) == (not options)


def test_a_wrong_kernel_of_one_mode_is_found(
    gpu: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = functional.run_backward

    def wrong(*given: Any) -> Any:
        dx, dinitial, grads = run(*given)
        if fastrnn.cuda._native.engine.mode() == "stepwise":
            dx = dx * 1.01
        return dx, dinitial, grads

    monkeypatch.setattr(functional, "run_backward", wrong)
    assert cli.main(["check", "--cell", CELL, "--device", "cuda"]) == 1
    said = capsys.readouterr()
    assert lines(said.out)[0][-1] == "FAILED"
    assert f"cuda:0, {CELL}, float32, " in said.out
    assert ", mode stepwise: dx has an error of 1.00e-02, where 1e-04 is allowed" in said.out
    assert "mode grid" not in said.out
    assert said.err.splitlines()[-1] == f"fastrnn: this build is wrong: {CELL} at cuda:0"


def test_devices_that_are_not_there(gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--device", "cuda:7"]) == 2
    rule = "--device must be cpu or cuda or cuda:0, got cuda:7"
    assert capsys.readouterr().err == f"fastrnn: {rule}\n"


def test_without_cupy(
    emulated: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)
    why = "[check] layers on a GPU need CuPy, which is not installed: pip install fastrnn[cuda]"
    assert cli.main(["check", "--device", "cuda"]) == 2
    rule = f"--device must be cpu (no GPU can be checked: {why}), got cuda"
    assert capsys.readouterr().err == f"fastrnn: {rule}\n"
    assert cli.main(["check", "--cell", CELL]) == 0
    assert f"no GPU is checked: {why}\n" in capsys.readouterr().out
