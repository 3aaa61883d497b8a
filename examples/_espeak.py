"""Speech of eSpeak NG as NumPy arrays, by the C library inside the package `espeakng-loader`.

eSpeak NG and the package are under the GPL-3. A voice is a language with a variant, such as
``"en-us+f3"``; the variants are the files of the folder ``voices/!v`` in the package's data.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from _program import packages

with packages():
    import espeakng_loader
    import numpy as np

# Of espeak_ng/speak_lib.h.
SYNCHRONOUS, DONT_EXIT, CHARACTERS, UTF8 = 2, 0x8000, 1, 1
RATE, PITCH = 1, 3
Receiver = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Synthesiser:
    """The C library, which has one state for the whole process: make one of these.

    Parameters
    ----------
    seed : int
        Of the random numbers in breath and flutter.

    Attributes
    ----------
    rate : int
        Samples a second.
    variants : list of str
        Names of the variants.
    """

    def __init__(self, seed: int) -> None:
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        data = Path(espeakng_loader.get_data_path())
        self.variants = sorted(file.name for file in (data / "voices" / "!v").iterdir())
        self.rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), DONT_EXIT)
        if self.rate < 0:
            raise RuntimeError("eSpeak NG does not start")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._pieces: list[np.ndarray] = []
        self._receiver = Receiver(self._receive)  # kept: the library holds a bare pointer to it
        self._library.espeak_SetSynthCallback(self._receiver)

    def _receive(self, samples, count: int, events) -> int:
        if samples and count:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0  # go on

    def say(self, text: str, voice: str, words_a_minute: int = 175, pitch: int = 50) -> np.ndarray:
        """The sound of a text, (samples,) of float32 within -1 and 1; pitch is 0 to 100."""
        _, _, variant = voice.partition("+")
        # Of a variant that it does not have, the library says nothing, and speaks without it.
        unknown = variant and variant not in self.variants
        if unknown or self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"eSpeak NG has no voice {voice!r}")
        self._library.espeak_SetParameter(RATE, words_a_minute, 0)
        self._library.espeak_SetParameter(PITCH, pitch, 0)
        self._pieces.clear()
        characters = text.encode()
        size = ctypes.c_size_t(len(characters) + 1)
        if self._library.espeak_Synth(characters, size, 0, CHARACTERS, 0, UTF8, None, None):
            raise RuntimeError(f"eSpeak NG does not say {text!r}")
        return np.concatenate(self._pieces).astype(np.float32) / 32768
