"""Absorbed, naive and no cache at all: the same logits; a few tokens at once: the same bits as one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import configs, parameters_of, rngs

from minidsv3 import Machine, Model, ModelConfig
from minidsv3.inference import Decoder, generate
from minidsv3.inference.decode import ATTENTION
from minidsv3.machine.primitives import FEW

SETTINGS = settings(max_examples=40)


@pytest.fixture(scope="module")
def model() -> Model:
    made = Model.initialise(ModelConfig.preset("nano", vocab_size=97, n_mtp_layers=0), seed=0)
    made.parameters.buffer *= 3  # logits that differ, experts that are sure
    return made


@SETTINGS
@given(configs(max_seq_len=64), rngs, st.integers(1, 30), st.integers(1, 4), st.booleans())
def test_both_attentions_equal_full_recompute(config, rng, prompt, batch, prefilled):
    parameters = parameters_of(config, rng)
    tokens = rng.integers(0, config.vocab_size, (batch, prompt + 12))
    machine = Machine(dtype="float64")
    whole = Model(config, parameters).logits(tokens, machine)
    for attention in ATTENTION.values():
        decoder = Decoder(machine, parameters, batch, attention)
        if prefilled:
            decoder.prefill(tokens[:, :prompt], chunk=7)
        else:
            decoder.step(tokens[:, :prompt])
        rest = [decoder.step(tokens[:, [i]])[0] for i in range(prompt, prompt + 12)]
        np.testing.assert_allclose(np.concatenate(rest, axis=1), whole[:, prompt:], rtol=1e-9, atol=1e-9)


@SETTINGS
@given(
    configs(max_seq_len=64), rngs, st.sampled_from(["float32", "float64"]), st.sampled_from(sorted(ATTENTION))
)
def test_few_tokens_give_the_bits_of_single_ones(config, rng, dtype, attention):
    parameters = parameters_of(config, rng, dtype)
    tokens = rng.integers(0, config.vocab_size, (1, 32))
    decoders = [Decoder(Machine(dtype=dtype), parameters, 1, ATTENTION[attention]) for _ in range(2)]
    for decoder in decoders:
        decoder.prefill(tokens[:, :10], chunk=10)
    at = 10
    while at < 32:
        n = int(rng.integers(2, FEW + 1))
        few = decoders[0].step(tokens[:, at : at + n])
        single = [decoders[1].step(tokens[:, [i]]) for i in range(at, min(at + n, 32))]
        assert np.array_equal(few[0], np.concatenate([logits for logits, _ in single], axis=1))
        assert np.array_equal(few[1], np.concatenate([states for _, states in single]))
        at += n


def test_few_tokens_give_the_bits_of_single_ones_at_sizes_that_fill_vectors(model):
    tokens = np.random.default_rng(0).integers(0, 97, (1, 60))
    one = Decoder(Machine(), model.parameters)
    expected = np.concatenate([one.step(tokens[:, [i]])[0] for i in range(60)], axis=1)
    for n in range(2, FEW + 1):
        few = Decoder(Machine(), model.parameters)
        parts = [few.step(tokens[:, i : i + n])[0] for i in range(0, 60, n)]
        assert np.array_equal(np.concatenate(parts, axis=1), expected)


@pytest.mark.parametrize("chunk", [1, 2, 3, 8, 9, 16, 31, 64, 100])
def test_prefill_is_equal_for_all_chunks(model, chunk):
    tokens = np.random.default_rng(1).integers(0, 97, (2, 64))
    whole = model.logits(tokens)[:, -1]
    decoder, states = Decoder(Machine(), model.parameters, batch=2), []
    logits = decoder.prefill(tokens, chunk, states.append)
    np.testing.assert_allclose(logits, whole, rtol=1e-4, atol=1e-4)
    assert sum(len(part) for part in states) == 2 * 64
    assert max(len(part) for part in states) <= 2 * chunk


def test_greedy_text_is_equal_through_both_attentions_and_without_a_cache(model):
    prompt = [3, 1, 4, 1, 5, 9]
    text = list(prompt)
    for _ in range(32):
        text.append(int(model.logits([text])[0, -1].argmax()))
    for attention in ATTENTION:
        assert generate(model, prompt, 32, attention=attention).tokens == text[6:]


@pytest.mark.parametrize("after_norm", [True, False])
def test_states_are_what_mtp_starts_from(after_norm):
    config = ModelConfig.preset("nano", vocab_size=50, mtp_state_after_norm=after_norm)
    model = Model.initialise(config, seed=1)
    decoder = Decoder(Machine(), model.parameters)
    h, states = decoder.states(np.array([[1, 2, 3]]))
    assert np.array_equal(h, states) == after_norm


def test_a_traced_decode_step_writes_the_absorbed_ops(model):
    machine = Machine(trace=True)
    decoder = Decoder(machine, model.parameters)
    decoder.prefill(np.array([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]), chunk=10)
    before = len(machine.trace)
    decoder.step(np.array([[11]]))
    rows = machine.trace[before:]
    config = model.config
    for op in ("absorb_q", "absorbed_scores", "softmax", "absorbed_values", "absorb_v"):
        assert [row.layer for row in rows if row.op == f"mla.{op}"] == list(range(config.n_layers))
    experts = [row for row in rows if row.op == "experts.gate_up"]
    assert len(experts) == config.n_activated_experts * (config.n_layers - config.n_dense_layers)
    assert all(row.sizes["N"] == 1 and row.expert is not None for row in experts)
    # the scores read keys of 11 tokens, the values read them again without the positional part
    width = config.kv_lora_rank + config.qk_rope_head_dim
    kv = sum(row.bytes.get("kv", 0) for row in rows)
    assert kv == config.n_layers * 11 * 4 * (width + config.kv_lora_rank)
