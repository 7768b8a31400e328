"""Models beside each other: one rule for all, and what the papers print of them."""

import json

import pytest

from minidsv3.config import ModelConfig
from minidsv3.cost.compare import CONTENDERS, contender, contender_names, contenders, ratio
from minidsv3.cost.dense import load_dense
from minidsv3.hardware import load_hardware

V3, V2, QWEN, LLAMA = contenders()


def test_the_four_of_the_paper() -> None:
    assert tuple(one.name for one in (V3, V2, QWEN, LLAMA)) == CONTENDERS
    assert [one["cache of a token"] for one in (V3, V2, QWEN, LLAMA)] == [70_272, 69_120, 327_680, 516_096]
    gflop = [one["training FLOPs a token"] / 1e9 for one in (V3, V2, QWEN, LLAMA)]
    assert gflop == pytest.approx([249.81, 155.01, 444.86, 2473.22], abs=0.01)
    assert f"{ratio(LLAMA, V3, 'cache of a token'):.2f}" == "7.34"  # printed 7.28
    assert f"{ratio(QWEN, V3, 'cache of a token'):.2f}" == "4.66"
    assert round(1 - 1 / ratio(QWEN, V3, "training FLOPs a token"), 2) == 0.44  # often told as 36 %


def test_parameters_are_the_configs() -> None:
    assert V3["parameters"] == ModelConfig.preset("v3").parameter_counts()["total"]
    assert V3["met by a token"] / 1e9 == pytest.approx(37.55, abs=0.01)
    assert (
        QWEN["met by a token"] == QWEN["parameters"] == load_dense("qwen2.5-72b").parameter_counts()["total"]
    )
    assert LLAMA["share met"] == 1


def test_runs_and_what_they_cost() -> None:
    assert V3["GPU hours"] == pytest.approx(2_788_000)
    assert V3["at V3's price"] == pytest.approx(5_576_000)
    assert V3["days on all GPUs"] == pytest.approx(56.7, abs=0.05)
    assert V3["MFU, causal, BF16 peak"] == pytest.approx(0.3898, abs=0.0001)
    assert LLAMA["GPU hours"] == pytest.approx(30_840_000)
    assert ratio(LLAMA, V3, "GPU hours") == pytest.approx(11.06, abs=0.01)
    assert LLAMA["at V3's price"] / LLAMA["GPU hours"] == pytest.approx(2)
    length = LLAMA["tokens of a sequence"]
    square = (LLAMA["with the whole square"] - LLAMA["training FLOPs a token"]) * length / 4096
    of_run = LLAMA["training FLOPs a token"] + square - square * 4096 / length
    assert LLAMA["FLOPs of pre-training"] == pytest.approx(of_run * LLAMA["training tokens"])


def test_clusters_are_the_hardware_files() -> None:
    h800, h100 = load_hardware("h800"), load_hardware("h100")
    assert (V3.machine, LLAMA.machine) == (h800.name, h100.name)
    assert V3["BF16 peak of all"] == 2048 * h800["chip.peak.bf16"].si
    assert V3["nodes"] == 256
    assert ratio(LLAMA, V3, "NVLink, one direction") == 2.25


def test_what_is_not_on_record_is_left_out() -> None:
    for one in (V2, QWEN):
        assert (one.run, one.cluster, one.machine) == ({}, {}, "")
        with pytest.raises(ValueError, match=rf"{one.name}: expected a fact, got 'GPU hours'"):
            one["GPU hours"]


@pytest.mark.parametrize("name", contender_names())
def test_any_model_can_stand_there(name: str) -> None:
    one = contender(name)
    assert one["training FLOPs a token"] < one["with the whole square"]
    assert json.loads(json.dumps(one.to_dict()))["name"] == name
    assert one.source


def test_unknown_models_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected a model to compare, got 'qwen': .*qwen2.5-72b"):
        contender("qwen")
    assert [one.name for one in contenders(["v3", "v3", "nano"])] == ["v3", "nano"]
