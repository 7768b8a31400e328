"""Naive and absorbed MLA are one function; GQA is a case of it; nothing sees the future."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from finite_differences import flat
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import attention_of, configs, rngs, turns

import minidsv3.model.mla as mla_module
from minidsv3.config import ModelConfig
from minidsv3.machine import Machine
from minidsv3.model.comparators import GQAWeights, gqa_as_mla, gqa_forward
from minidsv3.model.mla import (
    mla_absorbed_backward,
    mla_absorbed_forward,
    mla_naive_backward,
    mla_naive_forward,
)

MACHINE = Machine(dtype="float64")
lengths = st.tuples(st.integers(1, 3), st.integers(1, 9))


@pytest.fixture(autouse=True, scope="module")
def _short_blocks() -> Iterator[None]:
    """Blocks of two queries, so that short sequences have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mla_module, "QUERY_BLOCK", 2)
        yield


@settings(max_examples=30)
@given(configs(), lengths, rngs)
def test_naive_and_absorbed_give_the_same_values_and_gradients(
    config: ModelConfig, lengths: tuple[int, int], rng: np.random.Generator
) -> None:
    B, T = lengths
    w, rotation = attention_of(config, rng), turns(T, config.qk_rope_head_dim)
    h, d_u = rng.normal(size=(2, B * T, config.dim))
    u, saved = mla_naive_forward(MACHINE, h, w, rotation, 0.3, B)
    v, absorbed = mla_absorbed_forward(MACHINE, h, w, rotation, 0.3, B)
    np.testing.assert_allclose(u, v, rtol=1e-10, atol=1e-10)
    pairs = zip(
        flat(mla_naive_backward(MACHINE, d_u, saved)),
        flat(mla_absorbed_backward(MACHINE, d_u, absorbed)),
        strict=True,
    )
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("forward", [mla_naive_forward, mla_absorbed_forward])
@settings(max_examples=20)
@given(data=st.data(), config=configs(kv_lora_rank=3), rng=rngs)
def test_no_position_sees_a_later_one(
    data: st.DataObject, forward: Callable[..., Any], config: ModelConfig, rng: np.random.Generator
) -> None:
    T = data.draw(st.integers(2, 8))
    seen = data.draw(st.integers(1, T - 1))
    w, rotation, h = (
        attention_of(config, rng),
        turns(T, config.qk_rope_head_dim),
        rng.normal(size=(T, config.dim)),
    )
    before, _ = forward(MACHINE, h, w, rotation, 0.3, 1)
    h[seen:] = rng.normal(size=h[seen:].shape)
    after, _ = forward(MACHINE, h, w, rotation, 0.3, 1)
    np.testing.assert_allclose(before[:seen], after[:seen], rtol=1e-12)
    assert not np.allclose(before[seen], after[seen], rtol=1e-9)


@settings(max_examples=20)
@given(configs(), rngs, st.integers(1, 50))
def test_attention_knows_distances_only(config: ModelConfig, rng: np.random.Generator, shift: int) -> None:
    T = 5
    w, far = attention_of(config, rng), turns(T + shift, config.qk_rope_head_dim)
    h = rng.normal(size=(T, config.dim))
    near, _ = mla_naive_forward(MACHINE, h, w, far[:T], 0.3, 1)
    away, _ = mla_naive_forward(MACHINE, h, w, far[shift:], 0.3, 1)
    np.testing.assert_allclose(near, away, rtol=1e-9, atol=1e-9)


@settings(max_examples=30)
@given(rngs, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), lengths)
def test_any_grouped_attention_is_a_latent_one_of_the_same_cache(
    rng: np.random.Generator, G: int, per_group: int, half: int, lengths: tuple[int, int]
) -> None:
    """MQA (one group), MHA (a group a head), GQA (between)."""
    (B, T), d, D, H = lengths, 2 * half, 5, G * per_group
    w = GQAWeights(*(rng.normal(size=shape) for shape in [(H, d, D), (G, d, D), (G, d, D), (D, H * d)]))
    h, rotation = rng.normal(size=(B * T, D)), turns(T, d)
    as_mla, repeated = gqa_as_mla(w, rotation)
    expected, _ = gqa_forward(MACHINE, h, w, rotation, d**-0.5, B)
    for forward in (mla_naive_forward, mla_absorbed_forward):
        u, _ = forward(MACHINE, h, as_mla, repeated, d**-0.5, B)
        np.testing.assert_allclose(u, expected, rtol=1e-9, atol=1e-9)
    assert len(as_mla.W_DKV) + len(as_mla.W_KR) == 2 * G * d


@settings(max_examples=20)
@given(rngs, st.integers(1, 3), st.integers(1, 3))
def test_grouped_attention_is_multi_head_attention_with_repeated_keys(
    rng: np.random.Generator, G: int, per_group: int
) -> None:
    """Head by head, by the textbook."""
    d, D, T, H = 4, 5, 6, G * per_group
    w = GQAWeights(*(rng.normal(size=shape) for shape in [(H, d, D), (G, d, D), (G, d, D), (D, H * d)]))
    h, rotation, o = rng.normal(size=(T, D)), turns(T, d), []
    for head in range(H):
        g = head // per_group
        q, k = (turned(h @ W.T, rotation) for W in (w.W_Q[head], w.W_K[g]))
        a = np.where(np.tri(T, dtype=bool), q @ k.T * 0.5, -np.inf)
        p = np.exp(a - a.max(axis=1, keepdims=True))
        o.append(p / p.sum(axis=1, keepdims=True) @ (h @ w.W_V[g].T))
    u, _ = gqa_forward(MACHINE, h, w, rotation, 0.5, 1)
    np.testing.assert_allclose(u, np.concatenate(o, axis=1) @ w.W_O.T, rtol=1e-9, atol=1e-9)


def turned(x: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """RoPE in real numbers: (a, b) -> (a cos - b sin, a sin + b cos) on neighbours."""
    a, b, out = x[:, ::2], x[:, 1::2], np.empty_like(x)
    out[:, ::2] = a * rotation.real - b * rotation.imag
    out[:, 1::2] = a * rotation.imag + b * rotation.real
    return out


@settings(max_examples=20)
@given(configs(), rngs)
def test_mla_is_the_report_equation_by_equation(config: ModelConfig, rng: np.random.Generator) -> None:
    """Equations 1-11, a token and a head at a time."""
    w, T = attention_of(config, rng), 4
    rotation, h = turns(T, config.qk_rope_head_dim), rng.normal(size=(T, config.dim))
    c_KV = normed(h @ w.W_DKV.T, w.g_KV)
    c_Q = h if w.W_DQ is None else normed(h @ w.W_DQ.T, w.g_Q)
    k_R, scale = turned(h @ w.W_KR.T, rotation), (config.qk_nope_head_dim + config.qk_rope_head_dim) ** -0.5
    o = np.zeros((T, config.n_heads, config.v_head_dim))
    for i in range(config.n_heads):
        k_C, v_C = c_KV @ w.W_UK[i].T, c_KV @ w.W_UV[i].T
        q_C, q_R = c_Q @ w.W_UQ[i].T, turned(c_Q @ w.W_QR[i].T, rotation)
        q, k = np.concatenate([q_C, q_R], axis=1), np.concatenate([k_C, k_R], axis=1)
        for t in range(T):
            p = np.exp([q[t] @ k[j] * scale for j in range(t + 1)])
            o[t, i] = (p / p.sum()) @ v_C[: t + 1]
    u, _ = mla_naive_forward(MACHINE, h, w, rotation, scale, 1)
    np.testing.assert_allclose(u, o.reshape(T, -1) @ w.W_O.T, rtol=1e-9, atol=1e-9)


def normed(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-6) * gain
