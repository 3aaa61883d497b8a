"""The smallest character model: learn "ello" from "hell".

After "l" comes once another "l" and once "o", so the letter alone does not tell what follows: the
layer has to remember what it has read. Run it with ``python examples/hello.py``.
"""

import numpy as np

import fastrnn
from fastrnn.training import Adam, LinearCrossEntropy

LETTERS = "ehlo"


def main() -> str:
    """Train on the one word and return what the model reads out of "hell"."""
    ids = np.array([LETTERS.index(c) for c in "hello"])
    x = np.eye(len(LETTERS), dtype=np.float32)[ids[:-1, None]]  # "hell", one-hot: (T, B, I)
    targets = ids[1:, None]  # "ello": (T, B)

    layer = fastrnn.LSTM(input_size=len(LETTERS), hidden_size=8, seed=0)
    head = LinearCrossEntropy(hidden_size=8, num_classes=len(LETTERS), seed=1)
    optimizer = Adam([layer, head], lr=0.05)
    for step in range(100):
        y, _, tape = layer.forward(x)
        loss, dy, head_grads = head.loss_and_grad(y, targets)
        _, _, layer_grads = layer.backward(tape, dy)
        optimizer.step([layer_grads, head_grads])
        if step % 20 == 0:
            print(f"step {step:3}  loss {loss:.4f}")

    y, _ = layer(x)
    answer = "".join(LETTERS[i] for i in head(y).argmax(axis=-1)[:, 0])
    print(f"hell -> {answer}")
    return answer


if __name__ == "__main__":
    main()
