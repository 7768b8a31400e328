"""Proofs: what a claim about DeepSeek-V3 implies, worked out until it can be seen to be wrong, or right.

Slides and notes that retell the papers make mistakes: 6 active experts, a width of 7160, LogFMT taken for the
FP8 of dispatch, two attention weights added up. Most need no new arithmetic; these few do. The claims are in
`data/published.toml`, with what is right and who says so.

Does: active and total parameters under a claim, one tile in two codes, rows of two softmaxes, a GPU's share
of the routed experts, the error of a long FP8 sum.
Does not: hold claims (the data file does), compare and judge (`minidsv3.cost.published`).

    >>> from minidsv3.config import ModelConfig
    >>> v3 = ModelConfig.preset("v3")
    >>> experts_met(v3, active_parameters=37e9), f"{active_with(v3, 6) / 1e9:.2f}B"
    (8, '32.44B')
    >>> values_told_apart(tile=128), sum_of_softmax_rows(rows=2, keys=16)
    (116, 2.0)

Next: minidsv3.cost.figures
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from minidsv3.config import ModelConfig
from minidsv3.hardware import Hardware, TensorCore
from minidsv3.numerics import E4M3, LogFMT, quantize
from minidsv3.numerics.experiments import SumError, accumulation_errors

__all__ = [
    "accumulation_error",
    "active_with",
    "experts_met",
    "moe_layers",
    "routed_per_gpu",
    "sum_errors",
    "sum_of_softmax_rows",
    "total_at_width",
    "values_told_apart",
]


# ---- sizes ------------------------------------------------------------------------------------------------


def active_with(config: ModelConfig, experts: int) -> int:
    """Active parameters if a token met so many routed experts, embedding included."""
    return config.active_parameters(experts)["active"]


def experts_met(config: ModelConfig, active_parameters: float) -> int:
    """The number of routed experts whose active parameters come nearest to a printed total."""
    counts = range(1, config.n_routed_experts + 1)
    return min(counts, key=lambda experts: abs(active_with(config, experts) - active_parameters))


def total_at_width(config: ModelConfig, width: int) -> int:
    """All parameters of the main model if its width D were another."""
    shapes = dataclasses.replace(config, dim=width, n_mtp_layers=0).tensor_shapes()
    return sum(map(math.prod, shapes.values()))


def moe_layers(config: ModelConfig) -> int:
    """Layers of the main model that have experts to send tokens to."""
    return config.n_layers - config.n_dense_layers


def routed_per_gpu(config: ModelConfig, expert_parallel: int, pipeline: int, copies: int = 1) -> float:
    """Routed experts' parameters on one GPU, on average over the stages of the pipeline.

    expert_parallel: GPUs over which a layer's experts lie  pipeline: stages  copies: 2 with DualPipe.
    """
    return copies * config.parameter_counts()["routed"] / expert_parallel / pipeline


# ---- numbers and sums -------------------------------------------------------------------------------------


def values_told_apart(tile: int) -> int:
    """Values of one tile that LogFMT-8 and scaled E4M3 return as different numbers.

    The tile is a ramp 1/n, 2/n, … 1. Both codes have 8 bits: one law would give the same values.
    """
    x = np.linspace(1 / tile, 1, tile, dtype=np.float32)[None]  # [1, tile]
    logarithmic = LogFMT(bits=8, tile=tile)
    by_log = logarithmic.decode(logarithmic.encode(x))  # [1, tile]
    by_scale = quantize(x, block=(1, tile), fmt=E4M3).dequantize()  # [1, tile]
    return int((by_log != by_scale).sum())


def sum_of_softmax_rows(rows: int, keys: int) -> float:
    """What one query's weights add up to if several softmax rows are added; 1 only if there is one row."""
    scores = np.sin(np.arange(rows * keys).reshape(rows, keys))  # [rows, keys] any will do
    weights = np.exp(scores)
    weights /= weights.sum(axis=1, keepdims=True)
    return round(float(weights.sum()), 12)


def accumulation_error(hardware: Hardware, products: int, promoted_every: int = 0) -> float:
    """Median relative error of FP8 sums over so many products of uniform operands in [0, 1).

    promoted_every: products between additions in float32, 0 for never.
    """
    core, interval = hardware.tensor_core["fp8"], promoted_every or None
    return sum_errors(core, products, ["uniform [0, 1)"], [interval])[0].median


def sum_errors(
    core: TensorCore, products: int, operands: Sequence[str], intervals: Sequence[int | None]
) -> list[SumError]:
    """Errors of sums over so many products, each of 16 x 16 results; `accumulation_errors` says of what.

    Figures and what-ifs both measure with this one, so that equal questions have equal answers.
    """
    return accumulation_errors(core, [products], operands, intervals, side=16)
