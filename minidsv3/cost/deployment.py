"""Deployments: how a model is laid out on GPUs, as data with sources.

`data/deployments.toml` has DeepSeek's own: training (PP16 x EP64), prefill (EP32) and three decodes that
must not be mixed: the report's plan (EP320), the online service (EP144), the published profile (EP128). A
bill of a deployment is that of one GPU: its own tokens through attention and gate, its experts with the
tokens that all GPUs send them, evenly loaded. `alone` is one GPU that has everything, and computes as a
trace shows it.

Does: read, check, answer with sources. Does not: count anything (`minidsv3.cost.rows`), tensor parallelism:
the report's TP4 of attention is left out, as the online service leaves it out.

    >>> decode = load_deployment("decode")
    >>> decode.expert_parallel, decode.sequences, decode.sources["sequences"].source
    (128, 128, 'deepseek-ai/profile-data, decoding: 128 requests a GPU')
    >>> default_deployment("train").pipeline
    16

Next: minidsv3.cost.nvlink
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from importlib import resources
from typing import Any

from minidsv3.config import near

__all__ = [
    "ATTENTIONS",
    "PHASES",
    "Deployment",
    "Sourced",
    "alone",
    "default_deployment",
    "deployment_names",
    "load_deployment",
    "with_fields",
]

PHASES = ("train", "prefill", "decode")
ATTENTIONS = ("absorbed", "naive")
STATUSES = ("report", "measured", "assumed")
_TIMES = {"ms": 1e-3, "us": 1e-6, "s": 1.0}
_AT_LEAST = {"redundant_experts": 0}  # other whole numbers are 1 or more


@dataclass(frozen=True)
class Sourced:
    """A value of a deployment.  unit: empty for counts, names and switches."""

    value: Any
    source: str
    status: str  # report, measured, assumed; derived from the machine
    unit: str = ""

    @property
    def si(self) -> float:
        """The number, times in seconds."""
        return float(self.value) * _TIMES.get(self.unit, 1.0)


@dataclass(frozen=True)
class Deployment:
    """One GPU's place among others.  The default of a field is what it is where a file leaves it out."""

    name: str
    phase: str  # train, prefill, decode
    sequences: int  # of one GPU, in all its micro-batches
    length: int  # tokens of a sequence; decode: those in the cache, in front of the new one
    micro_batches: int = 1  # in which a GPU's sequences run, one after the other
    pipeline: int = 1  # GPUs among which the layers are divided
    expert_parallel: int = 1  # GPUs among which a layer's experts are spread
    gpus_per_node: int = 1  # that NVLink joins; in the data for nodes of the layout's own machine
    redundant_experts: int = 0  # second copies of loaded experts, on all GPUs together
    shared_as_routed: bool = False  # the shared experts lie on GPUs of their own
    node_limited: bool = False  # one copy a node over IB, then NVLink; False: one a chosen expert
    nvlink_inside: bool = False  # not node-limited: inside a node copies take NVLink; False: IB for all
    precision: str = "bf16"  # a recipe of data/precision
    attention: str = "absorbed"  # decode's, or "naive"
    communication_sms: bool = False  # the SMs that communication kernels take do not compute
    overlap: bool = False  # one micro-batch computes while another communicates
    recompute: tuple[str, ...] = ()  # patterns of ops that run again in the backward
    mtp: bool = True  # train: with the MTP modules and their loss
    balance: bool = True  # train: with the sequence-wise balance loss
    as_traced: bool = False  # as a laptop's trace shows it: attention in blocks that leave the chip, weights
    # narrowed in front of every use, logits of all tokens; False: an attention kernel, narrow weights at hand
    title: str = ""
    profile: Mapping[str, Sourced] = field(default_factory=dict)  # what was measured of it, if anything
    sources: Mapping[str, Sourced] = field(default_factory=dict)  # by field, where a file gives it

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ValueError(f"deployment {self.name}: {problem}")

    @property
    def source(self) -> str:
        """Where the layout comes from, in short."""
        return self.sources["phase"].source if "phase" in self.sources else "asked for"

    @property
    def tokens(self) -> int:
        """Tokens that one GPU puts through: all of its sequences', or one each in decoding."""
        return self.sequences * (1 if self.phase == "decode" else self.length)

    def _problems(self) -> list[str]:
        """Everything that does not fit, in words."""
        said = []
        for one in fields(self):
            value = getattr(self, one.name)
            if one.type is int and (isinstance(value, bool) or not isinstance(value, int)):
                said.append(f"expected {one.name} to be a whole number, got {value!r}")
            elif one.type is int and value < _AT_LEAST.get(one.name, 1):
                said.append(f"expected {one.name} >= {_AT_LEAST.get(one.name, 1)}, got {value}")
            elif one.type is bool and not isinstance(value, bool):
                said.append(f"expected {one.name} to be true or false, got {value!r}")
        choices = {"phase": PHASES, "attention": ATTENTIONS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                said.append(f"expected {name} {' | '.join(known)}, got {getattr(self, name)!r}")
        if said:
            return said
        if self.phase != "decode" and self.attention != ATTENTIONS[0]:
            said.append(
                f"expected attention {ATTENTIONS[0]} but in decode, got {self.attention!r} in {self.phase}"
            )
        if self.sequences % self.micro_batches:
            said.append(
                f"expected sequences divisible by {self.micro_batches} micro-batches, got {self.sequences}"
            )
        per_node = min(self.gpus_per_node, self.expert_parallel)
        if self.expert_parallel % per_node:
            said.append(f"expected expert_parallel in nodes of {per_node} GPUs, got {self.expert_parallel}")
        return said

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the sources."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "sources"}
        said = {name: {"value": one.value, "unit": one.unit} for name, one in self.profile.items()}
        return plain | {"recompute": list(self.recompute), "profile": said, "tokens": self.tokens}


@lru_cache
def _tables() -> dict[str, Any]:
    text = (resources.files("minidsv3") / "data" / "deployments.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def deployment_names(phase: str | None = None) -> list[str]:
    """Names in `data/deployments.toml`, of one phase if asked, in the file's order."""
    every = _tables()["deployment"]
    return [name for name, row in every.items() if phase in (None, row["phase"]["value"])]


def default_deployment(phase: str) -> Deployment:
    """The deployment that a phase is priced in if none is named; ValueError for an unknown phase."""
    if phase not in PHASES:
        raise ValueError(f"expected a phase, got {phase!r}: {near(phase, list(PHASES))}")
    return load_deployment(_tables()["default"][phase])


@lru_cache
def load_deployment(name: str) -> Deployment:
    """A deployment of `data/deployments.toml`; ValueError with near names."""
    if name not in deployment_names():
        raise ValueError(f"expected a deployment, got {name!r}: {near(name, deployment_names())}")
    return read_deployment(name, _tables()["deployment"][name])


def read_deployment(name: str, table: Mapping[str, Any]) -> Deployment:
    """Check one parsed table; ValueError naming deployment, field and expectation."""
    rows = dict(table)
    title, profile = rows.pop("title", ""), rows.pop("profile", {})
    known = [
        one.name for one in fields(Deployment) if one.name not in ("name", "title", "profile", "sources")
    ]
    for key in rows:
        if key not in known:
            raise ValueError(f"deployment {name}: unknown field {key!r}: {near(key, known)}")
    sources = {key: _sourced(name, key, row) for key, row in rows.items()}
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v := one.value, list) else v for key, one in sources.items()
    }
    measured = {key: _sourced(name, f"profile.{key}", row) for key, row in profile.items()}
    return Deployment(name=name, title=title, profile=measured, sources=sources, **values)


def _sourced(name: str, key: str, row: Any) -> Sourced:
    if not isinstance(row, Mapping) or not {"value", "source", "status"} <= set(row):
        raise ValueError(f"deployment {name}: {key}: expected {{ value, source, status }}, got {row!r}")
    if not str(row["source"]).strip() or row["status"] not in STATUSES:
        expected = f"a source and a status {' | '.join(STATUSES)}"
        raise ValueError(f"deployment {name}: {key}: expected {expected}, got {dict(row)!r}")
    return Sourced(**row)


def with_fields(deployment: Deployment, changes: Mapping[str, Any], source: str = "what if") -> Deployment:
    """The same with other values; text is read as the field's type ("64", "true", "a, b").

    Raises ValueError for an unknown field (with near names) or a value that does not fit.
    """
    known = [
        one.name for one in fields(Deployment) if one.name not in ("name", "title", "profile", "sources")
    ]
    values, sources = {}, dict(deployment.sources)
    for key, value in changes.items():
        if key not in known:
            raise ValueError(f"deployment {deployment.name}: unknown field {key!r}: {near(key, known)}")
        values[key] = _read(value, getattr(deployment, key)) if isinstance(value, str) else value
        sources[key] = Sourced(values[key], source, "assumed")
    return replace(deployment, **values, sources=sources, profile={})


def _read(text: str, like: Any) -> Any:
    """Text as the type of what it replaces; what cannot be read so is left to the field's own check."""
    if isinstance(like, bool):
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    if isinstance(like, int):
        return int(text) if text.strip().lstrip("-").isdigit() else text
    if isinstance(like, tuple):
        return tuple(word.strip() for word in text.split(",") if word.strip() not in ("", "none"))
    return text.strip()


def alone(
    phase: str, sequences: int, length: int, precision: str = "bf16", as_traced: bool = True, **fields_: Any
) -> Deployment:
    """One GPU that has the whole model, computing as a trace of it would show.

    length: tokens of a sequence; train: one less than a row's tokens; decode: those in front of the new one.
    """
    return Deployment("alone", phase, sequences, length, precision=precision, as_traced=as_traced, **fields_)
