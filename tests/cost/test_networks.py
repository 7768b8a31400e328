"""Counts of topologies against graphs built switch by switch; prices against linear programming."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from minidsv3.cost.networks import (
    Network,
    cluster_switches,
    count_of,
    dragonfly,
    dragonfly_groups,
    is_prime_power,
    largest_slim_fly,
    multi_plane_fat_tree,
    price_of,
    price_pairs,
    slim_fly,
    slim_fly_ports,
    three_layer_fat_tree,
    two_layer_fat_tree,
)

Links = set[frozenset[tuple[object, ...]]]


def pair(one: tuple[object, ...], two: tuple[object, ...]) -> frozenset[tuple[object, ...]]:
    return frozenset((one, two))


def counted(links: Links) -> tuple[int, int]:
    """Switches and links."""
    return len({switch for link in links for switch in link}), len(links)


def degrees(links: Links) -> dict[tuple[object, ...], int]:
    found: dict[tuple[object, ...], int] = {}
    for link in links:
        for switch in link:
            found[switch] = found.get(switch, 0) + 1
    return found


# ---- graphs -----------------------------------------------------------------------------------------------


@given(st.integers(1, 8).map(lambda half: 2 * half))
def test_two_layers(k: int) -> None:
    """Every leaf has one link to each spine."""
    links: Links = {pair(("leaf", i), ("spine", j)) for i in range(k) for j in range(k // 2)}
    assert (two_layer_fat_tree(k).switches, two_layer_fat_tree(k).links) == counted(links)
    assert two_layer_fat_tree(k).endpoints == sum(k - n for s, n in degrees(links).items() if s[0] == "leaf")


@given(st.integers(1, 5).map(lambda half: 2 * half))
def test_three_layers(k: int) -> None:
    """Pods of k/2 edges and k/2 aggregations; the j-th aggregations share k/2 cores."""
    half, links = k // 2, set()
    for pod, i, j in itertools.product(range(k), range(half), range(half)):
        links |= {
            pair(("edge", pod, i), ("aggregation", pod, j)),
            pair(("aggregation", pod, i), ("core", i, j)),
        }
    network = three_layer_fat_tree(k)
    assert (network.switches, network.links) == counted(links)
    assert all(n == (k if s[0] != "edge" else half) for s, n in degrees(links).items())
    assert network.endpoints == sum(half for s in degrees(links) if s[0] == "edge")


@pytest.mark.parametrize(("q", "root"), [(5, 2), (13, 2), (17, 3)])
def test_slim_fly(q: int, root: int) -> None:
    """The McKay-Miller-Siran graph over GF(q), q = 4w + 1 a prime: degree, links, and two hops at most."""
    powers = [pow(root, i, q) for i in range(q - 1)]
    sets, links = (set(powers[::2]), set(powers[1::2])), set()
    for side, x, y, z in itertools.product((0, 1), range(q), range(q), range(q)):
        if (y - z) % q in sets[side]:
            links.add(pair((side, x, y), (side, x, z)))
    for x, m, c in itertools.product(range(q), repeat=3):
        links.add(pair((0, x, (m * x + c) % q), (1, m, c)))
    assert (slim_fly(q).switches, slim_fly(q).links) == counted(links)
    degree = set(degrees(links).values())
    assert degree == {(3 * q - 1) // 2}
    attached = math.ceil(degree.pop() / 2)
    assert slim_fly(q).endpoints == slim_fly(q).switches * attached
    assert slim_fly_ports(q) == (3 * q - 1) // 2 + attached


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_dragonfly(p: int, a: int, h: int) -> None:
    """Groups of all-linked switches; with ah + 1 groups, one link between every two of them."""
    g = dragonfly_groups(a, h)
    inside = g * math.comb(a, 2)
    assert dragonfly(p, a, h, g) == Network(p * a * g, a * g, inside + math.comb(g, 2))
    with pytest.raises(ValueError, match=f"expected groups 1 .. ah \\+ 1 = {g}, got {g + 1}"):
        dragonfly(p, a, h, g + 1)


# ---- the table --------------------------------------------------------------------------------------------


def test_the_papers_table() -> None:
    assert two_layer_fat_tree(64) == Network(2_048, 96, 2_048)
    assert multi_plane_fat_tree(64, 8) == Network(16_384, 768, 16_384)
    assert three_layer_fat_tree(64) == Network(65_536, 5_120, 131_072)
    assert slim_fly(28) == Network(32_928, 1_568, 32_928)
    assert dragonfly(16, 32, 16, 511) == Network(261_632, 16_352, 384_272)


def test_counts_by_name() -> None:
    assert count_of("MPFT", "switches", ports=64, planes=8) == 768
    assert count_of("DF", "links", p=16, a=32, h=16, g=511) == 384_272
    with pytest.raises(ValueError, match="expected a topology, one of FT2, MPFT, FT3, SF, DF, got 'torus'"):
        count_of("torus", "links", ports=64)
    with pytest.raises(ValueError, match="expected one of endpoints, switches, links, got 'cables'"):
        count_of("FT2", "cables", ports=64)


def test_no_field_has_28_elements() -> None:
    found = [q for q in range(2, 50) if is_prime_power(q)]
    assert found == [2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17, 19, 23, 25, 27, 29, 31, 32, 37, 41, 43, 47, 49]
    assert largest_slim_fly(64) == 27
    assert slim_fly(27).endpoints == 30_618
    assert slim_fly_ports(29) == 65  # one port more than there are
    assert dragonfly_groups(a=32, h=16) == 513  # the table's 511 are ah - 1


def test_larger_switches() -> None:
    assert two_layer_fat_tree(128).endpoints == 8_192
    assert multi_plane_fat_tree(128, 8).endpoints == 65_536


def test_the_clusters_switches() -> None:
    """8 leaves and 4 spines in each of 8 planes: as many as one two-layer tree for all."""
    assert cluster_switches(2048, 8, 64) == 8 * (8 + 4) == two_layer_fat_tree(64).switches
    assert cluster_switches(2048, 1, 64) == 96
    assert cluster_switches(16_384, 8, 64) == multi_plane_fat_tree(64, 8).switches


def test_a_plane_that_one_switch_holds_has_no_spines() -> None:
    assert cluster_switches(1, 1, 64) == 1
    assert cluster_switches(512, 8, 64) == 8
    assert cluster_switches(513, 8, 64) == 8 * (3 + 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: two_layer_fat_tree(63), "expected an even number of ports, at least 2, got 63"),
        (lambda: three_layer_fat_tree(0), "expected an even number of ports, at least 2, got 0"),
        (lambda: slim_fly(6), "expected q = 4w - 1, 4w or 4w \\+ 1, at least 3, got 6"),
        (lambda: largest_slim_fly(4), "expected ports for a Slim Fly, at least 8, got 4"),
    ],
)
def test_what_cannot_be_built_is_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


# ---- prices -----------------------------------------------------------------------------------------------

FITS = {"FT2": (9, 4.39, 0.005), "MPFT": (72, 4.39, 0.005), "FT3": (491, 7.5, 0.05), "SF": (146, 4.4, 0.05)}
COUNTS = {
    "FT2": two_layer_fat_tree(64),
    "MPFT": multi_plane_fat_tree(64, 8),
    "FT3": three_layer_fat_tree(64),
    "SF": slim_fly(28),
    "DF": dragonfly(16, 32, 16, 511),
}


def table(rows: dict[str, tuple[float, float, float]]) -> dict[str, list[float]]:
    networks = [COUNTS[name] for name in rows]
    return {
        "endpoints": [n.endpoints for n in networks],
        "switches": [n.switches for n in networks],
        "links": [n.links for n in networks],
        "costs": [cost * 1e6 for cost, _, _ in rows.values()],
        "margins": [0.5e6 for _ in rows],
        "endpoint_costs": [each * 1e3 for _, each, _ in rows.values()],
        "endpoint_margins": [off * 1e3 for _, _, off in rows.values()],
    }


def by_linear_program(rows: dict[str, tuple[float, float, float]], of: int, sign: int) -> float | None:
    below, limits = [], []
    for name, (cost, each, off) in rows.items():
        n = COUNTS[name]
        for middle, margin in ((cost * 1e6, 0.5e6), (each * 1e3 * n.endpoints, off * 1e3 * n.endpoints)):
            below += [[n.switches, n.links], [-n.switches, -n.links]]
            limits += [middle + margin, margin - middle]
    aim = [0.0, 0.0]
    aim[of] = sign
    found = linprog(aim, A_ub=below, b_ub=limits, bounds=[(0, None)] * 2)
    return float(found.x[of]) if found.status == 0 else None


@pytest.mark.parametrize(("of", "index"), [("switch", 0), ("link", 1)])
@pytest.mark.parametrize(("end", "sign"), [("lowest", 1), ("highest", -1)])
def test_one_pair_of_prices_explains_four_networks(of: str, index: int, end: str, sign: int) -> None:
    found = price_of(of, end, **table(FITS))
    assert found == pytest.approx(by_linear_program(FITS, index, sign), rel=1e-6)


def test_the_range_of_that_pair() -> None:
    ends = [price_of(of, end, **table(FITS)) for of in ("switch", "link") for end in ("lowest", "highest")]
    assert [f"{price / 1e3:.1f}" for price in ends[:2]] == ["81.3", "82.6"]
    assert [round(price) for price in ends[2:]] == [515, 574]


def test_no_pair_explains_the_dragonfly_too() -> None:
    rows = FITS | {"DF": (1522, 5.8, 0.05)}
    assert by_linear_program(rows, 0, 1) is None
    with pytest.raises(
        ValueError, match="expected costs that one price of a switch and one of a link explain"
    ):
        price_of("switch", "lowest", **table(rows))


@given(
    st.floats(1, 1e5),
    st.floats(1, 1e3),
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=2),
)
def test_prices_that_made_the_costs_are_within(
    switch: float, link: float, sizes: list[tuple[int, int]]
) -> None:
    """Whatever the networks: the box around the corners holds the pair that the costs were made with."""
    switches, links = zip(*sizes, strict=True)
    costs = [s * switch + n * link for s, n in sizes]
    pairs = price_pairs(switches, links, costs, [0.1 * cost for cost in costs])
    assert pairs
    for price, index in ((switch, 0), (link, 1)):
        assert min(p[index] for p in pairs) <= price * (1 + 1e-6)
        assert max(p[index] for p in pairs) >= price * (1 - 1e-6)
