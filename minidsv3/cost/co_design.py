"""The co-design table: a limit of the hardware, V3's answer, what that saves, what a wish would save.

Each answer is priced against its absence: MLA against as many heads with keys and values of their own, FP8
against BF16, routing within four nodes against a copy for every pick. What remains is a wish, and its worth
comes from the scenario of that name. No number of the table is written down: all are calculated from model,
deployments and hardware; the few inputs that none of these has stand in `data/co_design.toml` with a source.

Does: savings and wishes of a model on a machine. Does not: draw (`minidsv3.show.co_design_table`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.hardware import load_hardware
    >>> place = Place(ModelConfig.preset("v3"), load_hardware("h800"))
    >>> [f"{effect.name}: {effect.before / effect.after:.1f} times" for effect in latent_attention(place)[:1]]
    ['cache of a token: 56.9 times']

Next: minidsv3.cost.compare
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from typing import Any

from minidsv3.config import ModelConfig, near
from minidsv3.cost.copies import copies_sent
from minidsv3.cost.deployment import Sourced, default_deployment, with_fields
from minidsv3.cost.networks import multi_plane_fat_tree, three_layer_fat_tree
from minidsv3.cost.per_token import kv_bytes_mha, kv_bytes_per_token, training_flops_per_token
from minidsv3.cost.phase_bill import PhaseBill, phase_bill
from minidsv3.cost.row_changes import operand_bytes
from minidsv3.cost.rows import rows_of
from minidsv3.cost.scenarios import Scenario, scenario_named, what_if
from minidsv3.cost.serving import seconds_to_read, speculative_speedup
from minidsv3.cost.what_if import Effect
from minidsv3.cost.wire_changes import OUT, carries
from minidsv3.cost.wish_figures import Side, accumulation, turning_error
from minidsv3.hardware import Hardware
from minidsv3.machine import Trace
from minidsv3.machine.operands import Stored

__all__ = [
    "SAVINGS",
    "Line",
    "Place",
    "Saving",
    "co_design",
    "drafts",
    "eight_bits",
    "latent_attention",
    "multi_plane",
    "narrow_dispatch",
    "node_limit",
    "overlap",
    "powers_of_two",
    "promotion",
    "sparse_experts",
]


@dataclass(frozen=True)
class Place:
    """A model on a machine, and the inputs of one row by name."""

    config: ModelConfig
    hardware: Hardware
    inputs: Mapping[str, Sourced] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """An input; ValueError if the row has none of that name."""
        if name not in self.inputs:
            raise ValueError(f"expected an input {name!r}: {near(name, list(self.inputs))}")
        return float(self.inputs[name].value)

    def bill(self, phase: str, config: ModelConfig | None = None, **fields: Any) -> PhaseBill:
        """The bill of a phase's default deployment, some fields of it changed."""
        return phase_bill(
            config or self.config, self.hardware, with_fields(default_deployment(phase), fields)
        )

    def side(self, **inputs: Any) -> Side:
        """For measures that look at no row."""
        deployment = default_deployment("train")
        return Side(self.config, self.hardware, deployment, Trace(), Trace(), inputs)


Saving = Callable[[Place], tuple[Effect, ...]]


# ---- what each answer saves: before is without it ---------------------------------------------------------


def latent_attention(place: Place) -> tuple[Effect, ...]:
    """MLA's cache against that of as many heads of MHA: bytes, time to read it, requests that fit."""
    decode = place.bill("decode")
    length, requests = decode.deployment.length, decode.deployment.sequences
    rate, room = place.hardware["chip.hbm.bandwidth"].si, place.hardware["chip.hbm.capacity"].si
    heads, latent = kv_bytes_mha(place.config), kv_bytes_per_token(place.config)
    left = room - decode.weight_bytes
    return (
        Effect("cache of a token", "B", heads, latent),
        Effect(
            "reading the cache, a decoding step", "s",
            seconds_to_read([heads * length * requests], rate),
            seconds_to_read([latent * length * requests], rate),
        ),
        Effect(
            f"requests of {length:,} tokens beside the weights", "count",
            left // (heads * length), left // (latent * length),
        ),
    )  # fmt: skip


def sparse_experts(place: Place) -> tuple[Effect, ...]:
    """Some experts a token against all of them."""
    c, train = place.config, default_deployment("train")
    every = replace(c, n_activated_experts=c.n_routed_experts, n_limited_groups=c.n_expert_groups)
    flops = [training_flops_per_token(config, train.length) for config in (every, c)]
    active = [config.parameter_counts()["active"] for config in (every, c)]
    return (
        Effect("training FLOPs a token", "FLOP", *flops),
        Effect("parameters a token meets", "count", *active),
    )


def eight_bits(place: Place) -> tuple[Effect, ...]:
    """FP8 against BF16: a training step and what weights take."""
    wide, narrow = (place.bill("train", precision=name) for name in ("bf16", "fp8"))
    held = [place.bill("decode", precision=name).weight_bytes for name in ("bf16", "fp8")]
    return (
        Effect("training, computing", "s", wide.compute_seconds, narrow.compute_seconds),
        Effect("training, communicating", "s", wide.communication_seconds, narrow.communication_seconds),
        Effect("weights held, decoding", "B", *held),
    )


def promotion(place: Place) -> tuple[Effect, ...]:
    """Promotion to FP32 against one accumulator along all of K: the error of sums, bit by bit."""
    found = accumulation(place.side(k=place.number("k")))
    alone, promoted = (value for name, (value, _) in found.items() if "uniform" in name)
    return (Effect(f"median error, K = {place.number('k'):.0f}, uniform", "share", alone, promoted),)


def powers_of_two(place: Place) -> tuple[Effect, ...]:
    """Scales 2^n against FP32 scales where 1x128 tiles are turned into 128x1."""
    found = turning_error(place.side(round_trip=1))
    pairs = {
        name: [value for said, (value, _) in found.items() if said.startswith(name)]
        for name in ("values changed by turning", "relative RMS error")
    }
    return tuple(Effect(name, "share", *both) for name, both in pairs.items())


def node_limit(place: Place) -> tuple[Effect, ...]:
    """Four nodes and a copy each, against a copy for every pick; and what the limit alone does."""
    c, train = place.config, default_deployment("train")
    anywhere = replace(c, n_limited_groups=c.n_expert_groups)
    alone = with_fields(train, {"node_limited": False})
    copies = [copies_sent(*one).network for one in ((c, alone), (anywhere, train), (c, train))]
    seconds = [place.bill("train", node_limited=limited).communication_seconds for limited in (False, True)]
    return (
        Effect("copies over the network, against one a pick", "count", copies[0], copies[2]),
        Effect("the limit alone", "count", copies[1], copies[2]),
        Effect("training, communicating", "s", *seconds),
    )


def narrow_dispatch(place: Place) -> tuple[Effect, ...]:
    """Dispatch in FP8 against BF16: bytes of all tokens that go out."""
    rows = [row for row in rows_of(place.config, default_deployment("train")) if carries(row) == OUT]
    narrow, first = Trace(rows).bytes["network"], rows[0]
    wide = narrow * Stored("bf16").nbytes(first.shapes[0]) // operand_bytes(first, 0)
    return (Effect("network, dispatch", "B", wide, narrow),)


def overlap(place: Place) -> tuple[Effect, ...]:
    """Computing and communicating at once, against one after the other."""
    phases = {name: place.bill(name) for name in ("train", "prefill", "decode")}
    return tuple(
        Effect(f"{name}, seconds", "s", one.serial_seconds, one.overlapped_seconds)
        for name, one in phases.items()
    )


def drafts(place: Place) -> tuple[Effect, ...]:
    """Tokens of a step with one draft, 1 + p."""
    speedup = speculative_speedup(place.number("acceptance"))
    return (Effect("tokens of a request in a step", "count", 1, speedup),)


def multi_plane(place: Place) -> tuple[Effect, ...]:
    """Planes of two layers against a tree of three, for each endpoint."""
    ports, planes = int(place.number("ports")), int(place.hardware["node.planes"].si)
    three, two = three_layer_fat_tree(ports), multi_plane_fat_tree(ports, planes)
    return (
        Effect(
            "switches an endpoint", "count", three.switches / three.endpoints, two.switches / two.endpoints
        ),
        Effect("links an endpoint", "count", three.links / three.endpoints, two.links / two.endpoints),
    )


SAVINGS: Mapping[str, Saving] = {
    saving.__name__: saving
    for saving in (
        drafts,
        eight_bits,
        latent_attention,
        multi_plane,
        narrow_dispatch,
        node_limit,
        overlap,
        powers_of_two,
        promotion,
        sparse_experts,
    )
}


# ---- the table --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A row: challenge, method, what it saves, the wish, what that would save."""

    challenge: str
    method: str
    source: str
    saves: tuple[Effect, ...]
    unpriced: str  # why `saves` is empty
    scenario: Scenario
    would_save: tuple[Effect, ...]
    inputs: Mapping[str, Sourced]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "challenge": self.challenge,
            "method": self.method,
            "source": self.source,
            "saves": [effect.to_dict() for effect in self.saves],
            "unpriced": self.unpriced,
            "what_if": self.scenario.name,
            "wish": self.scenario.wish,
            "would_save": [effect.to_dict() for effect in self.would_save],
            "inputs": {name: {"value": one.value, "source": one.source} for name, one in self.inputs.items()},
        }


@lru_cache
def _rows() -> Sequence[Mapping[str, Any]]:
    text = (resources.files("minidsv3") / "data" / "co_design.toml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)["row"]
    return rows


def co_design(config: ModelConfig, hardware: Hardware) -> tuple[Line, ...]:
    """All rows of `data/co_design.toml` for a model with latent attention and experts, on a machine.

    Raises ValueError naming the row for a model or a machine that lacks what a row is about.
    """
    return tuple(_line(row, config, hardware) for row in _rows())


def _line(row: Mapping[str, Any], config: ModelConfig, hardware: Hardware) -> Line:
    inputs = {
        name: Sourced(one["value"], one["source"], "report") for name, one in row.get("inputs", {}).items()
    }
    scenario = scenario_named(row["scenario"])
    try:
        saves = SAVINGS[row["saving"]](Place(config, hardware, inputs)) if "saving" in row else ()
        found = what_if(config, scenario, hardware)
    except ValueError as error:
        raise ValueError(f"{row['method']}: {error}") from None
    return Line(
        challenge=row["challenge"],
        method=row["method"],
        source=row["source"],
        saves=saves,
        unpriced=row.get("unpriced", ""),
        scenario=scenario,
        would_save=tuple(found[name] for name in row["effects"]),
        inputs=inputs,
    )
