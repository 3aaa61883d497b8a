"""Packages out of a registry, installed into a folder of their own, and their code in part.

Nothing that these packages need comes with them, so most cannot be imported; a class out of one of
their modules can.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ALONE = ["--no-deps", "--no-compile", "--quiet", "--disable-pip-version-check", "--no-input"]


class Unavailable(Exception):
    """A package cannot be had; the text says why."""


def install(requirement: str, folder: Path) -> Path:
    """Have pip install one package, without what it needs, into a folder of that name.

    A folder that is there already is taken as it is.

    Parameters
    ----------
    requirement : str
        ``name==version``.
    folder : path
        Where the folder is made.

    Returns
    -------
    path
        What would be an entry of ``sys.path``.

    Raises
    ------
    Unavailable
        pip is missing or failed.
    """
    target = folder / requirement
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            new = Path(scratch) / "new"
            command = [sys.executable, "-m", "pip", "install", *ALONE, "--target", str(new)]
            done = subprocess.run([*command, requirement], capture_output=True, text=True)
            if done.returncode:
                raise Unavailable(f"pip install --no-deps {requirement}: {reason(done.stderr)}")
            new.rename(target)
    return target


def reason(text: str) -> str:
    """The last line of an error of pip's that says something."""
    lines = [line for line in text.splitlines() if line.startswith("ERROR: ")]
    return lines[-1].removeprefix("ERROR: ") if lines else "it failed"


def imported(folder: Path, name: str) -> ModuleType:
    """Import a module of an installed package."""
    with on_path(folder):
        return importlib.import_module(name)


@contextlib.contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """Have Python look for modules in a folder first."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def class_of(file: Path, name: str, **names: Any) -> type:
    """A class out of a module that cannot be imported, made from its own source alone.

    Parameters
    ----------
    file : path
        The module.
    name : str
        The class.
    **names
        What the class asks for of its module's names.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how the module is written
        tree = ast.parse(file.read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    names |= {"__name__": file.stem, "__file__": str(file)}
    # As in this module, whose setting the compiler takes over, annotations stay text: they may name
    # what is not there.
    exec(compile(ast.Module([found], type_ignores=[]), str(file), "exec"), names)
    return names[name]
