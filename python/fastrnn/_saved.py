"""Layers in files: what a file says of a layer, and writing it.

A file has the parameters by their names and one object of JSON, that of `Description`: in a
.safetensors file under ``fastrnn`` in ``__metadata__``, in an .npz file as the text ``fastrnn``.
`_loading` reads it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from . import _arrays, _files, _schemes

if TYPE_CHECKING:
    from ._stack import Stack

FORMAT = 1
HEADER = "fastrnn"  # the name of the object in both containers
SUFFIXES = (".safetensors", ".npz")
LAYERS = ("LSTM", "GRU", "RNN", "Recurrent", "Quantized")  # what `layer` may say


@dataclass(frozen=True)
class Description:
    """What rebuilds a layer, beside its parameters.

    Not in it: `device`, `recompute` and `seed`, which are of a process, not of the function.
    """

    format: int
    layer: str
    cell: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    dtype: str
    reverse: bool = False  # here and below: not in files of before
    proj_size: int = 0
    weights: str = ""  # how they are quantized

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of a layer's constructor that are alike for all cells of its class."""
        others = {"format", "layer", "cell"}
        if self.layer in ("GRU", "RNN"):
            others |= {"proj_size"}
        others |= {"dtype", "dropout"} if self.layer == "Quantized" else {"weights"}
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in others}

    def dtype_of(self, name: str) -> str:
        """The dtype of a parameter."""
        return _schemes.dtype_of(self.weights, name, self.dtype)


def save(layer: Stack, path: str | os.PathLike[str]) -> None:
    """Write the layer to a file: its parameters, and what rebuilds it with `fastrnn.load`.

    The file is written beside `path` and takes its place when it is whole. It keeps parameters,
    sizes and options; not the device, `recompute` and the random state. torch, too, loads the
    parameters of a .safetensors file, by their names, into a layer of ``torch.nn``.

    Parameters
    ----------
    path : str or path
        ``.safetensors``, which needs the package of this name, or ``.npz``.

    Raises
    ------
    ValueError
        Another suffix.
    TypeError
        Not a path.
    ImportError
        A .safetensors file without the package: ``pip install "fastrnn[safetensors]"``.
    OSError
        The system's reason; also where `path` is a device or a pipe.
    """
    place, suffix = check_path("save", path)
    # Of this library's classes: a subclass may have the name of another one.
    own = [each for each in type(layer).__mro__ if each.__module__.startswith("fastrnn.")]
    names = [each.__name__ for each in own]
    description = Description(
        format=FORMAT,
        layer=next(name for name in names if name in LAYERS),
        cell=layer.cell,
        input_size=layer.input_size,
        hidden_size=layer.hidden_size,
        num_layers=layer.num_layers,
        bias=layer.bias,
        batch_first=layer.batch_first,
        dropout=getattr(layer, "dropout", 0.0),
        bidirectional=layer.bidirectional,
        dtype=layer.dtype.name,
        reverse=layer.reverse,
        proj_size=layer.proj_size,
        weights=getattr(layer, "weights", ""),
    )
    header = json.dumps(dataclasses.asdict(description))
    arrays = {k: np.ascontiguousarray(_arrays.on_host(v)) for k, v in layer.state_dict().items()}
    write = _write_npz if suffix == ".npz" else _write_safetensors
    _files.write_whole(place, partial(write, header, arrays))


def check_path(op: str, path: Any) -> tuple[Path, str]:
    """A path, and its suffix in small letters."""
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(f"[{op}] path must be a path, got {type(path).__name__}")
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"[{op}] path must end in one of {SUFFIXES}, got {name!r}")
    return Path(name), suffix


def npz_dtype(name: str) -> str:
    """The dtype in an .npz file, which has no bfloat16: its bits are there as integers."""
    return "uint16" if name == "bfloat16" else name


def _write_npz(header: str, arrays: dict[str, np.ndarray], file: BinaryIO) -> None:
    members: dict[str, Any] = {HEADER: np.array(header)}
    members |= {name: a.view(npz_dtype(a.dtype.name)) for name, a in arrays.items()}
    np.savez(file, **members)


def _write_safetensors(header: str, arrays: dict[str, np.ndarray], file: BinaryIO) -> None:
    _files.write_safetensors(file, arrays, {HEADER: header})
