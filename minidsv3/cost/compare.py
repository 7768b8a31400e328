"""Models beside each other by one rule: V3, V2, and dense models with grouped attention; runs, clusters.

What is counted for V3 is counted alike for the others: parameters, those that a token meets, KV bytes,
training FLOPs with the causal half of the scores, embedding left out. Of models whose training run is on
record (`data/training_runs.toml`) the run stands beside: tokens, GPU time, what that costs at one price,
utilisation, and the cluster it ran on. What nobody printed is left out, not guessed.

Does: facts of models as numbers with units, ratios between them. Does not: draw.

    >>> v3, llama = contender("v3"), contender("llama-3.1-405b")
    >>> names = ("cache of a token", "training FLOPs a token", "GPU hours")
    >>> [f"{ratio(llama, v3, name):.2f}" for name in names]
    ['7.34', '9.90', '11.06']

Next: minidsv3.cost.claims
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from minidsv3.config import ModelConfig, near, preset_names, published_figures
from minidsv3.cost.dense import DenseConfig, dense_names, dense_training_flops_per_token, load_dense
from minidsv3.cost.figures import figures
from minidsv3.cost.per_token import kv_bytes_per_token, training_flops_per_token
from minidsv3.cost.training_run import TrainingRun, dollars, load_run, mfu_of_run, run_names, wall_seconds
from minidsv3.hardware import Hardware, load_hardware

__all__ = ["CONTENDERS", "Contender", "contender", "contender_names", "contenders", "ratio"]

CONTENDERS = ("v3", "v2", "qwen2.5-72b", "llama-3.1-405b")
LENGTH = "flops.length"  # the figure: tokens of a training sequence in the paper's table
PRICED_AS = "v3"  # the run whose price an hour all others are given too
HOUR, DAY = 3600, 86400  # seconds

Facts = dict[str, tuple[float, str]]  # name -> value, unit


@dataclass(frozen=True)
class Contender:
    """One model.  model, run, cluster: facts by name; the latter two empty where no run is on record."""

    name: str
    title: str
    attention: str
    source: str
    model: Facts
    run: Facts = field(default_factory=dict)
    cluster: Facts = field(default_factory=dict)
    machine: str = ""  # what the cluster is made of

    def __getitem__(self, name: str) -> float:
        """A fact in base units; ValueError with near names."""
        facts = {**self.model, **self.run, **self.cluster}
        if name not in facts:
            raise ValueError(f"{self.name}: expected a fact, got {name!r}: {near(name, list(facts))}")
        return facts[name][0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = {key: getattr(self, key) for key in ("name", "title", "attention", "source")}
        for part in ("model", "run", "cluster"):
            facts = getattr(self, part)
            plain[part] = {name: {"value": value, "unit": unit} for name, (value, unit) in facts.items()}
        return plain | {"machine": self.machine}


def ratio(one: Contender, other: Contender, name: str) -> float:
    """A fact of one as so many times the other's."""
    return one[name] / other[name]


def contender_names() -> list[str]:
    """Every name that `contender` knows: presets, then dense models."""
    return [*preset_names(), *dense_names()]


def contenders(names: Sequence[str] = CONTENDERS) -> tuple[Contender, ...]:
    """Several models, each once."""
    return tuple(map(contender, dict.fromkeys(names)))


def contender(name: str) -> Contender:
    """A preset or a dense model by name; ValueError with near names."""
    if name in dense_names():
        return _dense(load_dense(name))
    if name in preset_names():
        return _family(name, ModelConfig.preset(name))
    raise ValueError(f"expected a model to compare, got {name!r}: {near(name, contender_names())}")


# ---- models -----------------------------------------------------------------------------------------------


def _family(name: str, c: ModelConfig) -> Contender:
    counts, published = c.parameter_counts(), published_figures(name)
    facts: Facts = {
        "parameters": (counts["total"], "count"),
        "met by a token": (counts["active"], "count"),
        "share met": (counts["active"] / counts["total"], "share"),
        "layers": (c.n_layers, "count"),
        "cache of a token": (kv_bytes_per_token(c), "B"),
    }
    attention = f"MLA, {c.n_heads} heads, latent {c.kv_lora_rank} + {c.qk_rope_head_dim}"
    said = Contender(
        name, published.get("title", name), attention, published.get("source", "a preset of ours"), facts
    )
    return _with_run(said, f"model:{name}", lambda *how: training_flops_per_token(c, *how))


def _dense(c: DenseConfig) -> Contender:
    total = c.parameter_counts()["total"]
    facts: Facts = {
        "parameters": (total, "count"),
        "met by a token": (total, "count"),
        "share met": (1.0, "share"),
        "layers": (c.n_layers, "count"),
        "cache of a token": (c.kv_bytes_per_token, "B"),
    }
    attention = f"GQA, {c.n_heads} heads, {c.n_kv_heads} of keys and values, {c.head_dim} wide"
    said = Contender(c.name, c.title, attention, c.source, facts)
    return _with_run(said, f"dense:{c.name}", lambda *how: dense_training_flops_per_token(c, *how))


# ---- runs and clusters ------------------------------------------------------------------------------------

Flops = Callable[..., int]  # of a token, by length and whether the scores count as a triangle


def _with_run(said: Contender, model: str, flops: Flops) -> Contender:
    """The same with FLOPs of training, and with its run if one is on record."""
    length = int(figures()[LENGTH].si)
    facts = {
        **said.model,
        "training FLOPs a token": (flops(length), "FLOP"),
        "with the whole square": (flops(length, False), "FLOP"),
    }
    run = next((run for run in map(load_run, run_names()) if run.model == model), None)
    if run is None:
        return replace(said, model=facts)
    machine, of_run = load_hardware(run.hardware), flops(int(run["length"].si))
    return replace(
        said,
        model=facts,
        run=_run(run, machine, of_run),
        cluster=dict(_cluster(run, machine)),
        machine=machine.name,
    )


def _run(run: TrainingRun, machine: Hardware, flops: float) -> Facts:
    """Tokens, time and money of a run; for every run the price at which V3's report rents a GPU."""
    tokens, gpus = run["tokens"].si, run["gpus"].si
    whole, training = run["everything"].si, (run.values.get("pretraining") or run["everything"]).si
    price = load_hardware(load_run(PRICED_AS).hardware)["price.gpu_hour"].si
    peak = machine["chip.peak.bf16"].si
    return {
        "training tokens": (tokens, "count"),
        "tokens of a sequence": (run["length"].si, "count"),
        "GPU hours": (whole / HOUR, "h"),
        "at V3's price": (dollars(whole, price), "USD"),
        "days on all GPUs": (wall_seconds(whole, gpus) / DAY, "days"),
        "FLOPs of pre-training": (flops * tokens, "FLOP"),
        "MFU, causal, BF16 peak": (mfu_of_run(flops, tokens, training, peak), "share"),
        "tokens a GPU second": (tokens / training, "1/s"),
    }


def _cluster(run: TrainingRun, machine: Hardware) -> Iterator[tuple[str, tuple[float, str]]]:
    """Of one GPU, then of all."""
    gpus, peak = run["gpus"].si, machine["chip.peak.bf16"].si
    yield "GPUs", (gpus, "count")
    yield "BF16 peak of all", (gpus * peak, "FLOP/s")
    paths = {
        "memory of a GPU": ("chip.hbm.capacity", "B"),
        "memory bandwidth": ("chip.hbm.bandwidth", "B/s"),
        "NVLink, one direction": ("node.nvlink.one_direction", "B/s"),
        "network, one direction": ("fabric.line", "B/s"),
    }
    yield from ((name, (machine[path].si, unit)) for name, (path, unit) in paths.items())
    yield "nodes", (gpus / machine["node.gpus"].si, "count")
