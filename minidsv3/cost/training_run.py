"""What a training run takes: seconds a step, utilisation, GPU hours, dollars, days.

Everything follows from four numbers: FLOPs a token, tokens, GPUs, and how fast or how long they ran. Model
FLOPs utilisation (MFU) divides the FLOPs that the model needs by what the chips could have done in that time;
hardware FLOPs utilisation (HFU) counts recomputed ones too. Which peak, and whether the scores count as a
triangle (causal) or as a square, is a convention: a figure without it says little.

Does: arithmetic in base units (seconds, FLOP/s, USD/s); runs by name, their numbers out of
`data/published.toml`. Does not: simulate a schedule (`minidsv3.cluster` does).

    >>> day = 86400
    >>> f"{step_seconds(tokens=15360 * 4096, tokens_per_second=272.80e9 / day):.3f} s"
    '19.926 s'
    >>> run = load_run("v3")
    >>> f"{wall_seconds(run['pretraining'].si, run['gpus'].si) / day:.1f} days"
    '54.2 days'

Next: minidsv3.cost.memory
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from minidsv3.config import near
from minidsv3.cost.figures import Figure, figures

__all__ = [
    "TrainingRun",
    "achieved_flops",
    "dollars",
    "dualpipe_actions",
    "dualpipe_bubble",
    "gpu_seconds",
    "hfu",
    "input_backward_seconds",
    "load_run",
    "mfu",
    "mfu_of_run",
    "micro_batches",
    "run_names",
    "step_seconds",
    "tokens_per_second",
    "tokens_per_step",
    "wall_seconds",
]


def tokens_per_step(sequences: int, length: int) -> int:
    """Tokens of one optimiser step: sequences of the batch times their length."""
    return sequences * length


def tokens_per_second(tokens: float, seconds: float) -> float:
    """How fast a run goes, over all its GPUs."""
    return tokens / seconds


def step_seconds(tokens: float, tokens_per_second: float) -> float:
    """Seconds of one step from its tokens and the run's tokens a second."""
    return tokens / tokens_per_second


def achieved_flops(flops_per_token: float, tokens_per_second: float, gpus: float) -> float:
    """FLOP/s that each GPU achieves: FLOPs a token times tokens a second, over the GPUs."""
    return flops_per_token * tokens_per_second / gpus


def mfu(flops_per_token: float, tokens_per_second: float, gpus: float, peak: float) -> float:
    """Model FLOPs utilisation: achieved FLOP/s of a GPU over its peak."""
    return achieved_flops(flops_per_token, tokens_per_second, gpus) / peak


def mfu_of_run(flops_per_token: float, tokens: float, gpu_seconds: float, peak: float) -> float:
    """Utilisation of a whole run: FLOPs of all its tokens over peak times the GPU time it took."""
    return flops_per_token * tokens / (peak * gpu_seconds)


def gpu_seconds(tokens: float, tokens_per_second: float, gpus: float) -> float:
    """GPU time for so many tokens: the time they take, times the GPUs."""
    return tokens / tokens_per_second * gpus


def wall_seconds(gpu_seconds: float, gpus: float) -> float:
    """Time on the wall from GPU time: divided by the GPUs."""
    return gpu_seconds / gpus


def dollars(gpu_seconds: float, price: float) -> float:
    """Rent: GPU time times the price of a GPU.  price: USD/s."""
    return gpu_seconds * price


def hfu(
    flops_per_token: float, recomputed: float, tokens_per_second: float, gpus: float, peak: float
) -> float:
    """Hardware FLOPs utilisation: as MFU, with the FLOPs that the backward computes again."""
    return mfu(flops_per_token + recomputed, tokens_per_second, gpus, peak)


def micro_batches(sequences: float, pipelines: float, per_micro_batch: float = 1) -> float:
    """Micro-batches of a pipeline in one step: its share of the batch, over the sequences of one."""
    return sequences / pipelines / per_micro_batch


# ---- DualPipe, in closed form -----------------------------------------------------------------------------


def dualpipe_bubble(ranks: float, pair: float, backward: float, weights: float) -> float:
    """DualPipe's bubble: (ranks / 2 - 1) (F&B + B - 3 W).

    pair: seconds of a forward and a backward overlapped. backward: of a whole backward. weights: of its part
    for the weights. Source: DeepSeek-V3 report, Table 2.
    """
    return (ranks / 2 - 1) * (pair + backward - 3 * weights)


def dualpipe_actions(ranks: int, micro_batches: int, rank: int, action: str) -> int:
    """Actions of a rank in one step: "forward", "backward" (whole or of inputs), "input", "weights", "pairs".

    ranks: even. micro_batches: of both directions together, even, at least 2 x ranks. A pair is a forward
    that runs under a backward; the others run alone. Source: deepseek-ai/DualPipe, the schedule's eight
    steps.
    """
    h = min(rank, ranks - 1 - rank)
    outer, inner = (
        ranks // 2 - h - 1,
        h + 1,
    )  # elements of the steps that shrink, and grow, towards the middle
    first = int(outer == 0)  # the middle ranks' first pair runs one after the other
    counts = {
        "forward": 2 * outer + 2 * inner + outer + first,
        "backward": outer + outer + 2 * inner + outer + first,
        "input": outer + inner + outer,
        "weights": outer + outer + inner,
        "pairs": 2 * (micro_batches // 2 - ranks + h + 1) + outer - first,
    }
    if action not in counts:
        raise ValueError(f"expected an action, got {action!r}: {near(action, list(counts))}")
    return counts[action]


def input_backward_seconds(backward: float, weights: float, actions: float, inputs: float) -> float:
    """Seconds of a backward for inputs alone, from those of all lone backwards of a step.

    backward: seconds of all of them. weights: seconds of one for the weights, which the whole ones include.
    actions: how many there are; inputs: how many of them are for inputs alone.
    """
    return (backward - (actions - inputs) * weights) / actions


# ---- runs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingRun:
    """A run.  model: an input as in `data/published.toml`. values: published figures by what they are."""

    name: str
    title: str
    model: str
    hardware: str
    values: Mapping[str, Figure]

    def __getitem__(self, field: str) -> Figure:
        """One of its numbers; ValueError with near names if it has none."""
        if field not in self.values:
            known = near(field, list(self.values))
            raise ValueError(f"training_runs.toml: {self.name}: expected a number, got {field!r}: {known}")
        return self.values[field]

    @property
    def source(self) -> str:
        """Where its numbers come from."""
        return "; ".join(dict.fromkeys(figure.source for figure in self.values.values()))


@lru_cache
def _runs() -> dict[str, dict[str, Any]]:
    text = (resources.files("minidsv3") / "data" / "training_runs.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def run_names() -> list[str]:
    """Names of the runs in `data/training_runs.toml`."""
    return list(_runs())


@lru_cache
def load_run(name: str) -> TrainingRun:
    """A run by name; ValueError for an unknown one, or for a figure that does not exist."""
    if name not in _runs():
        raise ValueError(f"expected a training run, got {name!r}: {near(name, run_names())}")
    table = dict(_runs()[name])
    title, model, hardware = (table.pop(key) for key in ("title", "model", "hardware"))
    for field, figure in table.items():
        if figure not in figures():
            known = near(figure, list(figures()))
            raise ValueError(
                f"training_runs.toml: {name}: {field}: expected a figure, got {figure!r}: {known}"
            )
    values = {field: figures()[figure] for field, figure in table.items()}
    return TrainingRun(name, title, model, hardware, MappingProxyType(values))
