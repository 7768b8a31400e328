"""Weights on a GPU: those of the config, wherever they lie, whatever a batch reads of them."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidsv3.config import ModelConfig
from minidsv3.cost import phase_bill
from minidsv3.cost.deployment import (
    PHASES,
    alone,
    default_deployment,
    deployment_names,
    load_deployment,
    with_fields,
)
from minidsv3.cost.held_weights import held_weight_bytes, held_weights
from minidsv3.cost.row_changes import fp4_weights
from minidsv3.cost.rows import rows_of
from minidsv3.hardware import load_hardware
from minidsv3.model.one_token import published_layout

V3 = ModelConfig.preset("v3")


def published(config: ModelConfig, mtp: bool) -> int:
    """Bytes of the published files: FP8 with scales, BF16; the gate in float32, as it multiplies here."""
    stored, total = published_layout(config), 0
    for name, shape in config.tensor_shapes().items():
        of_module = int(name.split(".")[2]) >= config.n_layers if ".layers." in name else False
        if mtp or not of_module:
            total += 4 * math.prod(shape) if name.endswith("mlp.gate.weight") else stored(name, shape)
    return total


@pytest.mark.parametrize("name", ["v3", "v2", "moonlight"])
def test_one_gpu_holds_what_the_published_files_do(name: str) -> None:
    c = ModelConfig.preset(name)
    assert held_weight_bytes(c, alone("prefill", 1, 100, "fp8")) == published(c, mtp=False)
    assert held_weight_bytes(c, alone("train", 1, 100, "fp8")) == published(c, mtp=True)


@pytest.mark.parametrize("name", ["v3", "v2-lite", "moonlight", "nano", "mini"])
def test_without_narrow_formats_it_holds_four_bytes_a_parameter(name: str) -> None:
    c = ModelConfig.preset(name)
    counts = c.parameter_counts()
    assert held_weight_bytes(c, alone("decode", 1, 100, "fp32")) == 4 * counts["total"]
    assert held_weight_bytes(c, alone("train", 1, 100, "fp32")) == 4 * (counts["total"] + counts["mtp"])


def test_decoding_holds_the_absorbed_projections_in_bf16() -> None:
    numbers = V3.n_layers * V3.n_heads * (V3.qk_nope_head_dim + V3.v_head_dim) * V3.kv_lora_rank
    scales = numbers // 128**2
    more = held_weight_bytes(V3, alone("decode", 1, 100, "fp8")) - published(V3, mtp=False)
    assert more == 2 * numbers - (numbers + 4 * scales)


@given(
    phase=st.sampled_from(PHASES),
    batch=st.sampled_from([(2, 1), (2, 2), (64, 1), (512, 4)]),
    length=st.integers(2, 9000),
    attention=st.sampled_from(["absorbed", "naive"]),
)
def test_a_batch_changes_nothing(phase: str, batch: tuple[int, int], length: int, attention: str) -> None:
    d = default_deployment(phase)
    changes: dict[str, object] = {"sequences": batch[0], "micro_batches": batch[1], "length": length}
    changes |= {"attention": attention} if phase == "decode" else {}
    assert held_weight_bytes(V3, with_fields(d, changes)) == held_weight_bytes(V3, d)


def test_a_bill_holds_experts_that_no_token_reaches() -> None:
    """On one GPU all of V3, 674 GB, though two tokens meet at most 16 experts a layer."""
    few = with_fields(load_deployment("decode"), {"expert_parallel": 1, "sequences": 2})
    for attention in ("absorbed", "naive"):
        held = phase_bill(V3, load_hardware("h800"), with_fields(few, {"attention": attention})).weight_bytes
        assert held == pytest.approx(674.4e9, rel=1e-3)


def test_hosted_experts() -> None:
    """256 of them and the redundant ones over all GPUs; a shared expert as a routed one has no place else."""
    slots = {"train": 4, "prefill": 9, "decode": 2, "decode-report": 1, "decode-production": 2}
    for name in deployment_names():
        d = load_deployment(name)
        held = {one.op: one for one in held_weights(V3, d)}
        layers = 58 + (d.phase == "train")
        assert held["experts.down"].times == layers * slots[name]
        assert ("shared.down" in held) is not d.shared_as_routed


def test_a_pipeline_divides_them() -> None:
    train = default_deployment("train")
    whole = held_weight_bytes(V3, replace(train, pipeline=1))
    assert held_weight_bytes(V3, train) == whole // 16


def test_a_row_that_reads_less_has_less_to_hold() -> None:
    """NVFP4: 0.5625 B a weight, where E4M3 takes 1 and its scale."""
    d = load_deployment("decode")
    rows = rows_of(V3, d)
    assert held_weight_bytes(V3, d, rows) == held_weight_bytes(V3, d)
    narrow = sum(one.nbytes for one in held_weights(V3, d) if one.stored.format == "e4m3")
    saved = held_weight_bytes(V3, d) - held_weight_bytes(V3, d, fp4_weights(rows))
    assert saved == pytest.approx(narrow * (1 - 0.5625), rel=1e-3)
