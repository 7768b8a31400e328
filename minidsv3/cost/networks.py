"""Networks by counting: endpoints, switches and links of five topologies (arXiv 2505.09343, Table 3).

From k-port switches, a link being one between switches:

    FT2   two-layer fat tree      k^2/2 endpoints   3k/2 switches          k^2/2 links
    MPFT  so many planes of FT2   each with its own switches
    FT3   three-layer fat tree    k^3/4             5k^2/4                 k^3/2
    SF    Slim Fly over GF(q)     2q^2 switches of degree (3q - d)/2, q = 4w + d; half as many endpoints each
    DF    Dragonfly               g groups of a switches, p endpoints and h global links each

A field has q elements only if q is a power of a prime; at most ah + 1 groups reach each other directly.

Does: these counts; whether one price of a switch and one of a link explain printed costs; the switches of a
cluster. Does not: route, know a price.

    >>> two_layer_fat_tree(64), multi_plane_fat_tree(64, planes=8).switches
    (Network(endpoints=2048, switches=96, links=2048), 768)
    >>> slim_fly(28).switches, is_prime_power(28), slim_fly(largest_slim_fly(64)).endpoints
    (1568, False, 30618)
    >>> cluster_switches(endpoints=2048, planes=8, ports=64)
    96

Next: minidsv3.cost.rates
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import combinations

__all__ = [
    "TOPOLOGIES",
    "Network",
    "cluster_switches",
    "count_of",
    "dragonfly",
    "dragonfly_groups",
    "is_prime_power",
    "largest_slim_fly",
    "multi_plane_fat_tree",
    "price_of",
    "price_pairs",
    "slim_fly",
    "slim_fly_ports",
    "three_layer_fat_tree",
    "two_layer_fat_tree",
]


@dataclass(frozen=True)
class Network:
    """endpoints: NICs that can be attached  links: between switches."""

    endpoints: int
    switches: int
    links: int

    def __mul__(self, planes: int) -> "Network":
        return Network(*(planes * count for count in astuple(self)))


# ---- topologies -------------------------------------------------------------------------------------------


def two_layer_fat_tree(ports: int) -> Network:
    """FT2: half of a leaf's ports go down; k leaves, k/2 spines."""
    _even(ports)
    return Network(endpoints=ports**2 // 2, switches=3 * ports // 2, links=ports**2 // 2)


def multi_plane_fat_tree(ports: int, planes: int) -> Network:
    """MPFT: every GPU of a node on a plane of its own, each plane an FT2."""
    return two_layer_fat_tree(ports) * planes


def three_layer_fat_tree(ports: int) -> Network:
    """FT3: k pods of k switches, under (k/2)^2 cores."""
    _even(ports)
    return Network(endpoints=ports**3 // 4, switches=5 * ports**2 // 4, links=ports**3 // 2)


def slim_fly(q: int) -> Network:
    """SF: the counts that a field of q elements would give; whether there is one, `is_prime_power` says."""
    degree, attached = _slim_fly_degree(q), _slim_fly_attached(q)
    return Network(endpoints=2 * q**2 * attached, switches=2 * q**2, links=q**2 * degree)


def slim_fly_ports(q: int) -> int:
    """Ports that a Slim Fly's switch needs: its degree, and half of that, rounded up, for endpoints."""
    return _slim_fly_degree(q) + _slim_fly_attached(q)


def _slim_fly_degree(q: int) -> int:
    d = {0: 0, 1: 1, 3: -1}.get(q % 4)
    if d is None or q < 3:
        raise ValueError(f"expected q = 4w - 1, 4w or 4w + 1, at least 3, got {q}")
    return (3 * q - d) // 2


def _slim_fly_attached(q: int) -> int:
    return -(-_slim_fly_degree(q) // 2)


def is_prime_power(q: int) -> bool:
    """Whether a field of q elements exists."""
    least = next((p for p in range(2, q + 1) if q % p == 0), 0)
    while least and q % least == 0:
        q //= least
    return bool(least) and q == 1


def largest_slim_fly(ports: int) -> int:
    """The largest q that has a field, and whose switches have enough ports."""
    fits = (q for q in range(ports, 2, -1) if q % 4 != 2 and is_prime_power(q) and slim_fly_ports(q) <= ports)
    found = next(fits, 0)
    if not found:
        raise ValueError(f"expected ports for a Slim Fly, at least {slim_fly_ports(3)}, got {ports}")
    return found


def dragonfly(p: int, a: int, h: int, g: int) -> Network:
    """DF.  p: endpoints of a switch  a: switches of a group, all linked  h: its global links  g: groups."""
    if not 1 <= g <= dragonfly_groups(a, h):
        raise ValueError(f"expected groups 1 .. ah + 1 = {dragonfly_groups(a, h)}, got {g}")
    links = g * a * (a - 1) // 2 + g * a * h // 2
    return Network(endpoints=g * a * p, switches=g * a, links=links)


def dragonfly_groups(a: int, h: int) -> int:
    """The most groups of a Dragonfly in which every two are linked: ah + 1."""
    return a * h + 1


TOPOLOGIES: Mapping[str, Callable[..., Network]] = {
    "FT2": two_layer_fat_tree,
    "MPFT": multi_plane_fat_tree,
    "FT3": three_layer_fat_tree,
    "SF": slim_fly,
    "DF": dragonfly,
}
"""By the abbreviations of the paper's table."""


def count_of(topology: str, of: str, **sizes: int) -> int:
    """Endpoints, switches or links of a topology of these sizes.

    topology: one of `TOPOLOGIES`  of: a field of `Network`  sizes: what its function takes, such as ports.
    """
    if topology not in TOPOLOGIES:
        raise ValueError(f"expected a topology, one of {', '.join(TOPOLOGIES)}, got {topology!r}")
    network = TOPOLOGIES[topology](**sizes)
    if of not in vars(network):
        raise ValueError(f"expected one of {', '.join(vars(network))}, got {of!r}")
    return int(getattr(network, of))


def cluster_switches(endpoints: int, planes: int, ports: int) -> int:
    """Switches of a cluster whose endpoints lie on planes: one switch each, or two layers where that is full.

    Of two layers leaves have half of their ports down and half up.
    """
    _even(ports)
    of_plane = math.ceil(endpoints / planes)
    if of_plane <= ports:
        return planes
    leaves = math.ceil(of_plane / (ports // 2))
    spines = math.ceil(leaves * (ports // 2) / ports)
    return planes * (leaves + spines)


# ---- prices -----------------------------------------------------------------------------------------------

Pair = tuple[float, float]


def price_pairs(
    switches: Sequence[float], links: Sequence[float], costs: Sequence[float], margins: Sequence[float]
) -> list[Pair]:
    """Corners of all pairs (price of a switch, of a link) that explain every cost within its margin, or [].

    One number a network and printed cost: counts, the cost in USD, and how far off its printing may be.
    """
    rows = list(zip(switches, links, costs, margins, strict=True))
    edges = [(s, n, end) for s, n, cost, margin in rows for end in (cost - margin, cost + margin)]
    edges += [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]  # no price below zero
    corners = (corner for one, two in combinations(edges, 2) if (corner := _crossing(one, two)))
    return sorted({corner for corner in corners if _explains(corner, rows)})


def price_of(
    of: str,
    end: str,
    endpoints: Sequence[float],
    endpoint_costs: Sequence[float],
    endpoint_margins: Sequence[float],
    **totals: Sequence[float],
) -> float:
    """Lowest or highest price of a switch or link that explains printed costs, whole and an endpoint.

    of: "switch" or "link"  end: "lowest" or "highest"  endpoint_*: as in `price_pairs`, for one endpoint
    totals: what `price_pairs` takes. One number for each network.
    """
    whole = {name: [*numbers] for name, numbers in totals.items()}
    whole["switches"] *= 2
    whole["links"] *= 2
    whole["costs"] += [n * cost for n, cost in zip(endpoints, endpoint_costs, strict=True)]
    whole["margins"] += [n * margin for n, margin in zip(endpoints, endpoint_margins, strict=True)]
    found = price_pairs(**whole)
    if not found:
        raise ValueError("expected costs that one price of a switch and one of a link explain, got others")
    return {"lowest": min, "highest": max}[end](pair[("switch", "link").index(of)] for pair in found)


def _crossing(one: tuple[float, ...], two: tuple[float, ...]) -> Pair | None:
    """Where s x + n y = end holds for both."""
    (s, n, end), (t, m, stop) = one, two
    turn = s * m - t * n
    return ((end * m - stop * n) / turn, (s * stop - t * end) / turn) if turn else None


def _explains(pair: Pair, rows: Iterable[tuple[float, ...]]) -> bool:
    x, y = pair
    slack = 1e-9  # of the cost: a corner lies on its own edges
    near = (abs(s * x + n * y - cost) <= margin + slack * cost for s, n, cost, margin in rows)
    return min(pair) >= -slack and all(near)


def _even(ports: int) -> None:
    if ports < 2 or ports % 2:
        raise ValueError(f"expected an even number of ports, at least 2, got {ports}")
