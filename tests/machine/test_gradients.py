"""Every primitive that has a backward passes central differences; a new one without a case here fails."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finite_differences import Array, Pair, Run, check
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import rngs, turns

from minidsv3.machine import primitives as p
from minidsv3.machine.catalogue import primitives as counted

Case = Callable[[np.random.Generator, int, int, int], Pair]
NO_BACKWARD = {
    "add": "the gradient of a sum is passed on as it is",
    "top_k": "a choice has no gradient",
    "adamw": "the update is not part of the loss",
    "average": "nor is the average of the parameters",
    "quantise": "the gradient passes a rounding as it is",
    "keep": "what is kept for the backward is not part of the forward",
    "copy_weight": "the gradient passes a rounding as it is, to the master weights",
}


def simple(forward: Callable[..., Any], backward: Callable[..., Any], *leaves: Array) -> Pair:
    """A pair whose backward is backward(d_y, *leaves) and whose forward may write over its input."""

    def run() -> Run:
        return Run([forward(*(leaf.copy() for leaf in leaves))], None)

    def back(d: Any, saved: Any) -> Any:
        out = backward(d[0], *leaves)
        return out if isinstance(out, tuple) else [out]

    return Pair(leaves, run, back)


def linear(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    return simple(p.linear, p.linear_backward, rng.normal(size=(n, d)), rng.normal(size=(r, d)))


def grouped_linear(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    bounds = [0, n // 3, n // 3, n]  # the expert in the middle has no rows
    return simple(
        lambda x, W: p.grouped_linear(x, W, bounds),
        lambda d_y, x, W: p.grouped_linear_backward(d_y, x, W, bounds),
        rng.normal(size=(n, d)),
        rng.normal(size=(3, r, d)),
    )


def contract(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    b = rng.normal(size=(2, r, d)).swapaxes(1, 2) if r % 2 else rng.normal(size=(2, d, r))
    return simple(p.contract, p.contract_backward, rng.normal(size=(2, n, d)), b)


def embedding(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    ids = rng.integers(r, size=n)
    return simple(
        lambda table: p.embedding(table, ids),
        lambda d_x, table: p.embedding_backward(d_x, table, ids),
        rng.normal(size=(r, d)),
    )


def rmsnorm(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    x, gain = rng.normal(size=(n, d)), rng.normal(size=d)

    def run() -> Run:
        y, root = p.rmsnorm(x, gain, 1e-2)
        return Run([y], root)

    return Pair([x, gain], run, lambda d, root: p.rmsnorm_backward(d[0], x, gain, root))


def rope(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    heads = () if r % 2 else (r,)
    rotation = turns(n, 2 * d)
    return simple(
        lambda x: p.rope(x, rotation),
        lambda d_x, x: p.rope_backward(d_x, rotation),
        rng.normal(size=(2, n, *heads, 2 * d)),
    )


def softmax(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    """n queries behind d cached tokens."""
    return simple(
        lambda a: p.softmax(a, d),
        lambda d_p, a: p.softmax_backward(d_p, p.softmax(a.copy(), d)),
        rng.normal(size=(r, n, d + n)),
    )


def row_softmax(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    return simple(
        p.row_softmax,
        lambda d_y, x: p.row_softmax_backward(d_y, p.row_softmax(x)),
        rng.normal(size=(n, d)),
    )


def sigmoid(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    return simple(p.sigmoid, lambda d_y, x: p.sigmoid_backward(d_y, p.sigmoid(x)), rng.normal(size=(n, d)))


def swiglu(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    gate, up = rng.normal(size=(2, n, d))

    def run() -> Run:
        y, sigma = p.swiglu(gate, up)
        return Run([y], sigma)

    return Pair(
        [gate, up], run, lambda d, sigma: np.split(p.swiglu_backward(d[0], gate, up, sigma), 2, axis=1)
    )


def plan(rng: np.random.Generator, n: int, experts: int, k: int) -> p.Plan:
    k = min(k, experts)
    return p.plan_dispatch(np.array([rng.permutation(experts)[:k] for _ in range(n)]), experts)


def dispatch(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    way = plan(rng, n, r + 1, d)
    return simple(
        lambda x: p.dispatch(x, way), lambda d_y, x: p.dispatch_backward(d_y, way), rng.normal(size=(n, d))
    )


def combine(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    way = plan(rng, n, r + 1, d)
    y = rng.normal(size=(way.place.size, d))
    return simple(lambda y: p.combine(y, way), lambda d_out, y: p.combine_backward(d_out, way), y)


def scale(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    return simple(p.scale, p.scale_backward, rng.normal(size=(n, d)), rng.normal(size=n))


def renormalise(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    chosen = rng.uniform(0.1, 1, size=(n, d))

    def run() -> Run:
        weights, total = p.renormalise(chosen, 2.5)
        return Run([weights], (weights, total))

    return Pair([chosen], run, lambda d, saved: [p.renormalise_backward(d[0], *saved, 2.5)])


def balance(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    scores, load = rng.uniform(0.1, 1, size=(r, n, d)), rng.uniform(0, 2, size=(r, d))

    def run() -> Run:
        loss, saved = p.balance(scores, load)
        return Run([], saved, 0.3 * float(loss.sum()))

    return Pair([scores], run, lambda d, saved: [p.balance_backward(0.3, *saved)])


def cross_entropy(rng: np.random.Generator, n: int, d: int, r: int) -> Pair:
    logits, targets = rng.normal(size=(n, d)), rng.integers(d, size=n)

    def run() -> Run:
        nll, probabilities = p.cross_entropy(logits.copy(), targets)
        return Run([], probabilities, 0.7 * float(nll.sum()))

    return Pair([logits], run, lambda d, saved: [p.cross_entropy_backward(0.7, saved, targets)])


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        linear, grouped_linear, contract, embedding, rmsnorm, rope, softmax, row_softmax, sigmoid, swiglu,
        dispatch, combine, scale, renormalise, balance, cross_entropy,
    )
}  # fmt: skip


def test_every_primitive_has_a_backward_and_a_case() -> None:
    backward = {name for name in p.PRIMITIVES if hasattr(p, f"{name}_backward")}
    assert backward == set(CASES)
    assert set(p.PRIMITIVES) - backward == set(NO_BACKWARD)
    public = {name for name in vars(p) if name.endswith("_backward") and not name.startswith("_")}
    assert public == {f"{name}_backward" for name in CASES}, "a backward that PRIMITIVES does not list"


def test_the_catalogue_knows_which_primitives_have_a_backward() -> None:
    table = counted()
    assert set(table) == set(p.PRIMITIVES)
    assert {name for name, row in table.items() if row.backward} == set(CASES)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25)
@given(rng=rngs, n=st.integers(1, 12), d=st.integers(1, 6), r=st.integers(1, 5))
def test_primitive_passes_central_differences(
    name: str, rng: np.random.Generator, n: int, d: int, r: int
) -> None:
    check(CASES[name](rng, n, d, r), rng)
