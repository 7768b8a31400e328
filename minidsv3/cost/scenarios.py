"""Wishes to hardware by name: `data/scenarios.toml`, each priced before and after.

A scenario says on which deployment's bill the wish is shown, which values of hardware, deployment or model
become others, what becomes of the rows, and what is measured beside. None of it is code: a wish of one's own
is another table like those (`read_scenario`).

Does: read and check scenarios, price both sides. Does not: draw (`minidsv3.show.what_if_table`).

    >>> from minidsv3.config import ModelConfig
    >>> found = what_if(ModelConfig.preset("v3"), scenario_named("logfmt"))
    >>> for name in ("network", "time of a token, bound by its exchange"):
    ...     print(f"{found[name].ratio:.3f}")
    0.763
    0.760
    >>> error = found["relative RMS error, Gaussian tiles"]
    >>> f"{error.before:.2%} -> {error.after:.2%}"
    '0.17% -> 0.35%'

Next: minidsv3.cost.co_design
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any, NamedTuple

from minidsv3.config import ModelConfig, near
from minidsv3.cost import row_changes, wire_changes
from minidsv3.cost.deployment import Deployment, load_deployment, with_fields
from minidsv3.cost.nvlink import on_machine
from minidsv3.cost.phase_bill import PhaseBill, price
from minidsv3.cost.row_changes import Change
from minidsv3.cost.rows import rows_of
from minidsv3.cost.what_if import Comparison, Effect, compare, effects
from minidsv3.cost.wish_figures import ERRORS, Side, measure_named, sums_apart
from minidsv3.hardware import Hardware, load_hardware, with_values

__all__ = [
    "CHANGES",
    "TODAY",
    "Beyond",
    "Scenario",
    "beyond",
    "changed_sums",
    "read_scenario",
    "scenario_named",
    "scenario_names",
    "what_if",
]

CHANGES: Mapping[str, Change] = {
    change.__name__: change
    for change in (
        row_changes.cast_near_memory,
        row_changes.fp4_products,
        row_changes.fp4_weights,
        row_changes.fuse_quantisation,
        row_changes.scale_inside_tensor_core,
        row_changes.transposed_reads,
        wire_changes.forward_in_hardware,
        wire_changes.fp8_combine,
        wire_changes.logfmt_combine,
        wire_changes.multicast,
        wire_changes.multicast_and_reduce,
        wire_changes.reduce_in_network,
    )
}
TODAY: Mapping[str, Change] = {
    change.__name__: change for change in (row_changes.promote_partial_sums, wire_changes.stage_forwarding)
}


@dataclass(frozen=True)
class Scenario:
    """A wish.  Fields as the head of `data/scenarios.toml` explains them."""

    name: str
    title: str
    wish: str
    source: str
    deployment: str
    hardware: str = "h800"
    given: Mapping[str, Any] = field(default_factory=dict)
    set: Mapping[str, str] = field(default_factory=dict)
    becomes: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    today: Sequence[str] = ()
    change: Sequence[str] = ()
    measure: Sequence[str] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    assumed: str = ""
    says: str = ""

    def __post_init__(self) -> None:
        for said in ("title", "wish", "source", "deployment"):
            if not isinstance(getattr(self, said), str) or not getattr(self, said).strip():
                raise ValueError(
                    f"scenario {self.name}: expected a non-empty {said}, got {getattr(self, said)!r}"
                )
        for names, known in ((self.today, TODAY), (self.change, CHANGES)):
            for name in names:
                self._known(name, known)
        for name in self.measure:
            try:
                measure_named(name)
            except ValueError as error:
                raise ValueError(f"scenario {self.name}: measure: {error}") from None

    def _known(self, name: str, known: Mapping[str, Change]) -> None:
        if name not in known:
            near_names = near(name, list(known))
            raise ValueError(f"scenario {self.name}: expected a change of rows, got {name!r}: {near_names}")

    def input(self, side: int) -> dict[str, Any]:
        """Inputs of the measures, before (0) or after (1)."""
        return {
            name: value[side] if isinstance(value, list | tuple) else value
            for name, value in self.inputs.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: dict(v) if isinstance(v, Mapping) else v for name, v in plain.items()}


class Beyond(NamedTuple):
    """A wish that no bill can express."""

    wish: str
    source: str
    why: str


@lru_cache
def _tables() -> dict[str, Any]:
    text = (resources.files("minidsv3") / "data" / "scenarios.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@lru_cache
def scenario_names() -> list[str]:
    """Names in `data/scenarios.toml`, in the file's order."""
    return list(_tables()["scenario"])


def beyond() -> tuple[Beyond, ...]:
    """Wishes without a number, and why."""
    return tuple(Beyond(**row) for row in _tables()["beyond"])


@lru_cache
def scenario_named(name: str) -> Scenario:
    """A shipped scenario; ValueError with near names."""
    if name not in scenario_names():
        raise ValueError(f"expected a what-if by name, got {name!r}: {near(name, scenario_names())}")
    return read_scenario(name, _tables()["scenario"][name])


def read_scenario(name: str, table: Mapping[str, Any]) -> Scenario:
    """Check one parsed table; ValueError naming scenario, key and expectation."""
    known = [one.name for one in fields(Scenario) if one.name != "name"]
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"scenario {name}: unknown key {key!r}: {near(key, known)}")
        kind, said = _KINDS.get(key, (str, "text"))
        if not isinstance(value, kind):
            raise ValueError(f"scenario {name}: {key}: expected {said}, got {value!r}")
    missing = [key for key in ("title", "wish", "source", "deployment") if key not in table]
    if missing:
        raise ValueError(f"scenario {name}: expected a {missing[0]}, got none")
    frozen: dict[str, Any] = {k: MappingProxyType(v) if isinstance(v, dict) else v for k, v in table.items()}
    return Scenario(name=name, **frozen)


_KINDS: dict[str, tuple[type, str]] = dict.fromkeys(
    ("given", "set", "fields", "model", "inputs"), (dict, "a table")
) | dict.fromkeys(("today", "change", "measure"), (list, "a list of names"))


# ---- both sides -------------------------------------------------------------------------------------------


def what_if(
    config: ModelConfig,
    scenario: Scenario | str,
    hardware: Hardware | None = None,
    deployment: Deployment | str | None = None,
    model: str = "",
) -> Comparison:
    """Price a scenario before and after.

    scenario: or its name  hardware, deployment: the scenario's own if not given; another deployment may lack
    what the wish changes  model: its name, for the reader.
    Raises ValueError for a model or hardware that cannot be priced, or to which a value cannot be given.
    """
    s = scenario_named(scenario) if isinstance(scenario, str) else scenario
    machine = hardware or load_hardware(s.hardware)
    chosen = load_deployment(s.deployment) if deployment is None else deployment
    laid_out = with_fields(load_deployment(chosen) if isinstance(chosen, str) else chosen, s.given)
    before = _side(s, 0, config, machine, laid_out, [TODAY[name] for name in s.today])
    wished = with_values(load_hardware(s.becomes) if s.becomes else machine, s.set)
    layout = with_fields(laid_out, s.fields) if s.fields else laid_out
    changes = [*(TODAY[name] for name in s.today), *(CHANGES[name] for name in s.change)]
    after = _side(s, 1, replace(config, **s.model), wished, layout, changes)
    figures, errors = _measured(s, before, after)
    return compare(_priced(before, model), _priced(after, model), figures, errors)


def changed_sums(before: Hardware, after: Hardware) -> tuple[Effect, ...]:
    """Errors of sums on tensor cores that two machines have otherwise, at the K of `fp32-accumulation`."""
    k = int(scenario_named("fp32-accumulation").inputs["k"])
    return effects(*sums_apart(before, after, k))


def _side(
    s: Scenario,
    which: int,
    config: ModelConfig,
    hardware: Hardware,
    layout: Deployment,
    changes: list[Change],
) -> Side:
    layout = on_machine(layout, hardware)
    plain = rows = rows_of(config, layout)
    for change in changes:
        rows = change(rows)
    return Side(config, hardware, layout, rows, plain, s.input(which))


def _priced(side: Side, model: str) -> PhaseBill:
    return price(side.rows, side.config, side.hardware, side.deployment, model)


def _measured(s: Scenario, before: Side, after: Side) -> tuple[list[Effect], list[Effect]]:
    """Figures, then errors: shares that a measure of ERRORS finds."""
    figures, errors = list[Effect](), list[Effect]()
    for name in s.measure:
        measure = measure_named(name)
        for effect in effects(measure(before), measure(after)):
            (errors if name in ERRORS and effect.unit == "share" else figures).append(effect)
    return figures, errors
