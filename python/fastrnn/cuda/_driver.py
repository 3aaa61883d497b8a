"""The time between kernels: layers, windows, and the products that the arrays' library makes.

`Weights` has the methods of the CPU engine's class of that name, on arrays in a GPU's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .. import _arrays, _dtypes, _parameters, _single_step
from .._arrays import Library
from . import _native

# Steps that backward makes anew at a time, at least, where the tape was kept small: enough for the
# library's products to be large ones.
_WINDOW = 64


class Arguments(NamedTuple):
    """What both directions are given, as `fastrnn.functional` names it."""

    x: Any
    state: Any
    lengths: Any
    resets: Any
    masks: Sequence[Any] | None
    batch_first: bool
    recompute: int = 0


class Kept(NamedTuple):
    """Where a pass keeps its states and saved values, or finds them.

    Those of `layer` in the tape's arrays, or of layer 0 in arrays of a window alone; and where a
    window begins: at a step of the tape's checkpoints.
    """

    states: Any = None
    saved: Any = None
    layer: int = 0
    checkpoints: Any = None
    place: int = 0


class Weights:
    """The parameters of a stack of layers, as they came: kernels and libraries read them in place.

    Parameters
    ----------
    cell, dtype : str
        Of the registry; float32, float64, float16 or bfloat16.
    layers, directions, inputs, units : int
        L, D, I and H.
    bias : bool
    """

    def __init__(
        self,
        cell: str,
        dtype: str,
        layers: int,
        directions: int,
        inputs: int,
        units: int,
        bias: bool,
    ) -> None:
        self.native = _native.require_engine(cell).Stack(
            cell, dtype, layers, directions, inputs, units, bias
        )
        self.cell, self.dtype = cell, dtype
        self.L, self.D, self.H, self.G = layers, directions, units, self.native.gates
        self.states, self.planes = self.native.states, self.native.planes
        self.wide = _dtypes.of_cell_state(dtype)
        self.bias = bias
        self.params_per_layer_direction = _parameters.params_per_layer_direction(bias)
        self.given: tuple[Any, ...] | None = None

    @property
    def parameters(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes, in torch's order."""
        return self.native.parameters  # type: ignore[no-any-return]

    def pack(self, parameters: tuple[Any, ...], backward: bool) -> None:
        """Take the parameters; for both directions of use."""
        if self.given is None:
            plain = self.native.check_taken(parameters)
            self.given = tuple(
                a if as_it_is else self._library(a).copy(a)
                for a, as_it_is in zip(parameters, plain, strict=True)
            )

    def copy_parameters(self) -> None:
        """Take copies, so that the arrays they came from may change."""
        if self.given is not None:
            self.given = tuple(self._library(a).copy(a) for a in self.given)

    def output_shape(self, x: Any, batch_first: bool) -> tuple[int, ...]:
        """The shape that y will have."""
        given = Arguments(x, None, None, None, None, batch_first)
        call = self.native.check(*given, self._parameters(), None)
        return call.y_shape(self.native)  # type: ignore[no-any-return]

    def explain(self, T: int, B: int, recompute: int) -> dict[str, Any]:
        """The plans of a call of this size; see `fastrnn.explain`."""

        def facts(backward: bool) -> dict[str, Any]:
            index = self._library(given).index(given)
            plan = self.native.plan_sizes(T, B, index, backward)
            names = ("mode", "blocks", "threads", "units", "replicas", "shared_bytes")
            return {name: getattr(plan, name) for name in (*names, "model_microseconds")}

        given = self._parameters()[0]
        return {
            "cell": self.cell,
            "dtype": self.dtype,
            "device": self._native().device(self._library(given).index(given)),
            "forward": facts(False),
            "backward": facts(True),
        }

    def infer(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        resets: Any,
        masks: Sequence[Any] | None,
        batch_first: bool,
        out: Any,
        threads: int = 0,
    ) -> tuple[Any, Any]:
        """y (out, if given) and the final state."""
        given = Arguments(x, state, lengths, resets, masks, batch_first)
        y, final, _ = self._forward(given, out, False)
        return y, final

    def forward(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        resets: Any,
        masks: Sequence[Any] | None,
        batch_first: bool,
        recompute: int,
        out: Any,
        threads: int = 0,
    ) -> tuple[Any, Any, tuple[Any, ...]]:
        """The same, and the tape's three arrays."""
        given = Arguments(x, state, lengths, resets, masks, batch_first, recompute)
        return self._forward(given, out, True)

    def backward(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        resets: Any,
        masks: Sequence[Any] | None,
        batch_first: bool,
        y: Any,
        tape: tuple[Any, ...],
        recompute: int,
        dy: Any,
        dstate: Any,
        want_dx: bool = True,
        want_parameters: bool = True,
        threads: int = 0,
    ) -> tuple[Any, Any, Any]:
        """dx, the gradient of the initial state, and those of the parameters in their order.

        None in place of the first, and of the last, where they are not wanted.
        """
        given = Arguments(x, state, lengths, resets, masks, batch_first, recompute)
        library = self._library(x)
        with library.no_grad(x):
            back = _Backward(self, library, given)
            return back.run(y, tape, dy, dstate, want_dx, want_parameters)

    def _forward(self, given: Arguments, out: Any, keep: bool) -> tuple[Any, Any, Any]:
        library = self._library(given.x)
        with library.no_grad(given.x):
            return _Forward(self, library, given, out).run(out, keep)

    def _library(self, array: Any) -> Library:
        return _arrays.gpu_library_of(self.cell, array)

    def _native(self) -> Any:
        return _native.require_engine(self.cell)

    def _parameters(self) -> tuple[Any, ...]:
        if self.given is None:
            raise RuntimeError(f"[{self.cell}] weights must be packed before use, got none")
        return self.given


class _Call:
    """One call: its arrays, checked, and what both directions do with them."""

    def __init__(
        self, weights: Weights, library: Library, arguments: Arguments, out: Any = None
    ) -> None:
        w = self.w = weights
        self.library, self.given = library, w._parameters()
        on_host = _arrays.lengths_on_host(arguments.lengths)
        if on_host is not None:
            arguments = arguments._replace(lengths=on_host)
        self.native = w.native.check(*arguments, self.given, out)
        if on_host is not None:
            arguments = arguments._replace(lengths=library.moved(on_host, arguments.x))
            self.native.place_lengths(w.native, arguments.lengths)
        self.x, state, self.lengths, self.resets, self.masks, self.batch_first, self.recompute = (
            arguments
        )
        self.T, self.B = self.native.T, self.native.B
        self.batched = len(self.x.shape) == 3
        self.initial = tuple(self.contiguous(s) for s in self.states_of(state))
        self.ours = tuple(library.from_dlpack(p) for p in self.given)
        self.stream = library.stream(self.x)
        self.meeting: Any = None

    def states_of(self, state: Any) -> tuple[Any, ...]:
        """A state as a tuple, empty where there is none."""
        if state is None:
            return ()
        return (state,) if self.w.states == 1 else tuple(state)

    def state_of(self, arrays: tuple[Any, ...]) -> Any:
        """The inverse."""
        return arrays[0] if self.w.states == 1 else arrays

    def contiguous(self, array: Any) -> Any:
        """An array of the library's, in C order."""
        array = self.library.from_dlpack(array)
        return array if self.w._native().is_plain(array) else self.library.copy(array)

    def new(self, *shape: int, wide: bool = False, zeros: bool = False) -> Any:
        make = self.library.zeros if zeros else self.library.empty
        try:
            return make(shape, self.w.wide if wide else self.w.dtype, self.x)
        except MemoryError as error:  # torch's has a class and a text of its own
            raise MemoryError(
                f"[{self.w.cell}] memory for the call must be available, got none for shape {shape}"
            ) from error

    def new_states(self) -> tuple[Any, ...]:
        """An array for each state, to be written."""
        shape = self.native.state_shape(self.w.native)
        return tuple(self.new(*shape, wide=k > 0) for k in range(self.w.states))

    def running(self, when: slice) -> Any:
        """Whether each row takes part at these times, (n, B)."""
        xp = self.library.xp
        lengths = xp.astype(self.library.from_dlpack(self.lengths), self.library.dtype("int64"))
        times = xp.arange(when.start, when.stop, device=self.x.device)
        return times[:, None] < lengths[None, :]

    def weight(self, layer: int, d: int, which: int) -> Any:
        """w_ih (0) or w_hh (1) of a pass."""
        return self.ours[(layer * self.w.D + d) * self.w.params_per_layer_direction + which]

    def times(self, d: int, begin: int, end: int) -> slice:
        """When scan steps begin..end of a direction are."""
        return slice(self.T - end, self.T - begin) if d else slice(begin, end)

    def time_first(self, array: Any) -> Any:
        """(T, B, n) of an array that is laid out as x."""
        if not self.batched:
            return self.library.xp.expand_dims(array, axis=1)
        return self.library.xp.permute_dims(array, (1, 0, 2)) if self.batch_first else array

    def as_given(self, array: Any) -> Any:
        """The inverse, in C order."""
        if not self.batched:
            return array[:, 0, :]
        if not self.batch_first:
            return array
        return self.library.copy(self.library.xp.permute_dims(array, (1, 0, 2)))

    def below(self, layer: int, inner: Any) -> Any:
        """What a layer reads: x as it was given, or the masked output below, time first."""
        if layer == 0:
            return self.library.from_dlpack(self.x)
        y = inner[layer - 1]
        return y * self.mask(layer - 1) if self.masks else y

    def mask(self, layer: int) -> Any:
        """The mask over a layer's output, time first."""
        assert self.masks
        return self.time_first(self.library.from_dlpack(self.masks[layer]))

    def project(self, layer: int, below: Any, begin: int, end: int) -> tuple[Any, ...]:
        """W x over a window, of each direction."""
        gates = []
        for d in range(self.w.D):
            part = below
            if (begin, end) != (0, self.T):
                when = self.times(d, begin, end)
                outer = layer == 0 and self.batched and self.batch_first
                part = below[:, when] if outer else below[when]
            gates.append(self.contiguous(self.library.xp.matmul(part, self.weight(layer, d, 0).T)))
        return tuple(gates)

    def recurrent(self, layer: int, transposed: bool) -> Any:
        """R of all directions, (D, G*H, H), or transposed, for the products of single steps."""
        xp = self.library.xp
        all_w = [self.weight(layer, d, 1) for d in range(self.w.D)]
        stacked = xp.stack(all_w) if self.w.D > 1 else xp.expand_dims(all_w[0], axis=0)
        return xp.permute_dims(stacked, (0, 2, 1)) if transposed else stacked

    def launch(self, run: Any, plan: Any) -> None:
        """A pass in the grid mode. The memory to meet in serves one pass after the other."""
        n = -(-plan.meeting_bytes // 4)
        if self.meeting is None or self.meeting.shape[0] < n:
            self.meeting = self.library.empty((n,), "int32", self.x)
        run.run(self.meeting)

    def forward_pass(
        self,
        layer: int,
        window: tuple[int, int],
        below: Any,
        h: Any,
        kept: Kept,
        final: tuple[Any, ...] = (),
        every: int = 1,
        recompute: bool = False,
    ) -> None:
        """Run a layer over a window of steps."""
        gates = self.project(layer, below, *window)
        plan = self.w.native.plan(self.native, False)
        carry: tuple[Any, ...] = ()
        if plan.mode == "stepwise":
            carry = self.carry(layer, h, window[0], kept)
        run = self.w.native.forward(
            self.native, plan, self.stream, layer, *window, self.given, h, self.initial, *kept,
            gates, final, every, recompute, carry,
        )  # fmt: skip
        if plan.mode == "grid":
            self.launch(run, plan)
            return
        w = self.recurrent(layer, transposed=True)
        for s in range(*window):
            run.step(s, self.contiguous(self.library.xp.matmul(carry[0], w)))

    def carry(self, layer: int, h: Any, begin: int, kept: Kept) -> tuple[Any, ...]:
        """The states that a window starts from, (D, B, H) each, to be written."""
        w, D, passes = self.w, self.w.D, slice(layer * self.w.D, (layer + 1) * self.w.D)
        made = tuple(self.new(D, self.B, w.H, wide=k > 0, zeros=True) for k in range(w.states))
        for k, initial in enumerate(self.initial):
            made[k][...] = initial[passes] if self.batched else initial[passes][:, None, :]
        if begin == 0:
            return made
        for k in range(1, w.states):
            made[k][...] = kept.checkpoints[k - 1, layer, :, kept.place]
        before = self.time_first(h) if layer == w.L - 1 else h
        for d in range(D):
            t = self.T - begin if d else begin - 1
            rows = before[t, :, d * w.H : (d + 1) * w.H]
            if d and self.lengths is not None:  # rows that have not begun keep their first state
                has_begun = self.running(slice(t, t + 1))[0][:, None]
                rows = self.library.xp.where(has_begun, rows, made[0][d])
            made[0][d] = rows
        return made


class _Forward(_Call):
    def run(self, out: Any, keep: bool) -> tuple[Any, Any, Any]:
        """y, the final state and the tape, where that is kept."""
        w, T, B, DH = self.w, self.T, self.B, self.w.D * self.w.H
        y = self.new(*self.native.y_shape(w.native)) if out is None else out
        final = self.new_states()
        inner: Any = {}
        states = saved = None
        tape = None
        if keep:
            shapes = self.native.tape_shapes(w.native)
            tape = tuple(self.new(*shape, wide=i == 1) for i, shape in enumerate(shapes))
            inner, states, saved = tape
        if T == 0 or B == 0:
            self.pass_through(final)
            return y, self.state_of(final), tape
        if self.recompute:
            saved = None
        for layer in range(w.L):
            if not keep and layer < w.L - 1:
                inner[layer] = self.new(T, B, DH)
            h = y if layer == w.L - 1 else inner[layer]
            kept = Kept(states, saved, layer)
            self.forward_pass(
                layer, (0, T), self.below(layer, inner), h, kept, final, self.recompute or 1
            )
            if not keep:
                inner.pop(layer - 1, None)
        return y, self.state_of(final), tape

    def pass_through(self, final: tuple[Any, ...]) -> None:
        """Without steps the state goes on as it came."""
        for k, array in enumerate(final):
            array[...] = self.library.from_dlpack(self.initial[k]) if self.initial else 0


class _Backward(_Call):
    def run(
        self, y: Any, tape: Any, dy: Any, dstate: Any, want_dx: bool, want_parameters: bool
    ) -> tuple[Any, Any, Any]:
        """The gradients, as `Weights.backward` gives them."""
        w = self.w
        w.native.check_gradients(self.native, y, tape, dy, dstate)
        inner, states, saved = (self.library.from_dlpack(a) for a in tape)
        dfinal = tuple(self.library.from_dlpack(d) for d in self.states_of(dstate))
        dinitial = self.new_states()
        grads = None
        if want_parameters:
            grads = [self.library.zeros(p.shape, w.dtype, self.x) for p in self.ours]
        if self.T == 0 or self.B == 0:
            for k, array in enumerate(dinitial):
                array[...] = dfinal[k] if dfinal else 0
            dx = self.new(*self.x.shape, zeros=True) if want_dx else None
            return dx, self.state_of(dinitial), grads and tuple(grads)
        y = self.library.from_dlpack(y)
        dh = self.contiguous(dy)
        for layer in reversed(range(w.L)):
            ds = self.new(w.states, w.D, self.B, w.H, wide=True, zeros=True)
            passes = slice(layer * w.D, (layer + 1) * w.D)
            for k, d in enumerate(dfinal):
                ds[k][...] = d[passes] if self.batched else d[passes][:, None, :]
            h = y if layer == w.L - 1 else inner[layer]
            below, wants = self.below(layer, inner), layer > 0 or want_dx
            dh = self.layer(layer, below, h, Kept(states, saved, layer), dh, ds, wants, grads)
            for k, array in enumerate(dinitial):
                array[passes] = ds[k] if self.batched else ds[k][:, 0, :]
            if layer > 0 and self.masks:
                dh = dh * self.mask(layer - 1)
        dx = self.contiguous(self.as_given(dh)) if want_dx else None
        return dx, self.state_of(dinitial), grads and tuple(grads)

    def windows(self) -> Iterator[tuple[int, int]]:
        """The windows of steps, last first."""
        n = self.T
        if self.recompute:
            n = -(-_WINDOW // self.recompute) * self.recompute
        for begin in range((self.T - 1) // n * n, -1, -n):
            yield begin, min(begin + n, self.T)

    def layer(
        self,
        layer: int,
        below: Any,
        h: Any,
        kept: Kept,
        dy: Any,
        ds: Any,
        want_dx: bool,
        grads: list[Any] | None,
    ) -> Any:
        """Back through one layer: brings ds to its beginning, adds to grads, gives dx or None."""
        w, T, B, D, G, H = self.w, self.T, self.B, self.w.D, self.w.G, self.w.H
        below_tbi = self.time_first(below) if layer == 0 else below
        h_tbh = self.time_first(h) if layer == w.L - 1 else h
        dx = self.new(T, B, below_tbi.shape[2], zeros=True) if want_dx and self.recompute else None
        wants_entry = bool(self.initial) and grads is not None
        dentry = self.new(D, B, G * H, zeros=True) if wants_entry else None
        for window in self.windows():
            n = window[1] - window[0]
            here = self.recompute_window(layer, window, below, h, kept) if self.recompute else kept
            dgates = tuple(self.new(n, B, w.planes * H) for _ in range(D))
            self.backward_pass(layer, window, h, here, dy, dgates, ds, dentry)
            for d in range(D):
                when = self.times(d, *window)
                flat = self.library.xp.reshape(dgates[d], (n * B, w.planes * H))
                if want_dx:
                    part = self.library.xp.matmul(flat[:, : G * H], self.weight(layer, d, 0))
                    part = self.library.xp.reshape(part, (n, B, part.shape[1]))
                    if dx is None:  # the one window's first direction
                        dx = part
                    else:
                        dx[when] += part
                if grads is not None:
                    self.add_gradients(layer, d, when, dgates[d], flat, below_tbi, h_tbh, grads)
        if dentry is not None and grads is not None:
            self.add_entries(layer, dentry, grads)
        return dx

    def recompute_window(
        self, layer: int, window: tuple[int, int], below: Any, h: Any, kept: Kept
    ) -> Kept:
        """The states and saved values of a window, computed again from its checkpoint."""
        w, n = self.w, window[1] - window[0]
        states = self.new(w.states - 1, 1, w.D, n, self.B, w.H, wide=True)
        saved = self.new(1, w.D, n, self.B, w.native.saved, w.H)
        place = window[0] // self.recompute - 1
        here = Kept(states, saved, 0, kept.states, place)
        self.forward_pass(layer, window, below, h, here, recompute=True)
        return here

    def backward_pass(
        self,
        layer: int,
        window: tuple[int, int],
        h: Any,
        kept: Kept,
        dy: Any,
        dgates: tuple[Any, ...],
        ds: Any,
        dentry: Any,
    ) -> None:
        """Take a window of steps back."""
        plan = self.w.native.plan(self.native, True)
        dproduct = None
        if plan.mode == "stepwise":
            dproduct = self.new(self.w.D, self.B, self.w.G * self.w.H)
        run = self.w.native.backward(
            self.native, plan, self.stream, layer, *window, self.given, h, self.initial, *kept,
            dy, dgates, ds, dentry, dproduct,
        )  # fmt: skip
        if plan.mode == "grid":
            self.launch(run, plan)
            return
        r = self.recurrent(layer, transposed=False)
        product = None
        for s in reversed(range(window[0] - 1, window[1])):
            run.step(s, product)
            if s >= window[0]:
                product = self.contiguous(self.library.xp.matmul(dproduct, r))

    def add_gradients(
        self,
        layer: int,
        d: int,
        when: slice,
        dgates: Any,
        flat: Any,
        below: Any,
        h: Any,
        grads: list[Any],
    ) -> None:
        """What a window adds to the gradients of a pass's parameters."""
        w, xp, G, H = self.w, self.library.xp, self.w.G, self.w.H
        first = (layer * w.D + d) * w.params_per_layer_direction
        x = below[when]
        if self.lengths is not None:  # what is past them may be anything: 0 times NaN is NaN
            x = xp.where(self.running(when)[:, :, None], x, xp.zeros_like(x))
        grads[first] += xp.matmul(flat[:, : G * H].T, xp.reshape(x, (flat.shape[0], x.shape[2])))
        dr, h_before = self.with_h_before(d, when, dgates, h[:, :, d * H : (d + 1) * H])
        for rows, planes in self.runs():
            grads[first + 1][rows] += xp.matmul(dr[:, planes].T, h_before)
        if w.bias:
            sums = xp.sum(flat, axis=0, dtype=self.library.dtype(w.wide))
            grads[first + 2] += self.stored(sums[: G * H])
            for rows, planes in self.runs():
                grads[first + 3][rows] += self.stored(sums[planes])

    def stored(self, array: Any) -> Any:
        """In the storage dtype."""
        return self.library.xp.astype(array, self.library.dtype(self.w.dtype))

    def runs(self) -> list[tuple[slice, slice]]:
        """Rows of w_hh, and the planes of dgates that are their gradients."""
        G, H, split = self.w.G, self.w.H, self.w.native.split
        runs: list[tuple[slice, slice]] = []
        plane = G
        for g in range(G):
            at = g
            if split >> g & 1:
                at, plane = plane, plane + 1
            if runs and runs[-1][1].stop == at * H:  # go on in one product
                rows, planes = runs.pop()
                runs.append((slice(rows.start, (g + 1) * H), slice(planes.start, (at + 1) * H)))
            else:
                runs.append((slice(g * H, (g + 1) * H), slice(at * H, (at + 1) * H)))
        return runs

    def with_h_before(self, d: int, when: slice, dgates: Any, h: Any) -> tuple[Any, Any]:
        """dgates of a window where a step of the sequence comes before, and h of those steps.

        First steps have the initial state before them, see `add_entries`.
        """
        xp, T = self.library.xp, self.T
        if d:
            low, high = when.start, min(when.stop, T - 1)
            before, entered = h[low + 1 : high + 1], slice(low + 1, high + 1)
        else:
            low, high = max(when.start, 1), when.stop
            before, entered = h[low - 1 : high - 1], slice(low, high)
        dgates = dgates[low - when.start : high - when.start]
        if self.resets is not None:
            resets = self.time_first(self.library.from_dlpack(self.resets)[..., None])[entered]
            before = xp.where(resets, xp.zeros_like(before), before)
        rows = before.shape[0] * self.B
        return (
            xp.reshape(dgates, (rows, dgates.shape[2])),
            xp.reshape(before, (rows, before.shape[2])),
        )

    def add_entries(self, layer: int, dentry: Any, grads: list[Any]) -> None:
        """What first steps add to the gradient of w_hh: h before them is the initial state."""
        w, xp = self.w, self.library.xp
        for d in range(w.D):
            h0 = self.initial[0][layer * w.D + d]
            h0 = h0 if self.batched else h0[None]
            w_hh = (layer * w.D + d) * w.params_per_layer_direction + 1
            grads[w_hh] += xp.matmul(dentry[d].T, h0)


def pack_new(
    cell: str,
    layers: int,
    directions: int,
    parameters: tuple[Any, ...],
    forward: bool,
    backward: bool,
    threads: int = 0,
) -> Weights:
    """Weights of the sizes that the parameters have."""
    native = _native.require_engine(cell)
    dtype, inputs, units, bias = native.sizes(cell, layers, directions, parameters)
    made = Weights(cell, dtype, layers, directions, inputs, units, bias)
    made.pack(parameters, backward)
    return made


def infer_new(
    cell: str,
    layers: int,
    directions: int,
    parameters: tuple[Any, ...],
    x: Any,
    state: Any,
    lengths: Any,
    resets: Any,
    masks: Sequence[Any] | None,
    batch_first: bool,
    threads: int = 0,
) -> tuple[Any, Any]:
    """`Weights.infer` with parameters."""
    weights = pack_new(cell, layers, directions, parameters, True, False)
    return weights.infer(x, state, lengths, resets, masks, batch_first, None)


def step_new(
    cell: str, parameters: tuple[Any, ...], x: Any, state: Any, threads: int = 0
) -> tuple[Any, ...]:
    """The states after one step of one layer: x ``(B, I)`` or ``(I,)``, states ``(B, H)``."""
    weights = pack_new(cell, 1, 1, parameters, True, False)
    states = () if state is None else state if isinstance(state, tuple) else (state,)
    x, *before = _single_step.with_time((x, *states))
    given = None if not before else before[0] if weights.states == 1 else tuple(before)
    _, final = weights.infer(x, given, None, None, None, False, None)
    return _single_step.without_time(final if isinstance(final, tuple) else (final,))
