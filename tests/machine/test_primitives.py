"""Primitives against the plainest way to say the same."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from strategies import rngs

from minidsv3.machine import primitives as p


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.integers(1, 9)),
        elements=st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 3.0, np.inf]),
    ),
    st.data(),
)
def test_top_k_is_a_stable_sort_for_few_rows_and_for_many(choice: np.ndarray, data: st.DataObject) -> None:
    """Also where fewer than k are finite: nothing is chosen twice."""
    k = data.draw(st.integers(1, choice.shape[1]))
    before, chosen = choice.copy(), p.top_k(choice, k)
    for row, got in zip(choice, chosen, strict=True):
        assert got.tolist() == sorted(range(len(row)), key=lambda e: -max(row[e], np.finfo("f").min))[:k]
    np.testing.assert_array_equal(choice, before)


@given(rngs, st.integers(1, 20), st.integers(1, 6), st.data())
def test_a_plan_sorts_copies_by_expert_and_tokens_inside(
    rng: np.random.Generator, N: int, E: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, E))
    indices = np.array([rng.permutation(E)[:k] for _ in range(N)])
    plan = p.plan_dispatch(indices, E)
    expected = [(e, t) for e in range(E) for t in range(N) if e in indices[t]]
    assert plan.token.tolist() == [t for _, t in expected]
    for e in range(E):
        assert plan.token[plan.bounds[e] : plan.bounds[e + 1]].tolist() == [t for f, t in expected if f == e]
    assert sorted(plan.place.ravel().tolist()) == list(range(N * k))
    np.testing.assert_array_equal(plan.token[plan.place], np.repeat(np.arange(N), k).reshape(N, k))


@given(rngs, st.integers(1, 20), st.integers(1, 6))
def test_combining_what_was_dispatched_multiplies_by_the_choices(
    rng: np.random.Generator, N: int, k: int
) -> None:
    plan = p.plan_dispatch(np.array([rng.permutation(6)[:k] for _ in range(N)]), 6)
    x = rng.normal(size=(N, 3))
    np.testing.assert_allclose(p.combine(p.dispatch(x, plan), plan), k * x, rtol=1e-12)


@given(rngs, st.integers(1, 7), st.integers(0, 5))
def test_softmax_rows_sum_to_one_over_what_they_see(rng: np.random.Generator, T: int, first: int) -> None:
    out = p.softmax(rng.normal(0, 50, size=(2, T, first + T)), first)
    np.testing.assert_allclose(out.sum(axis=-1), 1)
    assert not out[:, np.arange(first + T) > first + np.arange(T)[:, None]].any()


@given(rngs, st.integers(1, 30), st.integers(2, 9))
def test_cross_entropy_stands_huge_logits(rng: np.random.Generator, N: int, V: int) -> None:
    logits = rng.normal(0, 1, size=(N, V)) * 1e4
    targets = rng.integers(V, size=N)
    nll, probabilities = p.cross_entropy(logits.copy(), targets)
    shifted = logits - logits.max(axis=1, keepdims=True)
    expected = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(N), targets]
    np.testing.assert_allclose(nll, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@given(rngs, st.integers(2, 8))
def test_a_row_has_the_same_bits_alone_and_in_few_company(rng: np.random.Generator, N: int) -> None:
    """What decoding relies on."""
    x, W = rng.normal(size=(N, 33)).astype("f"), rng.normal(size=(17, 33)).astype("f")
    together = p.linear(x, W)
    for i in range(N):
        np.testing.assert_array_equal(p.linear(x[i : i + 1], W)[0], together[i])
