"""A plugin of pytest: fastrnn's layers wherever Keras's own tests find Keras's.

At the end it writes what the engine served, as JSON, to the file that FASTRNN_CALLS names.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras.src.layers.rnn.bidirectional
import keras.src.layers.rnn.gru
import keras.src.layers.rnn.lstm
import keras.src.layers.rnn.rnn
import keras.src.layers.rnn.simple_rnn

import fastrnn.keras

PACKAGE = keras.src.layers.rnn
PLACES: dict[str, list[Any]] = {
    "SimpleRNN": [keras.layers, keras.src.layers, PACKAGE.simple_rnn],
    "LSTM": [keras.layers, keras.src.layers, PACKAGE.lstm, PACKAGE.bidirectional],
    "GRU": [keras.layers, keras.src.layers, PACKAGE.gru, PACKAGE.bidirectional],
    "RNN": [keras.layers, keras.src.layers, PACKAGE.rnn],
}

for name, places in PLACES.items():
    theirs, ours = getattr(keras.layers, name), getattr(fastrnn.keras, name)
    for place in places:
        assert getattr(place, name) is theirs
        setattr(place, name, ours)


def pytest_sessionfinish() -> None:
    calls = asdict(fastrnn.keras.report())
    Path(os.environ["FASTRNN_CALLS"]).write_text(json.dumps(calls), encoding="utf-8")
