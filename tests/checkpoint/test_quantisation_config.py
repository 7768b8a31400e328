"""`quantization_config`: what the published models say is taken, another meaning is refused by its name."""

import pytest

from minidsv3.checkpoint import CheckpointError
from minidsv3.checkpoint.quantisation_config import quantization_config, weight_block

V3 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"scale_fmt": "ue8m0"},  # V3.1
        {"scale_fmt": "float32"},
        {"scale_fmt": "float"},
        {"modules_to_not_convert": None},
        {"modules_to_not_convert": ["lm_head"], "dequantize": False},  # transformers
        {"expert_dtype": "fp8", "scale_fmt": "float", "modules_to_convert": None},
        {"something_new": None},
        {"fmt": None, "activation_scheme": None},
    ],
)
def test_what_published_models_say_is_read(more):
    assert weight_block(V3 | more, "config.json") == (128, 128)


def test_what_is_written_is_read():
    assert quantization_config((128, 128)) == V3
    assert weight_block(quantization_config((1, 10**9)), "x") == (1, 10**9)
    assert weight_block(None, "x") is None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([], r"expected an object, got \[\]"),
        ({}, "expected quant_method 'fp8', got None"),
        (V3 | {"quant_method": "gptq"}, "expected quant_method 'fp8', got 'gptq'"),
        (V3 | {"quant_method": ["fp8"]}, r"expected quant_method 'fp8', got \['fp8'\]"),
        (V3 | {"fmt": "e5m2"}, "expected fmt 'e4m3', got 'e5m2'"),
        (V3 | {"activation_scheme": "static"}, "expected activation_scheme 'dynamic', got 'static'"),
        (V3 | {"scale_fmt": "e5m2"}, "expected scale_fmt 'float32', got 'e5m2'"),
        (V3 | {"expert_dtype": "fp4"}, "expected expert_dtype 'fp8', got 'fp4'"),
        (V3 | {"bits": 4}, "expected of FP8 the fields .*, got bits=4"),
        (V3 | {"weight_block_size": None}, r"expected weight_block_size \[rows, columns\], got None"),
        (V3 | {"weight_block_size": [128]}, r"expected weight_block_size .*, got \[128\]"),
        (V3 | {"weight_block_size": [128, 0]}, r"expected weight_block_size .*, got \[128, 0\]"),
        (V3 | {"weight_block_size": [128, True]}, r"expected weight_block_size .*, got \[128, True\]"),
        (V3 | {"weight_block_size": [128, 128.0]}, r"expected weight_block_size .*, got \[128, 128.0\]"),
    ],
)
def test_what_would_mean_other_weights_is_refused(table, said):
    with pytest.raises(CheckpointError, match=f"config.json: quantization_config: {said}"):
        weight_block(table, "config.json")
