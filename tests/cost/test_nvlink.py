"""What NVLink joins on a machine: the machine's own domain, unless somebody set another."""

from dataclasses import replace

import pytest

from minidsv3.config import ModelConfig
from minidsv3.cost import phase_bill, scenario_named, what_if
from minidsv3.cost.copies import copies_sent
from minidsv3.cost.deployment import (
    Deployment,
    default_deployment,
    deployment_names,
    load_deployment,
    with_fields,
)
from minidsv3.cost.explained import explain
from minidsv3.cost.nvlink import on_machine
from minidsv3.hardware import Hardware, hardware_names, load_hardware, with_values

V3, H800, RACK = ModelConfig.preset("v3"), load_hardware("h800"), load_hardware("gb200-nvl72")
REDUNDANT = {144: 32, 72: 32}


def spread(name: str, gpus: int) -> Deployment:
    changes = {"expert_parallel": gpus, "redundant_experts": REDUNDANT.get(gpus, 0)}
    return with_fields(load_deployment(name), changes)


def without_nvlink(hardware: Hardware) -> Hardware:
    left = {path: one for path, one in hardware.values.items() if not path.startswith("node.nvlink")}
    return replace(hardware, id="lonely", values=left)


@pytest.mark.parametrize(
    ("gpus", "joined"), [(64, 64), (128, 64), (32, 32), (144, 72), (72, 72), (256, 64), (8, 8)]
)
def test_a_rack_joins_the_largest_part_that_divides(gpus: int, joined: int) -> None:
    for name in ("train", "decode"):
        assert on_machine(spread(name, gpus), RACK).gpus_per_node == joined
    assert on_machine(spread("train", gpus), without_nvlink(H800)).gpus_per_node == 1


@pytest.mark.parametrize("machine", ["h800", "h100", "h200", "a100", "b200"])
def test_a_node_of_eight_changes_nothing(machine: str) -> None:
    for name in deployment_names():
        d = load_deployment(name)
        assert on_machine(d, load_hardware(machine)) is d
    assert machine in hardware_names()


def test_what_somebody_set_stays() -> None:
    eight = with_fields(load_deployment("decode"), {"gpus_per_node": 8})
    assert on_machine(eight, RACK) is eight
    alone = with_fields(load_deployment("decode"), {"expert_parallel": 1})
    assert on_machine(alone, RACK) is alone
    assert phase_bill(V3, RACK, alone).communication_seconds == 0


def test_another_machine_is_asked_again() -> None:
    rack = on_machine(load_deployment("train"), RACK)
    assert (rack.gpus_per_node, on_machine(rack, H800).gpus_per_node) == (64, 8)
    wider = with_values(H800, {"node.gpus": "16"})
    assert phase_bill(V3, wider, "train").deployment.gpus_per_node == 16


def test_a_rack_trains_and_prefills_without_the_network() -> None:
    for name in ("train", "prefill"):
        total = phase_bill(V3, RACK, name).bill.total
        assert "network" not in total.bytes
        assert total.bytes["nvlink"] > 0


def test_decoding_over_two_domains_takes_both_wires() -> None:
    """EP128 on a rack's 64: of 8 picks 8 x 63/128 stay inside, 8 x 64/128 leave."""
    decode = on_machine(load_deployment("decode"), RACK)
    assert decode.nvlink_inside
    assert copies_sent(V3, decode) == pytest.approx((8 * 64 / 128, 8 * 63 / 128))
    moved = phase_bill(V3, RACK, "decode").bill.total.bytes
    assert moved["nvlink"] / moved["network"] == pytest.approx(63 / 64)
    narrow = phase_bill(V3, RACK, with_fields(load_deployment("decode"), {"gpus_per_node": 8}))
    assert "nvlink" not in narrow.bill.total.bytes
    assert narrow.communication_seconds > phase_bill(V3, RACK, "decode").communication_seconds


def test_low_latency_kernels_of_today_are_a_field() -> None:
    """On nodes of eight as DeepEP does since June 2025; as published without."""
    decode = load_deployment("decode")
    assert copies_sent(V3, decode) == (8 * 127 / 128, 0.0)
    today = with_fields(decode, {"nvlink_inside": "true"})
    assert copies_sent(V3, today) == pytest.approx((8 * 120 / 128, 8 * 7 / 128))
    off = with_fields(decode, {"nvlink_inside": "false"})
    assert not on_machine(off, RACK).nvlink_inside
    for name in deployment_names("decode"):
        assert "DeepEP" in load_deployment(name).sources["nvlink_inside"].source


def test_it_is_explained() -> None:
    said = {(one.kind, one.name): one for one in explain(phase_bill(V3, RACK, "decode"))}
    assert said["hardware", "node.gpus"].value == "72"
    assert said["deployment", "gpus_per_node"].value == "64"
    assert "node.gpus of gb200-nvl72" in said["deployment", "gpus_per_node"].source
    assert said["deployment", "nvlink_inside"].value == "True"
    assert "node.gpus" in said["rule", "NVLink"].value
    eight = with_fields(default_deployment("decode"), {"gpus_per_node": 8})
    kinds = {(one.kind, one.name) for one in explain(phase_bill(V3, RACK, eight))}
    assert ("hardware", "node.gpus") not in kinds


def test_a_wish_on_a_rack_is_priced_on_its_domain() -> None:
    found = what_if(V3, scenario_named("line-rate"), RACK)
    assert found.before.deployment.gpus_per_node == 64
    assert found["network busy"].before == 0
