"""Memory in closed form: equal to what a forward of the model really keeps; recipes; a GPU of the cluster."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.config import ModelConfig, preset_names
from minidsv3.cost.memory import (
    Kept,
    activation_bytes,
    kept_arrays,
    kept_recipes,
    kv_cache_bytes,
    other_parameters_a_gpu,
    parameters_a_gpu,
    routed_parameters_a_gpu,
    state_bytes,
    state_recipes,
    training_memory,
)
from minidsv3.cost.memory import _recipes as recipes
from minidsv3.machine import Machine
from minidsv3.model.block import BlockSaved
from minidsv3.model.parameters import Parameters
from minidsv3.model.transformer import LossOptions, loss_forward

V3 = ModelConfig.preset("v3")
NANO = ModelConfig.preset("nano", n_mtp_layers=0)
SMALL = {
    "nano": NANO,
    "mini": ModelConfig.preset("mini"),
    "softmax": dataclasses.replace(
        NANO,
        score_func="softmax",
        topk_method="greedy",
        norm_topk_prob=False,
        n_shared_experts=2,
        q_lora_rank=0,
    ),
}


def buffers(
    saved: Any, skip: tuple[str, ...] = ("w", "rotation", "W_gate_up", "W_down", "e")
) -> dict[int, Any]:
    """Every buffer that a saved tuple keeps alive, weights left out, each once."""
    found: dict[int, Any] = {}
    for name, value in zip(getattr(saved, "_fields", [""] * len(saved)), saved, strict=True):
        if isinstance(value, np.ndarray) and name not in skip:
            while isinstance(value.base, np.ndarray):
                value = value.base
            found[id(value)] = value
        elif isinstance(value, tuple | list) and name not in skip:
            found |= buffers(value, skip)
    return found


def kept_bytes(blocks: list[BlockSaved]) -> list[int]:
    return [sum(array.nbytes for array in buffers(block).values()) for block in blocks]


def closed_bytes(arrays: list[Kept]) -> int:
    """The laptop's float32 values and int64 indices."""
    return sum(kept.numbers * (8 if kept.index else 4) for kept in arrays)


@pytest.mark.parametrize(
    ("name", "B", "T", "balance"),
    [
        ("nano", 3, 20, False),
        ("nano", 2, 64, True),
        ("nano", 1, 130, False),
        ("softmax", 2, 64, False),
        ("softmax", 1, 130, True),
        pytest.param("mini", 2, 70, True, marks=pytest.mark.slow),
    ],
)
def test_arrays_are_those_that_a_forward_keeps(name: str, B: int, T: int, balance: bool) -> None:
    config = SMALL[name]
    rng = np.random.default_rng(0)
    parameters = Parameters.initialise(config, rng)
    tokens = rng.integers(0, config.vocab_size, (B, T + 1))
    options = LossOptions(balance_weight=0.001 if balance else 0.0)
    _, saved = loss_forward(Machine(), parameters, tokens, options)
    expected = [closed_bytes(kept_arrays(config, B, T, i, balance)) for i in range(config.n_layers)]
    assert kept_bytes(saved.main.blocks) == expected


def test_everything_kept_is_the_sum_of_its_arrays() -> None:
    """In BF16: two bytes a value, eight an index."""
    for layer in (0, NANO.n_layers - 1):
        arrays = kept_arrays(NANO, 2, 64, layer)
        in_bf16 = sum(kept.numbers * (8 if kept.index else 2) for kept in arrays)
        assert activation_bytes(NANO, 2, 64, "everything", layer=layer) == in_bf16
    layers = [activation_bytes(NANO, 2, 64, "everything", layer=i) for i in range(NANO.n_layers)]
    assert activation_bytes(NANO, 2, 64, "everything") == sum(layers)


def test_recipes_name_arrays_that_exist() -> None:
    """A name that no array has would leave it out without a word."""
    known = {kept.name for layer in (0, 60) for kept in kept_arrays(V3, 1, 64, layer, balance=True)}
    for name, row in recipes()["kept"].items():
        extra = set(row) - known - {"title", "source", "every", "log_sum_exp", "embedding_ids"}
        assert not extra, (name, extra)


def test_v3_keeps_what_its_report_says() -> None:
    """By hand, for one token of a MoE layer: bits of what stays, a float32 scale for 128 of FP8 and E5M6."""
    tiled = 32 / 128
    bits = 16 * (7168 + 1536 + 512 + 64 + 7168)  # both norms' inputs, latents, k_R
    bits += 128 * 128 * (12 + tiled) + 128 * 32  # o in E5M6, the log-sum-exp of each head
    bits += 8 * 7168 * (8 + tiled) + 9 * 4096 * (8 + tiled)  # dispatched copies; gate and up of 9 experts
    bits += 32 * (256 + 1 + 8 + 8) + 32 * (8 + 8)  # scores, their sum, weights; choices, places
    assert activation_bytes(V3, 1, 1, "v3", layer=60) == pytest.approx(bits / 8)


@pytest.mark.parametrize("name", preset_names())
def test_recomputing_saves_memory(name: str) -> None:
    config = ModelConfig.preset(name)
    everything, no_scores, v3 = (activation_bytes(config, 1, 4096, recipe) for recipe in kept_recipes())
    assert everything > no_scores > v3 > 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 300), st.sampled_from(["no-scores", "v3"]))
def test_without_scores_memory_grows_with_tokens(B: int, T: int, recipe: str) -> None:
    """Linear in tokens, whichever way they are cut into sequences; scores make it grow with the square."""
    assert activation_bytes(V3, B, T, recipe) == pytest.approx(B * T * activation_bytes(V3, 1, 1, recipe))
    assert activation_bytes(V3, 1, 2 * T, "everything") > 2 * activation_bytes(V3, 1, T, "everything") * 0.999


# ---- parameters and their state ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["v3", "v2", "nano"])
def test_all_gpus_together_hold_the_model(name: str) -> None:
    config = ModelConfig.preset(name)
    counts = config.parameter_counts()
    routed = 16 * 64 * routed_parameters_a_gpu(config, 16, 64)
    assert routed == counts["routed"]
    rest = 16 * other_parameters_a_gpu(config, 16) + counts["embedding"] + counts["head"]
    assert routed + rest == counts["total"]
    assert parameters_a_gpu(config, 16, 64, copies=2) == 2 * parameters_a_gpu(config, 16, 64)


def test_bytes_a_parameter_by_recipe() -> None:
    assert sum(state_bytes(1, "v3").values()) == 4 + 4 + 2 + 2
    assert sum(state_bytes(1, "mixed").values()) == 16
    assert sum(state_bytes(1, "mixed-average").values()) == 20
    assert "average" not in state_bytes(1, "v3")  # it lies in the CPU's memory
    shared = state_bytes(100, "v3", replicas=4)
    assert shared == {"gradient": 400, "master": 100, "first_moment": 50, "second_moment": 50}


def test_the_cache_is_bytes_a_token_times_tokens() -> None:
    assert kv_cache_bytes(V3, 88, 4989) == 88 * 4989 * 70_272
    assert kv_cache_bytes(V3, 1, 1, number_bytes=1) * 2 == kv_cache_bytes(V3, 1, 1)


def test_v3s_training_fits_its_gpu_only_as_it_is_done() -> None:
    """84.9 GB: with everything or only the scores left out, activations alone are more."""
    room = 84_943_110_144
    layout = {"gpus": 2048, "stages": 16, "expert_parallel": 64, "length": 4096}
    as_done = training_memory(V3, **layout)
    assert sum(as_done.values()) < room
    assert as_done["weights"] == pytest.approx(3.19e9, abs=0.01e9)
    assert training_memory(V3, **layout, kept="everything")["activations"] > room
    assert training_memory(V3, **layout, kept="no-scores")["activations"] > room
    fat = training_memory(V3, **layout, state="mixed-average")
    assert sum(fat.values()) > sum(as_done.values())
    assert list(fat)[-1] == "activations"


def test_unknown_recipes_are_named() -> None:
    with pytest.raises(ValueError, match="expected a memory recipe, got 'v4': known: v3, mixed"):
        state_bytes(1, "v4")
    with pytest.raises(ValueError, match="expected a memory recipe, got 'all'"):
        activation_bytes(V3, 1, 1, "all")
    assert state_recipes() == ["v3", "mixed", "mixed-average"]
