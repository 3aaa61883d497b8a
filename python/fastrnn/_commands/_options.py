"""Rules of options that several commands have."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastrnn
from fastrnn._user_error import UserError

if TYPE_CHECKING:
    # What a parser is added to.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def at_least(given: Mapping[str, Any], least: int, *names: str) -> None:
    """Refuse a given number below `least` (0 or 1)."""
    rule = "a positive integer" if least else "an integer >= 0"
    for name in names:
        value = given.get(name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be {rule}, got {value}")


def writable(option: str, path: Path) -> None:
    """Refuse a place that cannot be written, before the work and not after it."""
    folder = path.absolute().parent
    if path.is_dir():
        raise UserError(f"{option} must be a file, got the folder {path}")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{option} must be in a folder that can be written, got {path}")
    if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
        raise UserError(f"{option} must be a file that can be written, got {path}")


def use_threads(given: Mapping[str, Any]) -> None:
    if "threads" not in given:
        return
    try:
        fastrnn.set_num_threads(given["threads"])
    except ValueError as error:
        rule = str(error).partition(" n ")[2]
        raise UserError(f"--threads {rule}") from None
