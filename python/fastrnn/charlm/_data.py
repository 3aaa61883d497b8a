"""Text, and what a model reads of it: characters as numbers, in windows of parallel streams."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._user_error import UserError

Array = npt.NDArray[Any]


def load_text(path: str | os.PathLike[str] | None) -> str:
    """The text of a UTF-8 file, or with None the English help texts that come with Python.

    The help texts share many paragraphs; each is kept once, so that the part held out for
    validation is not seen in training.

    Raises
    ------
    UserError
        A file that is missing, unreadable or not UTF-8; a Python without its help texts.
    """
    if path is None:
        try:
            topics = importlib.import_module("pydoc_data.topics").topics
        except ImportError:
            raise UserError(
                "this Python comes without pydoc_data.topics; give a text with --text FILE"
            ) from None
        everything = "\n\n".join(topics[name] for name in sorted(topics))
        return "\n\n".join(dict.fromkeys(p.strip("\n") for p in everything.split("\n\n")))
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


class Vocabulary:
    """The characters of a text, sorted, and their numbers.

    Parameters
    ----------
    characters : str
        Distinct characters; the number of one is its place.
    """

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._number = {c: i for i, c in enumerate(characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Array:
        """Numbers of the characters of `text`, (len(text),) int64.

        Raises
        ------
        UserError
            A character that is not in the vocabulary.
        """
        unknown = sorted(set(text) - self._number.keys())
        if unknown:
            shown = " ".join(repr(c) for c in unknown[:10])
            raise UserError(f"not in the vocabulary of this model: {shown}")
        return np.fromiter((self._number[c] for c in text), np.int64, len(text))

    def default_prompt(self) -> str:
        """A prompt that every text of this vocabulary could hold."""
        return "The " if set("The ") <= self._number.keys() else self.characters[0]


class Streams:
    """A text cut into B pieces that are read side by side.

    Parameters
    ----------
    ids : (N,)
        Numbers of the characters.
    batch : int
        B. Each piece has ``(N - 1) // B`` steps; the remainder of the text is not used.

    Attributes
    ----------
    inputs, targets : (steps, B)
        A character and the one after it.
    """

    def __init__(self, ids: Array, batch: int) -> None:
        steps = max(0, len(ids) - 1) // batch
        self.inputs = ids[: steps * batch].reshape(batch, steps).T
        self.targets = ids[1 : steps * batch + 1].reshape(batch, steps).T

    def __len__(self) -> int:
        return len(self.inputs)

    def window(self, start: int, length: int) -> tuple[Array, Array]:
        """Inputs and targets of the steps [start, start + length), each (T, B)."""
        at = slice(start, start + length)
        return self.inputs[at], self.targets[at]
