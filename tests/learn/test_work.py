"""Counted work: FLOPs and bytes follow from shapes, whatever way a result is reached."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.learn.work import Counting, counted

SIZE = st.integers(1, 5)


def work(function, *arrays):
    return counted(function, *arrays)[1]


@given(m=SIZE, k=SIZE, n=SIZE, stack=SIZE)
@settings(max_examples=25, deadline=None)
def test_a_contraction_counts_two_for_every_combination(m, k, n, stack):
    a, b = np.ones((m, k), "f"), np.ones((k, n), "f")
    ways = np.matmul, np.dot, partial(np.einsum, "mk,kn->mn"), partial(np.tensordot, axes=1)
    for function in ways:
        found = work(function, a, b)
        assert found.flops == 2 * m * k * n
        assert found.bytes == 4 * (m * k + k * n + m * n)
    assert work(np.matmul, np.ones((stack, m, k)), b).flops == 2 * stack * m * k * n
    assert work(lambda a, b: np.inner(a, b.T), a, b).flops == 2 * m * k * n


@given(m=SIZE, k=SIZE, n=SIZE)
@settings(max_examples=25, deadline=None)
def test_a_contraction_is_counted_however_it_is_written(m, k, n):
    a, b = np.ones((2, m, k), "f"), np.ones((k, n), "f")
    ways = [
        lambda a, b: a.dot(b),
        lambda a, b: np.einsum(a, [0, 1, 2], b, [2, 3], [0, 1, 3]),
        lambda a, b: np.einsum(a, [..., 1, 2], b, [2, 3]),
        lambda a, b: np.einsum("...k,kn->...n", a, b),
        lambda a, b: np.einsum("bmk,kn", a, b),
    ]
    for function in ways:
        assert work(function, a, b).flops == 2 * 2 * m * k * n


@given(m=SIZE, k=SIZE, n=SIZE, last=SIZE)
@settings(max_examples=25, deadline=None)
def test_a_path_is_counted_by_what_its_steps_meet(m, k, n, last):
    a, b, c = np.ones((m, k), "f"), np.ones((k, n), "f"), np.ones((n, last), "f")
    left_first, all_at_once = 2 * m * k * n + 2 * m * n * last, 2 * m * k * n * last
    path = ["einsum_path", (0, 1), (0, 1)]
    assert work(lambda *x: np.einsum("mk,kn,nl->ml", *x, optimize=path), a, b, c).flops == left_first
    assert work(lambda *x: np.einsum("mk,kn,nl->ml", *x), a, b, c).flops == all_at_once
    found = work(lambda *x: np.einsum("mk,kn,nl->ml", *x, optimize=True), a, b, c).flops
    assert found <= max(left_first, 2 * k * n * last + 2 * m * k * last, all_at_once)


@given(m=SIZE, n=SIZE)
@settings(max_examples=25, deadline=None)
def test_an_elementwise_call_counts_its_elements(m, n):
    x, size = np.ones((m, n), "f"), m * n
    assert work(np.exp, x)[:2] == (size, 8 * size)
    assert work(lambda x: x.sum(), x).flops == size
    assert work(lambda x: x > 0, x)[:2] == (0, 5 * size)
    assert work(lambda x: x.T.reshape(-1)[:1], x.copy(order="F"))[:2] == (0, 0)


@pytest.mark.parametrize(
    ("function", "moved"),
    [
        (lambda x: x.copy(), 2),
        (lambda x: x.astype("f8"), 3),
        (lambda x: np.concatenate([x, x]), 4),
        (lambda x: np.where(x > 0, x, x), 3.5),
        (lambda x: x[[0, 1]], 2),
        (lambda x: x.T, 0),
        (lambda x: np.zeros_like(x), 0),
    ],
    ids=["copy", "astype", "concatenate", "where", "rows", "transpose", "zeros"],
)
def test_moving_costs_bytes_and_no_flops(function, moved):
    x = np.ones((2, 8), "f")
    found = work(function, x)
    assert found.flops == 0
    assert found.bytes == pytest.approx(moved * x.nbytes, rel=0.3)


def test_a_loop_over_elements_counts_as_much_arithmetic():
    def loop(x):
        y = np.zeros_like(x)
        for i in range(len(x)):
            y[i] = x[i] * x[i]
        return y

    x = np.arange(16.0)
    result, found = counted(loop, x)
    np.testing.assert_array_equal(result, x * x)
    assert type(result) is np.ndarray
    assert found.flops == 16
    assert found.bytes > work(lambda x: x * x, x).bytes


def test_an_array_made_plain_counts_again():
    x = np.ones(64, "f")
    assert work(lambda x: np.exp(np.asarray(x)), x).flops == 64
    assert work(lambda x: np.exp(np.array(x)) + np.arange(64), x).flops == 128


def test_memory_is_the_most_held_at_once():
    x = np.ones(100_000, "f")
    one, three = work(lambda x: x + 1, x).memory, work(lambda x: (x + 1) * (x + 2) + 0, x).memory
    assert one == pytest.approx(x.nbytes, rel=0.05)
    assert three == pytest.approx(3 * x.nbytes, rel=0.05)


def test_counting_leaves_numpy_as_it_was():
    before = np.zeros, np.asarray, np.arange
    with pytest.raises(ZeroDivisionError):
        counted(lambda x: 1 / 0, np.ones(2))
    assert (np.zeros, np.asarray, np.arange) == before
    assert not isinstance(np.zeros(2), Counting)
