"""Keras on TensorFlow: calls of the host, eager and in graphs.

TensorFlow has no way to a kernel but an operator that is compiled against its own release. So a
call here is a `tf.numpy_function`: the graph waits for Python, which is handed arrays and gives
arrays back. XLA compiles no such call, and a SavedModel holds none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from .. import functional
from ._call import Call, Tensors
from ._numpy import arguments, computes, keeps, of_one_layer, parameters, without_layers

__all__ = ["STARTS_FROM_STATE", "computes", "keeps", "run", "where", "why_not"]

STARTS_FROM_STATE = False
where = tf.where


def why_not(x: Any, recurrent_masks: bool) -> str:
    """See `_backends`."""
    if not tf.executing_eagerly() and control_flow_util.GraphOrParentsInXlaContext(
        tf.compat.v1.get_default_graph()
    ):
        return "XLA compiles this function, and no call of the host can be in it"
    return ""


def run(call: Call, tensors: Tensors) -> tuple[Any, tuple[Any, ...]]:
    """See `_backends`."""
    host = _Host(call, tensors)
    count = 1 + len(tensors.states)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def layer(*given: Any) -> tuple[Any, Any]:
        results = host.forward(given)
        kept = (results[0], *results[count:]) if call.training else ()
        return results[:count], lambda *dresults: host.backward(given, kept, dresults)

    y, *finals = layer(*host.given)
    return y, tuple(finals)


class _Host:
    """The passes of a call on the host.

    Attributes
    ----------
    given : list
        The tensors of the call, one after the other, without those that are not there.
    """

    def __init__(self, call: Call, tensors: Tensors) -> None:
        self._call = call
        optional = tensors.holds, tensors.recurrent_masks
        self._there = [value is not None for value in optional]
        self._states = len(tensors.states)
        flat = [tensors.x, *tensors.states, *(each for each in optional if each is not None)]
        flat += [tensors.kernel, tensors.recurrent_kernel, *tensors.biases]
        self.given = [tf.convert_to_tensor(each) for each in flat]
        self._dtype = self.given[0].dtype

    def _tensors(self, flat: Sequence[Any]) -> Tensors:
        """What `given` holds, apart again."""
        x, *rest = flat
        states, rest = tuple(rest[: self._states]), rest[self._states :]
        holds, masks = (rest.pop(0) if there else None for there in self._there)
        return Tensors(x, states, holds, masks, rest[0], rest[1], tuple(rest[2:]))

    def forward(self, given: Sequence[Any]) -> list[Any]:
        """y and the final states, and in training the arrays of the tape."""
        training = self._call.training

        def run(*arrays: np.ndarray) -> list[np.ndarray]:
            named = arguments(self._call, self._tensors(arrays))
            if not training:
                y, final = functional.infer(self._call.cell, **named)
                return [y, *without_layers(final)]
            y, final, tape = functional.forward(self._call.cell, **named)
            return [y, *without_layers(final), *tape.arrays]

        count = 1 + self._states + (3 if training else 0)
        results: list[Any] = tf.numpy_function(run, given, [self._dtype] * count, stateful=False)
        x, *states = given[: 1 + self._states]
        results[0].set_shape((*x.shape[:2], states[0].shape[-1]))
        for final, state in zip(results[1:], states, strict=False):
            final.set_shape((x.shape[0], state.shape[-1]))
        return results

    def backward(
        self, given: Sequence[Any], kept: Sequence[Any], dresults: Sequence[Any]
    ) -> list[Any]:
        """Gradients of what was given.

        What forward has not kept it makes once more. Of second order there are none: that is an
        error, where TensorFlow would take none for zero.
        """
        split, end = len(given), len(given) + len(kept)

        def run(*arrays: np.ndarray) -> list[np.ndarray]:
            return self._gradients(arrays[:split], arrays[split:end], arrays[end:])

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def of_first_order(*tensors: Any) -> tuple[Any, Any]:
            dtypes = [self._dtype] * sum(self._have_gradients())
            return tf.numpy_function(run, tensors, dtypes, stateful=False), _refuse

        grads = iter(of_first_order(*given, *kept, *dresults))
        by_place = [next(grads) if has else None for has in self._have_gradients()]
        for tensor, grad in zip(given, by_place, strict=True):
            if grad is not None:
                grad.set_shape(tensor.shape)
        return by_place

    def _have_gradients(self) -> list[bool]:
        """Of each of `given`: all but holds and masks."""
        constants = sum(self._there)
        before = 1 + self._states
        rest = len(self.given) - before - constants
        return [True] * before + [False] * constants + [True] * rest

    def _gradients(
        self, given: Sequence[np.ndarray], kept: Sequence[np.ndarray], dresults: Sequence[Any]
    ) -> list[np.ndarray]:
        call, tensors = self._call, self._tensors(given)
        if kept:
            tape = _tape(call, tensors, kept[0], tuple(kept[1:]))
        else:
            *_, tape = functional.forward(call.cell, **arguments(call, tensors))
        dy, *dfinals = dresults
        dx, dstate, grads = functional.backward(
            call.cell, parameters(tensors), tape, dy, of_one_layer(tuple(dfinals))
        )
        weights, biases = list(grads.values())[:2], list(grads.values())[2:]
        return [dx, *without_layers(dstate), *(dw.T for dw in weights), *biases]


def _tape(call: Call, tensors: Tensors, y: np.ndarray, arrays: tuple[Any, ...]) -> functional.Tape:
    """The tape of a call of `_numpy.arguments`, of arrays that have been through TensorFlow."""
    return functional.Tape(
        call.cell,
        tensors.x,
        of_one_layer(tensors.states),
        lengths=None,
        resets=None,
        holds=tensors.holds,
        batch_sizes=None,
        recurrent_masks=tensors.recurrent_masks,
        masks=None,
        batch_first=True,
        reverse=False,
        repeat_held=call.repeat_held,
        y=y,
        arrays=arrays,
    )


def _refuse(*ddgrads: Any) -> Any:
    raise NotImplementedError(
        "[keras] gradients must be of first order on the backend tensorflow, got a gradient of one"
    )
