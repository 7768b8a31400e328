"""Figures that belong to a wish and stand in no bill: errors of numbers, copies, waiting, switches.

A measure looks at one side of a what-if, the machine of today or the one wished for, and names what it finds.
The same measure on the other side gives the same names, so that both can be set beside each other. Numbers
that neither hardware nor model has (the bytes of a value, the ports of a switch) come as the wish's `inputs`.

Errors are measured, not looked up: operands are drawn with a fixed seed, sums run bit by bit through the
emulated tensor core of that side's hardware.

Does: measure. Does not: set sides beside each other (`minidsv3.cost.scenarios`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.cost.deployment import load_deployment
    >>> from minidsv3.hardware import load_hardware
    >>> inputs = {"tokens": 32, "width": 7000, "dispatch_bytes": 1, "combine_bytes": 2}
    >>> v3, decode = ModelConfig.preset("v3"), load_deployment("decode")
    >>> side = Side(v3, load_hardware("h800"), decode, Trace(), Trace(), inputs)
    >>> {name: f"{value * 1e3:.2f} ms" for name, (value, unit) in time_of_a_token(side).items()}
    {'time of a token, bound by its exchange': '14.76 ms'}

Next: minidsv3.cost.scenarios
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import ModelConfig, near
from minidsv3.cost.claims import sum_errors
from minidsv3.cost.deployment import Deployment
from minidsv3.cost.networks import cluster_switches, multi_plane_fat_tree, two_layer_fat_tree
from minidsv3.cost.per_token import kv_bytes_per_token
from minidsv3.cost.row_changes import READERS, operand_bytes, partial_sums
from minidsv3.cost.serving import tpot
from minidsv3.cost.wire_changes import BACK, OUT, carries
from minidsv3.hardware import Hardware, TensorCore
from minidsv3.machine import Trace, load_precision
from minidsv3.numerics import E4M3, NVFP4, tile_round
from minidsv3.numerics.tile_errors import CODECS, draw, tile_error

__all__ = ["ERRORS", "MEASURES", "Found", "Measure", "Side", "measure_named", "sums_apart"]

Values = NDArray[np.float32]
Found = dict[str, tuple[float, str]]  # name -> value, unit
SUM_BYTES = 4  # an FP32 partial sum
WIDTH = int(load_precision("fp8").fp8("block"))  # of V3's tiles and blocks (report, 3.3.2)
TILE, TURNED, WEIGHT = (1, WIDTH), (WIDTH, 1), (WIDTH, WIDTH)  # TILE: a token, so many channels


@dataclass(frozen=True)
class Side:
    """One side of a what-if.  rows: as the change left them; plain: as they were."""

    config: ModelConfig
    hardware: Hardware
    deployment: Deployment
    rows: Trace
    plain: Trace
    inputs: Mapping[str, Any]

    def number(self, name: str) -> float:
        """An input as a number; ValueError if the wish does not give it."""
        value = self._input(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"expected input {name} to be a number, got {value!r}")
        return value

    def word(self, name: str) -> str:
        """An input as a word."""
        return str(self._input(name))

    def _input(self, name: str) -> Any:
        if name not in self.inputs:
            raise ValueError(f"expected an input {name!r}: {near(name, list(self.inputs))}")
        return self.inputs[name]


Measure = Callable[[Side], Found]


# ---- the chip ---------------------------------------------------------------------------------------------


def computing_sms(side: Side) -> Found:
    """SMs that communication leaves to computing, and the FP8 rate that they reach."""
    count, taken = side.hardware["chip.sm.count"].si, side.hardware["chip.sm.communication"].si
    left = count - taken if side.deployment.communication_sms else count
    peak = side.hardware["chip.peak.fp8"].si * left / count
    return {"SMs that compute": (left, "count"), "FP8 rate they reach": (peak, "FLOP/s")}


def partial_sum_traffic(side: Side) -> Found:
    """Partial sums that leave the tensor core, as bytes and CUDA cores' work.  input promotes: 1 or 0."""
    sums = side.number("promotes") * sum(row.times * partial_sums(row) for row in side.plain)
    return {
        "partial sums out of the tensor core": (SUM_BYTES * sums, "B"),
        "CUDA cores' work on them": (2 * sums, "FLOP"),
    }


def accumulation(side: Side) -> Found:
    """Error of sums of K products on this side's FP8 unit, bit by bit.  input k: K."""
    unit, k = side.hardware.tensor_core["fp8"], int(side.number("k"))
    return dict(_accumulation(unit, k))


@lru_cache(maxsize=16)
def _accumulation(unit: TensorCore, k: int) -> Found:
    kinds, found = ("uniform [0, 1)", "normal"), Found()
    for error in sum_errors(unit, k, kinds, intervals=(None, WEIGHT[0])):
        how = f"promoted every {error.interval}" if error.interval else "one accumulator"
        if error.operands == kinds[0]:
            found[f"K = {k}, uniform [0, 1), {how}: median error"] = (error.median, "share")
        else:
            found[f"K = {k}, normal, {how}: worst, over sum of |products|"] = (error.normwise, "share")
    return found


def sums_apart(before: Hardware, after: Hardware, k: int) -> tuple[Found, Found]:
    """Errors of sums of K products on the units in which two machines differ, bit by bit; none if in none.

    Units with scales inside are left out: their sums are those of other operands.
    """
    sides = before.tensor_core, after.tensor_core
    differing = [
        name
        for name, unit in sides[0].items()
        if name in sides[1] and unit != sides[1][name] and not unit.scale_block
    ]
    first, second = (
        {f"{name}: {what}": v for name in differing for what, v in _accumulation(side[name], k).items()}
        for side in sides
    )
    return first, second


def quantised_bytes(side: Side) -> Found:
    """Memory traffic of values that are quantised as the phase runs: read in BF16, written, read in FP8."""
    turning = {row.op for row in side.plain if row.direction == "quantise"}
    present = {row.op for row in side.plain if row.phase == "forward"}
    found = {op: present.intersection(readers) for op, readers in READERS.items() if op in present}
    alone = {op for op, readers in found.items() if len(readers) == 1}
    values = sum(
        row.times * math.prod(row.shapes[0])
        for row in side.plain
        if row.op in alone and row.phase == "forward"
    )
    traffic = _traffic(side, {*found, *turning}.union(*found.values()))
    of_one = _traffic(side, alone.union(*(found[op] for op in alone)), phase="forward")
    return {
        "HBM, quantising and reading back": (traffic, "B"),
        "of a value that one product reads": (of_one / max(values, 1), "B"),
    }


def _traffic(side: Side, ops: set[str], phase: str | None = None) -> int:
    """Bytes of passes of quantisation and of what reads their copies, less what the change saved on them."""
    today = saved = 0
    for row in side.plain:
        if row.op in ops and phase in (None, row.phase):
            whole = row.op in READERS or row.direction == "quantise"
            saved += row.times * row.bytes.get("activation", 0)
            today += row.times * (row.bytes["activation"] if whole else operand_bytes(row, 0))
    left = Trace(row for row in side.rows if row.op in ops and phase in (None, row.phase))
    return today - saved + left.bytes.get("activation", 0)


# ---- formats ----------------------------------------------------------------------------------------------


@lru_cache
def _drawn(rows: int, columns: int, seed: int) -> Values:
    return draw("gaussian", (rows, columns), np.random.default_rng(seed))


def travelling_error(side: Side) -> Found:
    """Error of what combine carries, in the format that this side's rows name."""
    names = {"bf16": "BF16", "e4m3": "E4M3", "logfmt-10": "LogFMT-10"}
    row = next((row for row in side.rows if carries(row) == BACK), None)
    if row is None:
        raise ValueError("expected a deployment with an exchange between GPUs, got one without")
    bytes_a_value = operand_bytes(row, 0) / np.prod(row.shapes[0])
    x = _drawn(512, 1024, 0)
    error = tile_error(x, CODECS[names[row.formats[0]]](x)).relative_rms
    return {
        "bytes of a value in combine": (float(bytes_a_value), "B"),
        "relative RMS error, Gaussian tiles": (error, "share"),
    }


def narrow_product_error(side: Side) -> Found:
    """Error of Gaussian weights, and of a product, by the formats of inputs weights and activations."""
    w, x = _drawn(256, 1024, 1), _drawn(256, 1024, 2)  # [N, K], [M, K]
    w_back = _narrowed(w, side.word("weights"), WEIGHT)
    product = _narrowed(x, side.word("activations"), TILE) @ w_back.T  # [M, N]
    return {
        "weights: relative RMS error": (tile_error(w, w_back).relative_rms, "share"),
        "product, K = 1024: relative RMS error": (tile_error(x @ w.T, product).relative_rms, "share"),
    }


def _narrowed(x: Values, format_: str, block: tuple[int, int]) -> Values:
    codecs = {"e4m3": lambda: tile_round(x, block, E4M3), "nvfp4": lambda: NVFP4.round(x)}
    if format_ not in codecs:
        raise ValueError(f"expected e4m3 or nvfp4, got {format_!r}")
    return codecs[format_]()


def turning_error(side: Side) -> Found:
    """Error of activations that Wgrad reads in 128x1 tiles.

    input round_trip: 1, they went through 1x128 tiles and memory first; 0, the 1x128 tiles are read turned.
    """
    x, found = _drawn(512, 512, 3), Found()
    for kind, name in (("float32", "FP32 scales"), ("power-of-two", "scales 2^n")):
        once = tile_round(x, TILE, E4M3, scale=kind)
        read = tile_round(once, TURNED, E4M3, scale=kind) if side.number("round_trip") else once
        found[f"values changed by turning, {name}"] = (float(np.mean(read != once)), "share")
        found[f"relative RMS error, {name}"] = (tile_error(x, read).relative_rms, "share")
    return found


# ---- between GPUs -----------------------------------------------------------------------------------------


def copies(side: Side) -> Found:
    """Copies of a token that pass a card, each way.  inputs multicast, reduces: 1 where the network does."""
    found = Found()
    for way, name in ((OUT, "dispatch"), (BACK, "combine")):
        row = next((row for row in side.plain if carries(row) == way and row.bytes.get("network")), None)
        every = row.bytes["network"] / operand_bytes(row, 0) if row else 0.0
        once = min(every, 1.0)
        sent = once if way == OUT and side.number("multicast") else every
        received = once if way == BACK and side.number("reduces") else every
        found[f"{name}: copies of a token sent"] = (sent, "count")
        found[f"{name}: copies received"] = (received, "count")
    return found


def busy_wires(side: Side) -> Found:
    """Seconds that each wire is busy over the phase."""
    paths = {"network": "fabric.effective", "nvlink": "node.nvlink.usable"}
    names = {"network": "network busy", "nvlink": "NVLink busy"}
    moved = Trace(row for row in side.rows if carries(row)).bytes
    return {names[wire]: (moved.get(wire, 0) / side.hardware[paths[wire]].si, "s") for wire in paths}


def staged_bytes(side: Side) -> Found:
    """Memory traffic of copies that wait for NVLink to pass them on."""
    more = side.rows.bytes.get("activation", 0) - side.plain.bytes.get("activation", 0)
    return {"HBM, copies on their way": (more, "B")}


def time_of_a_token(side: Side) -> Found:
    """The bound of arXiv 2505.09343, 2.3.2: every layer waits for its exchange.

    inputs: tokens of an expert, width, dispatch_bytes, combine_bytes; gpus among which the experts are spread
    (one each if not given), link (the network card's line).
    """
    experts = side.config.n_activated_experts + side.config.n_shared_experts
    held = side.config.n_routed_experts / side.number("gpus") if "gpus" in side.inputs else 1.0
    link = side.word("link") if "link" in side.inputs else "fabric.line"
    step = {"tokens": side.number("tokens") * held, "experts": experts, "width": side.number("width")}
    step |= {name: side.number(name) for name in ("dispatch_bytes", "combine_bytes")}
    seconds = tpot(side.config.n_layers, **step, bandwidth=side.hardware[link].si)
    return {"time of a token, bound by its exchange": (seconds, "s")}


def latency_of_a_token(side: Side) -> Found:
    """What a token waits for messages that move hardly a byte.

    inputs: transfers a layer, fabric (a path of latencies), round_trips that a transfer waits for a flag.
    """
    one_way = side.hardware[side.word("fabric")].si
    trips = 1 + 2 * side.number("round_trips")
    seconds = side.config.n_layers * side.number("transfers") * trips * one_way
    return {"latency of a token": (seconds, "s")}


def cache_reload(side: Side) -> Found:
    """Seconds to fetch a request's cache from the host.  input nic_on_pcie: 1 if the card shares its PCIe."""
    cache = side.deployment.length * kv_bytes_per_token(side.config)
    link = side.hardware["host.pcie.bandwidth"].si
    left = link - side.number("nic_on_pcie") * side.hardware["fabric.line"].si
    return {
        "cache of a request": (cache, "B"),
        "link to the host, left": (left, "B/s"),
        "fetching it": (cache / left, "s"),
    }


def switches(side: Side) -> Found:
    """Fat trees of switches of so many ports.  inputs: ports, endpoints of the cluster."""
    ports, planes = int(side.number("ports")), int(side.hardware["node.planes"].si)
    cluster = cluster_switches(int(side.number("endpoints")), planes, ports)
    return {
        "endpoints of two layers": (two_layer_fat_tree(ports).endpoints, "count"),
        "endpoints of all planes": (multi_plane_fat_tree(ports, planes).endpoints, "count"),
        "switches of the cluster": (cluster, "count"),
    }


ERRORS: Mapping[str, Measure] = {
    measure.__name__: measure
    for measure in (accumulation, narrow_product_error, travelling_error, turning_error)
}
MEASURES: Mapping[str, Measure] = {
    measure.__name__: measure
    for measure in (
        busy_wires,
        cache_reload,
        computing_sms,
        copies,
        latency_of_a_token,
        partial_sum_traffic,
        quantised_bytes,
        staged_bytes,
        switches,
        time_of_a_token,
    )
}


def measure_named(name: str) -> Measure:
    """A measure by name; ValueError with near names."""
    known = {**MEASURES, **ERRORS}
    if name not in known:
        raise ValueError(f"expected a measure, got {name!r}: {near(name, list(known))}")
    return known[name]
