"""Rows made from a config equal the rows that a run leaves: row by row, in every precision."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minidsv3.config import ModelConfig
from minidsv3.cost.deployment import Deployment, alone
from minidsv3.cost.rows import rows_of
from minidsv3.interpreter import Model
from minidsv3.machine import Machine, Trace
from minidsv3.model.block import block_decode
from minidsv3.model.mla import mla_absorbed_decode, mla_naive_decode
from minidsv3.model.rope import rotations_for
from tests.cost.test_closed_forms import CASES, MIDDLE

V3 = ModelConfig.preset("v3")
MINI = ModelConfig.preset("mini")
SIZES = [*CASES, pytest.param(MINI, 1, 130, id="mini, two blocks of queries and a rest")]
PRECISIONS = ("fp32", "bf16", "fp8")
OTHERS = ("fp8-logfmt10", "fp8-per-tensor", "fp8-e5m2-gradients", "fp8-block-gradients")


def unrolled(trace: Trace, experts: bool = True) -> Counter[tuple[Any, ...]]:
    """Each row as often as it stands for, by all that it says but seconds and values."""
    found: Counter[tuple[Any, ...]] = Counter()
    for row in trace:
        for layer in range(row.layers):
            found[
                row.op,
                row.phase,
                row.direction,
                None if row.layer is None else row.layer + layer,
                row.expert if experts else None,
                tuple(sorted(row.sizes.items())),
                row.shapes,
                row.stored,
                row.matrix_flops,
                row.vector_flops,
                tuple(sorted(row.bytes.items())),
            ] += row.times // row.layers
    return found


def loads_of(trace: Trace, config: ModelConfig) -> list[list[int]]:
    """Copies that each expert got, for each MoE layer."""
    layers: dict[int, Counter[int]] = {}
    for row in trace.select("experts.down"):
        if row.direction == "fprop":
            assert row.layer is not None
            assert row.expert is not None
            layers.setdefault(row.layer, Counter())[row.expert] += row.shapes[0][0]
    return [[layers[n][e] for e in range(config.n_routed_experts)] for n in sorted(layers)]


def check(real: Trace, config: ModelConfig, deployment: Deployment) -> None:
    made = rows_of(config, deployment, loads_of(real, config))
    wanted, got = unrolled(real), unrolled(made)
    assert got - wanted == Counter(), "rows that no run leaves"
    assert wanted - got == Counter(), "rows that are missing"
    assert (made.matrix_flops, made.vector_flops) == (real.matrix_flops, real.vector_flops)
    assert made.bytes == real.bytes


def trained(config: ModelConfig, B: int, T: int, precision: str, losses: bool = True) -> Trace:
    machine = Machine(precision=precision, trace=True)
    tokens = np.random.default_rng(0).integers(config.vocab_size, size=(B, T + 1))
    weights = {"mtp_weight": 0.3, "balance_weight": 1e-4} if losses else {}
    Model.initialise(config, seed=1).loss_and_gradients(tokens, **weights, machine=machine)
    return machine.trace


def prefilled(config: ModelConfig, B: int, T: int, precision: str) -> Trace:
    machine = Machine(precision=precision, trace=True)
    tokens = np.random.default_rng(0).integers(config.vocab_size, size=(B, T))
    Model.initialise(config, seed=1).logits(tokens, machine=machine)
    return machine.trace


def decoded(config: ModelConfig, B: int, cached: int, precision: str, attention: Callable[..., Any]) -> Trace:
    machine, weights = (
        Machine(precision=precision, trace=True),
        Model.initialise(config, seed=1).parameters.weights,
    )
    machine.follow(config.fp8_block)
    rng, width = np.random.default_rng(0), config.kv_lora_rank + config.qk_rope_head_dim
    ids = rng.integers(config.vocab_size, size=B)
    x = machine.embedding(weights.embedding, ids, at="embed.tokens")
    rotation = rotations_for(config)[cached : cached + 1]
    for machine.layer, layer in enumerate(weights.layers):
        latents = rng.standard_normal((B, cached + 1, width), dtype=np.float32)
        x = block_decode(machine, x, layer, rotation, config, latents, cached, attention)
    machine.layer = None
    h, _ = machine.rmsnorm(x, weights.g_final, config.norm_eps, at="final.norm")
    machine.linear(h, weights.head, at="head.logits")
    return machine.trace


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("config", "B", "T"), SIZES)
def test_training(config: ModelConfig, B: int, T: int, precision: str) -> None:
    check(trained(config, B, T, precision), config, alone("train", B, T, precision))


@pytest.mark.parametrize("precision", OTHERS)
def test_training_in_other_recipes(precision: str) -> None:
    check(trained(MIDDLE, 2, 9, precision), MIDDLE, alone("train", 2, 9, precision))


def test_training_without_the_further_losses() -> None:
    without = alone("train", 2, 9, "fp8", mtp=False, balance=False)
    check(trained(MIDDLE, 2, 9, "fp8", losses=False), MIDDLE, without)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("config", "B", "T"), SIZES)
def test_prefill(config: ModelConfig, B: int, T: int, precision: str) -> None:
    check(prefilled(config, B, T, precision), config, alone("prefill", B, T, precision))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("name", "attention"), [("absorbed", mla_absorbed_decode), ("naive", mla_naive_decode)]
)
@pytest.mark.parametrize(("config", "B", "cached"), SIZES)
def test_decode(
    config: ModelConfig, B: int, cached: int, name: str, attention: Callable[..., Any], precision: str
) -> None:
    if cached + 1 > config.max_seq_len:
        cached = config.max_seq_len - 1
    real = decoded(config, B, cached, precision, attention)
    check(real, config, alone("decode", B, cached, precision, attention=name))
