"""A phase's bill: how it adds up, what stands beside the published profile, where its numbers are from."""

import json
from dataclasses import replace

import pytest

from minidsv3.config import ModelConfig
from minidsv3.cost import phase_bill
from minidsv3.cost.deployment import (
    alone,
    default_deployment,
    deployment_names,
    load_deployment,
    read_deployment,
    with_fields,
)
from minidsv3.cost.explained import explain
from minidsv3.cost.phase_bill import PhaseBill, against_profile, price
from minidsv3.cost.rows import rows_of
from minidsv3.hardware import load_hardware, with_values

V3, H800 = ModelConfig.preset("v3"), load_hardware("h800")


@pytest.fixture(scope="module")
def train() -> PhaseBill:
    return phase_bill(V3, H800, "train", "DeepSeek-V3")


@pytest.mark.parametrize("name", deployment_names())
def test_sums(name: str) -> None:
    phase = phase_bill(V3, H800, name)
    total, d = phase.bill.total, phase.deployment
    assert phase.serial_seconds == pytest.approx(total.seconds)
    assert phase.seconds == max(phase.compute_seconds, phase.communication_seconds)
    assert phase.tokens_per_second == pytest.approx(d.tokens / phase.seconds)
    for groups in (phase.bill.by_op, phase.bill.by_part, phase.bill.by_phase, phase.bill.by_precision,
                   phase.bill.by_layer):  # fmt: skip
        assert sum(group.matrix_flops for group in groups) == total.matrix_flops
        assert sum(group.rows for group in groups) == total.rows
        assert sum(group.seconds for group in groups) == pytest.approx(total.seconds)
        for kind, moved in total.bytes.items():
            assert sum(group.bytes.get(kind, 0) for group in groups) == moved


def test_a_bill_of_alike_layers_is_that_of_each_by_itself() -> None:
    """Layers one by one, as loads make them, cost what `times` says they do."""
    alone_ = {"pipeline": 1, "expert_parallel": 1, "precision": "bf16", "mtp": False}
    d = with_fields(default_deployment("train"), alone_)
    few = replace(V3, n_layers=6, n_routed_experts=16, n_activated_experts=4)
    even = [[4096 * 4 // 16] * 16] * 3
    merged, single = phase_bill(few, H800, d), phase_bill(few, H800, d, loads=even)
    assert len(single.bill.lines) > len(merged.bill.lines)
    assert single.bill.total.matrix_flops == merged.bill.total.matrix_flops
    assert single.bill.total.bytes == merged.bill.total.bytes
    assert single.bill.total.rows == merged.bill.total.rows
    for one, other in zip(single.bill.by_layer, merged.bill.by_layer, strict=True):
        assert (one.name, one.matrix_flops, one.bytes) == (other.name, other.matrix_flops, other.bytes)
        assert one.seconds == pytest.approx(other.seconds)


def test_layers_in_their_order(train: PhaseBill) -> None:
    names = [total.name for total in train.bill.by_layer]
    assert names == [*map(str, range(62)), "outside"]
    by_name = {total.name: total for total in train.bill.by_layer}
    assert by_name["3"].seconds == by_name["60"].seconds > by_name["0"].seconds


def test_without_overlap_one_follows_the_other() -> None:
    serial = with_fields(load_deployment("decode"), {"overlap": False})
    phase = phase_bill(V3, H800, serial)
    assert phase.seconds == phase.compute_seconds + phase.communication_seconds


def test_the_published_profile_is_not_undercut(train: PhaseBill) -> None:
    """One pair of chunks of 4 MoE layers took 129.0 ms, 118.2 of them computing, 114.5 communicating."""
    lines = {line.name: line for line in against_profile(train)}
    assert [lines[name].measured for name in ("compute", "communication", "pair")] == pytest.approx(
        [0.1182, 0.1145, 0.1290]
    )
    assert all(0.4 < line.share < 0.7 for line in lines.values())
    layer = next(total for total in train.bill.by_layer if total.name == "3")
    assert lines["compute"].seconds + lines["communication"].seconds == pytest.approx(4 * layer.seconds)
    assert against_profile(phase_bill(V3, H800, "decode")) == ()


def test_training_reaches_no_more_than_the_machine_allows(train: PhaseBill) -> None:
    """272.80B tokens a day on 2048 GPUs (arXiv 2505.09343, Table 4) are under the bill's bound."""
    assert 272.80e9 / 86400 / 2048 < train.tokens_per_second < 4 * 272.80e9 / 86400 / 2048


def test_serving_reaches_no_more_than_the_machine_allows() -> None:
    """14.8K output tokens a second and node of eight (open-infra-index, day 6)."""
    assert phase_bill(V3, H800, "decode-production").tokens_per_second > 14_800 / 8
    assert phase_bill(V3, H800, "prefill").tokens_per_second > 32_200 / 8  # without cache hits


def test_weights_of_a_decode_gpu() -> None:
    """2 + 1 experts of 58 layers, attention, dense layers in FP8; embedding and head in BF16: 24.0 GB.

    Above that: the router in float32; W_UK and W_UV in BF16, as absorbed attention multiplies them.
    """
    c = V3
    expert = 3 * c.dim * c.moe_inter_dim
    heads = c.n_heads * (c.qk_nope_head_dim + c.v_head_dim) * c.kv_lora_rank
    attention = c.parameter_counts()["one_attention"]
    fp8 = 58 * 3 * expert + 61 * attention + 3 * 3 * c.dim * c.inter_dim
    known = fp8 + 61 * heads + 4 * 58 * c.dim * 256 + 2 * 2 * c.vocab_size * c.dim
    assert phase_bill(V3, H800, "decode-production").weight_bytes == pytest.approx(known, rel=1e-3)
    assert known == pytest.approx(25.4e9, rel=0.01)


def test_one_gpu_alone_is_a_bill_of_its_trace() -> None:
    nano = ModelConfig.preset("nano")
    d = alone("decode", 2, 64, "fp8")
    phase = price(rows_of(nano, d), nano, H800, d)
    assert phase.communication_seconds == 0
    assert phase.bound == "memory"
    assert phase.kv_bytes == 2 * 65 * 512


@pytest.mark.parametrize("phase", ["train", "prefill", "decode"])
def test_without_narrow_formats_products_run_on_the_cuda_cores(phase: str) -> None:
    """Nothing is rounded: no tensor core, four bytes a number; never faster than in BF16."""
    d = default_deployment(phase)
    wide, narrow = (phase_bill(V3, H800, with_fields(d, {"precision": name})) for name in ("fp32", "bf16"))
    peak = H800["chip.peak.fp32"].si * (112 / 132 if d.communication_sms else 1)
    assert wide.compute_seconds > wide.bill.total.matrix_flops / peak
    assert wide.communication_seconds == pytest.approx(2 * narrow.communication_seconds, rel=0.01)
    assert (wide.kv_bytes, wide.bill.kv_bytes_per_token) == (2 * narrow.kv_bytes, 4 * 61 * 576)
    assert wide.weight_bytes == pytest.approx(2 * narrow.weight_bytes, rel=0.01)
    assert {line.precision for line in wide.bill.lines} == {"fp32", "vector", "wire"}
    assert "4 bytes a number" in wide.bill.rule
    slower = phase_bill(V3, with_values(H800, {"chip.peak.bf16": "1TFLOPS"}), wide.deployment)
    assert slower.compute_seconds == wide.compute_seconds


def test_json(train: PhaseBill) -> None:
    said = json.loads(json.dumps(train.to_dict()))
    assert said["schema"] == "minidsv3.phase_bill/1"
    assert said["deployment"]["expert_parallel"] == 64
    assert [line["name"] for line in said["profile"]] == ["compute", "communication", "pair"]
    assert said["bill"]["total"]["matrix_flops"] == train.bill.total.matrix_flops
    assert said["ridges"]["fp8"] == pytest.approx(1979e12 * 112 / 132 / 3.35e12)


def test_every_number_is_explained(train: PhaseBill) -> None:
    said = explain(train, "a source")
    assert all(one.value and one.source and one.status for one in said)
    assert {one.kind for one in said} == {
        "hardware", "model", "deployment", "profile", "precision", "rule",
    }  # fmt: skip
    paths = {one.name for one in said if one.kind == "hardware"}
    assert paths == {
        "chip.sm.count", "chip.sm.communication", "chip.peak.fp8", "chip.peak.bf16", "chip.peak.fp32",
        "chip.hbm.bandwidth", "fabric.effective", "node.nvlink.usable", "node.gpus",
        "chip.hbm.capacity", "price.gpu_hour",
    }  # fmt: skip
    fields = {one.name for one in said if one.kind == "deployment"}
    assert fields == set(train.deployment.sources)
    changed = phase_bill(V3, with_values(H800, {"chip.hbm.bandwidth": "8TB/s"}), "train")
    [bandwidth] = [one for one in explain(changed) if one.name == "chip.hbm.bandwidth"]
    assert (bandwidth.value, bandwidth.status) == ("8 TB/s", "assumed")
    assert "instead of 3.35 TB/s" in bandwidth.source


def test_what_cannot_be_priced_is_named() -> None:
    with pytest.raises(ValueError, match=r"a100: expected a chip.peak.fp8 to price 'mla.\w+', the file has"):
        phase_bill(V3, load_hardware("a100"), "train")
    bf16 = with_fields(default_deployment("train"), {"precision": "bf16"})
    assert phase_bill(V3, load_hardware("a100"), bf16).compute_seconds > 0
    lonely = replace(
        H800, id="lonely", values={p: q for p, q in H800.values.items() if p != "node.nvlink.usable"}
    )
    with pytest.raises(
        ValueError, match=r"lonely: expected an NVLink rate to price the .* node.nvlink.usable"
    ):
        phase_bill(V3, lonely, with_fields(default_deployment("train"), {"gpus_per_node": 8}))
    assert "nvlink" not in phase_bill(V3, lonely, "train").bill.total.bytes
    with pytest.raises(ValueError, match=r"expected a deployment, got 'trein': did you mean 'train'"):
        phase_bill(V3, H800, "trein")


# ---- deployments ------------------------------------------------------------------------------------------


def test_shipped_deployments() -> None:
    assert [load_deployment(name).expert_parallel for name in deployment_names()] == [64, 32, 128, 320, 144]
    assert deployment_names("decode") == ["decode", "decode-report", "decode-production"]
    for name in deployment_names():
        d = load_deployment(name)
        assert d.title
        assert all(
            one.source and one.status in ("report", "measured", "assumed") for one in d.sources.values()
        )
        json.dumps(d.to_dict())
    assert default_deployment("prefill").redundant_experts == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phase": "training"}, "expected phase train | prefill | decode, got 'training'"),
        ({"sequences": 0}, "expected sequences >= 1, got 0"),
        ({"sequences": 2.5}, "expected sequences to be a whole number, got 2.5"),
        ({"sequences": "many"}, "expected sequences to be a whole number, got 'many'"),
        ({"sequences": "5"}, "expected sequences divisible by 2 micro-batches, got 5"),
        ({"overlap": "maybe"}, "expected overlap to be true or false, got 'maybe'"),
        ({"expert_parallel": "12"}, "expected expert_parallel in nodes of 8 GPUs, got 12"),
        ({"attention": "flash"}, "expected attention absorbed | naive, got 'flash'"),
        (
            {"phase": "train", "attention": "naive"},
            "expected attention absorbed but in decode, got 'naive' in",
        ),
        ({"sequence": 3}, "unknown field 'sequence': did you mean 'sequences'"),
    ],
)
def test_fields_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="deployment decode: ") as error:
        with_fields(load_deployment("decode"), change)
    assert message in str(error.value)


def test_fields_are_read_from_text() -> None:
    changed = with_fields(load_deployment("train"), {"recompute": "*norm, mla.q_up", "overlap": "false"})
    assert (changed.recompute, changed.overlap) == (("*norm", "mla.q_up"), False)
    assert changed.sources["overlap"].status == "assumed"
    assert not changed.profile  # what was measured was measured of something else


def test_a_table_is_checked() -> None:
    good = {"phase": {"value": "decode", "source": "a test", "status": "assumed"}}
    with pytest.raises(ValueError, match=r"deployment mine: sequences: expected \{ value, source, status \}"):
        read_deployment("mine", good | {"sequences": 3})
    with pytest.raises(ValueError, match=r"deployment mine: sequences: expected a source and a status"):
        read_deployment("mine", good | {"sequences": {"value": 3, "source": "", "status": "report"}})
    with pytest.raises(ValueError, match=r"deployment mine: unknown field 'sequnces'"):
        read_deployment("mine", good | {"sequnces": {"value": 3, "source": "x", "status": "report"}})
