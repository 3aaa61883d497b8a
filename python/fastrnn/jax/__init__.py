"""The engine under JAX: `lstm`, `gru`, `rnn` and `recurrent` as pure functions of a parameter tree.

The fused kernels run through XLA's foreign function interface, under ``jit``, ``grad``, ``vmap``,
``scan``, ``remat``, ``shard_map`` and ``jax.export``. Derivatives that have no kernel, in forward
mode and of second and higher order, are computed by JAX's own operations with the same equations.
`fastrnn.jax.nn` has modules for Flax and Equinox.

`TARGETS` are the names of our calls in compiled programs, which `jax.export` asks for.
"""

try:
    import jax
    import jaxlib.version
except ImportError as error:
    raise ImportError(
        "[jax] fastrnn.jax needs JAX 0.6 or newer: pip install 'fastrnn[jax]'"
    ) from error

from . import _jaxlib

_jaxlib.require_supported(jaxlib.version.__version__, jax.ffi.include_dir())

from ._functional import gru, init, lstm, recurrent, rnn  # noqa: E402
from ._handlers import TARGET  # noqa: E402

TARGETS = (TARGET,)

__all__ = ["TARGETS", "gru", "init", "lstm", "recurrent", "rnn"]
