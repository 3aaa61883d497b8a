"""The recurrence of the layers: a mixin in front of Keras's classes."""

from __future__ import annotations

from typing import Any

from keras import ops, tree

from . import _backends, _counts, _inputs, _rules
from ._call import Call, Tensors


class Recurrence:
    """Runs the inner loop of Keras's `RNN` on the engine, where it has a kernel.

    Everything before and after the loop is Keras's: initial states and dropout masks come drawn,
    and results are cast and kept by it.
    """

    cell: Any
    go_backwards: bool
    return_sequences: bool
    stateful: bool
    zero_output_for_mask: bool

    @property
    def supports_jit(self) -> bool:
        """Whether XLA may compile the layer: not where TensorFlow calls the host."""
        own: bool = self.__dict__.get("supports_jit", True)
        return own and (_backends.name() != "tensorflow" or bool(_rules.kernel_of(self).reason))

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        self.__dict__["supports_jit"] = value

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: Any = False
    ) -> tuple[Any, Any, Any]:
        """As Keras's: the last output, all outputs, and the final states.

        Without `return_sequences` the last output stands in the place of all.

        Raises
        ------
        ValueError
            The rank of the inputs, the shape of a mask or a state, or the number of states.
        """
        cell = self._served_by(sequences, training)
        if not cell:
            return super().inner_loop(  # type: ignore[misc,no-any-return]
                sequences, initial_state, mask, training=training
            )
        states = initial_state if tree.is_nested(initial_state) else [initial_state]
        tensors = _inputs.tensors_of(self, cell, sequences, states, mask, training)
        _counts.fused(cell)
        y, finals = _backends.module().run(
            Call(cell, not self.zero_output_for_mask, bool(training)), tensors
        )
        last = self._last_output(finals[0], tensors.holds)
        if not self.return_sequences:
            return last, last, list(finals)
        return last, self._with_first_outputs(y, tensors), list(finals)

    def _served_by(self, x: Any, training: Any) -> str:
        """The cell whose kernel serves a call; none for Keras's own path, which is counted."""
        if _backends.asks_for_shapes_alone():
            return ""
        cell, reason = _rules.kernel_of(self)
        reason = reason or _rules.why_not_called_so(self, x, training)
        if reason:
            _counts.fallback(self, reason)
        return "" if reason else cell

    def _last_output(self, h: Any, holds: Any) -> Any:
        """The output of the last step, made of the final state and so without one of y."""
        if holds is None:
            return h
        backend = _backends.module()
        if self.zero_output_for_mask:
            return backend.where(holds[:, -1:], ops.zeros_like(h), h)
        if backend.STARTS_FROM_STATE:
            return h
        return backend.where(ops.all(holds, axis=1, keepdims=True), ops.zeros_like(h), h)

    def _with_first_outputs(self, y: Any, tensors: Tensors) -> Any:
        """y, where Keras repeats the initial state before the first step that runs.

        The engine has zeros there, which are the state of most calls.
        """
        if tensors.holds is None or self.zero_output_for_mask:
            return y
        backend = _backends.module()
        if not backend.STARTS_FROM_STATE:
            return y
        ran = ops.cumsum(ops.cast(ops.logical_not(tensors.holds), "int32"), axis=1)
        return backend.where(ran[..., None] == 0, tensors.states[0][:, None], y)
