"""Files of arrays and one header of JSON: written whole or not at all, read with suspicion.

A file may come from anybody. So a reader first takes in what the file says of itself, which costs
no more than the header, and gives arrays only when asked; nothing that a file claims is allocated
before the file has been seen to hold it.
"""

from __future__ import annotations

import struct
import zipfile
import zlib

from ._json import json_object
from ._npz import Npz
from ._safetensors import SafeTensors, write_safetensors
from ._whole import open_regular, write_whole

__all__ = [
    "NOT_WHOLE",
    "Npz",
    "SafeTensors",
    "json_object",
    "open_regular",
    "write_safetensors",
    "write_whole",
]

# All that zipfile, NumPy, json and the checks of the readers raise for other bytes.
NOT_WHOLE = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    MemoryError,
    OverflowError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
