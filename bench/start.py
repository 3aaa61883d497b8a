"""Starts a worker under any Python: ``python start.py FD PEER THREADS PINNED``.

Of this checkout it brings the suite alone. fastrnn, NumPy and all else are those of the Python that
runs it: neither the folder of this file nor the checkout stays on the path.
"""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def import_worker() -> Any:
    """`bench.worker` of this checkout; modules of its package need the path no more."""
    root = str(HERE.parent)
    sys.path[:] = [root, *(entry for entry in sys.path if entry != str(HERE))]
    from bench import worker

    sys.path.remove(root)
    return worker


def main() -> None:
    descriptor, peer, threads, pinned = sys.argv[1:]
    pipe = Connection(int(descriptor))
    try:
        worker = import_worker()
        module = worker.load(peer, int(threads), pinned == "pinned")
    except ImportError as error:
        pipe.send({"absent": f"{sys.executable}: {error}"})
    else:
        worker.serve(module, int(threads), pipe)


if __name__ == "__main__":
    main()
