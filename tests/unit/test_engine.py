"""What the package knows of its engines: which serves a call, their dtypes, their equations."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _dtypes, _engine, _native
from fastrnn.reference import gru, lstm, rnn

# Runs in a fresh process: layers, cells and functional calls on the host.
ON_THE_HOST = """
import sys
import numpy as np
import fastrnn
from fastrnn import functional

x = np.ones((3, 2, 4), np.float32)
for layer in (fastrnn.LSTM(4, 5, 2, dropout=0.5), fastrnn.GRU(4, 5), fastrnn.RNN(4, 5).to("cpu")):
    layer(x, lengths=[3, 1])
    y, _, tape = layer.forward(x)
    layer.backward(tape, y)
    layer.load_state_dict(layer.state_dict())
fastrnn.GRUCell(4, 5)(x[0])
fastrnn.training.SGD([layer], lr=0.1)
packed = functional.pack("rnn_tanh", layer.state_dict())
functional.rnn(x, packed)
"""


@pytest.mark.parametrize("use", ["fastrnn.cuda", "fastrnn.build_info()", "from fastrnn import *"])
def test_the_cuda_engine_is_loaded_when_it_is_used(use: str) -> None:
    code = f"""{ON_THE_HOST}
loaded = [name for name in sys.modules if name.startswith(("fastrnn.cuda", "fastrnn._cuda"))]
assert not loaded, loaded
assert "cuda" in dir(fastrnn)
{use}
assert "fastrnn.cuda" in sys.modules
assert fastrnn.cuda.is_available() in (True, False)
assert isinstance(fastrnn.cuda.why_not_available(), str)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_other_attributes_are_made_up() -> None:
    name = "cudas"
    with pytest.raises(AttributeError, match="module 'fastrnn' has no attribute 'cudas'"):
        getattr(fastrnn, name)


@pytest.mark.parametrize("dtype", [*_dtypes.WIDE, *_dtypes.NARROW, "float8", "int16"])
def test_the_cpu_engine_has_the_dtypes_that_are_said_of_it(dtype: str) -> None:
    def make() -> Any:
        return _native.engine.Weights("lstm", dtype, 1, 1, 2, 3, True)

    if dtype in _dtypes.OF_ENGINE["cpu"]:
        assert make().parameters
    else:
        with pytest.raises(TypeError, match=r"\[lstm\] dtype must be"):
            make()


def test_which_engine_serves() -> None:
    from fastrnn.cuda import _driver

    on_gpu = SimpleNamespace(__cuda_array_interface__={})
    assert _engine.for_device("cpu") is _engine.for_array(np.zeros(1)) is _native.engine
    assert _engine.for_device("cuda") is _engine.for_array(on_gpu) is _driver
    assert _engine.usable("cpu") is _native.engine
    assert _engine.usable("mps") is None
    assert _engine.why_not_available("cpu") == ""
    assert _engine.why_not_available("mps") == "no engine for this device"


def equations(text: str | None) -> list[str]:
    """The indented lines that follow ``::`` in a docstring."""
    _, _, rest = inspect.cleandoc(text or "").partition("::\n\n")
    block, _, _ = rest.partition("\n\n")
    return textwrap.dedent(block).splitlines()


@pytest.mark.parametrize(
    ("layer", "reference"), [(fastrnn.LSTM, lstm), (fastrnn.GRU, gru), (fastrnn.RNN, rnn)]
)
def test_layers_state_the_equations_of_the_reference(layer: Any, reference: Any) -> None:
    stated = equations(layer.__doc__)
    assert any(line.startswith("h_t = ") for line in stated)
    assert stated == equations(reference.__doc__)
