"""fastrnn.jax with bad input: each error names the rule and the value, and is raised by the call
that is wrong, also within jit, vmap and grad; what only values show is JAX's own runtime error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cases import Case, make_data

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax import export  # noqa: E402

import fastrnn.jax as fj  # noqa: E402
from jax_tools import precision  # noqa: E402

CASE = Case("lstm", 3, 2, 3, 4, L=2)
DATA = make_data(CASE)
PARAMS, STATE = DATA.params, DATA.state
F64 = np.float64

# What is changed in a call that is right, and the error.
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"cell": "foo"}, ValueError, r"[cell] cell must be one of rnn_tanh, "),
    ({"cell": "lstm("}, ValueError, r"[cell] "),
    ({"cell": 3}, TypeError, r"[cell] cell must be a name, got int"),
    ({"cell": "gru"}, TypeError, r"[gru] state must be an array, got tuple"),
    ({"x": [[1.0]]}, TypeError, r"[lstm] x must be an array, got list"),
    ({"x": None}, TypeError, r"[lstm] x must be an array, got NoneType"),
    ({"x": np.ones(3, np.float32)}, ValueError, r"[lstm] x must have shape (T, B, I) or (T, I)"),
    ({"x": np.ones((3, 2, 1, 3), np.float32)}, ValueError, r"[lstm] x must have shape (T, B, I)"),
    ({"x": DATA.x[..., :2]}, ValueError, r"[lstm] x must have 3 features in its last dimension"),
    ({"x": DATA.x.astype(np.int32)}, TypeError, r"[lstm] x must be float32 in native byte order"),
    ({"x": DATA.x.astype(F64)}, TypeError, r"[lstm] x must be float32 .*, got float64"),
    ({"x": jnp.ones((3, 2, 3), jnp.bfloat16)}, TypeError, r"[lstm] x must be float32 .*bfloat16"),
    ({"x": DATA.x + 1j}, TypeError, r"[lstm] x must be float32 in native byte order, got complex"),
    ({"params": list(PARAMS)}, TypeError, r"[lstm] params must be a mapping of names to arrays"),
    ({"params": {}}, ValueError, r"[lstm] weight_ih_l0 is needed, got none"),
    (
        {"params": {k: v for k, v in PARAMS.items() if k != "bias_hh_l1"}},
        ValueError,
        r"[lstm] bias_hh_l1 is needed, got none",
    ),
    ({"params": {**PARAMS, "bias": 1}}, ValueError, r"[lstm] parameters must be of .*, got 'bias'"),
    (
        {"params": {**PARAMS, "bias_ih_l0": None}},
        TypeError,
        r"[lstm] bias_ih_l0 must be an array, got NoneType",
    ),
    (
        {"params": {**PARAMS, "weight_hh_l1": np.ones((12, 4), np.float32)}},
        ValueError,
        r"[lstm] weight_hh_l1 must have shape (16, 4), got (12, 4)",
    ),
    (
        {"params": {**PARAMS, "weight_hh_l0": np.ones(16, np.float32)}},
        ValueError,
        r"[lstm] weight_ih_l0 and weight_hh_l0 must have rank 2, got shapes (16, 3) and (16,)",
    ),
    (
        {"params": {**PARAMS, "bias_hh_l0": np.ones(16, F64)}},
        TypeError,
        r"[lstm] bias_hh_l0 must be float32 in native byte order, got float64",
    ),
    ({"state": STATE[0]}, TypeError, r"[lstm] state must be a tuple of 2 arrays, got "),
    ({"state": STATE[:1]}, ValueError, r"[lstm] state must hold 2 arrays, got 1"),
    ({"state": (STATE[0], None)}, TypeError, r"[lstm] state must be an array, got NoneType"),
    (
        {"state": (STATE[0], STATE[1][:, :1])},
        ValueError,
        r"[lstm] c0 must have shape (2, 2, 4), got (2, 1, 4)",
    ),
    (
        {"state": (STATE[0][:, 0], STATE[1])},
        ValueError,
        r"[lstm] h0 must have shape (2, 2, 4), got (2, 4)",
    ),
    ({"lengths": "all"}, TypeError, r"[lstm] lengths must be integers, got <U3"),
    ({"lengths": [1.0, 2.0]}, TypeError, r"[lstm] lengths must be integers, got float64"),
    ({"lengths": [True, False]}, TypeError, r"[lstm] lengths must be integers, got bool"),
    ({"lengths": [1, None]}, TypeError, r"[lstm] lengths must be integers, got object"),
    ({"lengths": [[1], [2, 3]]}, TypeError, r"[lstm] lengths must be integers, got nested lists"),
    ({"lengths": [1, 2, 3]}, ValueError, r"[lstm] lengths must have shape (2,), got (3,)"),
    ({"lengths": 2}, ValueError, r"[lstm] lengths must have shape (2,), got ()"),
    ({"lengths": jnp.ones(2)}, TypeError, r"[lstm] lengths must be integers in native byte order"),
    ({"resets": np.zeros((3, 2), int)}, TypeError, r"[lstm] resets must be bool, got int"),
    (
        {"resets": np.zeros((2, 3), bool)},
        ValueError,
        r"[lstm] resets must have shape (3, 2), got (2, 3)",
    ),
    ({"resets": [[True]]}, TypeError, r"[lstm] resets must be an array, got list"),
    ({"holds": np.zeros((3, 1), bool)}, ValueError, r"[lstm] holds must have shape (3, 2)"),
    ({"holds": True}, TypeError, r"[lstm] holds must be an array, got bool"),
    ({"repeat_held": "yes"}, TypeError, r"[lstm] repeat_held must be True or False, got 'yes'"),
    ({"batch_first": 2}, TypeError, r"[lstm] batch_first must be True or False, got 2"),
    ({"reverse": None}, TypeError, r"[lstm] reverse must be True or False, got None"),
    ({"recompute": -1}, ValueError, r"[lstm] recompute must be within 0..2**40 steps, got -1"),
    ({"recompute": 1.5}, TypeError, r"[lstm] recompute must be True, False or a number of steps"),
    (
        {"dropout_masks": DATA.x},
        TypeError,
        r"[lstm] dropout_masks must be a tuple or list of arrays, got ",
    ),
    (
        {"dropout_masks": []},
        ValueError,
        r"[lstm] dropout_masks must be one for each layer but the last (1), got 0",
    ),
    (
        {"dropout_masks": [DATA.x, DATA.x]},
        ValueError,
        r"[lstm] dropout_masks must be one for each layer but the last (1), got 2",
    ),
    (
        {"dropout_masks": [DATA.x]},
        ValueError,
        r"[lstm] dropout mask 0 must have shape (3, 2, 4), got (3, 2, 3)",
    ),
    ({"dropout_masks": [0.5]}, TypeError, r"[lstm] dropout_masks must be an array, got float"),
    (
        {"recurrent_masks": STATE[0][:, :1]},
        ValueError,
        r"[lstm] recurrent_masks must have shape (2, 2, 4), got (2, 1, 4)",
    ),
    (
        {"recurrent_masks": np.ones((2, 3, 2, 4), np.float32)},
        ValueError,
        r"[lstm] recurrent_masks must have shape (2, 4, 2, 4), got (2, 3, 2, 4)",
    ),
    (
        {"recurrent_masks": STATE[0] > 0},
        TypeError,
        r"[lstm] recurrent_masks must be float32 in native byte order, got bool",
    ),
    ({"dropout": 0.5}, TypeError, r"unexpected keyword argument 'dropout'"),
]


@pytest.fixture(autouse=True)
def _wide() -> Iterator[None]:
    with precision("float64"):
        yield


def call(**changed: Any) -> Any:
    given = {"cell": "lstm", "x": DATA.x, "params": PARAMS, "state": STATE, **changed}
    return fj.recurrent(**given)


def pattern(text: str) -> str:
    """The text itself, in which only `.*` is a pattern."""
    return ".*".join(map(re.escape, text.split(".*")))


def names(rows: list[Any]) -> list[str]:
    return [f"{k} {'-'.join(changed)}" for k, (changed, *_) in enumerate(rows)]


@pytest.mark.parametrize(("changed", "kind", "text"), WRONG, ids=names(WRONG))
def test_arguments(changed: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=pattern(text)):
        call(**changed)


ARRAYS = [
    row
    for row in WRONG
    if all(isinstance(a, (np.ndarray, jax.Array)) for a in jax.tree.leaves(list(row[0].values())))
    and jax.tree.leaves(list(row[0].values()))
    and "None" not in row[2]
]
UNDER: dict[str, Callable[..., Any]] = {
    "jit": jax.jit,
    "vmap": lambda f: lambda c: jax.vmap(f)(jax.tree.map(lambda a: jnp.stack([a, a]), c)),
    "grad": lambda f: lambda c: jax.grad(lambda x: f(c, x)[0].sum())(jnp.asarray(DATA.x)),
    "eval_shape": lambda f: lambda c: jax.eval_shape(f, c),
}


@pytest.mark.parametrize("under", UNDER)
@pytest.mark.parametrize(("changed", "kind", "text"), ARRAYS, ids=names(ARRAYS))
def test_arrays_under(
    under: str, changed: dict[str, Any], kind: type[Exception], text: str
) -> None:
    """Shapes and dtypes are refused when a call is traced, and are those of the caller."""

    def f(changed: Any, x: Any = DATA.x) -> Any:
        return call(**{"x": x, **changed})

    with pytest.raises(kind, match=pattern(text)):
        UNDER[under](f)(changed)


def test_lengths_need_a_batch() -> None:
    with pytest.raises(ValueError, match=r"\[lstm\] lengths need a batch: x must have rank 3"):
        call(x=DATA.x[:, 0], state=None, lengths=2)
    single = jax.vmap(lambda x, n: call(x=x, state=None, lengths=n), (1, 0))
    for lengths in ([1, 2], [[1], [2]]):
        with pytest.raises(ValueError, match=r"\[lstm\] lengths need a batch: x must have rank 3"):
            single(DATA.x, jnp.array(lengths))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"x": np.ones(3, np.float32)}, r"[lstm] x must have shape (T, B, I) or (T, I), got ()"),
        ({"lengths": np.ones(3, int)}, r"[lstm] lengths must have shape (2,), got ()"),
        ({"resets": np.ones((3, 3), bool)}, r"[lstm] resets must have shape (3, 2), got (3,)"),
        (
            {"recurrent_masks": np.ones((3, 4), np.float32)},
            r"[lstm] recurrent_masks must have shape (2, 2, 4), got (4,)",
        ),
        (
            {"recurrent_masks": np.ones(3, np.float32)},
            r"[lstm] recurrent_masks must have shape (2, 2, 4), got ()",
        ),
        (
            {"state": (np.ones((3, 2, 4), np.float32),) * 2},
            r"[lstm] h0 must have shape (2, 2, 4), got (2, 4)",
        ),
    ],
    ids=["x", "lengths", "resets", "masks", "no masks", "state"],
)
def test_too_few_axes_under_vmap(changed: dict[str, Any], text: str) -> None:
    """Elements whose arrays lack the axis of rows do not take that of the map for it."""
    for f in (call, lambda **own: jax.grad(lambda x: call(**{"x": x, **own})[0].sum())(DATA.x)):
        with pytest.raises(ValueError, match=pattern(text)):
            jax.vmap(lambda own, f=f: f(**own))(changed)


@pytest.mark.parametrize(("lengths", "wrong"), [([4, 0], 4), ([3, -1], -1), ([2**31 - 1, 0], None)])
def test_values_of_lengths(lengths: list[int], wrong: int | None) -> None:
    """They are known when the call runs: then JAX raises its own error, with the engine's text."""
    text = rf"\[lstm\] lengths must be within 0\.\.3, got {wrong or 2**31 - 1}"
    for dtype in (np.int32, np.int64):
        n = np.array(lengths, dtype)
        for f in (call, jax.jit(lambda lengths: call(lengths=lengths))):
            with pytest.raises(jax.errors.JaxRuntimeError, match=text):
                jax.block_until_ready(f(lengths=n))
        gradient = jax.grad(lambda x, n=n: call(x=x, lengths=n)[0].sum())
        with pytest.raises(jax.errors.JaxRuntimeError, match=text):
            jax.block_until_ready(gradient(DATA.x))
    # The process goes on, and so does the engine.
    assert np.isfinite(call(lengths=[3, 0])[0]).all()


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("foo", 2, 3), ValueError, r"[cell] cell must be one of "),
        (("lstm", 0, 3), ValueError, r"[lstm] input_size must be at least 1"),
        (("lstm", 2, 3.0), TypeError, r"[lstm] hidden_size must be an integer, got 3.0"),
        (("lstm", 2, 3, True), TypeError, r"[lstm] num_layers must be an integer, got True"),
    ],
)
def test_init_of(arguments: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=pattern(text)):
        fj.init(jax.random.key(0), *arguments)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"bias": 2}, TypeError, r"[gru] bias must be True or False, got 2"),
        ({"bidirectional": "no"}, TypeError, r"[gru] bidirectional must be True or False"),
        ({"proj_size": 2}, NotImplementedError, r"[gru] proj_size must be 0: "),
        ({"dtype": "float16"}, TypeError, r"[gru] dtype must be float32 or float64, got 'float16'"),
        ({"dtype": jnp.bfloat16}, TypeError, r"[gru] dtype must be float32 or float64, got "),
        ({"dtype": int}, TypeError, r"[gru] dtype must be float32 or float64, got "),
    ],
)
def test_options_of_init(options: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=pattern(text)):
        fj.init(jax.random.key(0), "gru", 2, 3, **options)


def traced(x: Any, state: Any = None, **changed: Any) -> Any:
    """Export a call with symbolic sizes; what is wrong is known when it is traced."""

    def f(x: Any, state: Any, rest: Any) -> Any:
        return call(x=x, state=state, **rest)

    return export.export(jax.jit(f), disabled_checks=[])(x, state, changed)


@pytest.mark.parametrize(
    ("sizes", "rows", "text"),
    [
        ("T", "B", r"[lstm] x must have shape (T, B, I) or (T, I), got (T,)"),
        ("T, B, 5", "B", r"[lstm] x must have 3 features in its last dimension, got (T, B, 5)"),
        ("T, B, N", "B", r"[lstm] x must have 3 features in its last dimension, got (T, B, N)"),
        ("T, B, 3", "T", r"[lstm] h0 must have shape (2, B, 4), got (2, T, 4)"),
        ("T, 2*B, 3", "B", r"[lstm] h0 must have shape (2, 2*B, 4), got (2, B, 4)"),
        ("T, B, 3", "7", r"[lstm] h0 must have shape (2, B, 4), got (2, 7, 4)"),
        ("T, 3", "B", r"[lstm] h0 must have shape (2, 4), got (2, B, 4)"),
    ],
)
def test_symbolic_sizes(sizes: str, rows: str, text: str) -> None:
    scope = export.SymbolicScope()
    shape = export.symbolic_shape(sizes, scope=scope)
    state = export.symbolic_shape(f"2, {rows}, 4", scope=scope)
    h = jax.ShapeDtypeStruct(state, np.float32)
    with pytest.raises(ValueError, match=pattern(text)):
        traced(jax.ShapeDtypeStruct(shape, np.float32), (h, h))


def test_symbolic_sizes_of_parameters() -> None:
    """They may not be known either: then the call is checked when it runs."""
    T, B, H = export.symbolic_shape("T, B, H")

    def f(x: Any, params: Any) -> Any:
        return fj.gru(x, params)[0]

    params = make_data(Case("gru", 3, 2, 3, 4)).params

    def of(name: str, a: Any) -> Any:
        own = (3 * H, *(() if "bias" in name else (3 if "ih" in name else H,)))
        return jax.ShapeDtypeStruct(own, a.dtype)

    ours = [export.DisabledSafetyCheck.custom_call(target) for target in fj.TARGETS]
    program = export.export(jax.jit(f), disabled_checks=ours)(
        jax.ShapeDtypeStruct((T, B, 3), np.float32), {k: of(k, a) for k, a in params.items()}
    )
    assert (program.call(DATA.x, params) == f(DATA.x, params)).all()
    with pytest.raises(ValueError, match="H"):
        program.call(DATA.x, {**params, "bias_hh_l0": np.ones(9, np.float32)})
