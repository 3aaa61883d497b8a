"""Layers in files: round trips, whole or not at all, and files that come from anybody."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fake_gpu
import fastrnn
import tiers
from fastrnn import _loading, _saved

SUFFIXES = [".npz", ".safetensors"]
suffixes = pytest.mark.parametrize("suffix", SUFFIXES)


@pytest.fixture(autouse=True)
def _package() -> None:
    pytest.importorskip("safetensors")


def bits(params: Any) -> dict[str, tuple[str, bytes]]:
    return {name: (str(a.dtype), a.tobytes()) for name, a in params.items()}


def small(**options: Any) -> fastrnn.LSTM:
    return fastrnn.LSTM(2, 3, seed=0, **options)


def refused(path: Path, rule: str = "") -> str:
    """Loading is refused, with the file's name and the rule."""
    with pytest.raises(ValueError, match=re.escape(f"[load] {path}: ")) as caught:
        fastrnn.load(path)
    message = str(caught.value)
    assert rule in message, message
    return message


# ---- round trips ---------------------------------------------------------------------------------

MADE: list[Callable[..., fastrnn.Recurrent]] = [
    fastrnn.LSTM,
    fastrnn.GRU,
    fastrnn.RNN,
    lambda *a, **k: fastrnn.RNN(*a, nonlinearity="sigmoid", **k),
    lambda *a, **k: fastrnn.Recurrent("rnn_relu", *a, **k),
    lambda *a, **k: fastrnn.Recurrent("gru", *a, **k),
    lambda *a, **k: fastrnn.LSTM(*a, activations=["relu", "tanh", "elu"], peepholes=True, **k),
    lambda *a, **k: fastrnn.LSTM(*a, input_forget=True, clip=2.5, **k),
    lambda *a, **k: fastrnn.GRU(*a, activations=[("hard_sigmoid", 0.1), "softsign"], **k),
    lambda *a, **k: fastrnn.RNN(*a, nonlinearity=("leaky_relu", 0.3), clip=1.5, **k),
    lambda *a, **k: fastrnn.Recurrent("lstm_coupled_peephole", *a, **k),
    lambda *a, **k: fastrnn.LSTM(*a, peepholes=True, state_range=0.25, **k),
    lambda *a, **k: fastrnn.GRU(*a, clip=1.5, state_range=(-float("inf"), 0.125), **k),
    lambda *a, **k: fastrnn.RNN(*a, nonlinearity="relu", state_range=(0, 0.5), **k),
    lambda *a, **k: fastrnn.GRU(*a, reset_after=False, **k),
    lambda *a, **k: fastrnn.GRU(*a, reset_after=False, clip=1.5, **k),
    lambda *a, **k: fastrnn.LSTM(*a, proj_size=3, **k),
    lambda *a, **k: fastrnn.LSTM(*a, proj_size=3, peepholes=True, **k),
    lambda *a, **k: fastrnn.Recurrent("lstm", *a, proj_size=7, **k),
]


@suffixes
@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_is_rebuilt(tmp_path: Path, suffix: str, make: Any, dtype: str) -> None:
    for options in (
        {},
        {"num_layers": 3, "bidirectional": True, "dropout": 0.25, "batch_first": True},
        {"bias": False, "num_layers": 2, "reverse": True},
    ):
        layer = make(4, 5, dtype=dtype, seed=3, **options)
        path = tmp_path / f"model{suffix}"
        layer.save(path)
        loaded = fastrnn.load(str(path))
        assert type(loaded) is type(layer)
        assert repr(loaded) == repr(layer)
        assert loaded.dtype == layer.dtype
        assert list(loaded.state_dict()) == list(layer.state_dict())
        assert bits(loaded.state_dict()) == bits(layer.state_dict())
        x = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(dtype)
        assert loaded(x)[0].tobytes() == layer(x)[0].tobytes()
        assert os.listdir(tmp_path) == [path.name]


@suffixes
def test_special_values_and_subclasses(tmp_path: Path, suffix: str) -> None:
    class Mine(fastrnn.GRU):
        pass

    layer = Mine(2, 3)
    with layer.mutable() as params:
        params["bias_ih_l0"][:6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45]
    layer.save(tmp_path / f"a{suffix.upper()}")
    loaded = fastrnn.load(tmp_path / f"a{suffix.upper()}")
    assert type(loaded) is fastrnn.GRU
    assert bits(loaded.state_dict()) == bits(layer.state_dict())


@suffixes
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_parameters(tmp_path: Path, suffix: str, dtype: str) -> None:
    layer = fastrnn.GRU(3, 4, num_layers=2, dtype=dtype)
    path = tmp_path / f"model{suffix}"
    layer.save(path)
    read = _loading._npz if suffix == ".npz" else _loading._safetensors
    with open(path, "rb") as file:
        description, found = read(file)
    assert description.dtype == dtype
    arrays = layer.state_dict()
    assert bits({name: found[name] for name in arrays}) == bits(arrays)
    loaded = fastrnn.load(path)
    assert loaded.dtype == layer.dtype
    assert bits(loaded.state_dict()) == bits(arrays)


@suffixes
def test_parameters_on_a_gpu_are_saved_through_the_host(tmp_path: Path, suffix: str) -> None:
    layer = small()
    arrays = layer.state_dict()
    layer.state_dict = lambda: {name: fake_gpu.Array(a) for name, a in arrays.items()}
    layer.save(tmp_path / f"model{suffix}")
    assert bits(fastrnn.load(tmp_path / f"model{suffix}").state_dict()) == bits(arrays)


@suffixes
def test_what_a_file_says(tmp_path: Path, suffix: str) -> None:
    """What rebuilds the layer, and nothing of a process."""
    path = tmp_path / f"model{suffix}"
    fastrnn.GRU(2, 3, dropout=0.5, num_layers=2, recompute=4).save(path)
    if suffix == ".npz":
        text = str(np.load(path, allow_pickle=False)["fastrnn"])
    else:
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            text = file.metadata()["fastrnn"]
    assert json.loads(text) == {
        "format": 1,
        "layer": "GRU",
        "cell": "gru",
        "input_size": 2,
        "hidden_size": 3,
        "num_layers": 2,
        "bias": True,
        "batch_first": False,
        "dropout": 0.5,
        "bidirectional": False,
        "dtype": "float32",
        "reverse": False,
        "proj_size": 0,
        "weights": "",
    }
    assert fastrnn.load(path).recompute == 0


# ---- paths, and files that are whole or not there ------------------------------------------------


@pytest.mark.parametrize("name", ["model", "model.pt", "model.npz.bak", ".npz", ""])
def test_other_suffixes(tmp_path: Path, name: str) -> None:
    for call in (small().save, fastrnn.load):
        with pytest.raises(ValueError, match=r"path must end in one of .*, got '"):
            call(f"{tmp_path}/{name}")
    assert not os.listdir(tmp_path)


def test_other_arguments(tmp_path: Path) -> None:
    for path in (3, None, b"model.npz", io.BytesIO()):
        for call in (small().save, fastrnn.load):
            with pytest.raises(TypeError, match=r"\[(save|load)\] path must be a path, got"):
                call(path)
    small().save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="device"):
        fastrnn.load(tmp_path / "a.npz", device="tpu")
    with pytest.raises(FileNotFoundError):
        fastrnn.load(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError):
        small().save(tmp_path / "none" / "a.npz")


@suffixes
def test_a_failure_leaves_the_file_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    small().save(path)
    before = path.read_bytes()

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fails)
            with pytest.raises(OSError, match="No space"):
                fastrnn.LSTM(2, 3, seed=1).save(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == [path.name]


@suffixes
def test_pipes_and_folders(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    for name in ("pipe", "folder"):
        path = tmp_path / f"{name}{suffix}"
        for call in (small().save, fastrnn.load):
            with pytest.raises(OSError, match="not a regular file"):
                call(path)
    assert sorted(os.listdir(tmp_path)) == [f"folder{suffix}", f"pipe{suffix}"]


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    small().save(path)
    before = path.read_bytes()
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (small().save, fastrnn.load):
        with pytest.raises(ImportError, match=re.escape('pip install "fastrnn[safetensors]"')):
            call(path)
    assert path.read_bytes() == before
    small().save(tmp_path / "model.npz")
    fastrnn.load(tmp_path / "model.npz")


def test_importing_fastrnn_imports_no_package_of_files() -> None:
    code = "import sys, fastrnn; print({'safetensors', 'ml_dtypes'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- damaged files -------------------------------------------------------------------------------


@suffixes
def test_truncated_anywhere(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    fastrnn.RNN(1, 1, bias=False).save(path)
    whole = path.read_bytes()
    for end in range(0, len(whole), tiers.choose(dev=7, ci=1, full=1)):
        path.write_bytes(whole[:end])
        refused(path)
    path.write_bytes(whole + b"\0")
    if suffix == ".safetensors":  # a zip archive is found from its end, and may be followed
        refused(path, "must have")


def test_offsets_before_the_file(tmp_path: Path) -> None:
    """The directory of an archive that begins before the file, where the system cannot go."""
    path = tmp_path / "model.npz"
    fastrnn.GRU(2, 2).save(path)
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 19] = 255  # the highest byte of the directory's offset
    for at in (16, 17, 18, 19):
        damaged = bytearray(content)
        damaged[end + at] = 255
        path.write_bytes(damaged)
        refused(path)


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "model-1.npz", tmp_path / "latest.npz"
    fastrnn.GRU(2, 2).save(target)
    target.chmod(0o600)
    link.symlink_to(target.name)
    fastrnn.GRU(2, 3).save(link)
    assert link.is_symlink()
    assert fastrnn.load(target).hidden_size == 3
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest.npz", "model-1.npz"]


def test_a_subclass_with_the_name_of_another_layer(tmp_path: Path) -> None:
    made = type("GRU", (fastrnn.LSTM,), {})(2, 3, seed=0)
    made.save(tmp_path / "model.npz")
    assert type(fastrnn.load(tmp_path / "model.npz")) is fastrnn.LSTM


@suffixes
@settings(
    max_examples=tiers.choose(dev=150, ci=600, full=6000),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_other_bytes(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    """A few bytes are changed: a layer of other numbers at most, or one error."""
    path = tmp_path / f"model{suffix}"
    fastrnn.GRU(2, 2).save(path)
    content = bytearray(path.read_bytes())
    head = st.integers(0, min(1200, len(content) - 1))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(head | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255) | st.sampled_from(list(b'0123456789[]{}",-e')))
    path.write_bytes(content)
    try:
        fastrnn.load(path)
    except ValueError:
        refused(path)


@suffixes
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    refused(path)


# ---- hostile files -------------------------------------------------------------------------------


class _Marker:
    """Unpickling it would leave a trace."""

    seen = False

    def __reduce__(self) -> Any:
        return (setattr, (_Marker, "seen", True))


def parts(layer: fastrnn.Recurrent, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header of a saved layer and its arrays."""
    layer.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(str(arrays.pop("fastrnn"))), arrays


def write(path: Path, header: Any, arrays: dict[str, Any]) -> Path:
    """A file of this header (JSON, or any text) and these arrays, whether they fit or not."""
    text = header if isinstance(header, str) else json.dumps(header)
    if path.suffix == ".npz":
        np.savez(path, fastrnn=np.array(text), **arrays)
    else:
        from safetensors.numpy import save_file

        save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, path, {"fastrnn": text})
    return path


FIELDS: list[tuple[str, Any]] = [
    ("format", 2),
    ("format", True),
    ("format", None),
    ("layer", "GRU"),
    ("layer", "Module"),
    ("layer", "__class__"),
    ("layer", ["LSTM"]),
    ("cell", "gru"),
    ("cell", "none"),
    ("cell", 4),
    ("input_size", 3),
    ("input_size", True),
    ("input_size", 2.0),
    ("hidden_size", 0),
    ("hidden_size", -3),
    ("hidden_size", 10**12),
    ("hidden_size", 10**30),
    ("hidden_size", "3"),
    ("hidden_size", float("nan")),
    ("num_layers", 2),
    ("num_layers", 10**12),
    ("bias", False),
    ("bias", 1),
    ("batch_first", 0),
    ("batch_first", None),
    ("dropout", 2.0),
    ("dropout", 0),
    ("dropout", float("nan")),
    ("dropout", float("inf")),
    ("dropout", 10**400),
    ("bidirectional", True),
    ("proj_size", 2),
    ("proj_size", True),
    ("proj_size", -1),
    ("proj_size", "2"),
    ("proj_size", 10**30),
    ("dtype", "float64"),
    ("dtype", "int32"),
    ("dtype", "object"),
    ("device", "cuda"),
    ("reverse", 0),
    ("weights", "int8"),
    ("weights", "int4"),
    ("weights", None),
]
ADDED = {"reverse", "proj_size", "weights"}  # fields that files of earlier versions lack


@suffixes
@pytest.mark.parametrize(("name", "value"), FIELDS)
def test_headers_that_lie(tmp_path: Path, suffix: str, name: str, value: Any) -> None:
    header, arrays = parts(small(), tmp_path)
    path = write(tmp_path / f"bad{suffix}", header, arrays)
    fastrnn.load(path)
    message = refused(write(path, {**header, name: value}, arrays))
    assert " must " in message
    assert ", got " in message


@suffixes
def test_a_file_of_an_earlier_version(tmp_path: Path, suffix: str) -> None:
    header, arrays = parts(small(), tmp_path)
    old = {name: header[name] for name in header.keys() - ADDED}
    assert repr(fastrnn.load(write(tmp_path / f"old{suffix}", old, arrays))) == repr(small())


@suffixes
def test_headers_that_are_none(tmp_path: Path, suffix: str) -> None:
    header, arrays = parts(small(), tmp_path)
    path = tmp_path / f"bad{suffix}"
    good = json.dumps(header)
    refused(write(path, good.replace("{", '{"bias": true, ', 1), arrays), "got 'bias' twice")
    refused(write(path, "[" * 100_000, arrays))
    refused(write(path, "[" * 30_000, arrays))
    refused(write(path, " " * 2**17 + good, arrays))
    for text in ("", "7", "[]", "{}", "{", good + "x"):
        refused(write(path, text, arrays))
    for name in header.keys() - ADDED:
        refused(write(path, {k: v for k, v in header.items() if k != name}, arrays))
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file(arrays, path)
    refused(path, "fastrnn")


@suffixes
def test_arrays_that_do_not_fit(tmp_path: Path, suffix: str) -> None:
    header, arrays = parts(small(), tmp_path)
    path = tmp_path / f"bad{suffix}"
    for name, a in arrays.items():
        rest = {k: v for k, v in arrays.items() if k != name}
        refused(write(path, header, rest), "arrays must be 4, got 3")
        refused(write(path, header, {**rest, "other": a}), f"{name} must be there")
        refused(write(path, header, {**arrays, "other": a}), "arrays must be 4, got 5")
        refused(write(path, header, {**arrays, name: a[:-1]}), f"{name} must be float32")
        refused(write(path, header, {**arrays, name: a[None]}), f"{name} must be float32")
        for dtype in ("float64", "float16", "int32"):
            refused(write(path, header, {**arrays, name: a.astype(dtype)}), name)


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(a: Any, header: str | None = None) -> bytes:
    """np.save's bytes, with another header."""
    file = io.BytesIO()
    np.save(file, a)
    if header is None:
        return file.getvalue()
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_hostile_npz(tmp_path: Path) -> None:
    header, arrays = parts(small(), tmp_path)
    path = tmp_path / "bad.npz"
    good = {f"{k}.npy": npy(a) for k, a in {"fastrnn": json.dumps(header), **arrays}.items()}
    fastrnn.load(zipped(path, good))
    name = "weight_hh_l0.npy"

    np.savez(path, fastrnn=np.array([_Marker()], object))
    refused(path, "must be")
    np.savez(path, **{**arrays, "fastrnn": json.dumps(header), "bias_ih_l0": np.array([_Marker()])})
    refused(path, "must be a plain array of numbers")
    path.write_bytes(np.array([_Marker()]).dumps())
    refused(path, "not an .npz file")
    assert not _Marker.seen

    archive = zipfile.ZipFile(zipped(path, good), "a")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(name, good[name])
    archive.close()
    refused(path, "members must be distinct")
    refused(zipped(path, {**good, "readme.txt": b"x"}), "members must be distinct arrays")
    refused(zipped(path, good, zipfile.ZIP_DEFLATED), "without compression")
    form = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}"
    for descr, shape in [
        ("'<f4'", f"({10**12},)"),
        ("'<f4'", f"({2**40}, {2**40})"),
        ("'<f4'", "(-1, -4)"),
        ("'<f4'", "(True,)"),
        ("'<f4'", "('a',)"),
        ("'<f4'", "(" * 3000),
        ("'|O'", "(3,)"),
        ("'<U0'", "(3,)"),
        ("[('a', '<f4')]", "(3,)"),
        ("'none'", "()"),
        ("3", "()"),
    ]:
        lie = npy(None, form.format(descr, shape))
        refused(zipped(path, {**good, name: lie}))
    for lie in (
        b"",
        b"\x93NUMPY",
        npy(None, ""),
        npy(None, "{}"),
        npy(None, "7"),
        npy(None, "\xff"),
    ):
        refused(zipped(path, {**good, name: lie}))
    refused(zipped(path, {**good, name: good[name][:6] + b"\x03\x00" + good[name][8:]}))
    refused(zipped(path, {**good, name: good[name] + b"x"}), "bytes of its shape")
    refused(zipped(path, {**good, "fastrnn.npy": npy(np.array(["a"]))}), "must be a text")
    refused(zipped(path, {**good, "fastrnn.npy": npy(np.zeros(()))}), "must be a text")

    # Fortran's order is NumPy's own, and read.
    turned = zipped(path, {**good, name: npy(np.asfortranarray(arrays["weight_hh_l0"]))})
    assert bits(fastrnn.load(turned).state_dict()) == bits(arrays)

    # The checksum sees a changed number.
    content = bytearray(zipped(path, good).read_bytes())
    content[content.index(arrays["weight_hh_l0"].tobytes()) + 3] ^= 1
    path.write_bytes(content)
    refused(path, "CRC")


def test_hostile_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    small().save(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]

    def made(header: Any, data: bytes = data, length: int | None = None) -> Path:
        text = (header if isinstance(header, str) else json.dumps(header)).encode()
        path.write_bytes(
            (len(text) if length is None else length).to_bytes(8, "little") + text + data
        )
        return path

    fastrnn.load(made(header))
    for claimed in (10**8, 2**63, 2**64 - 1, 0, 1, len(json.dumps(header)) - 1):
        refused(made(header, length=claimed))
    refused(made(json.dumps(header) + " " * (5 << 20)), "within 4194304 bytes")
    refused(made("[" * 100_000))
    refused(made("[]"))
    text = json.dumps(header)
    refused(made(text[:-1] + ', "bias_ih_l0": ' + json.dumps(header["bias_ih_l0"]) + "}"), "twice")
    refused(made({**header, "__metadata__": [1]}))
    refused(made({**header, "__metadata__": {"fastrnn": 3}}))
    refused(made({}, b""))
    for change in (
        {"shape": [12, 10**12]},
        {"shape": [12, -2]},
        {"shape": [12, 2.0]},
        {"shape": [True, 24]},
        {"shape": [2, 12]},
        {"shape": "12, 2"},
        {"shape": None},
        {"dtype": "F64"},
        {"dtype": "I32"},
        {"dtype": ["F32"]},
        {"data_offsets": [0, 10**15]},
        {"data_offsets": [-4, 92]},
        {"data_offsets": [8, 4]},
        {"data_offsets": [0, 96, 96]},
        {"data_offsets": [0.0, 96.0]},
        {"other": 1},
    ):
        refused(made({**header, "weight_ih_l0": {**header["weight_ih_l0"], **change}}))
    # All arrays on the same bytes, or with bytes that nobody has.
    shared = {k: {**v, "data_offsets": header["bias_ih_l0"]["data_offsets"]} if "bias" in k else v
              for k, v in header.items()}  # fmt: skip
    refused(made(shared))
    refused(made(header, data + b"1234"), "the file must have")
    refused(made(header, data[:-1]), "the file must have")


@suffixes
def test_a_claim_allocates_nothing(tmp_path: Path, suffix: str) -> None:
    header, arrays = parts(small(), tmp_path)
    lie = {**header, "hidden_size": 2**39, "num_layers": 2**39}
    paths = [write(tmp_path / f"bad{suffix}", lie, arrays)]
    if suffix == ".npz":
        claim = npy(None, "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,), }")
        paths.append(zipped(tmp_path / "claim.npz", {"fastrnn.npy": claim}))
    tracemalloc.start()
    try:
        for path in paths:
            refused(path)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_description_has_every_option_of_a_layer() -> None:
    """A new option of the constructor must be said in files, or be one of a process."""
    import inspect

    options = set(inspect.signature(fastrnn.Recurrent).parameters)
    of_process = {"device", "seed", "recompute"}
    fields = set(_saved.Description.__dataclass_fields__)
    assert fields == (options - of_process) | {"format", "layer", "weights"}
