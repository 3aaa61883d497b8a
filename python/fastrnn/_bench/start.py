"""Starts a worker under any Python: ``python start.py FD PEER THREADS PINNED NAME=FOLDER ...``.

Each named package is the one in that folder, whatever else the Python that runs this has by the
name: the suite, what adds peers to it, and the runner's own fastrnn. NumPy and all else are that
Python's, as is fastrnn where it is not named. ``fastrnn=`` makes it a package that holds nothing
but the suite: no engine is loaded beside another library.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing.connection import Connection
from pathlib import Path


def bring(name: str, folder: str) -> None:
    """Import a package from a folder, or an empty one."""
    parent, _, child = name.rpartition(".")
    above = importlib.import_module(parent) if parent else None
    spec: ModuleSpec | None = ModuleSpec(name, None, is_package=True)
    if folder:
        file = Path(folder) / "__init__.py"
        spec = spec_from_file_location(name, file, submodule_search_locations=[folder])
    if not spec:
        raise ImportError(f"no package in {folder}")
    sys.modules[name] = module = module_from_spec(spec)
    if spec.loader:
        spec.loader.exec_module(module)
    if above:
        setattr(above, child, module)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner's, which ends its workers
    descriptor, peer, threads, pinned, *packages = sys.argv[1:]
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    pipe = Connection(int(descriptor))
    try:
        for package in packages:
            bring(*package.split("=", 1))
        worker = importlib.import_module("fastrnn._bench.worker")
        module = worker.load(peer, int(threads), pinned == "pinned")
    except ImportError as error:
        pipe.send({"absent": f"{sys.executable}: {error}"})
    else:
        with contextlib.suppress(EOFError, ConnectionError):  # the runner was killed
            worker.serve(module, int(threads), pipe)


if __name__ == "__main__":
    main()
