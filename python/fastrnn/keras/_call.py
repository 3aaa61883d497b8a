"""What a call of a layer asks of a backend, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Call:
    """All of a call but its tensors.

    Attributes
    ----------
    cell : str
        The name of the cell; see `fastrnn.cell_name`.
    repeat_held : bool
        Whether the output of a held step is that of the last one that ran, and not 0.
    training : bool
        Whether a gradient is likely to be asked for: of use where a tape has a price of its own.
    """

    cell: str
    repeat_held: bool
    training: bool


class Tensors(NamedTuple):
    """The backend's tensors, of one dtype, in Keras's layouts and with this library's gates.

    x is ``(B, T, I)``, a state ``(B, H)``, holds bool ``(B, T)``, masks ``(1, B, H)`` or
    ``(1, G, B, H)``, the kernel ``(I, G * H)``, the recurrent one ``(H, G * H)``, and biases are
    none, or those of the inputs and of the recurrence, ``(G * H,)`` each.
    """

    x: Any
    states: tuple[Any, ...]
    holds: Any
    recurrent_masks: Any
    kernel: Any
    recurrent_kernel: Any
    biases: tuple[Any, ...]
