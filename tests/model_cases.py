"""Models of several shapes, small enough to run: what is counted is held equal to their traces."""

import dataclasses

import pytest

from minidsv3.config import ModelConfig
from minidsv3.machine import Trace, look_up

NANO = ModelConfig.preset("nano")
TINY = ModelConfig(
    vocab_size=50, dim=16, inter_dim=24, moe_inter_dim=10, n_layers=3, n_dense_layers=2, n_heads=2,
    n_routed_experts=6, n_shared_experts=0, n_activated_experts=3, n_expert_groups=1, n_limited_groups=1,
    route_scale=1.5, kv_lora_rank=12, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=10,
    norm_topk_prob=False, max_seq_len=32,
)  # fmt: skip
MIDDLE = dataclasses.replace(NANO, dim=48, n_layers=2, n_mtp_layers=2, n_shared_experts=2, v_head_dim=24)

V2 = dataclasses.replace(
    TINY, n_routed_experts=8, n_expert_groups=4, n_limited_groups=2, score_func="softmax",
    topk_method="group_limited_greedy", q_lora_rank=8, n_shared_experts=2,
)  # fmt: skip
V2_LITE = dataclasses.replace(V2, topk_method="greedy", q_lora_rank=0, norm_topk_prob=True)

CASES = [
    pytest.param(NANO, 2, 33, id="nano"),
    pytest.param(MIDDLE, 3, 9, id="two MTP depths, two shared experts"),
    pytest.param(V2, 2, 7, id="V2: softmax, groups by their best"),
    pytest.param(V2_LITE, 1, 6, id="V2-Lite: softmax, greedy, groups that nobody asks for"),
    pytest.param(TINY, 1, 5, id="no query latent, no groups, no shared experts, unnormalised weights"),
]


def counted(trace: Trace, phase: str) -> dict[str, tuple[int, int, dict[str, int]]]:
    """Matrix FLOPs, vector FLOPs and bytes of each part of a trace."""
    parts: dict[str, Trace] = {}
    for row in trace:
        if row.phase == phase:
            parts.setdefault(look_up(row.op).part, Trace()).append(row)
    return {part: (rows.matrix_flops, rows.vector_flops, rows.bytes) for part, rows in parts.items()}


def reached(trace: Trace) -> list[int]:
    """Experts reached in each MoE layer."""
    layers: dict[int, set[int]] = {}
    for row in trace.select("experts.down", phase="forward"):
        assert row.layer is not None
        assert row.expert is not None
        layers.setdefault(row.layer, set()).add(row.expert)
    return [len(layers[layer]) for layer in sorted(layers)]
