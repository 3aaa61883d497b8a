"""The time between kernels: layers, windows, and the products that the arrays' library makes.

`Weights` has the methods of the CPU engine's class of that name, on arrays in a GPU's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from . import _arrays, _native
from ._arrays import Library

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
        self.native = _native.needed(cell).Stack(
            cell, dtype, layers, directions, inputs, units, bias
        )
        self.cell, self.dtype = cell, dtype
        self.L, self.D, self.H, self.G = layers, directions, units, self.native.gates
        self.states, self.planes = self.native.states, self.native.planes
        self.wide = "float64" if dtype == "float64" else "float32"  # of states beside h
        self.each = 4 if bias else 2  # parameters of a pass
        self.given: tuple[Any, ...] | None = None

    @property
    def parameters(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes, in torch's order."""
        return self.native.parameters  # type: ignore[no-any-return]

    def pack(self, parameters: tuple[Any, ...], backward: bool) -> None:
        """Take the parameters; for both directions of use."""
        if self.given is None:
            for (name, _), array in zip(self.parameters, parameters, strict=True):
                if not _arrays.is_device_array(array):
                    raise TypeError(
                        f"[{self.cell}] {name} must be an array on a GPU, "
                        f"got {type(array).__name__}"
                    )
            self.given = tuple(
                a if self._native().is_plain(a) else self._library(a).copy(a) for a in parameters
            )

    def own(self) -> None:
        """Take copies, so that the arrays they came from may change."""
        if self.given is not None:
            self.given = tuple(self._library(a).copy(a) for a in self.given)

    def output_shape(self, x: Any, batch_first: bool) -> tuple[int, ...]:
        """The shape that y will have."""
        call = self.native.check(x, (), None, None, None, batch_first, 0, self._parameters(), None)
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
        with library.quiet():
            back = _Backward(self, library, given)
            return back.run(y, tape, dy, dstate, want_dx, want_parameters)

    def _forward(self, given: Arguments, out: Any, keep: bool) -> tuple[Any, Any, Any]:
        library = self._library(given.x)
        with library.quiet():
            return _Forward(self, library, given, out).run(out, keep)

    def _library(self, array: Any) -> Library:
        return _arrays.library_of(self.cell, array)

    def _native(self) -> Any:
        return _native.needed(self.cell)

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
        self.x, state, self.lengths, self.resets, masks, self.batch_first, self.recompute = (
            arguments
        )
        initial = self._arrays_of("state", state)
        if masks is not None and not isinstance(masks, (tuple, list)):
            raise TypeError(
                f"[{w.cell}] dropout_masks must be a tuple or list of arrays, "
                f"got {type(masks).__name__}"
            )
        self.masks = None if masks is None else tuple(masks)
        checked = arguments._replace(state=initial, masks=self.masks)
        self.native = w.native.check(*checked, self.given, out)
        self.T, self.B = self.native.T, self.native.B
        self.batched = len(self.x.shape) == 3
        self.initial = tuple(self.plain(s) for s in initial)
        self.ours = tuple(library.taken(p) for p in self.given)
        self.stream = library.stream(self.x)
        self.meeting: Any = None

    def _arrays_of(self, name: str, state: Any) -> tuple[Any, ...]:
        """A state as a tuple, empty where there is none."""
        if state is None:
            return ()
        if self.w.states == 1:
            return (state,)
        if not isinstance(state, (tuple, list)):
            raise TypeError(
                f"[{self.w.cell}] {name} must be a tuple of {self.w.states} arrays, "
                f"got {type(state).__name__}"
            )
        if any(s is None for s in state):
            raise TypeError(f"[{self.w.cell}] {name} must hold arrays, got None")
        return tuple(state)

    def state_of(self, arrays: tuple[Any, ...]) -> Any:
        """The inverse."""
        return arrays[0] if self.w.states == 1 else arrays

    def plain(self, array: Any) -> Any:
        """An array of the library's, in C order."""
        array = self.library.taken(array)
        return array if self.w._native().is_plain(array) else self.library.copy(array)

    def new(self, *shape: int, wide: bool = False, zeros: bool = False) -> Any:
        make = self.library.zeros if zeros else self.library.empty
        try:
            return make(shape, self.w.wide if wide else self.w.dtype, self.x)
        except MemoryError as error:  # torch's has a class and a text of its own
            raise MemoryError(
                f"[{self.w.cell}] memory for the call must be available, got none for shape {shape}"
            ) from error

    def states(self, make_shape: tuple[int, ...]) -> tuple[Any, ...]:
        """An array for each state."""
        return tuple(self.new(*make_shape, wide=k > 0) for k in range(self.w.states))

    def weight(self, layer: int, d: int, which: int) -> Any:
        """w_ih (0) or w_hh (1) of a pass."""
        return self.ours[(layer * self.w.D + d) * self.w.each + which]

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
            return self.library.taken(self.x)
        y = inner[layer - 1]
        return y * self.mask(layer - 1) if self.masks else y

    def mask(self, layer: int) -> Any:
        """The mask over a layer's output, time first."""
        assert self.masks
        return self.time_first(self.library.taken(self.masks[layer]))

    def project(self, layer: int, below: Any, begin: int, end: int) -> tuple[Any, ...]:
        """W x over a window, of each direction."""
        gates = []
        for d in range(self.w.D):
            part = below
            if (begin, end) != (0, self.T):
                when = self.times(d, begin, end)
                outer = layer == 0 and self.batched and self.batch_first
                part = below[:, when] if outer else below[when]
            gates.append(self.plain(self.library.xp.matmul(part, self.weight(layer, d, 0).T)))
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
        states: Any,
        saved: Any,
        slot: int,
        final: tuple[Any, ...] = (),
        entering: tuple[Any, int] = (None, 0),
        every: int = 1,
        remake: bool = False,
    ) -> None:
        """Run a layer over a window of steps."""
        begin, end = window
        gates = self.project(layer, below, begin, end)
        plan = self.w.native.plan(self.native, False)
        carry: tuple[Any, ...] = ()
        if plan.mode == "stepwise":
            carry = self.carry(layer, h, begin, entering)
        run = self.w.native.forward(
            self.native, plan, self.stream, layer, begin, end, self.given, h, self.initial,
            states, saved, slot, *entering, gates, final, every, remake, carry,
        )  # fmt: skip
        if plan.mode == "grid":
            self.launch(run, plan)
            return
        w = self.recurrent(layer, transposed=True)
        for s in range(begin, end):
            run.step(s, self.plain(self.library.xp.matmul(carry[0], w)))

    def carry(self, layer: int, h: Any, begin: int, entering: tuple[Any, int]) -> tuple[Any, ...]:
        """The states that a window starts from, (D, B, H) each, to be written."""
        w, D, passes = self.w, self.w.D, slice(layer * self.w.D, (layer + 1) * self.w.D)
        made = tuple(self.new(D, self.B, w.H, wide=k > 0, zeros=True) for k in range(w.states))
        for k, initial in enumerate(self.initial):
            made[k][...] = initial[passes] if self.batched else initial[passes][:, None, :]
        if begin == 0:
            return made
        checkpoints, place = entering
        for k in range(1, w.states):
            made[k][...] = checkpoints[k - 1, layer, :, place]
        before = self.time_first(h) if layer == w.L - 1 else h
        for d in range(D):
            t = self.T - begin if d else begin - 1
            rows = before[t, :, d * w.H : (d + 1) * w.H]
            if d and self.lengths is not None:  # rows that have not begun keep their first state
                lengths = self.library.taken(self.lengths)
                rows = self.library.xp.where((lengths > t)[:, None], rows, made[0][d])
            made[0][d] = rows
        return made


class _Forward(_Call):
    def run(self, out: Any, keep: bool) -> tuple[Any, Any, Any]:
        """y, the final state and the tape, where that is kept."""
        w, T, B, DH = self.w, self.T, self.B, self.w.D * self.w.H
        y = self.new(*self.native.y_shape(w.native)) if out is None else out
        final = self.states(self.native.state_shape(w.native))
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
        every = self.recompute or 1
        for layer in range(w.L):
            if not keep and layer < w.L - 1:
                inner[layer] = self.new(T, B, DH)
            h = y if layer == w.L - 1 else inner[layer]
            self.forward_pass(
                layer,
                (0, T),
                self.below(layer, inner),
                h,
                states,
                saved if keep and not self.recompute else None,
                layer,
                final=final,
                every=every,
            )
            if not keep:
                inner.pop(layer - 1, None)
        return y, self.state_of(final), tape

    def pass_through(self, final: tuple[Any, ...]) -> None:
        """Without steps the state goes on as it came."""
        for k, array in enumerate(final):
            array[...] = self.library.taken(self.initial[k]) if self.initial else 0


class _Backward(_Call):
    def run(
        self, y: Any, tape: Any, dy: Any, dstate: Any, want_dx: bool, want_parameters: bool
    ) -> tuple[Any, Any, Any]:
        """The gradients, as `Weights.backward` gives them."""
        w = self.w
        dfinal = self._arrays_of("dstate", dstate)
        if not isinstance(tape, (tuple, list)):
            raise TypeError(
                f"[{w.cell}] arrays of the tape must be a tuple or list of arrays, "
                f"got {type(tape).__name__}"
            )
        w.native.check_gradients(self.native, y, tuple(tape), dy, dfinal)
        inner, states, saved = (self.library.taken(a) for a in tape)
        dfinal = tuple(self.library.taken(d) for d in dfinal)
        dinitial = self.states(self.native.state_shape(w.native))
        grads = None
        if want_parameters:
            grads = [self.library.zeros(p.shape, w.dtype, self.x) for p in self.ours]
        if self.T == 0 or self.B == 0:
            for k, array in enumerate(dinitial):
                array[...] = dfinal[k] if dfinal else 0
            dx = self.new(*self.x.shape, zeros=True) if want_dx else None
            return dx, self.state_of(dinitial), grads and tuple(grads)
        y = self.library.taken(y)
        dh = self.plain(dy)
        for layer in reversed(range(w.L)):
            ds = self.new(w.states, w.D, self.B, w.H, wide=True, zeros=True)
            passes = slice(layer * w.D, (layer + 1) * w.D)
            for k, d in enumerate(dfinal):
                ds[k][...] = d[passes] if self.batched else d[passes][:, None, :]
            h = y if layer == w.L - 1 else inner[layer]
            dbelow = self.layer(
                layer,
                self.below(layer, inner),
                h,
                states,
                saved,
                dh,
                ds,
                layer > 0 or want_dx,
                grads,
            )
            for k, array in enumerate(dinitial):
                array[passes] = ds[k] if self.batched else ds[k][:, 0, :]
            dh = dbelow
            if layer > 0:
                dh = dh * self.mask(layer - 1) if self.masks else dh
        dx = self.plain(self.as_given(dh)) if want_dx else None
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
        states: Any,
        saved: Any,
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
            n, entering, slot = window[1] - window[0], (None, 0), layer
            if self.recompute:
                entering = (states, window[0] // self.recompute - 1)
                w_states, w_saved = self.again(layer, window, below, h, entering)
                slot = 0
            else:
                w_states, w_saved = states, saved
            dgates = tuple(self.new(n, B, w.planes * H) for _ in range(D))
            self.backward_pass(
                layer, window, h, w_states, w_saved, slot, entering, dy, dgates, ds, dentry
            )
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

    def again(
        self, layer: int, window: tuple[int, int], below: Any, h: Any, entering: tuple[Any, int]
    ) -> tuple[Any, Any]:
        """The states and saved values of a window, made anew from its checkpoint."""
        w, n = self.w, window[1] - window[0]
        states = self.new(w.states - 1, 1, w.D, n, self.B, w.H, wide=True)
        saved = self.new(1, w.D, n, self.B, w.native.saved, w.H)
        self.forward_pass(layer, window, below, h, states, saved, 0, entering=entering, remake=True)
        return states, saved

    def backward_pass(
        self,
        layer: int,
        window: tuple[int, int],
        h: Any,
        states: Any,
        saved: Any,
        slot: int,
        entering: tuple[Any, int],
        dy: Any,
        dgates: tuple[Any, ...],
        ds: Any,
        dentry: Any,
    ) -> None:
        begin, end = window
        plan = self.w.native.plan(self.native, True)
        dproduct = None
        if plan.mode == "stepwise":
            dproduct = self.new(self.w.D, self.B, self.w.G * self.w.H)
        run = self.w.native.backward(
            self.native, plan, self.stream, layer, begin, end, self.given, h, self.initial,
            states, saved, slot, *entering, dy, dgates, ds, dentry, dproduct,
        )  # fmt: skip
        if plan.mode == "grid":
            self.launch(run, plan)
            return
        r = self.recurrent(layer, transposed=False)
        product = None
        for s in range(end - 1, begin - 2, -1):
            run.step(s, product)
            if s >= begin:
                product = self.plain(self.library.xp.matmul(dproduct, r))

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
        first = (layer * w.D + d) * w.each
        x = below[when]
        grads[first] += xp.matmul(flat[:, : G * H].T, xp.reshape(x, (flat.shape[0], x.shape[2])))
        dr, h_before = self.with_h_before(d, when, dgates, h[:, :, d * H : (d + 1) * H])
        for rows, planes in self.runs():
            grads[first + 1][rows] += xp.matmul(dr[:, planes].T, h_before)
        if w.each == 4:
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
            resets = self.time_first(self.library.taken(self.resets)[..., None])[entered]
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
            grads[(layer * w.D + d) * w.each + 1] += xp.matmul(dentry[d].T, h0)


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
    count, passes = len(parameters), layers * directions
    if passes < 1 or count not in (2 * passes, 4 * passes):
        raise ValueError(
            f"[{cell}] there must be 2 or 4 parameters for each layer and direction, got {count}"
        )
    w_ih, w_hh = parameters[:2]
    made = Weights(
        cell,
        _arrays.dtype_name(w_ih),
        layers,
        directions,
        w_ih.shape[1],
        w_hh.shape[1],
        count == 4 * passes,
    )
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
    before = tuple(s[None] for s in states)
    given = None if not before else before[0] if weights.states == 1 else before
    _, final = weights.infer(x[None], given, None, None, None, False, None)
    return tuple(s[0] for s in (final if isinstance(final, tuple) else (final,)))
