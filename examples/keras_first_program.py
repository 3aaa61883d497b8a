"""The first recurrent program of many a course in Keras, on Keras's layers or on fastrnn's.

It reads the handwritten digits of scikit-learn (8 by 8 pixels, from the UCI repository) as
sequences, once row by row and once pixel by pixel, with two `SimpleRNN` layers of 64 units in a
`keras.Sequential`, and tells which digit each is. Whose layers, ``--layers`` says: one import
differs, and the lines with loss and accuracy are the same. Keras's backend is that of the variable
KERAS_BACKEND: torch, jax or tensorflow. Run it with ``python examples/keras_first_program.py``.
"""

from __future__ import annotations

import argparse
import sys
import time

from _program import packages, positive, seed

with packages("examples,keras"):
    import keras
    import numpy as np
    from sklearn.datasets import load_digits

TRAINING = 1500  # of 1,797 digits; the others are the test
READ_AS = {"rows of 8": (8, 8), "single pixels": (64, 1)}  # T and I


def main(argv: list[str] | None = None) -> dict[str, tuple[float, float]]:
    """Train both models; return the loss and the accuracy of each on the test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", choices=("fastrnn", "keras"), default="fastrnn")
    parser.add_argument("--epochs", type=positive, default=10)
    parser.add_argument("--seed", type=seed, default=0)
    options = parser.parse_args(argv)
    if keras.backend.backend() == "numpy":
        sys.exit("Keras trains nothing on NumPy; set KERAS_BACKEND to torch, jax or tensorflow")

    if options.layers == "fastrnn":
        from fastrnn.keras import SimpleRNN
    else:
        from keras.layers import SimpleRNN

    images, digits = load_digits(return_X_y=True)
    images = images.astype(np.float32) / 16
    found = {}
    for name, (T, I) in READ_AS.items():
        keras.utils.set_random_seed(options.seed)
        x = images.reshape(-1, T, I)
        model = keras.Sequential(
            [
                SimpleRNN(64, return_sequences=True, input_shape=(None, I)),
                SimpleRNN(64),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        start = time.perf_counter()
        model.fit(x[:TRAINING], digits[:TRAINING], epochs=options.epochs, verbose=2)
        seconds = time.perf_counter() - start
        loss, accuracy = model.evaluate(x[TRAINING:], digits[TRAINING:], verbose=0)
        print(f"{name}: loss {loss:.4f}, accuracy {accuracy:.4f}, {seconds:.1f} s of training")
        found[name] = loss, accuracy
    return found


if __name__ == "__main__":
    main()
