"""fastrnn.jax under JAX's transformations and their mixtures, against layers by `jax.lax.scan`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tiers
from cases import Case, make_data
from tolerances import SECOND_ORDER

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import fastrnn.jax as fj  # noqa: E402
from jax_tools import close, compiled, leaves, plain, precision  # noqa: E402


@pytest.fixture(autouse=True)
def _wide() -> Iterator[None]:
    with precision("float64"):
        yield


Layer = Callable[..., Any]  # (x, params, state) -> y, state
Maker = Callable[[Layer], Callable[..., Any]]  # a transformation of a layer, of the same arguments
ARGUMENTS = (0, 1, 2)


def loss(f: Layer) -> Callable[..., Any]:
    """A number in which all results weigh differently."""

    def value(*args: Any) -> Any:
        parts = [jnp.sin(jnp.arange(a.size) + 1.0).reshape(a.shape) * a for a in leaves(f(*args))]
        return sum(jnp.sum(part + part**2) for part in parts)

    return value


def shifted(a: Any, k: int) -> Any:
    """An array of the same shape, of other values."""
    return jnp.roll(jnp.cos(a + k), k).astype(a.dtype)


def along(*args: Any) -> tuple[Any, ...]:
    return tuple(jax.tree.map(lambda a: shifted(a, 1), args))


def stacked(tree: Any, axis: int = 0, n: int = 3) -> Any:
    return jax.tree.map(lambda a: jnp.stack([a, *(shifted(a, k) for k in range(1, n))], axis), tree)


def of_stack(f: Callable[..., Any], argument: int, axis: int = 0, out: int = 0) -> Any:
    """f, mapped over three of one of its arguments."""

    def mapped(*args: Any) -> Any:
        given, axes = list(args), [None, None, None]
        given[argument], axes[argument] = stacked(args[argument], axis), axis
        return jax.vmap(f, in_axes=tuple(axes), out_axes=out)(*given)

    return mapped


def hvp(f: Layer) -> Callable[..., Any]:
    return lambda *a: jax.jvp(jax.grad(loss(f), ARGUMENTS), a, along(*a))[1]


def grad_of_jvp(f: Layer) -> Callable[..., Any]:
    return jax.grad(lambda *a: jax.jvp(loss(f), a, along(*a))[1], ARGUMENTS)


def grad_of_grad(f: Layer) -> Callable[..., Any]:
    def norm(*args: Any) -> Any:
        return sum(jnp.sum(g**2) for g in leaves(jax.grad(loss(f), ARGUMENTS)(*args)))

    return jax.grad(norm, ARGUMENTS)


def third_order(f: Layer) -> Callable[..., Any]:
    def directional(*args: Any) -> Any:
        return sum(jnp.sum(h**2) for h in leaves(hvp(f)(*args)))

    return jax.grad(directional)


def linearized(f: Layer) -> Callable[..., Any]:
    """The linear map at a point, its transpose, that one's, and many values of the transpose."""

    def call(*args: Any) -> Any:
        made, linear = jax.linearize(f, *args)
        transpose = jax.linear_transpose(linear, *args)
        twice = jax.linear_transpose(transpose, made)
        several = stacked(made)
        return linear(*along(*args)), transpose(made), twice(args), jax.vmap(transpose)(several)

    return call


def pulled_back(f: Layer) -> Callable[..., Any]:
    """Many cotangents of one call, of some of its results and for some of its arguments."""

    def call(x: Any, params: Any, state: Any) -> Any:
        made, back = jax.vjp(f, x, params, state)
        of_state = jax.vjp(lambda *args: f(*args)[1], x, params, state)[1]
        (last, of_last) = jax.vjp(lambda s: leaves(f(x, params, s))[-1], state)
        (_, of_y) = jax.vjp(lambda x: f(x, params, state)[0], x)
        return (
            jax.vmap(back)(stacked(made)),
            of_state(made[1]),
            jax.vmap(of_last, in_axes=1)(stacked(last, 1)),
            jax.vmap(of_y, in_axes=2, out_axes=1)(stacked(made[0], 2)),
        )

    return call


def transposed_twice(f: Layer) -> Callable[..., Any]:
    """From the gradient of one result alone, and of some arguments, without an initial state."""

    def call(x: Any, params: Any, state: Any) -> Any:
        def of_state(w: Any, x: Any = x) -> Any:
            return f(x, {**params, "weight_ih_l0": w}, None)[1]

        w = params["weight_ih_l0"]
        made, back = jax.vjp(of_state, w)
        of_y = jax.vjp(lambda x: f(x, params, None)[0], x)[1]
        y = f(x, params, None)[0]
        jacobian = jax.jacfwd(lambda dy: jax.vjp(of_state, w, x)[1](made)[1] * dy.sum())(y)
        twice = jax.linear_transpose(back, made)(back(made))
        return twice, jax.linear_transpose(of_y, y)((x,)), jacobian

    return call


def one_parameter(f: Layer) -> Callable[..., Any]:
    """Gradients where other parameters have none, in reverse and in forward mode."""

    def call(x: Any, params: Any, state: Any) -> Any:
        def of(w: Any) -> Any:
            return loss(f)(x, {**params, "weight_hh_l0": w}, state)

        w = params["weight_hh_l0"]
        return jax.grad(of)(w), jax.jvp(of, (w,), (shifted(w, 1),))[1]

    return call


def scanned(f: Layer, body: Callable[[Any], Any] = lambda step: step) -> Callable[..., Any]:
    """A layer again and again, in the body of a scan that feeds it its own states."""

    def call(x: Any, params: Any, state: Any) -> Any:
        def step(s: Any, k: Any) -> Any:
            y, s = f(x * k, params, s)
            return s, y.sum()

        return jax.lax.scan(body(step), state, jnp.linspace(0.5, 1.0, 3))

    return call


def in_control_flow(f: Layer) -> Callable[..., Any]:
    def call(x: Any, params: Any, state: Any) -> Any:
        chosen = jax.lax.cond(x.sum() > 1e9, lambda s: s, lambda s: f(x, params, s)[1], state)
        return jax.lax.fori_loop(0, 3, lambda _, s: f(x, params, s)[1], chosen)

    return call


def jacobians(f: Layer) -> Callable[..., Any]:
    def call(x: Any, params: Any, state: Any) -> Any:
        def of(x: Any, w: Any) -> Any:
            return f(x, {**params, "weight_hh_l0": w}, state)[0].sum(-1)

        at = (x, params["weight_hh_l0"])
        return jax.jacfwd(of, (0, 1))(*at), jax.jacrev(of, (0, 1))(*at)

    return call


def hessians(f: Layer) -> Callable[..., Any]:
    def call(x: Any, params: Any, state: Any) -> Any:
        def of(x: Any) -> Any:
            return loss(f)(x, params, state)

        return jax.hessian(of)(x), jax.jacrev(jax.jacrev(of))(x), jax.jacfwd(jax.jacfwd(of))(x)

    return call


def vmap_of_everything(f: Layer) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return jax.vmap(f)(*stacked(args))

    return call


def batched_derivatives(f: Layer) -> Callable[..., Any]:
    """vmap of grad of vmap: of sums over an inner map, for each of an outer one."""

    def total(*args: Any) -> Any:
        return of_stack(loss(f), 0)(*args).sum()

    def call(x: Any, params: Any, state: Any) -> Any:
        of_x = jax.vmap(lambda x: jax.grad(total)(x, params, state))(stacked(x, n=2))
        of_all = jax.vmap(jax.grad(total, ARGUMENTS), (0, None, 0))(
            stacked(x, n=2), params, stacked(state, n=2)
        )
        return of_x, of_all

    return call


def grad(f: Callable[..., Any]) -> Callable[..., Any]:
    return jax.grad(loss(f), ARGUMENTS)


FIRST_ORDER: dict[str, Maker] = {
    "value and grad": lambda f: jax.value_and_grad(loss(f), ARGUMENTS),
    "one parameter": one_parameter,
    "vjp": pulled_back,
    "jvp": lambda f: lambda *a: jax.jvp(f, a, along(*a)),
    "linearize": linearized,
    "transposed twice": transposed_twice,
    "jacobians": jacobians,
    "vmap": vmap_of_everything,
    "vmap of x": lambda f: of_stack(f, 0, 1, 1),
    "vmap of x's last axis": lambda f: of_stack(f, 0, -1, -1),
    "vmap of the state": lambda f: of_stack(f, 2, 1, 1),
    "vmap of parameters": lambda f: of_stack(f, 1, -1, 1),
    "nested vmap": lambda f: of_stack(of_stack(of_stack(f, 0, 1), 2), 1, 1),
    "vmap of grad": lambda f: of_stack(grad(f), 0, 1),
    "vmap of grad of the state": lambda f: of_stack(jax.grad(loss(f)), 2),
    "vmap over parameters of grad of x": lambda f: of_stack(jax.grad(loss(f)), 1, 1, 1),
    "vmap of grad of parameters": lambda f: of_stack(grad(f), 1),
    "grad of vmap": lambda f: grad(of_stack(f, 0, 2, 1)),
    "grad of vmap of parameters": lambda f: grad(of_stack(f, 1)),
    "grad of nested vmap": lambda f: grad(of_stack(of_stack(f, 2), 0)),
    "vmap of grad of vmap": batched_derivatives,
    "vmap of jvp": lambda f: of_stack(lambda *a: jax.jvp(f, a, along(*a)), 0, 1),
    "scan": scanned,
    "grad of scan": lambda f: grad(scanned(f)),
    "vmap of grad of scan": lambda f: of_stack(grad(scanned(f)), 0),
    "grad of checkpoint": lambda f: grad(jax.checkpoint(f)),
    "grad of checkpoint in scan": lambda f: grad(scanned(f, jax.checkpoint)),
    "control flow": in_control_flow,
}
HIGHER_ORDER: dict[str, Maker] = {
    "jvp of grad": hvp,
    "grad of jvp": grad_of_jvp,
    "grad of grad": grad_of_grad,
    "grad of grad of checkpoint": lambda f: grad_of_grad(jax.checkpoint(f)),
    "hessians": hessians,
    "vmap of jvp of grad": lambda f: of_stack(hvp(f), 1),
    "jvp of grad of vmap": lambda f: hvp(of_stack(f, 0)),
    "jvp of grad of scan": lambda f: hvp(scanned(f)),
    "third order": third_order,
}

CASES = {
    "plain": Case("lstm", 3, 2, 2, 2, "float64"),
    "layers": Case("lstm", 3, 2, 2, 2, "float64", D=2, L=2, batch_first=True, dropout=True),
    "unbatched": Case("gru", 3, 1, 2, 2, "float64", D=2, batched=False, recurrent="gates"),
    "rows": Case("gru", 4, 3, 2, 2, "float64", D=2, lengths=True, resets=True, reverse=True),
    "masks": Case("lstm", 3, 2, 2, 3, "float64", P=2, L=2, recurrent="shared", bias=False),
    "simple": Case("rnn_tanh", 3, 2, 2, 2, "float64", batch_first=True, resets=True),
}


def pair(case: Case, **more: Any) -> tuple[Layer, Layer, tuple[Any, ...]]:
    """Ours, theirs, and arguments."""
    data = make_data(case, 5)
    options = {**data.options, **more}
    recompute = 2 if case.lengths else 0

    def ours(x: Any, params: Any, state: Any) -> Any:
        return fj.recurrent(case.cell, x, params, state, recompute=recompute, **options)

    def theirs(x: Any, params: Any, state: Any) -> Any:
        return plain(case.cell, x, params, state, **options)

    return ours, theirs, jax.tree.map(jnp.asarray, (data.x, data.params, data.state))


def check(make: Maker, case: Case, tolerance: float) -> None:
    ours, theirs, args = pair(case)
    close(compiled(make(ours))(*args), compiled(make(theirs))(*args), tolerance)


def in_turn(table: dict[str, Maker], each: int) -> list[tuple[str, str]]:
    """Some cases for each transformation."""
    cases = list(CASES)
    return [
        (name, cases[(k + case) % len(cases)])
        for k, name in enumerate(table)
        for case in range(each)
    ]


FIRST = in_turn(FIRST_ORDER, tiers.choose(dev=1, ci=2, full=len(CASES)))
HIGHER = in_turn(HIGHER_ORDER, tiers.choose(dev=1, ci=1, full=len(CASES)))
# One of each kind of rule: the dev tier's.
DEV_FIRST = (
    "value and grad",
    "one parameter",
    "jvp",
    "linearize",
    "jacobians",
    "vmap",
    "vmap of parameters",
    "vmap over parameters of grad of x",
    "vmap of grad of parameters",
    "vmap of grad of vmap",
    "grad of checkpoint in scan",
)
DEV_HIGHER = ("jvp of grad", "grad of grad")


def of(pairs: list[tuple[str, str]], names: tuple[str, ...]) -> list[Any]:
    return tiers.thin(pairs, [pair for pair in pairs if pair[0] in names])


@pytest.mark.parametrize(("name", "case"), of(FIRST, DEV_FIRST))
def test_first_order(name: str, case: str) -> None:
    check(FIRST_ORDER[name], CASES[case], 1e-10)


@pytest.mark.parametrize(("name", "case"), of(HIGHER, DEV_HIGHER))
def test_higher_order(name: str, case: str) -> None:
    check(HIGHER_ORDER[name], CASES[case], SECOND_ORDER)


# ---- what vmap may map ---------------------------------------------------------------------------


def small(cell: str, **options: Any) -> Case:
    return Case(cell, 4, 3, 2, 3, "float64", **options)


MAPPED = {  # with the axis at which elements stand
    "lengths": (small("lstm", D=2, lengths=True), 0),
    "lengths, last": (small("lstm", D=2, lengths=True), 1),
    "resets": (small("gru", D=2, L=2, resets=True), 1),
    "resets, one row": (small("gru", batched=False, resets=True), 1),
    "resets, rows first": (small("gru", batch_first=True, resets=True), 2),
    "holds": (small("rnn_tanh", holds=True, repeat_held=True), 1),
    "dropout_masks": (small("gru", L=3, dropout=True), 1),
    "dropout_masks, one row": (small("gru", L=2, batched=False, dropout=True), 1),
    "recurrent_masks": (small("gru", D=2, recurrent="shared"), 2),
    "recurrent_masks, gates": (small("lstm", D=2, recurrent="gates", batch_first=True), 4),
    "recurrent_masks, one row": (small("lstm", batched=False, recurrent="gates"), 1),
}


@pytest.mark.parametrize(
    "name",
    tiers.thin(
        MAPPED, ["lengths", "resets, rows first", "dropout_masks", "recurrent_masks, gates"]
    ),
)
def test_vmap_of_an_option_alone(name: str) -> None:
    """With x, states and parameters the same for all."""
    case, axis = MAPPED[name]
    option = name.partition(",")[0]
    args = pair(case)[2]

    def call(own: Any) -> Any:
        f = pair(case, **{option: own})[0]
        pushed = jax.jvp(f, args, along(*args))
        return pushed, jax.grad(loss(f), ARGUMENTS)(*args)

    several = [make_data(case, seed).options[option] for seed in (5, 6, 7)]
    given = jax.tree.map(lambda *each: jnp.stack(each, axis), *several)
    expected = list(map(compiled(call), several))
    found = compiled(jax.vmap(call, in_axes=axis))(given)
    close(found, jax.tree.map(lambda *each: jnp.stack(each), *expected))


def test_vmap_over_none() -> None:
    ours, _, (x, params, state) = pair(CASES["layers"])
    per_row = jax.vmap(lambda x, params: loss(ours)(x, params, state), (0, None))
    for n in (0, 1):
        xs = jnp.ones((n, *x.shape))
        y, (h, _) = jax.vmap(ours, (0, None, None))(xs, params, state)
        assert (y.shape[:3], h.shape[:3]) == ((n, *x.shape[:2]), (n, 4, 2))
        samples = jax.vmap(jax.grad(loss(ours), ARGUMENTS), (0, None, None))(xs, params, state)
        assert samples[1]["bias_hh_l1"].shape == (n, 8)
        total = jax.grad(lambda p, xs: per_row(xs, p).sum())(params, xs)
        assert bool((total["weight_ih_l0"] != 0).any()) == (n > 0)
        pushed = jax.jvp(lambda x: jax.vmap(lambda x: ours(x, params, state)[0])(x), (xs,), (xs,))
        assert pushed[1].shape == y.shape


@pytest.mark.parametrize(("T", "B"), tiers.thin([(0, 2), (3, 0), (0, 0)], [(0, 2)]))
def test_no_steps_or_rows(T: int, B: int) -> None:
    """Derivatives of every kind, also of what vmap makes of it."""
    options = {"lengths": True, "resets": True, "holds": True, "repeat_held": True}
    case = Case("lstm", T, B, 2, 3, "float64", L=2, D=2, dropout=True, **options)
    ours, _, args = pair(case)
    y, final = ours(*args)
    close(final, args[2], 0.0)
    dx, grads, dstate = jax.grad(loss(ours), ARGUMENTS)(*args)
    assert dx.shape == args[0].shape
    assert all((g == 0).all() for g in leaves(grads))
    second = compiled(hvp(ours))(*args)
    assert all((g == 0).all() for g in leaves(second[1]))
    made, pushed = jax.jvp(ours, args, along(*args))
    close(made, (y, final), 0.0)
    close(pushed[1], along(*args)[2], 0.0)
    close(of_stack(ours, 2)(*args)[1], stacked(args[2]), 0.0)
    assert dstate[0].shape == args[2][0].shape


def test_undifferentiated_masks() -> None:
    """They may be functions of what is differentiated, if they are cut off."""
    _, _, (x, params, state) = pair(CASES["plain"])

    def of(x: Any, cut: Any) -> Any:
        masks = cut(jnp.ones((1, 2, 2)) * x.mean())
        return fj.lstm(x, params, state, recurrent_masks=masks)[0].sum()

    def constant(x: Any) -> Any:
        return of(x, lambda masks: jax.lax.stop_gradient(masks))

    assert jax.grad(constant)(x).shape == x.shape
    with pytest.raises(NotImplementedError, match=r"\[lstm\] recurrent_masks must not be diff"):
        jax.grad(lambda x: of(x, lambda masks: masks))(x)
    data, masks = make_data(Case("gru", 3, 2, 2, 2, "float64", L=2)), jnp.ones((3, 2, 2))
    with pytest.raises(NotImplementedError, match=r"\[gru\] dropout_masks must not be diff"):
        jax.jvp(lambda m: fj.gru(data.x, data.params, dropout_masks=[m]), (masks,), (masks,))


# ---- what is called ------------------------------------------------------------------------------


def compiled_text(f: Callable[..., Any], *args: Any) -> str:
    text: str = jax.jit(f).lower(*args).compile().as_text()
    return text


def calls(text: str) -> int:
    return text.count('custom_call_target="fastrnn.call"')


@pytest.mark.parametrize(
    "case", tiers.thin(["plain", "layers", "rows", "masks", "unbatched"], ["layers"])
)
def test_counts_of_calls(case: str) -> None:
    """One call of the engine forward, one back, and no loop of JAX's; so it stays under vmap."""
    ours, _, args = pair(CASES[case])
    for f, count in [
        (ours, 1),
        (jax.grad(loss(ours), ARGUMENTS), 2),
        (jax.grad(loss(of_stack(ours, 0)), ARGUMENTS), 2),
        (of_stack(of_stack(ours, 0), 2), 1),
        (of_stack(jax.grad(loss(ours)), 0), 2),
        (of_stack(jax.grad(loss(ours), (0, 2)), 2), 2),
    ]:
        text = compiled_text(f, *args)
        assert (calls(text), "while" in text) == (count, False)
    # Where each element has weights, or gradients of them, they are called in turn.
    for f, count in [
        (of_stack(ours, 1), 1),
        (of_stack(jax.grad(loss(ours), ARGUMENTS), 0), 2),
    ]:
        text = compiled_text(f, *args)
        assert (calls(text), "while" in text) == (count, True)


def test_elements_are_rows() -> None:
    ours, _, args = pair(CASES["plain"])
    text = compiled_text(of_stack(ours, 0), *args)
    (line,) = [line for line in text.splitlines() if "fastrnn.call" in line]
    assert "f64[3,6,2]" in line, "3 steps of 3 * 2 rows"


@pytest.mark.parametrize("result", [0, 1, 2])
def test_gradients_of_one_result(result: int) -> None:
    """Of y, hn or cn alone, where the others have none."""
    ours, theirs, args = pair(CASES["plain"])

    def gradient(f: Layer) -> Any:
        return jax.grad(lambda *a: jnp.sum(leaves(f(*a))[result] ** 2), ARGUMENTS)(*args)

    close(compiled(lambda: gradient(ours))(), compiled(lambda: gradient(theirs))())


def test_what_is_wanted() -> None:
    """Backward makes the gradients that are asked for, and no others."""
    ours, _, args = pair(CASES["plain"])
    for argument, wanted in enumerate(["dx=True, parameters=False", "dx=False, parameters=True"]):
        assert f"Wants({wanted})" in str(jax.make_jaxpr(jax.grad(loss(ours), argument))(*args))


def test_what_is_kept() -> None:
    """Calls without a derivative keep no tape, and recompute keeps less."""

    def kept(f: Any, *args: Any) -> int:
        made = jax.eval_shape(lambda *args: jax.vjp(f, *args)[1], *args)
        return sum(a.size for a in leaves(made))

    data = make_data(Case("lstm", 64, 4, 3, 32, "float64"))
    args = (data.x, data.params, data.state)
    all_steps = kept(fj.lstm, *args)
    some = kept(lambda *args: fj.lstm(*args, recompute=8), *args)
    tape = 64 * 4 * 32 * 4
    assert all_steps - some > tape
    assert kept(jax.checkpoint(fj.lstm), *args) == sum(a.size for a in leaves(args))
    assert "keep_tape=False" in str(jax.make_jaxpr(fj.lstm)(*args))
