"""A model out of a file, bytes or a ModelProto. Nothing in it is executed here.

Weights may stand in files beside the model. They are looked for in the model's folder alone, links
followed, and their bytes counted before anything is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from .._files._whole import open_regular


def read(model: Any) -> onnx.ModelProto:
    """A model with its weights, and without functions of its own, which are put in their places.

    Parameters
    ----------
    model : str, Path, bytes or onnx.ModelProto
        A ModelProto stays as it is.

    Raises
    ------
    ValueError
        It is no model, or external data are not there, too short, or outside the model's folder.
    TypeError
        It is of none of these types.
    OSError
        The file cannot be read.
    """
    folder = None
    if isinstance(model, (str, os.PathLike)):
        folder = Path(model).absolute().parent
        with open_regular(Path(model)) as file:
            found = _parsed(file.read(), f"{os.fspath(model)}")
    elif isinstance(model, bytes):
        found = _parsed(model, f"{len(model)} bytes")
    elif isinstance(model, onnx.ModelProto):
        found = model
    else:
        raise TypeError(
            f"[onnx] model must be a path, bytes or an onnx.ModelProto, got {type(model).__name__}"
        )
    if not found.graph.node or not found.opset_import:
        raise ValueError("[onnx] model must have nodes and say its opset, got none")
    _load_external(found, folder)
    return onnx.inliner.inline_local_functions(found) if found.functions else found


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def bodies(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """The graphs inside a node, with their attributes' names."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from ((attribute.name, graph) for graph in attribute.graphs)


def _parsed(data: bytes, source: str) -> onnx.ModelProto:
    try:
        found: onnx.ModelProto = onnx.ModelProto.FromString(data)
        return found
    except DecodeError:
        raise ValueError(f"[onnx] model must be one of ONNX, got {source}") from None


def _load_external(model: onnx.ModelProto, folder: Path | None) -> None:
    """Read what stands in other files, after a look at each of them."""
    external = [tensor for tensor in _tensors(model) if uses_external_data(tensor)]
    if not external:
        return
    if folder is None:
        raise ValueError(
            "[onnx] model with external data must be given by its path, "
            f"got tensor {external[0].name!r} in a file"
        )
    for tensor in external:
        _check_external(tensor, folder)
    try:
        load_external_data_for_model(model, str(folder))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ValueError(f"[onnx] external data must be valid, got {error}") from None


def _check_external(tensor: onnx.TensorProto, folder: Path) -> None:
    """One tensor's file: in the folder, regular, and long enough."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    location = told.get("location", "")
    root, path = os.path.realpath(folder), os.path.realpath(folder / location)
    if not location or os.path.isabs(location) or os.path.commonpath([root, path]) != root:
        raise ValueError(
            f"[onnx] external data of tensor {tensor.name!r} must be inside the model's folder, "
            f"got {location!r}"
        )
    try:
        status = os.stat(path)
        offset, length = int(told.get("offset", 0)), int(told.get("length", 0))
    except OSError:
        raise ValueError(
            f"[onnx] external data of tensor {tensor.name!r} must be there, got no file "
            f"{location!r}"
        ) from None
    except ValueError:
        raise ValueError(
            f"[onnx] external data of tensor {tensor.name!r} must have offset and length as "
            f"numbers, got {told}"
        ) from None
    if not stat.S_ISREG(status.st_mode) or min(offset, length) < 0:
        raise ValueError(
            f"[onnx] external data of tensor {tensor.name!r} must be in a regular file, at no "
            f"negative place, got {told}"
        )
    if offset + length > status.st_size:
        raise ValueError(
            f"[onnx] external data of tensor {tensor.name!r} must end within the file of "
            f"{status.st_size} bytes, got {told}"
        )


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _tensors_of_node(node)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield attribute.t
        yield from attribute.tensors
    for _, graph in bodies(node):
        yield from _tensors_of_graph(graph)
