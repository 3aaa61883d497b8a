"""Other people's processes: the interpreter's end, other interpreters, how the module was built,
and where the package's files are. Whatever ends or hangs a process runs in one of its own.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn

PACKAGE = Path(fastrnn.__file__).parent


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


# ---- daemon threads at the end of the interpreter ------------------------------------------------

# Threads that are in the engine most of their time. Calls with tensors are made without torch's
# operators, and results are kept: torch itself, which lets others go on even to free a tensor, ends
# the process before Python 3.14.
DAEMONS = """
import sys, threading
import numpy as np
import fastrnn
from fastrnn import _native, functional
from fastrnn._engine import Call

job, begun = sys.argv[1], threading.Event()
fastrnn.set_num_threads(2)
layer = fastrnn.LSTM(64, 192, seed=0)
x = np.ones((100, 8, 64), np.float32)
params = fastrnn.LSTM(1024, 1024, seed=0).state_dict() if job == "pack" else layer.state_dict()
if job == "tensors":
    import torch
    tensors = tuple(torch.from_numpy(p) for p in params.values())
    given, kept = torch.from_numpy(x), []

def once():
    if job == "infer":
        layer(x)
    elif job == "train":
        y, _, tape = layer.forward(x)
        layer.backward(tape, y)
    elif job == "pack":
        functional.pack("lstm", params)
    elif job == "tensors":
        call = Call(given)
        kept.append(_native.engine.run_new("lstm", 1, 1, tensors, call))

def work():
    while True:
        once()
        begun.set()

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
begun.wait()
print("end")
"""


@pytest.mark.parametrize("job", ["infer", "train", "pack", "tensors"])
def test_daemon_threads_at_the_end(job: str) -> None:
    """A thread that comes out of the engine while the interpreter ends does not end the process."""
    if job == "tensors":
        pytest.importorskip("torch", "2.10", reason="torch with DLPack's exchange of C calls")
    done = python(DAEMONS, job)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


# ---- other interpreters --------------------------------------------------------------------------

SUBINTERPRETER = """
import sys

inside = '''
import sys
sys.path[:] = {path!r}
for name in ("fastrnn", "fastrnn", "fastrnn._cpu"):
    try:
        __import__(name)
    except ImportError as error:
        print("ImportError:", error, flush=True)
'''.format(path=sys.path)

def in_another():
    if sys.version_info >= (3, 13):
        import _interpreters
        for kind in ("isolated", "legacy"):
            assert _interpreters.exec(_interpreters.create(kind), inside) is None
    else:
        import _xxsubinterpreters
        _xxsubinterpreters.run_string(_xxsubinterpreters.create(), inside)

if sys.argv[1] == "main first":
    import fastrnn
    in_another()
    assert fastrnn.LSTM(4, 6).to("cpu")
else:
    in_another()
"""


@pytest.mark.parametrize("first", ["main first", "alone"])
def test_a_subinterpreter_is_refused(first: str) -> None:
    """With an error that says it, and without harm to the main interpreter."""
    done = python(SUBINTERPRETER, first)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) in (3, 6)
    for line in lines:
        # From Python 3.13 on Python says it for us, but in interpreters of the old kind.
        assert re.match(r"ImportError: .*\bsubinterpreter", line), line


# ---- the version -------------------------------------------------------------------------------


def test_the_version_needs_no_metadata() -> None:
    """A freezer takes the package's files, and not the metadata beside them."""
    nothing = "import importlib.metadata as m; m.Distribution.discover = lambda **_: iter(()); "
    done = python(nothing + "import fastrnn; print(fastrnn.__version__)")
    assert done.stdout.strip() == fastrnn.__version__, done.stderr


def test_the_version_is_that_of_the_distribution() -> None:
    assert fastrnn.__version__ == importlib.metadata.version("fastrnn")
