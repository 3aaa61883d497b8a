"""The interface of XLA that the handler was declared for, and which jaxlibs may have it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import tiers
from builds import ROOT

jax = pytest.importorskip("jax")

import jaxlib.version  # noqa: E402

from fastrnn.jax import _jaxlib  # noqa: E402
from jax_tools import child  # noqa: E402

CHECKS = ROOT / "tests" / "cpp" / "test_xla_abi.cpp"
# Of the jaxlib that is installed, and of others that this variable names.
OTHERS = os.environ.get("FASTRNN_JAXLIB_HEADERS", "")
FOLDERS = list(dict.fromkeys([jax.ffi.include_dir(), *filter(None, OTHERS.split(os.pathsep))]))


def compiles(include: Path | str) -> str:
    """What the compiler says against the comparison with these headers; nothing where it holds."""
    includes = ["-I", str(ROOT / "csrc"), "-isystem", str(include)]
    command = [os.environ.get("CXX", "g++"), "-std=c++17", "-fsyntax-only", *includes, str(CHECKS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert bool(done.returncode) == ("error" in done.stdout), done.stdout
    return done.stdout if done.returncode else ""


@pytest.mark.parametrize("include", FOLDERS)
def test_offsets(include: str) -> None:
    assert compiles(include) == ""
    major, minor = _jaxlib.interface_version(include)
    assert major == 0
    assert minor >= 1


@pytest.mark.parametrize(
    ("now", "then", "what"),
    [
        ("XLA_FFI_ExecutionStage stage;", "void* more; XLA_FFI_ExecutionStage stage;", "stage"),
        ("XLA_FFI_Args args;", "XLA_FFI_Args args; int64_t more;", "CallFrame.results"),
        ("int64_t rank;", "int32_t rank;", "Buffer.rank has another width"),
        ("_FIELD(XLA_FFI_Error_Create);", "_FIELD(XLA_FFI_Error_Destroy2);", "XLA_FFI_Error"),
        ("XLA_FFI_DataType_BF16 = 16,", "XLA_FFI_DataType_BF16 = 13,", "kBF16 is another number"),
        ("const char* message;", "const char* message; void* more;", "ErrorCreateArgs"),
    ],
)
def test_offsets_that_differ(tmp_path: Path, now: str, then: str, what: str) -> None:
    header = tmp_path / _jaxlib.HEADER
    text = Path(jax.ffi.include_dir(), _jaxlib.HEADER).read_text(encoding="utf-8")
    header.parent.mkdir(parents=True)
    header.write_text(text.replace(now, then, 1), encoding="utf-8")
    assert then in header.read_text(encoding="utf-8"), "the header has another text"
    assert what in compiles(tmp_path)


def test_every_field_is_compared() -> None:
    text = (ROOT / "csrc" / "xla" / "abi.h").read_text(encoding="utf-8")
    text = re.sub(r"//[^\n]*", "", text)
    compared = CHECKS.read_text(encoding="utf-8")
    structs = re.findall(r"struct (\w+) \{(.*?)\};", text, re.DOTALL)
    fields = [
        (struct, name or pointer)
        for struct, body in structs
        for pointer, name in re.findall(r"\(\*(\w+)\)\(|(\w+);", body)
    ]
    assert len(fields) > 50, fields
    # What XLA has at the place of this one has another name since version 0.5 of the interface.
    unread = ("Api", "error_get_message")
    missing = [f for f in fields if f != unread and f"({f[0]}, {f[1]}, " not in compared]
    assert missing == []
    numbers = re.findall(r"\b(k\w+) = \d+", text)
    assert [n for n in numbers if f"NUMBER({n}, " not in compared] == []


# ---- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.6.0", "0.6.2", "0.10.2", "0.12.0.1", "0.9.0.dev20260101"])
def test_supported(version: str) -> None:
    _jaxlib.require_supported(version, jax.ffi.include_dir())
    _jaxlib.require_supported(jaxlib.version.__version__, jax.ffi.include_dir())


@pytest.mark.parametrize("version", ["0.5.3", "0.13.0", "0.13.0rc1", "1.0", "0.4.38", "later", ""])
def test_unsupported(version: str) -> None:
    rule = r"\[jax\] jaxlib must be at least 0\.6 and below 0\.13 for this fastrnn, got "
    with pytest.raises(ImportError, match=rf"{rule}{re.escape(version)}$"):
        _jaxlib.require_supported(version, jax.ffi.include_dir())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "#define XLA_FFI_API_MAJOR 1\n#define XLA_FFI_API_MINOR 2\n",
            "must have version 0, got 1.2",
        ),
        ("#define XLA_FFI_API_MAJOR 0\n", r"must say its version, got {'MAJOR': '0'}"),
        ("", "must say its version, got none"),
        (None, r"jaxlib must bring .*c_api\.h, got .*No such file"),
    ],
)
def test_headers_without_a_version(tmp_path: Path, text: str | None, error: str) -> None:
    header = tmp_path / _jaxlib.HEADER
    if text is not None:
        header.parent.mkdir(parents=True)
        header.write_text(text, encoding="utf-8")
    with pytest.raises(ImportError, match=rf"^\[jax\] .*{error}"):
        _jaxlib.require_supported("0.6.0", str(tmp_path))


# A jaxlib that says it is another: the package must not come in, and JAX must go on without it.
UNSUPPORTED = """
import sys
import jaxlib.version
import jax, numpy as np

true, jaxlib.version.__version__ = jaxlib.version.__version__, sys.argv[1]
for _ in range(2):
    try:
        import fastrnn.jax
    except ImportError as error:
        text = str(error)
        assert "at least 0.6 and below 0.13" in text and text.endswith(f"got {sys.argv[1]}"), text
    else:
        raise AssertionError("imported")
assert float(jax.numpy.ones(3).sum()) == 3.0
try:
    call = jax.ffi.ffi_call("fastrnn.call", jax.ShapeDtypeStruct((1,), np.float32))
    call(np.ones(1, np.float32), cell="lstm", options=np.zeros(8, np.int64))
except Exception as error:
    assert "[lstm]" not in str(error) and "fastrnn.call" in str(error), error
else:
    raise AssertionError("registered")

jaxlib.version.__version__ = true
import fastrnn.jax
params = fastrnn.jax.init(jax.random.key(0), "gru", 2, 3)
assert fastrnn.jax.gru(np.ones((4, 2), np.float32), params)[0].shape == (4, 3)
"""


@pytest.mark.parametrize("version", tiers.thin(["0.5.3", "0.99.1"], ["0.99.1"]))
def test_an_unsupported_jaxlib(version: str) -> None:
    child(UNSUPPORTED, version)
