"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, write: Callable[[BinaryIO], None], keep: bool = True) -> None:
    """Write a temporary file beside `path`, which then takes that place, with its permissions.

    Whoever reads `path` meanwhile, or after a failure, has the file of before.

    Parameters
    ----------
    path : Path
    write : callable
        Gets the file.
    keep : bool
        Without it nothing takes the place: a rehearsal.

    Raises
    ------
    OSError
        The system's reason; EINVAL where `path` is a device or a pipe, which would be replaced.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    owner = f"{os.getpid()}.{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{owner}.tmp")
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        if keep:
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # of a name that no file can have
            temporary.unlink()


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read; a pipe, which would wait for a writer, or a device is refused.

    Raises
    ------
    OSError
        The system's reason, or EINVAL.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(path, "rb")
