"""What the layers of every cell are that can be trained: initial parameters, gradients, dropout."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _arguments, _arrays, _dropout, _engine, functional
from ._engine import FORWARD, Call
from ._stack import Stack
from .functional import Packed, State, Tape


class Recurrent(Stack):
    """A stack of layers of any cell of the registry.

    Parameters
    ----------
    cell : str
        A name of `fastrnn.build_info()["cells"]`, or one that `fastrnn.cell_name` makes.
    input_size, hidden_size : int
        I and H.
    num_layers : int
        L.
    bias : bool
        Whether there are ``bias_ih`` and ``bias_hh``.
    batch_first : bool
        Whether x and y are ``(B, T, .)``. Neither is copied for it.
    dropout : float
        Probability, in 0..1, of setting an output between layers to 0 in `forward`; calling the
        layer never drops.
    bidirectional : bool
        D = 2: a second direction reads from a row's last step to its first.
    dtype : str or dtype
        float32, float64, float16 or bfloat16; see `docs/architecture.md` on 16 bits.
    device : str
        ``"cpu"``, or ``"cuda"`` for the current GPU: parameters then are CuPy arrays, and calls
        take and give arrays of any library in that GPU's memory; see `fastrnn.cuda`.
    seed : int or numpy.random.SeedSequence, optional
        For the initial parameters (uniform within 1 / sqrt(H), as torch's) and the dropout masks;
        see `random_state`.
    recompute : bool or int
        Keep less for `backward` and make the rest anew there: with True the states alone, with k
        those after every k-th step; see `fastrnn.functional.forward`.
    reverse : bool
        Read each row from its last step to its first, as the second of two directions does; y
        stays in the order of time.
    proj_size : int
        P > 0 makes h of P values, a product ``W_hr v`` with what the cell gives, v, of H. The
        outputs, h and the columns of ``weight_hh`` then are P; other states stay H. Of LSTMs alone,
        as in torch; not of those with coupled gates.

    Raises
    ------
    NotImplementedError
        `proj_size` with another cell, or on a GPU; a cell without kernels for GPUs there.
    ValueError
        A size below 1, a probability outside 0..1, an unknown name.
    TypeError
        A dtype that the device has no kernels for, a size that is not an integer, an option that
        is neither True nor False.
    RuntimeError
        ``device="cuda"`` where there is no GPU, or no CuPy.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
        device: str = "cpu",
        seed: Any = None,
        recompute: bool | int = False,
        *,
        reverse: bool = False,
        proj_size: int = 0,
    ) -> None:
        self.cell = cell = _arguments.cell_name(cell)
        self.device = _engine.check_device(cell, device)
        self.dtype = _arguments.layer_dtype(cell, dtype, self.device)
        self._set_sizes(
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            bidirectional=bidirectional,
            reverse=reverse,
            proj_size=proj_size,
        )
        self.dropout = _arguments.probability(cell, dropout)
        self.recompute = _arguments.checkpoint_steps(cell, recompute)
        shapes = self._shapes(_engine.for_device(self.device), self.dtype.name)
        init, drop = _arguments.seed_sequence(cell, seed).spawn(2)
        drawn = _arguments.uniform(cell, shapes, self.hidden_size, self.dtype, init)
        super().__init__(cell, self._placed(drawn))
        # Dropout masks of the n-th draw come from (this seed, n): nothing is locked while drawing.
        self._drop_seed, self._draws = drop, 0
        # Names the layer in its tapes; copied and pickled along, so that a copy is another owner,
        # but of tapes that were copied with it.
        self._owner = object()

    def forward(
        self,
        x: np.ndarray,
        state: State = None,
        lengths: Any = None,
        resets: np.ndarray | None = None,
        *,
        holds: np.ndarray | None = None,
        repeat_held: bool = False,
        recurrent_masks: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, State, Tape]:
        """Run the layers for training: with dropout, and with the tape that `backward` needs.

        y is part of the tape and read-only; x and the state must not change before `backward`.
        """
        version, weights = self._weights(backward=True)
        masks = self._draw_masks(x, weights)
        lengths = _arguments.lengths_array(self.cell, lengths)
        steps = _arguments.checkpoint_steps(self.cell, self.recompute)
        repeat_held = _arguments.flag(self.cell, "repeat_held", repeat_held)
        inputs = (x, state, lengths, resets, holds, None, recurrent_masks, masks, out)
        call = Call(*inputs, self.batch_first, self.reverse, repeat_held, FORWARD, steps)
        return functional.run_forward(weights, call, self._owner, version)

    def backward(
        self, tape: Tape, dy: np.ndarray, dstate: State = None
    ) -> tuple[np.ndarray, State, dict[str, np.ndarray]]:
        """Gradients of x, of the initial state and of every parameter.

        Parameters and results are those of `fastrnn.functional.backward`.

        Raises
        ------
        ValueError
            Also where the tape is another layer's, or older than the parameters, and inside a
            `mutable` block.
        """
        if not isinstance(tape, Tape):
            raise TypeError(f"[{self.cell}] tape must be a fastrnn tape, got {type(tape).__name__}")
        if tape.owner is not self._owner:
            raise ValueError(f"[{self.cell}] tape must be this layer's, got another's")
        if self._open:  # what the tape was made with may be half overwritten
            raise ValueError(
                f"[{self.cell}] parameters must not be open for writing, got mutable()"
            )
        version, weights = self._weights(backward=True)
        if tape.version != version:
            raise ValueError(
                f"[{self.cell}] tape must be as new as the parameters (version {version}), "
                f"got version {tape.version}"
            )
        steps = functional.steps_of(self.cell, tape)
        return functional.run_backward(weights, tape, steps, dy, dstate)

    def _draw_masks(self, x: Any, weights: Packed) -> list[Any] | None:
        if self.dropout == 0.0 or self.num_layers == 1:
            return None
        shape = weights.native.output_shape(x, self.batch_first)
        with self._lock:
            base, number = self._drop_seed, self._draws
            self._draws += 1
        seed = np.random.SeedSequence(base.entropy, spawn_key=(*base.spawn_key, number))
        masks = _dropout.Masks(self.num_layers - 1, shape, self.dropout, self.dtype.name)
        return masks.draw(self.cell, seed, x)

    @property
    def random_state(self) -> dict[str, Any]:
        """What the next dropout masks are drawn from; assign it to draw the same ones again.

        Like the ``state`` of NumPy's bit generators it is plain data: integers, a list and a dict,
        which JSON can hold. Together with `state_dict` it is what a checkpoint needs for training
        to go on exactly. Assigning takes effect at the next `forward`; parameters stay as they are.

        ``entropy`` and ``spawn_key`` are the seed, as in ``numpy.random.SeedSequence``; ``draws``
        counts the calls of `forward` that drew masks.

        Raises
        ------
        TypeError
            What is assigned is not such a mapping.
        ValueError
            It lacks one of the three, has another, or holds a negative number.

        Examples
        --------
        >>> before = layer.random_state
        >>> y, state, tape = layer.forward(x)
        >>> layer.random_state = before  # the next call draws the same masks
        """
        with self._lock:
            return _arguments.random_state(self._drop_seed, self._draws)

    @random_state.setter
    def random_state(self, state: Mapping[str, Any]) -> None:
        seed, draws = _arguments.from_random_state(self.cell, state)
        with self._lock:
            self._drop_seed, self._draws = seed, draws

    def to(self, device: str) -> Recurrent:
        """A copy of this layer on a device, with the same parameters.

        Parameters
        ----------
        device : str
            ``"cpu"`` or ``"cuda"``.

        Raises
        ------
        RuntimeError, TypeError
            As the constructor.
        """
        made = copy.copy(self)
        made.device = _engine.check_device(self.cell, device)
        made.dtype = _arguments.layer_dtype(self.cell, self.dtype, made.device)
        made._packed, made._owner = None, object()
        made._keep(made._placed({name: _arrays.on_host(a) for name, a in self._arrays.items()}))
        return made

    def _placed(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        """Arrays of the host on the layer's device."""
        library = _arrays.default_library(self.cell, self.device)
        return {name: library.from_host(a) for name, a in arrays.items()}
