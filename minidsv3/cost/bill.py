"""The bill: a fold over the rows of a trace, priced at a machine's rates.

Each row becomes a line (equations, shapes, FLOPs, bytes, seconds, what bounds it); lines add up by op, part,
phase, precision and layer. A row that stands for several is one line, with the sums of all of them. A group's
`bound` is the one under which it spends most of its seconds. `wall_seconds` is what the same rows took on the
computer that traced them.

Does: lines and sums as plain frozen dataclasses, sorted for a reader; one JSON object. Does not: format
numbers or draw (`minidsv3.show`), estimate anything that no row shows.

    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.machine import Row, Trace
    >>> rows = Trace([Row(op="mla.out", phase="forward", matrix_flops=10**12, bytes={"weight": 4 * 10**9})])
    >>> total = bill(rows, load_hardware("h800")).total
    >>> total.bytes, total.bound, f"{total.seconds * 1e3:.3f} ms"
    ({'weight': 2000000000}, 'compute', '1.011 ms')

Next: minidsv3.cost.work
"""

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from minidsv3.config import ModelConfig
from minidsv3.cost.per_token import kv_bytes_per_token
from minidsv3.cost.rates import WIRES, Rates, rates
from minidsv3.hardware import Hardware
from minidsv3.machine import Row, look_up

__all__ = ["Bill", "Line", "OpTotal", "Total", "bill", "of_one_layer"]

Key = TypeVar("Key", bound=Hashable)
PHASES = ("forward", "backward", "update", "communication")


@dataclass(frozen=True)
class Line:
    """One row of the trace, priced; numbers are of all `times` rows that it stands for."""

    op: str
    equations: tuple[str, ...]
    formula: str
    part: str  # of the model, as the catalogue says; "exchange" for what goes over a wire
    phase: str
    direction: str
    layer: int | None
    expert: int | None
    shapes: tuple[tuple[int, ...], ...]  # operands, then the result
    formats: tuple[str, ...]  # of the same, with the block that shares a scale: "e4m3 1x128"
    matrix_flops: int
    vector_flops: int
    bytes: dict[str, int]  # by kind: weight, activation, kv, network, nvlink
    seconds: float
    bound: str  # compute, memory, network, nvlink, none
    wall_seconds: float
    precision: str  # format whose peak its product runs at; "vector", "wire" where there is no product
    times: int = 1
    layers: int = 1  # `layer` and those that follow it, all alike


@dataclass(frozen=True)
class Total:
    """Lines added up."""

    name: str
    rows: int
    matrix_flops: int
    vector_flops: int
    bytes: dict[str, int]
    seconds: float
    share: float  # of the whole bill's seconds
    bound: str  # under which most of the seconds are spent
    wall_seconds: float

    @property
    def flops(self) -> int:
        """Of products and of the rest."""
        return self.matrix_flops + self.vector_flops

    @property
    def memory_bytes(self) -> int:
        """Moved from and to device memory; what goes over a wire is not among them."""
        return sum(n for kind, n in self.bytes.items() if kind not in WIRES)

    @property
    def intensity(self) -> float:
        """FLOP a byte of device memory; 0 where none is moved."""
        return self.flops / self.memory_bytes if self.memory_bytes else 0.0


@dataclass(frozen=True)
class OpTotal(Total):
    """All lines of one op in one phase; `name` is the op's id."""

    phase: str
    part: str
    equations: tuple[str, ...]
    formula: str
    shapes: tuple[tuple[int, ...], ...]  # of the largest line, the one with the most FLOPs and bytes


@dataclass(frozen=True)
class Bill:
    """A priced trace.  Groups by time, longest first, but phases and layers in their own order."""

    hardware: str
    hardware_name: str
    format: str
    rule: str  # how it was priced, in words
    lines: tuple[Line, ...]
    by_op: tuple[OpTotal, ...]
    by_part: tuple[Total, ...]
    by_phase: tuple[Total, ...]
    by_precision: tuple[Total, ...]
    by_layer: tuple[Total, ...]  # named "0", "1", …, and "outside" for embedding, head and optimiser
    total: Total
    kv_bytes_per_token: int | None  # of the config, in `format`; None if no config was given

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"schema": "minidsv3.bill/1"} | asdict(self)


def bill(
    trace: Iterable[Row],
    hardware: Hardware,
    format: str = "bf16",
    reserve_communication_sms: bool = False,
    config: ModelConfig | None = None,
) -> Bill:
    """Price a trace.

    format, reserve_communication_sms: as for `rates`, which states the rule. config: the traced model, for
    its KV bytes a token. Raises ValueError for an unknown op or format, or a rate that the file leaves out.
    """
    at = rates(hardware, format, reserve_communication_sms)
    lines = tuple(_line(row, at) for row in trace)
    whole = sum(line.seconds for line in lines)
    return Bill(
        hardware=hardware.id,
        hardware_name=hardware.name,
        format=format,
        rule=at.rule,
        lines=lines,
        by_op=_by_op(lines, whole),
        by_part=_longest_first(_groups(lines, lambda line: line.part, whole)),
        by_phase=_in_order(_groups(lines, lambda line: line.phase, whole), list(PHASES)),
        by_precision=_longest_first(_groups(lines, lambda line: line.precision, whole)),
        by_layer=_by_layer(lines, whole),
        total=_total("total", lines, whole),
        kv_bytes_per_token=kv_bytes_per_token(config, at.number_bytes) if config else None,
    )


def _line(row: Row, at: Rates) -> Line:
    op = look_up(row.op)
    seconds, bound = at.seconds(row)
    return Line(
        op=row.op,
        equations=op.equations,
        formula=op.formula,
        part="exchange" if row.phase == "communication" else op.part,
        phase=row.phase,
        direction=row.direction,
        layer=row.layer,
        expert=row.expert,
        shapes=row.shapes,
        formats=row.stored,
        matrix_flops=row.times * row.matrix_flops,
        vector_flops=row.times * row.vector_flops,
        bytes={kind: row.times * n for kind, n in at.bytes(row).items()},
        seconds=row.times * seconds,
        bound=bound,
        wall_seconds=row.seconds,
        precision=at.precision(row),
        times=row.times,
        layers=row.layers,
    )


def of_one_layer(line: Line) -> Line:
    """A line of several layers alike, as it is for each of them."""
    n = line.layers
    if n == 1:
        return line
    return replace(
        line,
        matrix_flops=line.matrix_flops // n,
        vector_flops=line.vector_flops // n,
        bytes={kind: amount // n for kind, amount in line.bytes.items()},
        seconds=line.seconds / n,
        wall_seconds=line.wall_seconds / n,
        times=line.times // n,
        layers=1,
    )


def _by_layer(lines: Iterable[Line], whole: float) -> tuple[Total, ...]:
    """Layers in their order, then what is outside; a stretch of layers alike is added up once."""
    found: dict[int | None, list[Line]] = {}
    for (layer, n), group in _grouped(lines, lambda line: (line.layer, line.layers)).items():
        ones = [of_one_layer(line) for line in group]
        for at in [None] if layer is None else range(layer, layer + n):
            found.setdefault(at, []).extend(ones)
    sums: dict[tuple[int, ...], Total] = {}
    totals = []
    for at in sorted(found, key=lambda at: math.inf if at is None else at):
        same = tuple(map(id, found[at]))
        if same not in sums:
            sums[same] = _total("", found[at], whole)
        totals.append(replace(sums[same], name="outside" if at is None else str(at)))
    return tuple(totals)


def _groups(lines: Iterable[Line], key: Callable[[Line], str], whole: float) -> list[Total]:
    return [_total(name, group, whole) for name, group in _grouped(lines, key).items()]


def _grouped(lines: Iterable[Line], key: Callable[[Line], Key]) -> dict[Key, list[Line]]:
    groups: dict[Key, list[Line]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return groups


def _total(name: str, lines: Iterable[Line], whole: float) -> Total:
    return Total(**_sums(name, list(lines), whole))


def _sums(name: str, lines: list[Line], whole: float) -> dict[str, Any]:
    """The fields of a `Total`."""
    moved: dict[str, int] = {}
    bounds = {"none": 0.0}
    for line in lines:
        for kind, n in line.bytes.items():
            moved[kind] = moved.get(kind, 0) + n
        bounds[line.bound] = bounds.get(line.bound, 0.0) + line.seconds
    seconds = sum(line.seconds for line in lines)
    return {
        "name": name,
        "rows": sum(line.times for line in lines),
        "matrix_flops": sum(line.matrix_flops for line in lines),
        "vector_flops": sum(line.vector_flops for line in lines),
        "bytes": moved,
        "seconds": seconds,
        "share": seconds / whole if whole else 0.0,
        "bound": max(bounds, key=lambda bound: bounds[bound]),
        "wall_seconds": sum(line.wall_seconds for line in lines),
    }


def _by_op(lines: Iterable[Line], whole: float) -> tuple[OpTotal, ...]:
    found = []
    for group in _grouped(lines, lambda line: f"{line.phase} {line.op}").values():
        largest = max(
            group, key=lambda line: (line.matrix_flops + line.vector_flops, sum(line.bytes.values()))
        )
        said = {name: getattr(largest, name) for name in ("phase", "part", "equations", "formula", "shapes")}
        found.append(OpTotal(**_sums(largest.op, group, whole), **said))
    return tuple(sorted(found, key=lambda total: -total.seconds))


def _longest_first(totals: list[Total]) -> tuple[Total, ...]:
    return tuple(sorted(totals, key=lambda total: -total.seconds))


def _in_order(totals: list[Total], order: list[str]) -> tuple[Total, ...]:
    return tuple(sorted(totals, key=lambda total: order.index(total.name)))
