"""Layers out of files that may come from anybody."""

from __future__ import annotations

import dataclasses
import os
import reprlib
from collections.abc import Callable, Mapping
from typing import BinaryIO

import numpy as np

from . import (
    _arguments,
    _cell_names,
    _dtypes,
    _engine,
    _files,
    _native,
    _schemes,
    layers,
    quantized,
)
from ._saved import FORMAT, HEADER, LAYERS, Description, check_path, npz_dtype

_MAX_TEXT = 1 << 16  # characters of the object of JSON; one that was saved has some 300

_Members = Mapping[str, tuple[tuple[int, ...], np.dtype]]


def load(
    path: str | os.PathLike[str], device: str = "cpu"
) -> layers.Recurrent | quantized.Quantized:
    """The layer of a file that `save` wrote: a new one, of the same class and parameters.

    The file is checked before anything of its size is allocated: sizes, names, shapes and dtypes
    against each other and against the file's length. It cannot run code.

    Parameters
    ----------
    path : str or path
        ``.safetensors`` or ``.npz``.
    device : str
        Where the layer is to be.

    Returns
    -------
    Recurrent or Quantized
        `LSTM`, `GRU`, `RNN`, `Recurrent` or `Quantized`. Dropout masks come from a new seed.

    Raises
    ------
    ValueError
        Another suffix; or the file is truncated, damaged, or not what `save` writes.
    ImportError
        A .safetensors file without the package: ``pip install "fastrnn[safetensors]"``.
    OSError
        The system's reason; also where `path` is a device or a pipe.
    TypeError, RuntimeError, MemoryError
        As the constructor of the layer.
    NotImplementedError
        A quantized layer for a GPU.
    """
    place, suffix = check_path("load", path)
    _engine.check_device("load", device)
    try:
        with _files.open_regular(place) as file:
            description, arrays = (_npz if suffix == ".npz" else _safetensors)(file)
    except MemoryError:
        raise
    except _files.NOT_WHOLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"[load] {place}: {reason.removeprefix('[load] ')}") from None
    layer = _built(description, device)
    layer.load_state_dict(arrays)
    return layer


_Found = tuple[Description, dict[str, np.ndarray]]


def _npz(file: BinaryIO) -> _Found:
    archive = _files.Npz(file)
    description = _described(archive.text(HEADER, _MAX_TEXT))
    members = {name: member for name, member in archive.members.items() if name != HEADER}
    _compare(description, members, lambda name: np.dtype(npz_dtype(description.dtype_of(name))))

    def read(name: str) -> np.ndarray:
        return archive.read(name).view(_dtypes.numpy_dtype(description.dtype_of(name)))

    return description, {name: read(name) for name in members}


def _safetensors(file: BinaryIO) -> _Found:
    contents = _files.SafeTensors(file)
    text = contents.metadata.get(HEADER)
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        raise ValueError(f"__metadata__ must have a text {HEADER!r}, as a saved layer's, got none")
    description = _described(text)
    _compare(
        description,
        contents.members,
        lambda name: _dtypes.numpy_dtype(description.dtype_of(name)),
    )
    return description, contents.arrays()


# ---- checks --------------------------------------------------------------------------------------


def _described(text: str) -> Description:
    """The description of a file, each field checked for itself."""
    found = _files.json_object(text)
    version = found.get("format")
    if type(version) is not int or version != FORMAT:
        raise ValueError(f"format must be {FORMAT}, got {reprlib.repr(version)}")
    defaults = {field.name: field.default for field in dataclasses.fields(Description)}
    found = {k: v for k, v in defaults.items() if v is not dataclasses.MISSING} | found
    if set(found) != set(defaults):
        raise ValueError(f"the header must have {list(defaults)}, got {reprlib.repr(list(found))}")
    for field in dataclasses.fields(Description):
        name, kind = field.name, field.type
        if type(found[name]).__name__ != kind:  # True is no size, 1 no option
            raise ValueError(f"{name} must be of type {kind}, got {reprlib.repr(found[name])}")
    description = Description(**found)
    for name in ("input_size", "hidden_size", "num_layers"):
        _arguments.size("load", name, found[name])
    _arguments.probability("load", description.dropout)
    _arguments.projection("load", description.proj_size)
    _check_names(description)
    return description


def _check_names(description: Description) -> None:
    """Cell, class and dtype are there, and the class has the cell."""
    cells = [cell["name"] for cell in _native.engine.cells()]
    dtypes = (*_dtypes.WIDE, *_dtypes.NARROW)
    found = _cell_names.find(description.cell)
    if found is not None and str(found) != description.cell:
        raise ValueError(f"cell must be written as {str(found)!r}, got {description.cell!r}")
    for name, value, known in (
        ("cell", description.cell, [description.cell] if found else cells),
        ("layer", description.layer, LAYERS),
        ("dtype", description.dtype, dtypes),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {reprlib.repr(value)}")
    own = (found.base if found else description.cell).partition("_")[0].upper()
    if description.weights:
        if (description.layer, description.dtype) != ("Quantized", "float32"):
            got = f"{description.layer!r} of {description.dtype}"
            raise ValueError(f"layer must be 'Quantized' of float32, got {got}")
        _schemes.check("load", description.weights)
        if description.dropout:
            raise ValueError(f"dropout must be 0.0 for 'Quantized', got {description.dropout}")
    elif description.layer not in (own, "Recurrent"):
        raise ValueError(f"layer must be {own!r} or 'Recurrent', got {description.layer!r}")


def _compare(
    description: Description, members: _Members, dtype_of: Callable[[str], np.dtype]
) -> None:
    """The file has the parameters of its description, and nothing else."""
    directions = 2 if description.bidirectional else 1
    first = dataclasses.replace(description, num_layers=1)
    count = description.num_layers * len(_shapes(first, directions))
    if len(members) != count:  # before they are listed, which a hostile number may forbid
        raise ValueError(f"arrays must be {count}, got {len(members)}")
    for name, shape in _shapes(description, directions):
        if name not in members:
            raise ValueError(f"{name} must be there, got none")
        dtype = dtype_of(name)
        if members[name] != (tuple(shape), dtype):
            found, other = members[name]
            raise ValueError(f"{name} must be {dtype} {tuple(shape)}, got {other} {found}")


def _shapes(description: Description, directions: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all parameters, by the engine; they are the same for every dtype."""
    try:
        return _native.engine.Weights(
            description.cell,
            description.weights or _dtypes.WIDE[0],
            description.num_layers,
            directions,
            description.input_size,
            description.hidden_size,
            description.bias,
            description.proj_size,
        ).parameters
    except (MemoryError, NotImplementedError) as error:  # no cell but the LSTM has a projection
        raise ValueError(str(error)) from None


def _built(description: Description, device: str) -> layers.Recurrent | quantized.Quantized:
    """A layer of the description, with parameters of its own."""
    if description.weights:
        if device != "cpu":
            raise NotImplementedError(
                f"[load] device of quantized layers must be 'cpu', got {device!r}"
            )
        return quantized.Quantized(description.cell, **description.options)
    layer: type[layers.Recurrent] = getattr(layers, description.layer)
    own = layer._cell_options(description.cell)
    made = layer(**own, **description.options, device=device)
    if made.cell != description.cell:  # each direction of an RNN has a function of its own
        raise ValueError(f"[load] layer must be 'Recurrent' for {made.cell!r}, got 'RNN'")
    return made
