"""Drawn sizes, numbers and small models, shared by the tests."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from minidsv3.config import ModelConfig
from minidsv3.model.parameters import MLAWeights, Parameters
from minidsv3.model.rope import rotations

Array = NDArray[Any]

rngs = st.integers(0, 2**32).map(np.random.default_rng)
small = st.integers(1, 5)
METHODS = ["noaux_tc", "noaux_tc", "group_limited_greedy", "greedy"]  # V3's as often as V2's


@st.composite
def configs(draw: st.DrawFn, **fixed: Any) -> ModelConfig:
    """Tiny models of all routers: with or without query latent, shared experts, renormalised weights."""
    method = fixed.get("topk_method") or draw(st.sampled_from(METHODS))
    groups = draw(st.sampled_from([1, 2, 4]))
    kept = draw(st.integers(1, groups))
    per_group = draw(st.integers(2 if method == "noaux_tc" else 1, 3))
    reachable = (groups if method == "greedy" else kept) * per_group
    fields: dict[str, Any] = {
        "vocab_size": draw(st.integers(5, 12)),
        "dim": draw(st.integers(3, 8)),
        "inter_dim": draw(st.integers(2, 7)),
        "moe_inter_dim": draw(small),
        "n_layers": draw(st.integers(1, 2)),
        "n_dense_layers": draw(st.integers(0, 1)),
        "n_heads": draw(st.integers(1, 3)),
        "n_routed_experts": groups * per_group,
        "n_shared_experts": draw(st.integers(0, 2)),
        "n_activated_experts": draw(st.integers(1, min(4, reachable))),
        "n_expert_groups": groups,
        "n_limited_groups": kept,
        "route_scale": draw(st.sampled_from([1.0, 2.5])),
        "kv_lora_rank": draw(st.integers(2, 5)),
        "qk_nope_head_dim": draw(small),
        "qk_rope_head_dim": 2 * draw(st.integers(1, 3)),
        "v_head_dim": draw(small),
        "score_func": draw(st.sampled_from(["sigmoid", "softmax"])),
        "topk_method": method,
        "q_lora_rank": draw(st.sampled_from([0, 2, 3])),
        "norm_topk_prob": draw(st.booleans()),
        "max_seq_len": 32,
    }
    return ModelConfig(**(fields | fixed))


def parameters_of(config: ModelConfig, rng: np.random.Generator, dtype: str = "float64") -> Parameters:
    """Weights of a size at which nothing saturates, gains around one, biases that matter."""
    parameters = Parameters(config, dtype=dtype)
    for name, view in parameters.items():
        if view.ndim == 2:
            view[...] = rng.normal(size=view.shape) / np.sqrt(view.shape[1])
        else:
            view[...] = rng.normal(0 if name.endswith("bias") else 1, 0.2, view.shape)
    return parameters


def attention_of(config: ModelConfig, rng: np.random.Generator) -> MLAWeights:
    """The attention weights of a config's first layer."""
    return parameters_of(config, rng).weights.layers[0].attention


def turns(length: int, dim: int, dtype: Any = np.complex128) -> Array:
    """Rotations for positions 0 .. length - 1, fast enough to matter over a few positions."""
    return rotations(length, dim, theta=10.0, dtype=dtype)
