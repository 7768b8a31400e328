"""Copies against the loop, the report's numbers, and what deduplication must keep."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import rngs

from minidsv3.cluster import Placement, Traffic, count, even_sources, expected_distinct_nodes, transfer
from minidsv3.cluster.traffic import count_one_by_one
from minidsv3.config import ModelConfig
from minidsv3.hardware import load_hardware
from minidsv3.model.gate import route

V3 = Placement(experts=256, nodes=8, gpus_per_node=8)
H800 = load_hardware("h800")


@st.composite
def traffics(draw: st.DrawFn) -> tuple[np.ndarray, Placement, np.ndarray]:
    nodes, gpus, per_gpu = (draw(st.integers(1, 4)) for _ in range(3))
    placement, rng = Placement(nodes * gpus * per_gpu, nodes, gpus), draw(rngs)
    T, K = draw(st.integers(0, 20)), draw(st.integers(1, placement.experts))
    indices = np.array([rng.permutation(placement.experts)[:K] for _ in range(T)], int).reshape(T, K)
    return indices, placement, rng.integers(placement.gpus, size=T)


@settings(max_examples=100)
@given(traffics())
def test_arrays_count_as_the_loop_does(drawn: tuple[np.ndarray, Placement, np.ndarray]) -> None:
    fast, slow = count(*drawn), count_one_by_one(*drawn)
    for field in fields(Traffic):
        np.testing.assert_array_equal(getattr(fast, field.name), getattr(slow, field.name), field.name)


@settings(max_examples=100)
@given(traffics())
def test_copies_are_conserved(drawn: tuple[np.ndarray, Placement, np.ndarray]) -> None:
    indices, placement, sources = drawn
    t = count(*drawn)
    assert t.ib_sent.sum() == t.ib_received.sum() <= t.picks_elsewhere
    assert t.nvlink_sent.sum() == t.nvlink_received.sum()
    assert t.copies_per_node.sum() == t.nodes_per_token.sum()
    assert t.copies_per_gpu.sum() == t.gpus_per_token.sum() <= indices.size
    at_home = (
        placement.gpu_of(indices) // placement.gpus_per_node == (sources // placement.gpus_per_node)[:, None]
    )
    assert t.ib_sent.sum() == t.nodes_per_token.sum() - at_home.any(axis=1).sum()
    assert (t.nodes_per_token <= np.minimum(placement.nodes, indices.shape[1])).all()


def test_everything_at_home_takes_no_wire() -> None:
    t = count(np.array([[0, 1, 2, 3]]), V3, np.array([0]))
    assert (t.ib_sent.sum(), t.nvlink_sent.sum(), t.copies_per_gpu[0]) == (0, 0, 1)


def test_eight_even_picks_touch_5_29_nodes() -> None:
    assert expected_distinct_nodes(256, 8, 8) == pytest.approx(5.29, abs=0.005)
    rng = np.random.default_rng(0)
    indices = rng.random((4000, 256)).argpartition(8, axis=1)[:, :8]
    t = count(indices, V3, even_sources(4000, V3))
    assert t.nodes_per_token.mean() == pytest.approx(expected_distinct_nodes(256, 8, 8), abs=0.03)


def test_v3s_router_touches_at_most_four_nodes_and_nearly_always_four() -> None:
    """3.99 when the groups are picked by their best scores."""
    config, rng = ModelConfig.preset("v3"), np.random.default_rng(0)
    indices = route(rng.normal(size=(2000, 256)), np.zeros(256), config).indices
    t = count(indices, V3, even_sources(2000, V3))
    assert t.nodes_per_token.max() == 4
    assert t.nodes_per_token.mean() == pytest.approx(3.99, abs=0.02)


def test_four_groups_picked_blindly_give_3_63() -> None:
    assert expected_distinct_nodes(128, 4, 8) == pytest.approx(3.63, abs=0.005)


def test_bytes_and_seconds_come_from_the_copies_and_the_hardware_file() -> None:
    """One token to one other node and two GPUs there, neither of them the one where it arrives."""
    t = count(np.array([[32 + 4, 32 + 8]]), V3, np.array([0]))
    dispatch, combine = transfer(t, 7168, 1, H800), transfer(t, 7168, 2, H800)
    assert (dispatch.ib_bytes, dispatch.nvlink_bytes) == (7168, 2 * 7168)
    assert (combine.ib_bytes, combine.nvlink_bytes) == (2 * 7168, 4 * 7168)
    assert dispatch.ib_seconds == pytest.approx(7168 / 40e9)
    assert dispatch.nvlink_seconds == pytest.approx(2 * 7168 / 160e9)
    assert dispatch.seconds == dispatch.ib_seconds
    assert combine.seconds == pytest.approx(2 * dispatch.seconds)


def test_tokens_lie_evenly() -> None:
    assert np.bincount(even_sources(640, V3)).tolist() == [10] * 64
    assert even_sources(0, V3).size == 0


@pytest.mark.parametrize(
    ("indices", "sources", "message"),
    [
        (np.array([[256]]), np.array([0]), r"expected experts 0 \.\. 255, got 256"),
        (np.array([[0]]), np.array([64]), r"expected sources 0 \.\. 63, got 64"),
        (np.array([0]), np.array([0]), r"expected indices \[T, K\] and sources \[T\], got \(1,\)"),
    ],
)
def test_what_lies_outside_is_named(indices: np.ndarray, sources: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count(indices, V3, sources)


def test_experts_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="expected experts divisible by 3 nodes x 8 GPUs, got 256"):
        Placement(256, 3, 8)
