"""Reading .npz files, by their headers first.

``np.load`` makes an array of whatever shape a header claims. Here a member is known by what the
archive holds of it: members are stored as ``np.savez`` stores them, without compression, so that
all of them together are no larger than the file.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import math
import os
import re
import reprlib
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

_MAX_NPY_HEADER = 4096  # np.save's own have 118 bytes
_DESCR = re.compile(r"[<>|][biufcU][1-9][0-9]{0,8}")  # no objects, which are pickled


class Npz:
    """The members of an .npz file.

    Parameters
    ----------
    file : binary file
        Open as long as arrays are read.

    Attributes
    ----------
    members : dict
        Shape and dtype of each array by its name.

    Raises
    ------
    ValueError and what else `NOT_WHOLE` lists
        It is no such file, members are compressed, of Python's objects, named twice, or do not have
        the bytes that their headers claim.
    """

    def __init__(self, file: BinaryIO) -> None:
        try:
            with _offsets_in_the_file():
                self._archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile:
            raise ValueError("not an .npz file") from None
        self._infos = _infos(self._archive, os.fstat(file.fileno()).st_size)
        self._headers = {
            name: _header(self._archive, name, info) for name, info in self._infos.items()
        }
        self.members = {
            name: (shape, dtype) for name, (shape, dtype, _, _) in self._headers.items()
        }

    def read(self, name: str) -> np.ndarray:
        """A member as an array; its checksum is compared."""
        if name not in self._headers:
            raise ValueError(f"{name} must be there, got none")
        shape, dtype, fortran, start = self._headers[name]
        with _offsets_in_the_file(), self._archive.open(self._infos[name]) as member:
            member.read(start)
            data = member.read()
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} must have the bytes of its shape, got {len(data)}")
        flat: np.ndarray = np.frombuffer(data, dtype).copy()
        return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)

    def text(self, name: str, most: int) -> str:
        """A member that is a text of at most so many characters."""
        shape, dtype = self.members.get(name, ((), np.dtype(object)))
        if name not in self.members or shape != () or dtype.kind != "U":
            raise ValueError(f"{name} must be a text, got none")
        if dtype.itemsize > 4 * most:
            raise ValueError(f"{name} must have at most {most} characters, got more")
        return str(self.read(name))


@contextlib.contextmanager
def _offsets_in_the_file() -> Iterator[None]:
    """The system refuses to go to a place before a file's beginning, which a damaged file asks."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ValueError("offsets must be in the file, got others") from None


_Header = tuple[tuple[int, ...], np.dtype, bool, int]  # and whether in Fortran's order, and its end


def _infos(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by name, which together are in the file."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in found:
            raise ValueError(f"members must be distinct arrays, got {info.filename[:40]!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"members must be stored without compression, got {name[:40]!r}")
        found[name] = info
    if sum(info.file_size for info in found.values()) > size:
        raise ValueError("members must be in the file, got more bytes than it has")
    return found


def _header(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> _Header:
    """What a member's header says, where its bytes are as many as it says."""
    with _offsets_in_the_file(), archive.open(info) as member:
        start = member.read(10)
        length = int.from_bytes(start[8:], "little")
        if start[:8] != b"\x93NUMPY\x01\x00" or length > _MAX_NPY_HEADER:
            raise ValueError(f"{name[:40]!r} must be a plain array, got another header")
        shape, fortran, dtype = _parsed(name, member.read(length))
    if 10 + length + math.prod(shape) * dtype.itemsize != info.file_size:
        raise ValueError(f"{name[:40]!r} must have the bytes of its shape, got {str(shape)[:40]}")
    return shape, dtype, fortran, 10 + length


def _parsed(name: str, text: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and dtype.

    NumPy's own parser also takes what Python 2 wrote, and warns or fails in its tokenizer.
    """
    try:
        header = ast.literal_eval(text.decode("latin-1").strip())
        descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
        if not _DESCR.fullmatch(descr) or type(shape) is not tuple or len(header) != 3:
            raise ValueError
        dtype = np.dtype(descr)
        if type(fortran) is not bool or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError):
        got = reprlib.repr(text)
        raise ValueError(f"{name[:40]!r} must be a plain array of numbers, got {got}") from None
    return shape, fortran, dtype
