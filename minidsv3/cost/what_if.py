"""Two bills beside each other: what a change of hardware, layout or rows does to bytes, FLOPs and seconds.

A what-if has a bill before and one after. What both have stands side by side as `Effect`s: totals of a phase,
seconds of its parts, and whatever figures belong to the question (an error, a count of copies).

Does: compare. Does not: change anything (`row_changes`, `wire_changes`, `hardware.with_values`), name the
wishes (`scenarios`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.cost.deployment import alone
    >>> from minidsv3.cost.phase_bill import phase_bill
    >>> from minidsv3.hardware import load_hardware, with_values
    >>> nano, h800 = ModelConfig.preset("nano"), load_hardware("h800")
    >>> decode, faster = alone("decode", 1, 100), with_values(h800, {"chip.hbm.bandwidth": "6.7TB/s"})
    >>> twice = compare(phase_bill(nano, h800, decode), phase_bill(nano, faster, decode))
    >>> [effect.name for effect in twice.totals if effect.changed]
    ['seconds', 'computing', 'tokens a second, one GPU', 'rent of a million tokens']
    >>> f"{twice['computing'].ratio:.2f}"
    '0.50'

Next: minidsv3.cost.row_changes
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from minidsv3.config import near
from minidsv3.cost.phase_bill import PhaseBill
from minidsv3.cost.rates import WIRES

__all__ = ["Comparison", "Effect", "compare", "effects", "unread"]

# of a bill's bytes, in the order of reading
KINDS = {
    "weight": "HBM, weights",
    "activation": "HBM, activations",
    "kv": "HBM, cache",
    "network": "network",
    "nvlink": "NVLink",
}


@dataclass(frozen=True)
class Effect:
    """One quantity before and after.  unit: s, B, FLOP, FLOP/s, B/s, 1/s, share or count."""

    name: str
    unit: str
    before: float
    after: float

    @property
    def ratio(self) -> float | None:
        """After over before; None from zero."""
        return self.after / self.before if self.before else None

    @property
    def changed(self) -> bool:
        """Whether it makes a difference, beyond what float arithmetic does."""
        return not math.isclose(self.before, self.after, rel_tol=1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"ratio": self.ratio}


@dataclass(frozen=True)
class Comparison:
    """A phase before and after."""

    before: PhaseBill
    after: PhaseBill
    totals: tuple[Effect, ...]  # seconds, tokens, FLOPs, bytes by kind
    parts: tuple[Effect, ...]  # seconds of each part, of dispatch and of combine
    figures: tuple[Effect, ...] = ()  # counts that belong to the question
    errors: tuple[Effect, ...] = ()  # of the numbers themselves, where formats or sums change

    def __getitem__(self, name: str) -> Effect:
        """An effect by name; ValueError with near names."""
        known = {effect.name: effect for effect in self}
        if name not in known:
            raise ValueError(f"expected an effect, got {name!r}: {near(name, list(known))}")
        return known[name]

    def __iter__(self) -> Iterator[Effect]:
        return iter((*self.totals, *self.parts, *self.figures, *self.errors))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the bills."""
        names = ("totals", "parts", "figures", "errors")
        return {name: [effect.to_dict() for effect in getattr(self, name)] for name in names}


def compare(
    before: PhaseBill, after: PhaseBill, figures: Iterable[Effect] = (), errors: Iterable[Effect] = ()
) -> Comparison:
    """Set two bills side by side.  figures, errors: what else belongs to the question."""
    totals = _both(dict(_totals(before)), dict(_totals(after)))
    parts = _both(dict(_parts(before)), dict(_parts(after)))
    return Comparison(before, after, totals, parts, tuple(figures), tuple(errors))


Values = Mapping[str, tuple[float, str]]  # name -> value, unit


def effects(before: Values, after: Values) -> tuple[Effect, ...]:
    """What two sides say of the same names; a name that one side lacks is 0 there."""
    names = dict.fromkeys([*before, *after])
    units = {name: (before.get(name) or after[name])[1] for name in names}
    none = (0.0, "")
    return tuple(
        Effect(name, units[name], before.get(name, none)[0], after.get(name, none)[0]) for name in names
    )


def _both(before: Values, after: Values) -> tuple[Effect, ...]:
    return tuple(effect for effect in effects(before, after) if effect.before or effect.after)


def _totals(phase: PhaseBill) -> Iterator[tuple[str, tuple[float, str]]]:
    """What a phase comes to, by name."""
    total = phase.bill.total
    yield "seconds", (phase.seconds, "s")
    yield "computing", (phase.compute_seconds, "s")
    yield "communicating", (phase.communication_seconds, "s")
    yield "tokens a second, one GPU", (phase.tokens_per_second, "1/s")
    yield "rent of a million tokens", (phase.dollars or 0.0, "USD")
    yield "matrix FLOPs", (total.matrix_flops, "FLOP")
    yield "vector FLOPs", (total.vector_flops, "FLOP")
    for kind, name in KINDS.items():
        yield name, (total.bytes.get(kind, 0), "B")
    yield "weights held", (phase.weight_bytes, "B")
    yield "cache held", (phase.kv_bytes, "B")


def _parts(phase: PhaseBill) -> Iterator[tuple[str, tuple[float, str]]]:
    """Seconds by part of the model; of communication by what it does."""
    seconds: dict[str, float] = {}
    for line in phase.bill.lines:
        part = line.op.partition(".")[2] if line.phase == "communication" else line.part
        seconds[part] = seconds.get(part, 0.0) + line.seconds
    for part in sorted(seconds, key=lambda name: -seconds[name]):
        yield part, (seconds[part], "s")


# ---- changes that no price sees ---------------------------------------------------------------------------

# read beside a bill's rates: where the domain of NVLink ends, what an hour costs, what fits, how sums round
_READ_BESIDE = ("node.gpus", "price.gpu_hour", "chip.hbm.capacity", "tensor_core.")
# the first part of a path -> at what its kind is priced
_PRICED = {
    "node.nvlink.": f"NVLink is priced at {WIRES['nvlink']}",
    "fabric.": f"the network is priced at {WIRES['network']}",
    "chip.clock.": "computing is priced at the chip.peak of each format",
    "chip.peak.": "products are priced at the chip.peak of their own format",
    "chip.sm.": "SMs are priced where communication takes some (deployment.communication_sms)",
}


def unread(paths: Iterable[str], phase: PhaseBill) -> tuple[str, ...]:
    """A sentence for each path of the hardware that no price of this bill reads, and at what its kind is."""
    blind = [p for p in paths if p not in phase.rates.values and not p.startswith(_READ_BESIDE)]
    said = {path: next((at for first, at in _PRICED.items() if path.startswith(first)), "") for path in blind}
    return tuple(f"no price reads {path}" + (f"; {at}" if at else "") for path, at in said.items())
