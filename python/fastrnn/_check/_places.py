"""Where a case is run: an instruction level of the processor, or a GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fastrnn import _arrays, _dtypes, _native, cuda, functional

from ._data import Case, Data, flat_state, named

Results = dict[str, np.ndarray]


class Place(Protocol):
    """A level or a GPU; `same_bits` says whether all of its runs must give the same bits."""

    same_bits: bool

    @property
    def name(self) -> str:
        """What it is called in tables."""

    def serves(self, case: Case) -> bool:
        """Whether it has kernels for the options of a case."""

    def runs(self, case: Case, data: Data) -> Iterator[tuple[str, Results]]:
        """The results of each way in which the case can run, with words for the way."""


@dataclass(frozen=True)
class Level:
    """An instruction level of the CPU engine."""

    name: str
    same_bits = True

    def serves(self, case: Case) -> bool:
        return self.has(case.elements)

    def has(self, elements: str) -> bool:
        """Whether layers of a dtype, or of a scheme, have kernels here and not a level below."""
        with self._in_use(1):
            try:
                weights = _native.engine.Weights("lstm", elements, 1, 1, 1, 1, True)
            except TypeError:  # a build without them
                return False
            return weights.explain(1, 1, 0)["level"] == self.name

    def runs(self, case: Case, data: Data) -> Iterator[tuple[str, Results]]:
        most = _native.engine.get_num_threads()
        for threads in sorted({1, most}):
            with self._in_use(threads):
                results = _infer(case, data) if case.weights else _train(case, data)
            yield f"threads {threads}", results
        if case.weights:
            return
        with self._in_use(most):
            results = _infer(case, data)
        yield "inference", results

    @contextmanager
    def _in_use(self, threads: int) -> Iterator[None]:
        engine = _native.engine
        level, most = engine.level(), engine.get_num_threads()
        engine.use_level(self.name)
        engine.set_num_threads(threads)
        try:
            yield
        finally:
            engine.use_level(level)
            engine.set_num_threads(most)


@dataclass(frozen=True)
class Gpu:
    """A CUDA device, with arrays of CuPy."""

    index: int
    same_bits = False

    @property
    def name(self) -> str:
        return f"cuda:{self.index}"

    def serves(self, case: Case) -> bool:
        return not case.recurrent and case.elements in _dtypes.WIDE

    def runs(self, case: Case, data: Data) -> Iterator[tuple[str, Results]]:
        for mode in ("best", "grid", "stepwise"):
            try:
                with self._in_use(mode):
                    results = _on_host(_train(case, _put(data)))
            except NotImplementedError:
                if mode == "best":
                    raise
                continue  # not every mode has kernels for every case
            yield f"mode {mode}", results
        with self._in_use("best"):
            results = _on_host(_infer(case, _put(data)))
        yield "inference", results

    @contextmanager
    def _in_use(self, mode: str) -> Iterator[None]:
        with sys.modules["cupy"].cuda.Device(self.index), cuda.mode(mode):
            yield


def _train(case: Case, data: Data) -> dict[str, Any]:
    y, final, tape = functional.forward(case.cell, data.x, data.params, data.state, **data.options)
    back = functional.backward(case.cell, data.params, tape, data.dy, data.dstate)
    return named(y, final, *back)


def _infer(case: Case, data: Data) -> dict[str, Any]:
    params: Any = data.params
    if case.weights:
        params = functional.pack(case.cell, params, backward=False, weights=case.weights)
    y, final = functional.infer(case.cell, data.x, params, data.state, **data.options)
    return {"y": y, **{f"{name}n": a for name, a in zip("hc", flat_state(final), strict=False)}}


def _put(data: Data) -> Data:
    return Data(**{name: _on_gpu(value) for name, value in vars(data).items()})


def _on_gpu(value: Any) -> Any:
    """Arrays, alone or in containers, in the memory of CuPy's current device."""
    if isinstance(value, dict):
        return {name: _on_gpu(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(_on_gpu, value))
    return sys.modules["cupy"].asarray(value) if isinstance(value, np.ndarray) else value


def _on_host(results: dict[str, Any]) -> Results:
    cuda.check(results["y"])
    return {name: _arrays.on_host(a) for name, a in results.items()}


def levels() -> list[Level]:
    """Those that are built and that this processor runs, whatever caps the one in use."""
    return list(map(Level, _native.engine.usable_levels()))


def why_no_gpus() -> str:
    """What is missing; empty where GPUs can be checked."""
    if cuda.is_available():
        try:
            _arrays.cupy_library("check")
        except RuntimeError as error:
            return str(error)
    return cuda.why_not_available()


def gpus() -> list[Gpu]:
    """All that can be used; none where something is missing."""
    return [] if why_no_gpus() else list(map(Gpu, range(cuda.device_count())))
