"""Models of the family side by side: sizes, router, attention, cache, parameters, active ones by K.

A column a model, a row a fact, all of it from the configs and their tensors; what a paper printed stands
beside what the tensors add up to. The second table answers how many experts a token meets: the active
parameters for several K, counted as the paper counts them, and the K that comes nearest to what it printed.

Does: lay out. Does not: hold a size of its own (`data/models` does), read files.

    >>> from minidsv3.config import ModelConfig, published_figures
    >>> v3 = member("v3", ModelConfig.preset("v3"), published_figures("v3"))
    >>> v3.facts["KV bytes a token"], v3.facts["active"], nearest(v3)
    ('70,272', '37,552,297,472', 8)

Next: minidsv3.show.axes
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from minidsv3.config import ModelConfig
from minidsv3.cost import kv_bytes_per_token
from minidsv3.show.forms import shown
from minidsv3.show.numbers import count, number
from minidsv3.show.tables import in_parts

__all__ = ["Member", "ModelTable", "active_by_experts", "member", "models_json", "nearest"]

BILLION = 1e9
NEIGHBOURS = (4, 6, 8, 10, 12)  # numbers of active experts that are compared
METHODS = {
    "noaux_tc": "best two of a group, with a bias",
    "group_limited_greedy": "best one of a group",
    "greedy": "best of all",
}


@dataclass(frozen=True)
class Member:
    """One model of the table."""

    name: str
    config: ModelConfig
    counts: Mapping[str, int]
    published: Mapping[str, Any]  # printed figures, empty if there are none

    @property
    def facts(self) -> dict[str, str]:
        """Every row of the table, in its order."""
        return _sizes(self.config) | _router(self.config) | _attention(self.config) | _parameters(self)

    @property
    def has_experts(self) -> bool:
        """Whether any layer of the main model is a mixture of experts."""
        return self.config.n_dense_layers < self.config.n_layers


def member(name: str, config: ModelConfig, published: Mapping[str, Any] | None = None) -> Member:
    """A model by name and config.  published: its printed figures, as in the presets' files."""
    return Member(name, config, config.parameter_counts(), published or {})


def _sizes(c: ModelConfig) -> dict[str, str]:
    return {
        "layers (dense)": f"{c.n_layers} ({c.n_dense_layers})",
        "width": count(c.dim),
        "vocabulary": count(c.vocab_size),
        "dense FFN": count(c.inter_dim) if c.n_dense_layers else "none",
        "MTP modules": count(c.n_mtp_layers) if c.n_mtp_layers else "none",
    }


def _router(c: ModelConfig) -> dict[str, str]:
    groups = f"{c.n_limited_groups} of {c.n_expert_groups}" if c.limits_groups else "no"
    weights = f"{'/ sum, ' if c.norm_topk_prob else ''}x {number(c.route_scale)}"
    return {
        "routed experts": f"{c.n_activated_experts} of {count(c.n_routed_experts)}",
        "shared experts": count(c.n_shared_experts),
        "expert FFN": count(c.moe_inter_dim),
        "scores": c.score_func,
        "topk_method": c.topk_method.replace("group_limited_greedy", "group_limited"),
        "groups kept": groups,
        "weights": weights,
    }


def _attention(c: ModelConfig) -> dict[str, str]:
    yarn = c.rope_scaling
    return {
        "heads": count(c.n_heads),
        "d_h, d_R, d_v": f"{c.qk_nope_head_dim}, {c.qk_rope_head_dim}, {c.v_head_dim}",
        "query latent": count(c.q_lora_rank) if c.q_lora_rank else "none",
        "KV latent": count(c.kv_lora_rank),
        "RoPE theta": number(c.rope_theta),
        "YaRN": f"x {number(yarn.factor)} of {count(yarn.original_seq_len)}" if yarn else "none",
        "softmax scale": f"{c.softmax_scale:.6f}",
        "longest": count(c.max_seq_len),
        "KV bytes a token": count(kv_bytes_per_token(c)),
    }


def _parameters(m: Member) -> dict[str, str]:
    n = m.counts
    return {
        "one attention": count(n["one_attention"]),
        "one expert": count(n["one_expert"]),
        "one MoE FFN": count(n["one_moe"]),
        "parameters": count(n["total"]),
        "printed": m.published.get("total", "-"),
        "active": count(n["active"]),
        "without embedding": count(n["active_without_embedding"]),
        "without head too": count(n["active_without_embedding"] - n["head"]),
        "printed active": m.published.get("active", "-"),
        "MTP's own": count(n["mtp"]) if n["mtp"] else "none",
        "stored": count(n["stored"]),
        "with FP8 scales": count(n["checkpoint"]),
        "FP8 tensors": count(n["checkpoint_tensors"]),
        "FP8 bytes": count(n["checkpoint_bytes"]),
    }


def active_by_experts(m: Member, experts: int) -> float:
    """Billions of active parameters if a token met so many routed experts, counted as the paper counts."""
    parts = m.published.get("without", ["embedding"])
    active = m.config.active_parameters(experts)["active"] - sum(m.counts[part] for part in parts)
    return active / BILLION


def nearest(m: Member) -> int | None:
    """The number of active experts that comes nearest to the printed figure; None if none was printed."""
    printed = m.published.get("active_billion")
    if printed is None or not m.has_experts:
        return None
    tried = range(1, min(m.config.n_routed_experts, 64) + 1)
    return min(tried, key=lambda k: abs(active_by_experts(m, k) - float(printed)))


@dataclass(frozen=True)
class ModelTable:
    """All facts of several models, then their active parameters by the number of active experts."""

    members: Sequence[Member]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._columns([m.facts for m in self.members], options)
        yield Text()
        yield Text("billions of active parameters by routed experts a token meets, * its own number", "bold")
        yield from self._columns([self._by_experts(m) for m in self.members], options)
        yield Text()
        for line in self.answers():
            yield Text(line)
        yield Text(NOTES, "dim")

    def _columns(
        self, facts: Sequence[Mapping[str, str]], options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        names = [m.name for m in self.members]
        rows = [
            {"": fact} | {name: column[fact] for name, column in zip(names, facts, strict=True)}
            for fact in facts[0]
        ]
        yield from in_parts(rows, options, right=names)

    def tried(self) -> list[int]:
        """Numbers of active experts that are compared: everyone's own and some between."""
        own = {m.config.n_activated_experts for m in self.members}
        return sorted(own | set(NEIGHBOURS))

    def _by_experts(self, m: Member) -> dict[str, str]:
        column = {}
        for k in self.tried():
            fits = m.has_experts and k <= m.config.n_routed_experts
            own = "* " if k == m.config.n_activated_experts else ""
            column[str(k)] = f"{own}{active_by_experts(m, k):.2f}" if fits else "-"
        return column

    def answers(self) -> list[str]:
        """For each model with a printed figure, the number of experts that gives it."""
        said = []
        for m in self.members:
            if (best := nearest(m)) is None:
                continue
            parts = " and ".join(m.published.get("without", ["embedding"]))
            said.append(
                f"{m.name}: {m.published['active']} printed; {best} experts give "
                f"{active_by_experts(m, best):.2f}B without {parts}"
                + "".join(f", {k} give {active_by_experts(m, k):.2f}B" for k in self._others(m, best))
            )
        return said

    def _others(self, m: Member, best: int) -> list[int]:
        return [k for k in (6, 8) if k != best and k <= m.config.n_routed_experts]

    def describe(self) -> str:
        """The table in words, a model a paragraph."""
        said = []
        for m in self.members:
            title = m.published.get("title", m.name)
            router = METHODS[m.config.topk_method]
            facts = "; ".join(f"{fact} {value}" for fact, value in m.facts.items())
            said.append(f"{title}: {facts}. Its router takes the {router}.")
        return "\n".join([*said, *(f"{line}." for line in self.answers())])


NOTES = (
    "/ sum: the chosen scores are divided by their sum first\n"
    "KV bytes in BF16: the latent and k_R of every layer\n"
    "stored: with an MTP module's copies of embedding and head; FP8: in the layout of V3's files"
)


def models_json(table: ModelTable) -> dict[str, Any]:
    """Plain values."""
    return {
        "models": [
            {
                "name": m.name,
                "config": asdict(m.config),
                "counts": dict(m.counts),
                "kv_bytes_per_token": kv_bytes_per_token(m.config),
                "softmax_scale": m.config.softmax_scale,
                "published": dict(m.published),
                "active_billions_by_experts": {
                    str(k): active_by_experts(m, k)
                    for k in table.tried()
                    if m.has_experts and k <= m.config.n_routed_experts
                },
                "experts_nearest_to_printed": nearest(m),
            }
            for m in table.members
        ]
    }


def demo() -> ModelTable:
    """V3 and Moonlight."""
    from minidsv3.config import published_figures

    names = ("v3", "moonlight")
    return ModelTable([member(name, ModelConfig.preset(name), published_figures(name)) for name in names])


if __name__ == "__main__":
    shown(demo())
