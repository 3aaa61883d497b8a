"""The checkpoint of a run: one .npz file of plain arrays and a header of JSON.

====================  =========================================================================
``config``            the header: format, version, config, vocabulary, hash of the text, step,
                      and how many times the layer has drawn dropout masks
``layer.NAME``        parameters, as `state_dict` names them; likewise ``head.`` and, of its
                      moments and its step, ``optimizer.``; what is of 16 bits in float32, since
                      NumPy's files do not know bfloat16
``state.0, state.1``  the state that the next window starts from; none before the first step
``history.train``     the loss of each step
``history.valid``     (step, loss) of each validation
====================  =========================================================================
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

import fastrnn

from .. import _dtypes, _files
from .._user_error import UserError
from ._data import Array, Vocabulary
from ._model import Config, State

if TYPE_CHECKING:
    from . import Run

_FORMAT = 1


def write(run: Run, path: Path, keep: bool) -> None:
    """Write a temporary file beside `path`; with `keep` it then takes that place."""
    arrays = _arrays_of(run)
    try:
        _files.write_whole(path, lambda file: np.savez(file, **arrays), keep)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", code=1) from None


def read(make: type[Run], path: Path) -> Run:
    """The run of a checkpoint; a `UserError` says what is wrong with another file."""
    try:
        with _files.open_regular(path) as file:
            return _run_of(make, _load(file))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (UserError, *_files.NOT_WHOLE) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a whole fastrnn checkpoint: {reason}") from None


def _arrays_of(run: Run) -> dict[str, Any]:
    header = {
        "format": _FORMAT,
        "fastrnn": fastrnn.__version__,
        "config": dataclasses.asdict(run.config),
        "vocabulary": run.model.vocabulary.characters,
        "text_sha256": run.text_hash,
        "step": run.step,
        # The rest of the layer's random state follows from the seed of the config.
        "dropout_draws": run.model.layer.random_state["draws"],
    }
    arrays: dict[str, Any] = {"config": json.dumps(header)}
    for prefix, module in _modules_of(run).items():
        arrays.update((f"{prefix}.{k}", _stored(v)) for k, v in module.state_dict().items())
    if run.state is not None:
        parts = run.state if isinstance(run.state, tuple) else (run.state,)
        arrays.update((f"state.{i}", _stored(part)) for i, part in enumerate(parts))
    arrays["history.train"] = np.array(run.train_losses, np.float64)
    arrays["history.valid"] = np.array(run.valid_losses, np.float64).reshape(-1, 2)
    return arrays


def _stored(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype.name in _dtypes.NARROW else array


def _load(file: BinaryIO) -> dict[str, Array]:
    archive = _files.Npz(file)
    return {name: archive.read(name) for name in archive.members}


def _run_of(make: type[Run], arrays: dict[str, Array]) -> Run:
    header = _files.json_object(str(arrays["config"]))
    if header["format"] != _FORMAT:
        raise ValueError("another format of checkpoint")
    config, characters = Config(**header["config"]), header["vocabulary"]
    _check_sizes(config, characters, arrays)

    run = make(config, Vocabulary(characters), header["text_sha256"])
    for prefix, module in _modules_of(run).items():
        module.load_state_dict(_part(arrays, prefix))
    layer = run.model.layer
    layer.random_state = {**layer.random_state, "draws": header["dropout_draws"]}
    run.step = header["step"]
    train, valid = arrays["history.train"], arrays["history.valid"]
    if train.shape != (run.step,) or valid.shape[1:] != (2,) or train.dtype != valid.dtype:
        raise ValueError("step and history differ")
    run.train_losses = train.tolist()
    run.valid_losses = [(int(step), loss) for step, loss in valid.tolist()]
    run.state = _state_of(config, run.step, _part(arrays, "state"))
    return run


def _modules_of(run: Run) -> dict[str, Any]:
    """All that has a `state_dict`, by the prefix of its arrays."""
    return {**run.model.modules, "optimizer": run.optimizer}


def _part(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    start = prefix + "."
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def _check_sizes(config: Config, characters: Any, arrays: dict[str, Array]) -> None:
    """Refuse sizes that the parameters do not have, before a layer of that size is made."""
    if not isinstance(characters, str) or not 0 < len(characters) == len(set(characters)):
        raise ValueError("vocabulary must be distinct characters")
    last = arrays[f"layer.weight_hh_l{config.layers - 1}"].shape
    first = arrays["layer.weight_ih_l0"].shape
    if last[-1:] != (config.hidden,) or first[-1:] != (len(characters),):
        raise ValueError("sizes of config and parameters differ")


def _state_of(config: Config, step: int, named: dict[str, Array]) -> State:
    state = [v for _, v in sorted(named.items())]
    shape = (config.layers, config.batch, config.hidden)
    count = 0 if step == 0 else 2 if config.cell == "lstm" else 1
    if len(state) != count or any(s.shape != shape or s.dtype != np.float32 for s in state):
        raise ValueError(f"state must be {count} arrays of float32 {shape}")
    if not state:
        return None
    state[0] = state[0].astype(_dtypes.numpy_dtype(config.dtype))  # h
    return tuple(state) if config.cell == "lstm" else state[0]
