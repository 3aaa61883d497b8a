"""For reinforcement learning: whole rollouts in one call, with episodes that start inside them.

Imported explicitly, ``import fastrnn.torch.rl``; needs PyTorch only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._modules import not_a_tensor
from ._quantized import Quantized
from ._recurrent import Recurrent

__all__ = ["unroll"]


def unroll(layer: torch.nn.Module, x: Tensor, state: Any, starts: Tensor) -> tuple[Tensor, Any]:
    """Run a layer over steps among which episodes start, in place of a loop over the steps.

    Values and gradients are those of this loop, with ``h`` alone as the state of an RNN and a GRU::

        for x_t, start in zip(x, starts):
            alive = (1.0 - start).view(1, -1, 1)
            y_t, (h, c) = layer(x_t[None], (alive * h, alive * c))

    So a start is that of the step whose input is the first of the new episode, not of the last step
    of the old one. It forgets what came before, the given state too where it is at the first step,
    and no gradient crosses it. What is forgotten is replaced, not multiplied: a NaN goes, too.

    Parameters
    ----------
    layer : fastrnn.torch.RNN, LSTM, GRU or Quantized
        In one direction; with any number of layers.
    x : Tensor
        ``(T, B, I)``, with `batch_first` ``(B, T, I)``, or ``(T, I)``; T and B may be 0.
    state : Tensor or tuple of Tensor, or None
        Before the first step, ``(L, B, H)`` or ``(L, H)``; for the LSTM a pair of them. None for
        zeros.
    starts : Tensor
        As `x` without its last dimension, of any dtype: an episode starts at the steps that are not
        0. Of any strides.

    Returns
    -------
    y : Tensor
        As `x`, with H in the last place.
    state : Tensor or tuple of Tensor
        After the last step.

    Raises
    ------
    TypeError
        `layer` is not fastrnn's (`fastrnn.torch.accelerate` makes torch's so), or `x` or `starts`
        is not a tensor.
    ValueError
        `layer` is bidirectional: what comes later in a rollout is not known yet.
    RuntimeError
        `starts` does not have the shape of the steps; and whatever the layer itself raises.

    Notes
    -----
    The loop is that of ``RecurrentActorCriticPolicy._process_sequence`` in sb3-contrib, where rows
    lie one after the other, ``(B * T, I)``, and of ``get_states`` in CleanRL's ``ppo_atari_lstm``,
    where steps do, ``(T * B, I)``.
    """
    if not isinstance(layer, (Recurrent, Quantized)):
        got = f"{type(layer).__module__}.{type(layer).__qualname__}"
        raise TypeError(f"[rl] layer must be a layer of fastrnn.torch, got {got}")
    if layer.bidirectional:
        raise ValueError("[rl] layer must have one direction, got a bidirectional one")
    for name, value in (("x", x), ("starts", starts)):
        if not isinstance(value, Tensor):
            raise not_a_tensor("rl", name, value)
    if starts.shape != x.shape[:-1]:
        raise RuntimeError(
            f"[rl] starts must have shape {tuple(x.shape[:-1])}, got {tuple(starts.shape)}"
        )
    y, final = layer(x, state, resets=starts != 0)
    return y, final
