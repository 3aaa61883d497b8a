"""What the modules of all libraries have in common: a layer's options, its parameters, its call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ... import _arguments
from .._functional import State, init, recurrent


@dataclass(frozen=True)
class Layer:
    """A stack of layers but for its parameters; hashable, so that modules keep it as static data.

    Parameters
    ----------
    cell : str
        As in `fastrnn.jax.recurrent`.
    input_size, hidden_size, num_layers : int
    bias, batch_first, bidirectional : bool
    dropout : float
        The probability of a zero in what goes from layer to layer.
    proj_size : int
    dtype : dtype
        Of the parameters, float32 or float64.
    """

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        _arguments.probability(self.cell, self.dropout)

    def init(self, key: Any) -> dict[str, jax.Array]:
        """Draw the parameters; raises what `fastrnn.jax.init` raises."""
        return init(
            key,
            self.cell,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            bias=self.bias,
            bidirectional=self.bidirectional,
            proj_size=self.proj_size,
            dtype=self.dtype,
        )

    @property
    def drops(self) -> bool:
        """Whether there is anything to drop."""
        return self.dropout > 0 and self.num_layers > 1

    def __call__(
        self, params: Any, x: Any, state: State, key: Any, options: dict[str, Any]
    ) -> tuple[jax.Array, State]:
        """Run the layers, with dropout where there is a key."""
        if key is not None and self.drops:
            options = {**options, "dropout_masks": self._masks(key, x)}
        return recurrent(self.cell, x, params, state, batch_first=self.batch_first, **options)

    def _masks(self, key: Any, x: Any) -> list[jax.Array]:
        width = (self.proj_size or self.hidden_size) * (2 if self.bidirectional else 1)
        keep = 1.0 - self.dropout
        shape = (self.num_layers - 1, *x.shape[:-1], width)
        kept = jax.random.bernoulli(key, keep, shape)
        return list(jnp.where(kept, 1.0 / keep if keep else 0.0, 0.0).astype(x.dtype))
