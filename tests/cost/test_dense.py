"""Dense models: counted tensor by tensor, and by the rule of the DeepSeek rows."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.cost.dense import (
    DenseConfig,
    dense_conjecture_flops,
    dense_kv_bytes_per_token,
    dense_names,
    dense_parameters,
    dense_training_flops_per_token,
    load_dense,
)

SIZES: dict[str, Any] = {
    "title": "a model",
    "source": "ours",
    "dim": 8,
    "n_layers": 3,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 2,
    "inter_dim": 16,
    "vocab_size": 32,
}
configs = st.builds(
    DenseConfig,
    name=st.just("drawn"),
    title=st.just("drawn"),
    source=st.just("ours"),
    dim=st.integers(1, 64),
    n_layers=st.integers(1, 9),
    n_heads=st.sampled_from([4, 8]),
    n_kv_heads=st.sampled_from([1, 2, 4]),
    head_dim=st.integers(1, 16),
    inter_dim=st.integers(1, 64),
    vocab_size=st.integers(1, 99),
    qkv_bias=st.booleans(),
)


def tensors(c: DenseConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor as such checkpoints store them."""
    q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embed": (c.vocab_size, c.dim), "lm_head": (c.vocab_size, c.dim)}
    shapes["norm"] = (c.dim,)
    for i in range(c.n_layers):
        shapes |= {f"{i}.q": (q, c.dim), f"{i}.k": (kv, c.dim), f"{i}.v": (kv, c.dim), f"{i}.o": (c.dim, q)}
        shapes |= {f"{i}.gate": (c.inter_dim, c.dim), f"{i}.up": (c.inter_dim, c.dim)}
        shapes |= {f"{i}.down": (c.dim, c.inter_dim), f"{i}.norm_1": (c.dim,), f"{i}.norm_2": (c.dim,)}
        if c.qkv_bias:
            shapes |= {f"{i}.q_bias": (q,), f"{i}.k_bias": (kv,), f"{i}.v_bias": (kv,)}
    return shapes


@settings(max_examples=40, deadline=None)
@given(configs)
def test_parameters_are_those_of_the_tensors(config: DenseConfig) -> None:
    shapes = tensors(config)
    assert dense_parameters(config) == sum(map(math.prod, shapes.values()))
    met = sum(math.prod(s) for name, s in shapes.items() if len(s) == 2 and name != "embed")
    assert dense_parameters(config, "matrix") == met


@settings(max_examples=40, deadline=None)
@given(configs, st.integers(1, 64))
def test_training_is_three_forwards(config: DenseConfig, half: int) -> None:
    """Two FLOPs a weight met; for each query and head a product with every key seen and with every value."""
    T = 2 * half
    seen = T * T  # pairs of the square
    core = 2 * 2 * config.head_dim * config.n_heads * config.n_layers * seen
    square = dense_training_flops_per_token(config, T, causal=False)
    assert square * T == 3 * (2 * dense_parameters(config, "matrix") * T + core)
    assert (square - dense_training_flops_per_token(config, T)) * T == 3 * core // 2


@settings(max_examples=40, deadline=None)
@given(configs)
def test_a_token_leaves_its_keys_and_values(config: DenseConfig) -> None:
    keys = config.n_kv_heads * config.head_dim * config.n_layers
    assert dense_kv_bytes_per_token(config, 1) == 2 * keys
    assert config.kv_bytes_per_token == 4 * keys


def test_the_two_models_of_the_papers() -> None:
    assert dense_names() == ["llama-3.1-405b", "qwen2.5-72b"]
    assert dense_parameters(load_dense("qwen2.5-72b")) == 72_706_203_648  # as its files have
    assert dense_parameters(load_dense("llama-3.1-405b")) == 405_853_388_800
    assert load_dense("qwen2.5-72b").n_heads * load_dense("qwen2.5-72b").head_dim == 8192


def test_the_conjecture_leaves_the_head_whole() -> None:
    config = load_dense("llama-3.1-405b")
    core = dense_training_flops_per_token(config, 4096, causal=False) - dense_training_flops_per_token(
        config, 4096
    )
    same = dense_conjecture_flops(config, 4096, config.n_layers)
    assert same == dense_training_flops_per_token(config, 4096) - core // 2
    head = 6 * dense_parameters(config, "head")
    assert (dense_conjecture_flops(config, 4096, 63) - head) * 2 == same - head


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dims": 8}, "thing.toml: unknown field 'dims'; did you mean 'dim'?"),
        ({"dim": None}, "thing.toml: missing field 'dim'"),
        ({"dim": 8.0}, "thing.toml: expected dim to be a whole number >= 1, got 8.0"),
        ({"n_layers": 0}, "thing.toml: expected n_layers to be a whole number >= 1, got 0"),
        ({"source": ""}, "thing.toml: expected source to be a non-empty text, got ''"),
        ({"n_kv_heads": 3}, "thing.toml: expected n_heads divisible by n_kv_heads=3, got 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    table = {key: value for key, value in (SIZES | changes).items() if value is not None}
    with pytest.raises(ValueError, match="thing") as error:
        DenseConfig.from_dict("thing", table)
    assert said in str(error.value)


def test_unknown_models_and_parts_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"expected a dense model, got 'qwen2.5-7b': did you mean 'qwen2.5-72b'"
    ):
        load_dense("qwen2.5-7b")
    with pytest.raises(ValueError, match="expected a part of the parameters, got 'fnn': did you mean 'ffn'"):
        dense_parameters(DenseConfig.from_dict("thing", SIZES), "fnn")
