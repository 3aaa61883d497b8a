"""Modules around `fastrnn.jax`: `fastrnn.jax.nn.flax` for Flax NNX, `fastrnn.jax.nn.equinox`.

Each has `RNN`, `LSTM` and `GRU`, and `Recurrent` for any cell. They hold parameters by torch's
names and call `fastrnn.jax.recurrent`; nothing else is in them.
"""
