"""The sizes of a model, named as in DeepSeek's released `config_671B.json`, and the plan of a training run.

A `ModelConfig` says how wide and how deep; it computes nothing but counts. A `TrainConfig` says how many
steps, how large a batch, and where each schedule of the report bends (section 4.2: learning rate, batch,
bias speed gamma, MTP weight lambda). `ModelConfig.preset("nano")` reads `data/models/nano.toml`.

Does: presets, checks that sizes fit together, exact parameter counts, the plan of V3 and its scaled-down
twin. Does not: read Hugging Face's `config.json` (`minidsv3.checkpoint` does), hold weights.

    >>> config = ModelConfig.preset("v3")
    >>> config.kv_lora_rank + config.qk_rope_head_dim            # what the latent cache keeps of a token
    576
    >>> ModelConfig.preset("mini").parameter_counts()["trainable"]
    14188736

Next: minidsv3.hardware
"""

import dataclasses
import difflib
import itertools
import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any, Self

__all__ = [
    "ExtensionConfig",
    "ExtensionPhase",
    "ModelConfig",
    "RopeScaling",
    "TrainConfig",
    "mtp_conventions",
    "near",
    "preset_names",
    "published_figures",
]


def near(name: str, known: list[str]) -> str:
    """Say which names are known, the nearest first; for error messages.

    >>> near("nana", ["mini", "nano"])
    "did you mean 'nano'? known: mini, nano"
    """
    guess = difflib.get_close_matches(name, known, n=1)
    return (f"did you mean '{guess[0]}'? " if guess else "") + "known: " + ", ".join(known)


@lru_cache
def preset_names() -> list[str]:
    """Names of the presets shipped in `data/models`, sorted."""
    folder = resources.files("minidsv3") / "data" / "models"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _preset_table(name: str) -> dict[str, Any]:
    if name not in preset_names():
        raise ValueError(f"expected a preset, got {name!r}: {near(name, preset_names())}")
    text = (resources.files("minidsv3") / "data" / "models" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def published_figures(name: str) -> dict[str, Any]:
    """What was printed about a preset's size, with its source; empty for presets of our own."""
    figures: dict[str, Any] = _preset_table(name).get("published", {})
    return figures


@lru_cache
def mtp_conventions() -> dict[str, dict[str, Any]]:
    """Readings of the report's section 2.2 by name: the three `mtp_*` fields, who uses it, and the source."""
    text = (resources.files("minidsv3") / "data" / "mtp_conventions.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@dataclass(frozen=True)
class RopeScaling:
    """YaRN's constants (report section 4.3; alpha and beta of the report are beta_slow and beta_fast).

    With m(x) = 0.1 x ln(factor) + 1 the softmax is scaled by m(mscale_all_dim) squared, cos and sin by
    m(mscale) / m(mscale_all_dim); if one of the two is 0, which stands for not given, by m(1). So compute
    transformers and, where both are given or neither, the code published with the weights.
    """

    factor: float
    original_seq_len: int
    beta_fast: float = 32
    beta_slow: float = 1
    mscale: float = 1.0
    mscale_all_dim: float = 1.0
    attention_factor: float | None = None  # scales cos and sin in place of that ratio
    truncate: bool = True  # the ramp begins and ends at whole pairs

    @property
    def rotation_scale(self) -> float:
        """What cos and sin are multiplied by; 1 in every published DeepSeek model."""
        if self.attention_factor is not None:
            return float(self.attention_factor)
        if not (self.mscale and self.mscale_all_dim):
            return _mscale(self.factor, 1.0)
        return _mscale(self.factor, self.mscale) / _mscale(self.factor, self.mscale_all_dim)

    @property
    def softmax_scale(self) -> float:
        """What the scores are multiplied by beside 1 / sqrt(d_h + d_R)."""
        return _mscale(self.factor, self.mscale_all_dim) ** 2

    def problems(self) -> list[str]:
        """Everything that cannot be computed, in words."""
        said = []
        least = {"factor": 1, "original_seq_len": 1, "mscale": 0, "mscale_all_dim": 0}
        for name, lowest in least.items():
            if not (_is_finite(value := getattr(self, name)) and value >= lowest):
                said.append(f"expected rope_scaling.{name} to be a number >= {lowest}, got {value!r}")
        for name in ("beta_fast", "beta_slow", "attention_factor"):
            value = getattr(self, name)
            if not (_is_finite(value) and value > 0) and not (name == "attention_factor" and value is None):
                said.append(f"expected rope_scaling.{name} to be a number above 0, got {value!r}")
        for name in (*least, "beta_fast", "beta_slow") if not said else ():
            value = getattr(self, name)
            if not (value <= _LARGEST and (value == 0 or value >= 1 / _LARGEST)):  # no overflow below
                said.append(f"expected rope_scaling.{name} within 2^-53 and 2^53, got {value!r:.80}")
        if not isinstance(value := getattr(self, "truncate"), bool):  # noqa: B009
            said.append(f"expected rope_scaling.truncate to be true or false, got {value!r}")
        return said


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a DeepSeek-V3-shaped model; every field that DeepSeek's `config_671B.json` has keeps its name.

    `q_lora_rank = 0` means no query latent (Moonlight, V2-Lite). `score_func` and `topk_method` say how the
    router scores and chooses: sigmoid and "noaux_tc" in V3, softmax and "group_limited_greedy" or "greedy",
    which knows no groups, in V2. The three `mtp_*` fields choose between the conventions that the report
    leaves open; the defaults are those of the published checkpoint.
    """

    vocab_size: int  # V
    dim: int  # D, width of the residual stream
    inter_dim: int  # width of the dense FFNs
    moe_inter_dim: int  # width of one routed expert
    n_layers: int  # L
    n_dense_layers: int  # the first of them have a dense FFN
    n_heads: int  # H
    n_routed_experts: int  # E
    n_shared_experts: int
    n_activated_experts: int  # K
    n_expert_groups: int  # G
    n_limited_groups: int  # groups kept for a token
    route_scale: float
    kv_lora_rank: int  # d_c
    qk_nope_head_dim: int  # d_h
    qk_rope_head_dim: int  # d_R
    v_head_dim: int
    q_lora_rank: int = 0  # d_c'; 0: no query latent
    score_func: str = "sigmoid"  # or "softmax"
    topk_method: str = "noaux_tc"  # with a bias, groups by their best two; "group_limited_greedy", "greedy"
    norm_topk_prob: bool = True  # the chosen scores are divided by their sum
    norm_eps: float = 1e-6  # RMSNorm of the residual stream; the latent norms are always 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    max_seq_len: int = 4096
    n_mtp_layers: int = 0  # D of the report's section 2.2
    mtp_order: str = "embedding-first"  # or "state-first", the order in which the report prints eq. 21
    mtp_state_after_norm: bool = True  # h^0 is taken after model.norm; False: before
    mtp_chain_after_norm: bool = True  # h^k is passed on after shared_head.norm; False: before
    initializer_range: float = 0.02
    fp8_block: int = 128  # numbers that share a scale in FP8: 1 x 128 of activations, 128 x 128 of weights
    bos_token_id: int = 0
    eos_token_id: int = 1

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ValueError(f"model config: {problem}")

    def _problems(self) -> list[str]:
        """Everything that does not fit together, in words."""
        said: list[str] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and (isinstance(value, bool) or not isinstance(value, int)):
                said.append(f"expected {field.name} to be a whole number, got {value!r}")
            elif field.type is int and value < (0 if field.name in _MAY_BE_ZERO else 1):
                least = 0 if field.name in _MAY_BE_ZERO else 1
                said.append(f"expected {field.name} >= {least}, got {value}")
            elif field.type is float and not (_is_finite(value) and value > 0):
                said.append(f"expected {field.name} to be a number above 0, got {value!r}")
            elif field.type is bool and not isinstance(value, bool):
                said.append(f"expected {field.name} to be true or false, got {value!r}")
            elif field.name == "rope_scaling" and not isinstance(value, RopeScaling | None):
                said.append(f"expected {field.name} to be a table or null, got {value!r}")
        if said:
            return said
        if self.qk_rope_head_dim % 2:
            said.append(f"expected an even qk_rope_head_dim (RoPE turns pairs), got {self.qk_rope_head_dim}")
        if self.n_dense_layers > self.n_layers:
            said.append(f"expected n_dense_layers <= n_layers={self.n_layers}, got {self.n_dense_layers}")
        if self.n_dense_layers < self.n_layers or self.n_mtp_layers:
            said += self._expert_problems()
        if self.rope_scaling:
            said += self.rope_scaling.problems()
            if self.rope_theta == 1:
                said.append("expected a rope_theta other than 1 with YaRN, which divides by its logarithm")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                said.append(f"expected {name} one of {allowed}, got {getattr(self, name)!r}")
        return said

    def _expert_problems(self) -> list[str]:
        experts, groups, kept = self.n_routed_experts, self.n_expert_groups, self.n_limited_groups
        if self.topk_method == "greedy":
            groups = kept = 1
        if experts % groups:
            return [f"expected n_routed_experts divisible by n_expert_groups={groups}, got {experts}"]
        if kept > groups:
            return [f"expected n_limited_groups <= n_expert_groups={groups}, got {kept}"]
        held = kept * (experts // groups)
        if self.n_activated_experts > held:
            return [
                f"expected n_activated_experts <= {held}, what {kept} kept groups of {experts // groups} "
                f"hold, got {self.n_activated_experts}"
            ]
        if self.topk_method == "noaux_tc" and groups > 1 and experts // groups < 2:
            return [
                "expected at least 2 experts a group (a group's score is its best two), "
                f"got {experts // groups}"
            ]
        return []

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The preset `name` of `data/models`, with some fields changed."""
        return cls.from_dict({**_preset_table(name)["model"], **changes})

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """Build from plain values; unknown and missing fields are errors."""
        table = dict(table)
        _check_fields(cls, table, "model config")
        if isinstance(table.get("rope_scaling"), Mapping):
            _check_fields(RopeScaling, table["rope_scaling"], "rope_scaling")
            table["rope_scaling"] = RopeScaling(**table["rope_scaling"])
        return cls(**table)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @property
    def qk_head_dim(self) -> int:
        """Width of a query or key: d_h + d_R."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @cached_property
    def softmax_scale(self) -> float:
        """1 / sqrt(d_h + d_R), times YaRN's squared magnitude where there is YaRN (eq. 10, section 4.3)."""
        magnitude = self.rope_scaling.softmax_scale if self.rope_scaling else 1.0
        return magnitude / math.sqrt(self.qk_head_dim)

    @property
    def has_router_bias(self) -> bool:
        """Whether the choice adds a bias to the scores (eq. 16); V2's methods have none."""
        return self.topk_method == "noaux_tc"

    @property
    def limits_groups(self) -> bool:
        """Whether a token's experts come from a part of the groups only."""
        return self.topk_method != "greedy" and self.n_limited_groups < self.n_expert_groups

    @property
    def mtp_convention(self) -> str:
        """Name of the three `mtp_*` choices in `data/mtp_conventions.toml`, or "unnamed"."""
        own = {name: getattr(self, name) for name in _MTP_FIELDS}
        named = (name for name, row in mtp_conventions().items() if own.items() <= row.items())
        return next(named, "unnamed")

    def with_mtp_convention(self, name: str) -> Self:
        """The same model under another convention of multi-token prediction."""
        known = mtp_conventions()
        if name not in known:
            raise ValueError(f"expected an MTP convention, got {name!r}: {near(name, list(known))}")
        return dataclasses.replace(self, **{field: known[name][field] for field in _MTP_FIELDS})

    def is_moe(self, layer: int) -> bool:
        """Whether a layer's FFN is a mixture of experts; the MTP blocks (layers >= n_layers) always are."""
        return layer >= self.n_dense_layers

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor under its published checkpoint name, in the order of the layers.

        MTP modules are layers n_layers, n_layers + 1, …; their copies of embedding and head, which the
        published files repeat, are shared with the main model and not listed.
        """
        return self._shapes(range(self.n_layers), self.n_routed_experts)

    def _shapes(self, layers: Iterable[int], experts: int) -> dict[str, tuple[int, ...]]:
        """The same for these layers of the main model, with so many routed experts each."""
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, self.dim)}
        for layer in layers:
            shapes |= self._block_shapes(layer, experts)
        shapes |= {"model.norm.weight": (self.dim,), "lm_head.weight": (self.vocab_size, self.dim)}
        for layer in range(self.n_layers, self.n_layers + self.n_mtp_layers):
            at = f"model.layers.{layer}."
            shapes |= {f"{at}enorm.weight": (self.dim,), f"{at}hnorm.weight": (self.dim,)}
            shapes |= {f"{at}eh_proj.weight": (self.dim, 2 * self.dim)}
            shapes |= self._block_shapes(layer, experts)
            shapes |= {f"{at}shared_head.norm.weight": (self.dim,)}
        return shapes

    def _block_shapes(self, layer: int, experts: int) -> dict[str, tuple[int, ...]]:
        at, d, h = f"model.layers.{layer}.", self.dim, self.n_heads
        shapes: dict[str, tuple[int, ...]] = {f"{at}input_layernorm.weight": (d,)}
        attention = {"kv_a_proj_with_mqa": (self.kv_lora_rank + self.qk_rope_head_dim, d)}
        if self.q_lora_rank:
            shapes |= {f"{at}self_attn.q_a_layernorm.weight": (self.q_lora_rank,)}
            attention |= {
                "q_a_proj": (self.q_lora_rank, d),
                "q_b_proj": (h * self.qk_head_dim, self.q_lora_rank),
            }
        else:
            attention |= {"q_proj": (h * self.qk_head_dim, d)}
        attention |= {"kv_b_proj": (h * (self.qk_nope_head_dim + self.v_head_dim), self.kv_lora_rank)}
        attention |= {"o_proj": (d, h * self.v_head_dim)}
        shapes |= {f"{at}self_attn.{name}.weight": shape for name, shape in attention.items()}
        shapes |= {f"{at}self_attn.kv_a_layernorm.weight": (self.kv_lora_rank,)}
        shapes |= {f"{at}post_attention_layernorm.weight": (d,)}
        if not self.is_moe(layer):
            return shapes | _ffn_shapes(f"{at}mlp.", d, self.inter_dim)
        shapes |= {f"{at}mlp.gate.weight": (self.n_routed_experts, d)}
        if self.has_router_bias:
            shapes |= {f"{at}mlp.gate.e_score_correction_bias": (self.n_routed_experts,)}
        for expert in range(experts):
            shapes |= _ffn_shapes(f"{at}mlp.experts.{expert}.", d, self.moe_inter_dim)
        if self.n_shared_experts:
            shapes |= _ffn_shapes(f"{at}mlp.shared_experts.", d, self.n_shared_experts * self.moe_inter_dim)
        return shapes

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters, by exact arithmetic over the tensors.

        `total` is the main model with the router biases, `trainable` without them (no gradient reaches them);
        `active` is what one token meets, embedding and head
        included; `active_without_embedding` leaves out the embedding, a look-up; `mtp` is the modules' own,
        `stored` adds the copies of embedding and head that the published files keep for each module.
        `checkpoint` is `stored` with the scales of the published FP8 layout (one for each block of
        `fp8_block` x `fp8_block` weights), `checkpoint_tensors` and `checkpoint_bytes` the same in tensors
        and bytes. `one_attention`, `one_expert`, `one_moe` are of one layer, 0 where there is none.
        """
        return dict(self._counts)

    @cached_property
    def _counts(self) -> dict[str, int]:
        by_part = dict.fromkeys(
            ("embedding", "head", "attention", "dense", "routed", "shared", "gate", "norm"), 0
        )
        mtp = 0
        for name, shape, layers, experts in self._kinds:
            size = math.prod(shape) * layers * experts
            if _layer_of(name) >= self.n_layers:
                mtp += size
            else:
                by_part[_part_of(name)] += size
        total = sum(by_part.values())
        biases = self.n_routed_experts * (self.n_layers - self.n_dense_layers) if self.has_router_bias else 0
        copies = self.n_mtp_layers * (by_part["embedding"] + by_part["head"])
        active = total - self._idle(by_part["routed"], self.n_activated_experts)
        counts = by_part | {
            "total": total,
            "trainable": total - biases,
            "active": active,
            "active_without_embedding": active - by_part["embedding"],
            "mtp": mtp,
            "stored": total + mtp + copies,
        }
        return counts | self._counts_of_the_files(counts["stored"]) | self._counts_of_one()

    @cached_property
    def _kinds(self) -> list[tuple[str, tuple[int, ...], int, int]]:
        """Name and shape of one tensor of each kind, with how many layers, and experts of each, have it.

        V3's 45,000 tensors are of some 60 kinds; of layers alike the last one stands for the others.
        """
        last = [
            self.n_layers - 1 if self.is_moe(i) else self.n_dense_layers - 1 for i in range(self.n_layers)
        ]
        alike = Counter(last)
        return [
            (name, shape, alike.get(_layer_of(name), 1), self.n_routed_experts if ".experts." in name else 1)
            for name, shape in self._shapes(alike, experts=1).items()
        ]

    def active_parameters(self, n_activated_experts: int) -> dict[str, int]:
        """`active` and `active_without_embedding` if a token met another number of routed experts."""
        if not 1 <= n_activated_experts <= self.n_routed_experts:
            got = f"got {n_activated_experts}"
            raise ValueError(f"expected 1 .. {self.n_routed_experts} activated experts, {got}")
        counts = self._counts
        active = counts["total"] - self._idle(counts["routed"], n_activated_experts)
        return {"active": active, "active_without_embedding": active - counts["embedding"]}

    def _idle(self, routed: int, activated: int) -> int:
        """Of the routed experts' parameters, those that a token does not meet."""
        return routed - routed * activated // self.n_routed_experts

    def fp8_tensors(self) -> list[str]:
        """The tensors that the published files hold in FP8: every projection of attention and FFN.

        Embedding, head, norms, router and M_k are BF16 there, the router's bias float32 (report, 3.3.1).
        """
        return [name for name, shape in self.tensor_shapes().items() if _is_fp8(name, shape)]

    def _counts_of_the_files(self, stored: int) -> dict[str, int]:
        """The published layout: FP8 with scales, the rest BF16 but float32 biases, copies for each module."""
        tensors = scales = codes = biases = 0
        for name, shape, layers, experts in self._kinds:
            times = layers * experts
            tensors += times
            if _is_fp8(name, shape):
                tensors += times
                codes += times * math.prod(shape)
                scales += times * math.prod(-(-size // self.fp8_block) for size in shape)
            biases += times * math.prod(shape) if name.endswith("correction_bias") else 0
        return {
            "scales": scales,
            "checkpoint": stored + scales,
            "checkpoint_tensors": tensors + 2 * self.n_mtp_layers,
            "checkpoint_bytes": codes + 4 * (scales + biases) + 2 * (stored - codes - biases),
        }

    def _counts_of_one(self) -> dict[str, int]:
        """Parameters of the last layer's attention, of its first routed expert, and of its MoE FFN."""
        at = f"model.layers.{self.n_layers - 1}."
        layer = {"one_attention": 0, "one_expert": 0, "one_moe": 0}
        for name, shape, _, experts in self._kinds:
            size = math.prod(shape)
            layer["one_attention"] += size if name.startswith(f"{at}self_attn.") else 0
            layer["one_expert"] += size if name.startswith(f"{at}mlp.experts.0.") else 0
            layer["one_moe"] += size * experts if name.startswith(f"{at}mlp.") else 0
        return layer if self.is_moe(self.n_layers - 1) else layer | {"one_moe": 0}


_LARGEST = 2.0**53  # of YaRN's numbers, whose squares and quotients are then finite
_MAY_BE_ZERO = {
    "n_dense_layers",
    "n_shared_experts",
    "q_lora_rank",
    "n_mtp_layers",
    "bos_token_id",
    "eos_token_id",
}
_CHOICES = {
    "score_func": ("sigmoid", "softmax"),
    "topk_method": ("noaux_tc", "greedy", "group_limited_greedy"),
    "mtp_order": ("embedding-first", "state-first"),
}
_MTP_FIELDS = ("mtp_order", "mtp_state_after_norm", "mtp_chain_after_norm")
_PARTS = {
    "embed_tokens": "embedding",
    "lm_head": "head",
    "mlp.experts": "routed",
    "shared_experts": "shared",
    "mlp.gate.": "gate",
    "norm": "norm",
    "self_attn": "attention",
    "mlp": "dense",
}


def _ffn_shapes(at: str, dim: int, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{at}gate_proj.weight": (width, dim),
        f"{at}up_proj.weight": (width, dim),
        f"{at}down_proj.weight": (dim, width),
    }


def _part_of(name: str) -> str:
    return next(part for key, part in _PARTS.items() if key in name)


def _is_fp8(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the published files hold a tensor in FP8."""
    inside = ".self_attn." in name or ".mlp." in name
    return inside and len(shape) == 2 and not name.endswith("mlp.gate.weight")


def _layer_of(name: str) -> int:
    return int(name.split(".")[2]) if name.startswith("model.layers.") else -1


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _is_finite(value: object) -> bool:
    """Whether a value is a number that float has, or lies between two that it has."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**1023 if isinstance(value, int) else math.isfinite(value)


def _check_fields(cls: type, table: Mapping[str, Any], what: str) -> None:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in table:
        if name not in fields:
            raise ValueError(f"{what}: unknown field {name!r}; {near(name, sorted(fields))}")
    for name, field in fields.items():
        if name not in table and field.default is dataclasses.MISSING:
            raise ValueError(f"{what}: missing field {name!r}")


@dataclass(frozen=True)
class TrainConfig:
    """The plan of a run: steps, batch, and the schedules of the report's section 4.2.

    `*_steps` count optimiser steps; `*_until` and `*_from` are fractions of the run's tokens. Where V3's
    report gives no value or shape (batch ramp, AdamW's eps, which tensors decay, EMA's rate) the choice is
    ours.
    """

    steps: int = 1000
    seq_len: int = 256  # T
    batch_sequences: int = 8  # sequences a step once the ramp is over
    ramp_start_sequences: int = 4  # sequences a step at the start (V3: 3072 -> 15360)
    ramp_steps: int = 0  # steps over which the batch grows, in equal stairs (ours)
    learning_rate: float = 3e-3
    warmup_steps: int = 20  # linear from 0
    constant_until: float = 0.1  # V3: flat until 10T of 14.8T tokens
    cosine_until: float = 1.0  # V3: cosine until 14.3T
    final_rate: float = 3e-4  # where the cosine ends; flat from there
    last_from: float = 1.0  # V3: the last 167B tokens at
    last_rate: float = 3e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8  # not published
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    bias_speed: float = 0.001  # gamma of the sign rule
    bias_until: float = 0.9662  # V3: gamma is 0 for the last 500B of 14.8T tokens
    balance_weight: float = 0.0001  # alpha of eq. 17
    balance_counts: str = "top-k of scores"  # as eq. 18 prints it; or "routed", as most engines count
    mtp_weight: float = 0.3  # lambda of eq. 25
    mtp_weight_late: float = 0.1
    mtp_until: float = 0.6757  # V3: lambda drops at 10T of 14.8T tokens
    mtp_divisor: str = "T"  # eq. 24 as printed; or "T-k", the mean over a depth's own terms
    fim_rate: float = 0.1
    split_rate: float = 0.1  # share of joined punctuation + newline tokens that are split (not published)
    ema_decay: float = 0.99  # V3 keeps an EMA and gives no rate
    precision: str = "fp32"  # a recipe of data/precision
    accumulate: str = "ideal"  # how FP8 products are summed; or "promoted", "hardware"
    checkpoint_every: int = 50
    seed: int = 0
    synthetic: str = ""  # text that is made, not read: "needle", documents that ask for what they hold

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ValueError(
                    f"train config: expected {field.name} to be a whole number >= 0, got {value!r}"
                )
            if field.type is float and not (_is_finite(value) and value >= 0):
                raise ValueError(f"train config: expected {field.name} to be a number >= 0, got {value!r}")
            if field.name.endswith(("_until", "_from", "_rate")) and not 0 <= value <= 1:
                raise ValueError(f"train config: expected {field.name} between 0 and 1, got {value!r}")
        for name in ("beta1", "beta2", "ema_decay"):
            if getattr(self, name) >= 1:
                raise ValueError(f"train config: expected {name} below 1, got {getattr(self, name)}")
        for name in ("steps", "seq_len", "batch_sequences", "ramp_start_sequences", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"train config: expected {name} >= 1, got {getattr(self, name)}")
        for name, allowed in {
            "balance_counts": ("top-k of scores", "routed"),
            "mtp_divisor": ("T", "T-k"),
            "accumulate": ("ideal", "promoted", "hardware"),
            "synthetic": ("", "needle"),
        }.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"train config: expected {name} one of {allowed}, got {getattr(self, name)!r}"
                )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The plan that goes with a model preset, with some fields changed."""
        return cls.from_dict({**_preset_table(name).get("training", {}), **changes})

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """Build from plain values; unknown fields are errors."""
        _check_fields(cls, table, "train config")
        return cls(**table)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def v3(cls) -> Self:
        """The real plan (report section 4.2): 14.8T tokens in sequences of 4,096."""
        return cls.preset("v3")


@dataclass(frozen=True)
class ExtensionPhase:
    """Steps at one length."""

    seq_len: int
    steps: int
    batch_sequences: int


@dataclass(frozen=True)
class ExtensionConfig:
    """How a trained model's context is extended (report section 4.3): YaRN, then phases of growing length.

    V3: factor 40, 1,000 steps at 32K with 1920 sequences, 1,000 at 128K with 480, at the last rate of the
    pre-training. The warm-up, for moments that start anew, is not published: ours.
    """

    factor: float  # s: the context may grow so many times
    phases: tuple[ExtensionPhase, ...]
    beta_fast: float = 32  # beta of the report
    beta_slow: float = 1  # alpha of the report
    learning_rate: float | None = None  # None: the plan's last rate
    warmup_steps: int = 0  # of each phase

    def __post_init__(self) -> None:
        for name in ("factor", "beta_fast", "beta_slow", "learning_rate"):
            value = getattr(self, name)
            if not (_is_finite(value) and value > 0) and not (name == "learning_rate" and value is None):
                raise ValueError(f"extension: expected {name} to be a number above 0, got {value!r}")
        if self.factor <= 1 or self.beta_fast <= self.beta_slow:
            given = f"{self.factor}, {self.beta_fast} and {self.beta_slow}"
            raise ValueError(f"extension: expected factor > 1 and beta_fast > beta_slow, got {given}")
        for phase in self.phases:
            for name, value in dataclasses.asdict(phase).items():
                if not _is_whole(value) or value < 1:
                    raise ValueError(f"extension: expected {name} of a phase >= 1, got {value!r}")
        if not _is_whole(self.warmup_steps) or self.warmup_steps < 0:
            raise ValueError(f"extension: expected warmup_steps >= 0, got {self.warmup_steps!r}")
        lengths = [phase.seq_len for phase in self.phases]
        if not lengths or any(after <= before for before, after in itertools.pairwise(lengths)):
            raise ValueError(f"extension: expected phases of growing seq_len, got {lengths}")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The recipe that goes with a preset, with some fields changed; ValueError if it has none."""
        table = {**_preset_table(name).get("extension", {}), **changes}
        if not {"factor", "phases"} <= set(table):
            raise ValueError(
                f"expected a preset with an [extension] table, got {name!r}: give its recipe by "
                """--set factor=4 'phases=[{"seq_len": 1024, "steps": 50, "batch_sequences": 2}]'"""
            )
        return cls.from_dict(table)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """Build from plain values; unknown fields are errors."""
        _check_fields(cls, table, "extension")
        phases = table["phases"]
        if not isinstance(phases, list | tuple) or not all(isinstance(phase, Mapping) for phase in phases):
            raise ValueError(f"extension: expected phases to be a list of tables, got {phases!r}")
        for phase in phases:
            _check_fields(ExtensionPhase, phase, "a phase of the extension")
        return cls(**{**table, "phases": tuple(ExtensionPhase(**phase) for phase in phases)})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self) | {"phases": [dataclasses.asdict(phase) for phase in self.phases]}

    def check_room(self, seq_len: int) -> None:
        """ValueError unless every phase is longer than `seq_len`, and the last not beyond factor x that."""
        first, last = self.phases[0].seq_len, self.phases[-1].seq_len
        if first <= seq_len:
            raise ValueError(f"extension: expected phases longer than the trained {seq_len}, got {first}")
        if last > self.factor * seq_len:
            most = f"factor {self.factor:g} x {seq_len} = {self.factor * seq_len:g}"
            raise ValueError(
                f"extension: expected lengths up to {most}, got {last}; set factor={-(-last // seq_len)}"
            )

    def rope_scaling(self, seq_len: int) -> RopeScaling:
        """YaRN's constants for a model trained at `seq_len`."""
        return RopeScaling(
            factor=float(self.factor),
            original_seq_len=seq_len,
            beta_fast=self.beta_fast,
            beta_slow=self.beta_slow,
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
