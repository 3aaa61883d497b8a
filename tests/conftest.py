"""The option --tier, and fixtures: levels of the engine, builds, the emulated GPU.

What a tier is stands in tiers.py; how builds are made and kept, in builds.py.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

import builds
import fastrnn
import fastrnn.cuda
import streams
import tiers
from builds import DEV_LEVELS, LEVELS, ROOT, load_engine
from fastrnn import _native

hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")


# ---- the tiers -----------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tier",
        choices=tiers.NAMES,
        default=tiers.NAMES[0],
        help="how much to test: tests/tiers.py",
    )
    parser.addoption(
        "--above",
        choices=tiers.NAMES[:-1],
        help="leave out what a run of this lower tier has just proved",
    )
    parser.addoption(
        "--one-in",
        type=int,
        default=1,
        metavar="N",
        help="of each test function's cases the first and every N-th after it",
    )
    parser.addoption(
        "--strangers",
        action="store_true",
        help="also run what installs packages from a registry: tests/strangers",
    )


def pytest_configure(config: pytest.Config) -> None:
    tiers.chosen, above = config.getoption("--tier"), config.getoption("--above")
    if above and tiers.NAMES.index(above) >= tiers.NAMES.index(tiers.chosen):
        raise pytest.UsageError(f"--above must be below --tier {tiers.chosen}, got {above}")
    config.addinivalue_line("markers", "tier(name): of this tier and those above it alone")
    config.addinivalue_line("markers", "strangers: installs packages; with --strangers alone")
    config.addinivalue_line("markers", "needs_tools(name, ...): left out where one is missing")
    let_children_be_interrupted()


def let_children_be_interrupted() -> None:
    """Runs in a shell's background ignore SIGINT, which their processes inherit; tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a higher tier, or with tools that few machines have, are left out: no skip.

    So are those with the packages of strangers, in every tier, unless they are asked for, and those
    that a lower tier has proved, if it is said that it has.
    """
    with_strangers, above = config.getoption("--strangers"), config.getoption("--above")

    def runs(item: pytest.Item) -> bool:
        if item.get_closest_marker("strangers") and not with_strangers:
            return False
        tools = [tool for mark in item.iter_markers("needs_tools") for tool in mark.args]
        proved = above and tiers.has(above, item) and not tiers.grows(item)
        return all(map(shutil.which, tools)) and tiers.has(tiers.chosen, item) and not proved

    kept = list(filter(runs, items))
    by_function = itertools.groupby(kept, key=lambda item: item.nodeid.partition("[")[0])
    some = [item for _, own in by_function for item in list(own)[:: config.getoption("--one-in")]]
    chosen = set(some)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = sorted(some, key=lambda item: item.path.name not in ALONE)


# Files that one worker takes alone and first: all their tests wait for one long build.
ALONE = ("test_wheel.py", "test_cuda_code.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests one by one, and those of the long build together.

    What pytest-xdist 3.8 has for it, groups, does nothing under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return ALONE[0] if file.endswith(ALONE) else nodeid

    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if importlib.util.find_spec("torch") is None:
        terminalreporter.line(
            "torch is not installed, which leaves out: fastrnn.torch (tests/adapters), layers and "
            "optimisers against torch's, torch's tensors on the emulated GPU"
        )


# ---- engines -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def native_build() -> Callable[..., Path]:
    """native_build(preset, ...): configure, build, give the build's folder."""
    return functools.cache(builds.build)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """once(make, name): the path that make(folder) gives, made by one worker for the whole run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def path(make: Callable[[Path], Path], name: str) -> Path:
        folder = shared / name
        made = folder / ".made"
        with builds.locked(folder):
            if not made.exists():
                made.write_text(str(make(folder)), encoding="utf-8")
        return Path(made.read_text(encoding="utf-8"))

    return path


@pytest.fixture
def one_thread_of_torch() -> Iterator[None]:
    """For trainings: threads of two workers, which share the cores, would wait for each other."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def wide_engine(native_build: Callable[..., Path]) -> ModuleType:
    return load_engine(native_build("tests"))


@pytest.fixture(params=["ONNX Runtime", "onnx"])
def others(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who runs the nodes of a model of ONNX that are not recurrent: its runtime, or onnx itself."""
    if request.param == "onnx":
        from fastrnn.onnx import _library

        monkeypatch.setattr(_library, "runtime", lambda: None)
    else:
        pytest.importorskip("onnxruntime")
    return str(request.param)


@pytest.fixture(params=tiers.thin(LEVELS, DEV_LEVELS))
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run the test once at each level."""
    yield from at_level(request, monkeypatch)


def at_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The engine at the level that is the fixture's parameter, until the test has ended."""
    if request.param == "wide":
        monkeypatch.setattr(_native, "engine", request.getfixturevalue("wide_engine"))
    before = _native.engine.level()
    _native.engine.use_level(request.param)
    yield request.param
    _native.engine.use_level(before)


@pytest.fixture(scope="session")
def emulated_engine(native_build: Callable[..., Path]) -> ModuleType:
    # A run under a sanitizer (test_cuda_native.py) brings its own.
    build = os.environ.get("FASTRNN_EMULATED_BUILD") or native_build("tests")
    return load_engine(Path(build) / "tests" / "cuda_emulation", "_cuda_emulated")


@pytest.fixture
def device(emulated_engine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The CUDA engine on its emulator, in the place of the one for GPUs; 16 SMs."""
    monkeypatch.setattr(fastrnn.cuda._native, "engine", emulated_engine)
    emulated_engine.use_device(16, 227 << 10, True)
    emulated_engine.use_schedule("forward", 0)
    emulated_engine.remove("")
    emulated_engine.take_host_arrays(False)
    return emulated_engine


@pytest.fixture
def emulated(device: ModuleType) -> Iterator[ModuleType]:
    """`device`, whose work waits in streams until it is asked for, as on a GPU."""
    with streams.queued(device, "reverse"):
        yield device


@pytest.fixture(autouse=True)
def _restore_path() -> Iterator[None]:
    """A test that adds to where modules are found leaves it as it was: children look there too."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    """A test that sets the number of threads leaves it as it was."""
    before = _native.engine.get_num_threads()
    yield
    _native.engine.set_num_threads(before)


@pytest.fixture
def large_machine() -> Iterator[None]:
    """Teams may have more members than the machine has processors."""
    _native.engine.pretend_processors(64)
    yield
    _native.engine.pretend_processors(0)


# ---- no test is skipped by accident --------------------------------------------------------------

_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(f"{report.nodeid}: {report.longrepr[2]}")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(f"{report.nodeid}: {report.longrepr[2]}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With FASTRNN_NO_SKIPS (as in .ci/run) a skip fails the run, unless it wants a GPU."""
    if not os.environ.get("FASTRNN_NO_SKIPS"):
        return
    wrong = [line for line in _skipped if "GPU" not in line]
    if wrong:
        print("\nskipped, and FASTRNN_NO_SKIPS is set:", *wrong, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """program(name): a file of `examples/` as a module; skips where a package is missing."""
    folder = ROOT / "examples"
    monkeypatch.syspath_prepend(str(folder))

    def load(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except SystemExit as error:
            pytest.skip(str(error))

    yield load
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)
