"""Rows made from a config equal the rows that a run leaves: row by row, in every precision."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import CASES, MIDDLE, NANO, V2, counted

from minidsv3.cluster.traffic import Placement, count, even_sources
from minidsv3.config import ModelConfig
from minidsv3.cost.closed_form import decode_absorbed_work, decode_naive_work, prefill_work, training_work
from minidsv3.cost.copies import copies_sent
from minidsv3.cost.deployment import Deployment, alone, deployment_names, load_deployment, with_fields
from minidsv3.cost.expert_parallel import expected_distinct_nodes
from minidsv3.cost.per_token import kv_bytes_per_token
from minidsv3.cost.rows import rows_of
from minidsv3.cost.work import Work
from minidsv3.interpreter import Model
from minidsv3.machine import Machine, Trace
from minidsv3.model.block import block_decode
from minidsv3.model.mla import mla_absorbed_decode, mla_naive_decode
from minidsv3.model.rope import rotations_for

V3 = ModelConfig.preset("v3")
MINI = ModelConfig.preset("mini")
BLOCKS = pytest.param(MINI, 1, 70, id="mini, a block of queries and a rest", marks=pytest.mark.slow)
SIZES = [*CASES, BLOCKS]
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
@pytest.mark.parametrize(("config", "B", "T"), CASES)
def test_training(config: ModelConfig, B: int, T: int, precision: str) -> None:
    check(trained(config, B, T, precision), config, alone("train", B, T, precision))


@pytest.mark.slow
def test_training_of_mini() -> None:
    check(trained(MINI, 1, 70, "fp8"), MINI, alone("train", 1, 70, "fp8"))


@pytest.mark.parametrize("precision", OTHERS)
def test_training_in_other_recipes(precision: str) -> None:
    check(trained(V2, 2, 7, precision), V2, alone("train", 2, 7, precision))


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


# ---- beside the closed forms ------------------------------------------------------------------------------


def plain(parts: dict[str, Work]) -> dict[str, tuple[int, int, dict[str, int]]]:
    return {part: (w.matrix_flops, w.vector_flops, w.bytes(4)) for part, w in parts.items()}


@pytest.mark.parametrize("name", ["v3", "v2", "v2-lite", "moonlight", "nano"])
def test_rows_of_large_models_equal_the_closed_forms(name: str) -> None:
    c, T = ModelConfig.preset(name), 200
    train, prefill = rows_of(c, alone("train", 2, T, "fp32")), rows_of(c, alone("prefill", 2, T, "fp32"))
    forward, backward = training_work(c, 2, T, mtp=bool(c.n_mtp_layers))
    assert counted(train, "forward") == plain(forward)
    assert counted(train, "backward") == plain(backward)
    assert counted(prefill, "forward") == plain(prefill_work(c, 2, T))
    for attention, work in (("absorbed", decode_absorbed_work), ("naive", decode_naive_work)):
        step = rows_of(c, alone("decode", 3, T, "fp32", attention=attention))
        assert counted(step, "forward") == plain(work(c, 3, T))


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Sizes of any model that fits together."""
    size = st.integers(1, 40)
    groups, per_group = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    kept = draw(st.integers(1, groups))
    layers = draw(st.integers(1, 4))
    method = draw(st.sampled_from(["noaux_tc", "group_limited_greedy", "greedy"]))
    return ModelConfig(
        vocab_size=draw(size), dim=draw(size), inter_dim=draw(size), moe_inter_dim=draw(size),
        n_layers=layers,
        n_dense_layers=draw(st.integers(0, layers)), n_heads=draw(st.integers(1, 5)),
        n_routed_experts=groups * per_group, n_shared_experts=draw(st.integers(0, 2)),
        n_activated_experts=draw(st.integers(1, kept * per_group)), n_expert_groups=groups,
        n_limited_groups=kept, route_scale=1.0, kv_lora_rank=draw(size), qk_nope_head_dim=draw(size),
        qk_rope_head_dim=2 * draw(st.integers(1, 8)), v_head_dim=draw(size),
        q_lora_rank=draw(st.integers(0, 20)), score_func=draw(st.sampled_from(["sigmoid", "softmax"])),
        topk_method=method, norm_topk_prob=draw(st.booleans()), n_mtp_layers=draw(st.integers(0, 2)),
    )  # fmt: skip


@settings(max_examples=40)
@given(c=configs(), B=st.integers(1, 3), T=st.integers(3, 140), balance=st.booleans())
def test_rows_equal_the_closed_forms(c: ModelConfig, B: int, T: int, balance: bool) -> None:
    train = rows_of(c, alone("train", B, T, "fp32", balance=balance))
    forward, backward = training_work(c, B, T, mtp=bool(c.n_mtp_layers), balance=balance)
    assert counted(train, "forward") == plain(forward)
    assert counted(train, "backward") == plain(backward)
    assert counted(rows_of(c, alone("prefill", B, T, "fp32")), "forward") == plain(prefill_work(c, B, T))
    for attention, work in (("absorbed", decode_absorbed_work), ("naive", decode_naive_work)):
        step = rows_of(c, alone("decode", B, T, "fp32", attention=attention))
        assert counted(step, "forward") == plain(work(c, B, T))


# ---- one GPU of a deployment ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", deployment_names())
def test_a_deployment_computes_what_one_gpu_alone_would(name: str) -> None:
    """Attention and gate of its own tokens, as many expert copies as these send."""
    d = with_fields(load_deployment(name), {"recompute": (), "shared_as_routed": False})
    deployed = rows_of(V3, d)
    by_itself = rows_of(V3, replace(d, expert_parallel=1, redundant_experts=0))
    as_traced = rows_of(V3, replace(d, expert_parallel=1, redundant_experts=0, as_traced=True))
    assert deployed.matrix_flops == by_itself.matrix_flops
    assert not by_itself.select(phase="communication")
    head = {"prefill": 2 * V3.dim * V3.vocab_size * (d.tokens - d.sequences)}  # of each sequence's last token
    assert as_traced.matrix_flops == deployed.matrix_flops + head.get(d.phase, 0)
    assert as_traced.bytes["activation"] > deployed.bytes["activation"]


def test_an_attention_kernel_moves_queries_keys_values_and_results_alone() -> None:
    rows = rows_of(V3, load_deployment("prefill"))
    moved = {row.op: row.bytes for row in rows if row.op in ("mla.scores", "mla.softmax", "mla.values")}
    T, H = 4096, V3.n_heads
    assert moved["mla.scores"] == {"activation": 2 * H * 2 * T * V3.qk_head_dim}
    assert moved["mla.softmax"] == {}
    assert moved["mla.values"] == {"activation": 2 * H * 2 * T * V3.v_head_dim}


def test_a_decode_kernel_reads_the_cache_once() -> None:
    d = load_deployment("decode")
    assert rows_of(V3, d).bytes["kv"] == d.sequences * (d.length + 1) * kv_bytes_per_token(V3)


@pytest.mark.parametrize("precision", ["fp8", "bf16"])
def test_unfolding_reads_the_cache_as_it_is_held_and_weights_once(precision: str) -> None:
    """Of all sequences at once: their latents in BF16, W_UK and W_UV in BF16 as when absorbed."""
    d = with_fields(load_deployment("decode"), {"attention": "naive", "precision": precision})
    dense, unfold = rows_of(V3, d).select("mla.cached_kv_up")
    tokens, up = d.sequences // 2 * (d.length + 1), V3.n_heads * 256
    assert (dense.times, unfold.times) == (2 * 3, 2 * 58)
    assert unfold.bytes["kv"] == 2 * tokens * V3.kv_lora_rank
    assert unfold.bytes["weight"] == 2 * up * V3.kv_lora_rank
    assert set(unfold.stored) == {"bf16"}
    traced = rows_of(V3, replace(d, as_traced=True)).select("mla.cached_kv_up")
    assert traced.matrix_flops == rows_of(V3, d).select("mla.cached_kv_up").matrix_flops


def test_more_gpus_have_fewer_experts_and_the_same_copies() -> None:
    for gpus, each in ((64, 4), (128, 2), (256, 1)):
        rows = rows_of(V3, with_fields(load_deployment("train"), {"expert_parallel": gpus}))
        down = [row for row in rows.select("experts.down", phase="forward") if row.layer == 3]
        assert sum(row.times // row.layers for row in down) == each
        assert sum(row.times // row.layers * row.shapes[0][0] for row in down) == 4096 * 8


def test_uneven_copies_are_as_even_as_whole_numbers_go() -> None:
    rows = rows_of(V3, load_deployment("prefill"))  # 9 experts a GPU
    down = [row for row in rows.select("experts.down") if row.layer == 3]
    assert sum(row.times // row.layers // 2 * row.shapes[0][0] for row in down) == 2 * 4096 * 8
    assert {row.shapes[0][0] for row in down} == {7281, 7282}


def test_recomputed_rows_are_backward_rows_of_the_forward() -> None:
    d = load_deployment("train")
    more, none = rows_of(V3, d), rows_of(V3, with_fields(d, {"recompute": ()}))
    again = [row for row in more if row.phase == "backward" and row.direction == "fprop"]
    assert {row.op for row in again} >= {"attn.norm", "final.norm", "mla.q_up", "mla.kv_up", "mla.scores"}
    narrowed = {row.op for row in none if row.phase == "backward" and row.direction == "fprop"}
    assert narrowed == {
        f"{part}.{name}"
        for part in ("dense", "shared", "experts")
        for name in ("swiglu", "quantise_a", "scale")
        if name != "scale" or part == "experts"
    }
    assert more.matrix_flops > none.matrix_flops


# ---- copies between GPUs ----------------------------------------------------------------------------------


def test_copies_of_the_report() -> None:
    train, decode = (copies_sent(V3, load_deployment(name)) for name in ("train", "decode"))
    assert 3.45 < train.network < 3.5  # 3.95 of 4 nodes, of which one in eight is the token's own
    assert 1.8 < train.nvlink / (7 / 8) / 4 < 1.9  # GPUs a node copy
    assert decode == (8 * 127 / 128, 0.0)
    assert copies_sent(V3, with_fields(load_deployment("train"), {"expert_parallel": 1})) == (0, 0)


@lru_cache
def routed(config: ModelConfig, tokens: int) -> Any:
    """The rule written again: sort all, keep groups, sort what is left.  -> [T, K]."""
    scores = np.random.default_rng(1).random((tokens, config.n_routed_experts))
    if config.limits_groups:
        groups = scores.reshape(tokens, config.n_expert_groups, -1)
        best = 2 if config.topk_method == "noaux_tc" else 1
        worth = sum(np.sort(groups, axis=2)[:, :, -1 - i] for i in range(best))
        left = worth.argsort(axis=1)[:, : -config.n_limited_groups]
        np.put_along_axis(groups, left[:, :, None], -1.0, axis=1)
    return scores.argsort(axis=1)[:, -config.n_activated_experts :]


@pytest.mark.parametrize("gpus", [1, 8, 16, 32, 64, 128])
@pytest.mark.parametrize("name", ["v3", "v2"])
def test_copies_are_those_of_drawn_tokens(name: str, gpus: int) -> None:
    """Of tokens that the model's rule routes, within the standard errors of both draws; as traffic counts."""
    c, T, drawn = ModelConfig.preset(name), 16_384, 2048
    if c.n_routed_experts % gpus:
        pytest.skip(f"{c.n_routed_experts} experts do not divide")
    indices, nodes, per_node = routed(c, T), max(gpus // 8, 1), min(gpus, 8)
    sent = copies_sent(c, with_fields(load_deployment("train"), {"expert_parallel": gpus}))
    for mean, places, leave in ((sent.network, nodes, (nodes - 1) / nodes),
                                (sent.nvlink, gpus, (per_node - 1) / per_node)):  # fmt: skip
        there = np.sort(indices // (c.n_routed_experts // places), axis=1)
        reached = 1 + (np.diff(there) > 0).sum(axis=1)
        error = (reached.var() * (1 / T + 1 / drawn)) ** 0.5
        assert mean == pytest.approx(leave * reached.mean(), abs=3 * error)
    placement = Placement(c.n_routed_experts, nodes, per_node)
    traffic = count(indices, placement, even_sources(T, placement))
    counted_ = traffic.ib_sent.sum() / T, traffic.nvlink_sent.sum() / T
    assert sent == pytest.approx(counted_, rel=0.02, abs=0.01)


def test_without_groups_the_means_are_exact() -> None:
    c = ModelConfig.preset("v2-lite")
    d = with_fields(load_deployment("train"), {"expert_parallel": 32})
    nodes, gpus = (expected_distinct_nodes(64, n, 6) for n in (4, 32))
    assert copies_sent(c, d) == pytest.approx((nodes * 3 / 4, gpus * 7 / 8))


def test_communication_rows_carry_the_recipes_formats() -> None:
    d = load_deployment("train")
    rows = rows_of(V3, d).select(phase="communication")
    said = {(row.op, row.direction): (row.stored, row.bytes["network"]) for row in rows if row.layer == 3}
    tokens = copies_sent(V3, d).network * 4096
    fp8 = ("e4m3 1x128",), round(tokens * (7168 + 4 * 56))
    bf16 = ("bf16",), round(tokens * 2 * 7168)
    assert said == {
        ("experts.dispatch", "fprop"): fp8,
        ("experts.combine", "fprop"): bf16,
        ("experts.combine", "dgrad"): fp8,
        ("experts.dispatch", "dgrad"): bf16,
    }


# ---- what does not fit ------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named() -> None:
    train, decode = load_deployment("train"), load_deployment("decode")
    with pytest.raises(ValueError, match=r"deployment train: expected at most 2048 positions.* got 4096"):
        rows_of(NANO, train)
    with pytest.raises(ValueError, match=r"divisible among 128 GPUs, got 16 \+ 0 redundant = 16"):
        rows_of(NANO, with_fields(decode, {"length": 64}))
    with pytest.raises(ValueError, match=r"expected pipeline at most 61, the model's layers, got 1000"):
        rows_of(V3, with_fields(train, {"pipeline": "1000"}))
    assert rows_of(V3, with_fields(train, {"pipeline": 61}))
    with pytest.raises(ValueError, match=r"divisible among 512 GPUs, got 256 \+ 0 redundant"):
        rows_of(V3, with_fields(decode, {"expert_parallel": 512}))
    dense = replace(V3, n_dense_layers=V3.n_layers, n_mtp_layers=0)
    with pytest.raises(
        ValueError, match=r"a mixture of experts to spread over 128 GPUs, got a model whose 61"
    ):
        rows_of(dense, decode)
    assert rows_of(dense, with_fields(decode, {"expert_parallel": 1})).matrix_flops > 0
    with pytest.raises(ValueError, match=r"expected loads of 16 experts, 8 copies together, got 2 and 4"):
        rows_of(NANO, alone("decode", 2, 9), [[1, 3], [1, 3], [1, 3]])
    with pytest.raises(ValueError, match=r"expected loads of 3 MoE layers, got 1"):
        rows_of(NANO, alone("decode", 2, 9), [[1] * 16])
    with pytest.raises(ValueError, match=r"expected a precision, got 'fp9'"):
        rows_of(NANO, alone("decode", 2, 9, "fp9"))
