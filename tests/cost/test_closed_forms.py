"""Closed forms equal the trace: FLOPs of both sorts and bytes of each kind, part by part, exactly."""

import numpy as np
import pytest
from model_cases import CASES, NANO, counted, reached

from minidsv3.config import ModelConfig
from minidsv3.cost.closed_form import decode_absorbed_work, decode_naive_work, prefill_work, training_work
from minidsv3.cost.work import Work
from minidsv3.interpreter import Model
from minidsv3.machine import Machine
from minidsv3.model.block import block_decode
from minidsv3.model.mla import mla_absorbed_decode, mla_naive_decode
from minidsv3.model.rope import rotations_for


def predicted(parts: dict[str, Work]) -> dict[str, tuple[int, int, dict[str, int]]]:
    return {part: (w.matrix_flops, w.vector_flops, w.bytes(4)) for part, w in parts.items()}


@pytest.mark.parametrize(("config", "sequences", "length"), CASES)
def test_prefill(config: ModelConfig, sequences: int, length: int) -> None:
    machine = Machine(trace=True)
    tokens = np.random.default_rng(0).integers(config.vocab_size, size=(sequences, length))
    Model.initialise(config, seed=1).logits(tokens, machine=machine)
    expected = prefill_work(config, sequences, length, reached(machine.trace))
    assert counted(machine.trace, "forward") == predicted(expected)


@pytest.mark.parametrize(("mtp_weight", "balance_weight"), [(0.3, 1e-4), (0.0, 0.0)])
@pytest.mark.parametrize(("config", "sequences", "length"), CASES)
def test_training(
    config: ModelConfig, sequences: int, length: int, mtp_weight: float, balance_weight: float
) -> None:
    machine = Machine(trace=True)
    tokens = np.random.default_rng(0).integers(config.vocab_size, size=(sequences, length + 1))
    model = Model.initialise(config, seed=1)
    model.loss_and_gradients(tokens, mtp_weight=mtp_weight, balance_weight=balance_weight, machine=machine)
    forward, backward = training_work(
        config, sequences, length, reached(machine.trace), mtp=mtp_weight > 0, balance=balance_weight > 0
    )
    assert counted(machine.trace, "forward") == predicted(forward)
    assert counted(machine.trace, "backward") == predicted(backward)


@pytest.mark.parametrize(
    ("attention", "closed_form"),
    [(mla_absorbed_decode, decode_absorbed_work), (mla_naive_decode, decode_naive_work)],
)
@pytest.mark.parametrize(("config", "sequences", "cached"), CASES)
def test_decode_step(config: ModelConfig, sequences: int, cached: int, attention, closed_form) -> None:  # type: ignore[no-untyped-def]
    machine, weights = Machine(trace=True), Model.initialise(config, seed=1).parameters.weights
    rng = np.random.default_rng(0)
    width = config.kv_lora_rank + config.qk_rope_head_dim
    rotation = rotations_for(config)[cached - 1 : cached]
    x = machine.embedding(
        weights.embedding, rng.integers(config.vocab_size, size=sequences), at="embed.tokens"
    )
    for machine.layer, layer in enumerate(weights.layers):
        latents = rng.standard_normal((sequences, cached, width), dtype=np.float32)
        x = block_decode(machine, x, layer, rotation, config, latents, cached - 1, attention)
    h, _ = machine.rmsnorm(x, weights.g_final, config.norm_eps, at="final.norm")
    machine.linear(h, weights.head, at="head.logits")
    expected = closed_form(config, sequences, cached - 1, reached(machine.trace))
    assert counted(machine.trace, "forward") == predicted(expected)


def test_reached_is_checked() -> None:
    with pytest.raises(ValueError, match=r"expected 4 .. 16 experts reached, got 17"):
        prefill_work(NANO, 2, 33, [4, 4, 17])
    with pytest.raises(ValueError, match="expected reached experts of 3 MoE layers, got 4"):
        prefill_work(NANO, 2, 33, [4, 4, 4, 4])
    assert training_work(NANO, 2, 33, [16, 16, 16, 16]) == training_work(NANO, 2, 33)


def test_all_experts_reached_is_the_default() -> None:
    assert prefill_work(NANO, 2, 33) == prefill_work(NANO, 2, 33, [16, 16, 16])
    assert decode_absorbed_work(NANO, 1, 9) == decode_absorbed_work(NANO, 1, 9, [4, 4, 4])
