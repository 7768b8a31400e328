"""Expected copies against enumeration and sampling; bandwidths against the published tables."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import rngs

from minidsv3 import cluster
from minidsv3.config import ModelConfig
from minidsv3.cost import expert_parallel as ep
from minidsv3.machine import Machine
from minidsv3.model.gate import group_limited_top_k

SIZES = [(4, 2, 2), (6, 3, 2), (6, 2, 3), (8, 4, 3), (9, 3, 4), (8, 8, 5)]  # experts, nodes, picks


@pytest.mark.parametrize(("experts", "nodes", "picks"), SIZES)
def test_expected_nodes_by_enumeration(experts: int, nodes: int, picks: int) -> None:
    """Every choice of experts once."""
    held = experts // nodes
    reached = [len({e // held for e in chosen}) for chosen in itertools.combinations(range(experts), picks)]
    mean = Fraction(sum(reached), len(reached))
    assert ep.expected_distinct_nodes(experts, nodes, picks) == pytest.approx(float(mean))
    chances = ep.distinct_node_chances(experts, nodes, picks)
    assert chances == pytest.approx([reached.count(n) / len(reached) for n in range(nodes + 1)])


@pytest.mark.parametrize(
    ("experts", "groups", "kept", "picks"),
    [(6, 3, 2, 2), (6, 3, 2, 3), (8, 4, 2, 3), (6, 3, 1, 2), (6, 3, 3, 3)],
)
def test_best_groups_by_enumeration(experts: int, groups: int, kept: int, picks: int) -> None:
    """Every order of the experts once, groups ranked by their best: the exact form needs no distribution."""
    held, found = experts // groups, []
    for order in itertools.permutations(range(experts)):
        ranked = list(dict.fromkeys(e // held for e in order))[:kept]
        chosen = [e for e in order if e // held in ranked][:picks]
        found.append(len({e // held for e in chosen}))
    exact = ep.expected_distinct_nodes_of_best(experts, groups, kept, picks)
    assert exact == pytest.approx(float(Fraction(sum(found), len(found))))


@given(st.integers(1, 5), st.integers(1, 6), st.data())
def test_chances_are_chances(nodes: int, held: int, data: st.DataObject) -> None:
    experts = nodes * held
    picks = data.draw(st.integers(1, experts))
    chances = ep.distinct_node_chances(experts, nodes, picks)
    assert sum(chances) == pytest.approx(1)
    assert min(chances) >= 0
    mean = sum(n * chance for n, chance in enumerate(chances))
    assert mean == pytest.approx(ep.expected_distinct_nodes(experts, nodes, picks))
    kept = data.draw(st.integers(1, nodes))
    assert ep.expected_distinct_nodes_of_best(experts, nodes, kept, picks) <= min(kept, mean) + 1e-9


def test_v3s_expectations() -> None:
    assert f"{ep.expected_distinct_nodes(256, 8, 8):.2f}" == "5.29"  # no limit
    assert f"{ep.expected_distinct_nodes(128, 4, 8):.2f}" == "3.63"  # 4 groups picked blindly
    assert f"{ep.expected_distinct_nodes_of_best(256, 8, 4, 8):.2f}" == "3.98"  # by their best expert
    assert f"{ep.remote_copies(ep.expected_distinct_nodes_of_best(256, 8, 4, 8), 8):.1f}" == "3.5"
    assert f"{ep.expected_distinct_nodes(256, 16, 8):.2f}" == "6.52"  # GPUs of EP16


def test_sampling_meets_the_exact_forms() -> None:
    """20,000 tokens: within 5 standard errors of the mean; V3's own rule lies a little lower."""
    by_best = ep.sampled_distinct_nodes(256, 8, 4, 8, 1, 20_000, np.random.default_rng(0))
    everywhere = ep.sampled_distinct_nodes(256, 8, 8, 8, 1, 20_000, np.random.default_rng(1))
    by_sum = ep.sampled_distinct_nodes(256, 8, 4, 8, 2, 20_000, np.random.default_rng(0))
    assert by_best == pytest.approx(ep.expected_distinct_nodes_of_best(256, 8, 4, 8), abs=0.005)
    assert everywhere == pytest.approx(ep.expected_distinct_nodes(256, 8, 8), abs=0.03)
    assert 3.94 < by_sum < 3.97 < by_best


@settings(max_examples=30)
@given(rngs, st.sampled_from([(8, 4, 2, 3), (12, 3, 2, 4), (16, 4, 2, 4), (256, 8, 4, 8)]), st.integers(1, 2))
def test_the_choice_is_the_models(rng: np.random.Generator, sizes: tuple[int, ...], best: int) -> None:
    """The same experts as the router's, which keeps them in order."""
    experts, groups, kept, picks = sizes
    scores = rng.random((7, experts))
    chosen = ep.chosen_experts(scores, groups, kept, picks, best)
    routed = group_limited_top_k(Machine(dtype="float64"), scores, groups, kept, picks, best)
    np.testing.assert_array_equal(np.sort(chosen), np.sort(routed))


def test_the_cluster_hands_the_expectation_on() -> None:
    assert cluster.expected_distinct_nodes is ep.expected_distinct_nodes


# ---- ratios, bytes, rates ---------------------------------------------------------------------------------


def test_ratios_of_the_links() -> None:
    assert ep.experts_a_node(160e9, 50e9) == pytest.approx(3.2)
    assert ep.experts_a_node(160e9, 50e9, nodes=4) == pytest.approx(12.8)  # printed 13
    assert ep.experts_a_node(160e9, 40e9) == ep.experts_a_node(200e9, 50e9) == 4


def test_slots() -> None:
    assert [ep.slots_per_gpu(256, 32, gpus) for gpus in (32, 144)] == [9, 2]
    assert ep.slots_per_gpu(256, 64, 320) == 1


def test_bytes_of_low_latency_messages() -> None:
    assert ep.row_bytes(7168, 1, tile=128, scale_bytes=4, header_bytes=16) == 7168 + 56 * 4 + 16
    assert ep.row_bytes(7168, 2) == 14_336
    assert ep.row_bytes(130, 1, tile=128, scale_bytes=4) == 130 + 2 * 4  # a tile cut short has its own scale
    assert ep.row_bytes(7168, 1.25, tile=128, scale_bytes=4) == 9_184
    assert ep.message_bytes(128, 8, 7408) == 128 * 8 * 7408


@pytest.mark.parametrize(
    ("row", "latencies", "printed"),
    [
        (7408, (77, 118, 155, 173, 192, 194), (98, 63, 48, 43, 39, 39)),
        (14336, (114, 195, 273, 314, 369, 360), (127, 74, 53, 46, 39, 40)),
    ],
)
def test_the_low_latency_tables_close(row: int, latencies: tuple[int, ...], printed: tuple[int, ...]) -> None:
    """Bytes over latency: never below what is printed by half a GB/s, never above by 2."""
    for microseconds, table in zip(latencies, printed, strict=True):
        found = ep.logical_bandwidth(ep.message_bytes(128, 8, row), microseconds * 1e-6) / 1e9
        assert -0.5 <= found - table <= 2


def test_the_wire_carries_less() -> None:
    table = {2: (43, "21.5"), 4: (58, "43.5"), 8: (51, "44.6"), 16: (45.34, "42.5")}
    for nodes, (logical, wire) in table.items():
        assert f"{ep.wire_bandwidth(logical, nodes):.1f}" == wire
        assert ep.wire_bandwidth(logical, nodes) < 50
    assert ep.wire_bandwidth(153e9, nodes=1) == 0


def test_ep16_is_held_by_nvlink() -> None:
    gpus, nodes = ep.expected_distinct_nodes(256, 16, 8), ep.expected_distinct_nodes(256, 2, 8)
    assert round(ep.nvlink_bandwidth(43, gpus, nodes)) == 141
    assert 43 < ep.nvlink_bound(160, gpus, nodes) < ep.network_bound(50, 2)
    assert ep.nvlink_bound(360, gpus, nodes) > ep.network_bound(50, 2)  # with the H100's 900 GB/s


@given(st.floats(1, 1e12), st.integers(2, 64), st.floats(1, 8))
def test_bounds_turn_round(rate: float, nodes: int, gpus: float) -> None:
    assert ep.wire_bandwidth(ep.network_bound(rate, nodes), nodes) == pytest.approx(rate)
    assert ep.nvlink_bandwidth(ep.nvlink_bound(rate, gpus, 1.5), gpus, 1.5) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ep.expected_distinct_nodes(10, 4, 2), "expected experts divisible by 4 nodes, got 10"),
        (lambda: ep.expected_distinct_nodes(8, 4, 9), r"expected picks 1 \.\. 8, got 9"),
        (lambda: ep.expected_distinct_nodes_of_best(8, 4, 5, 2), r"expected kept groups 1 \.\. 4, got 5"),
        (lambda: ep.logical_bandwidth(1, 0), "expected seconds above 0, got 0"),
        (lambda: ep.wire_bandwidth(1, 0), "expected at least 1 node, got 0"),
        (lambda: ep.network_bound(1, 1), "expected at least 2 nodes, got 1"),
    ],
)
def test_what_does_not_fit_is_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def test_v3s_config_has_these_sizes() -> None:
    v3 = ModelConfig.preset("v3")
    sizes = (v3.n_routed_experts, v3.n_expert_groups, v3.n_limited_groups, v3.n_activated_experts)
    assert sizes == (256, 8, 4, 8)
