"""Folders that are written: formats, files, index, one tensor at a time; nothing half and nothing stale."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest

from minidsv3 import Model
from minidsv3.checkpoint import CheckpointError, open_folder, read_folder, read_header, saving, write_folder
from minidsv3.checkpoint.saving import default_block, is_fp8_weight
from minidsv3.checkpoint.scaled_blocks import decode_blocks, encode_blocks
from minidsv3.config import ModelConfig
from minidsv3.numerics import BF16

TINY = ModelConfig(
    vocab_size=11,
    dim=40,
    inter_dim=24,
    moe_inter_dim=16,
    n_layers=2,
    n_dense_layers=1,
    n_heads=4,
    n_routed_experts=4,
    n_shared_experts=1,
    n_activated_experts=2,
    n_expert_groups=2,
    n_limited_groups=1,
    route_scale=2.5,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=8,
    q_lora_rank=24,
    n_mtp_layers=1,
    fp8_block=8,
)
SHAPES = TINY.tensor_shapes()
BIAS = "e_score_correction_bias"
PROJECTION = "model.layers.0.self_attn.o_proj.weight"


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {name: draw.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


def wanted(tensors, weights: str, block: int) -> dict[str, np.ndarray]:
    """What must come back: rounded as the layout says, by the functions that are tested by themselves."""
    back = {}
    for name, values in tensors.items():
        if weights == "float32" or BIAS in name:
            back[name] = values
        elif weights == "fp8" and is_fp8_weight(name, values.shape):
            back[name] = decode_blocks(*encode_blocks(values, (block, block)), (block, block))
        else:
            back[name] = BF16.round(values)
    return back


@pytest.mark.parametrize("weights", saving.FORMATS_OF_WEIGHTS)
@pytest.mark.parametrize("block", [None, 7, 128])
@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("shard_bytes", [3000, 10**9])
def test_what_is_written_is_read(tmp_path, tensors, weights, block, copies, shard_bytes):
    write_folder(tmp_path / "m", TINY, tensors, weights, copies, shard_bytes, block)
    config, back = read_folder(tmp_path / "m")
    assert config == TINY
    assert list(back) == list(SHAPES)
    for name, values in wanted(tensors, weights, block or 8).items():
        np.testing.assert_array_equal(back[name], values, strict=True)
    opened = open_folder(tmp_path / "m")
    assert len(opened.copies) == 2 * copies
    for name, tensor in opened.copies.items():
        of = "lm_head.weight" if "head" in name else "model.embed_tokens.weight"
        np.testing.assert_array_equal(tensor.read(), back[of])


def test_formats_are_those_of_the_published_layout(tmp_path, tensors):
    write_folder(tmp_path, TINY, tensors, "fp8")
    kinds = {name: tensor.dtype for name, tensor in open_folder(tmp_path).stored.items()}
    at = "model.layers.1."
    for name in (
        "self_attn.q_a_proj",
        "self_attn.kv_b_proj",
        "mlp.experts.3.up_proj",
        "mlp.shared_experts.down_proj",
    ):
        assert kinds[f"{at}{name}.weight"] == "F8_E4M3"
        assert kinds[f"{at}{name}.weight_scale_inv"] == "F32"
    for name in ("model.embed_tokens", "lm_head", "model.norm", f"{at}mlp.gate", f"{at}input_layernorm"):
        assert kinds[f"{name}.weight"] == "BF16"
    assert kinds["model.layers.2.eh_proj.weight"] == kinds["model.layers.2.enorm.weight"] == "BF16"
    assert kinds[f"{at}mlp.gate.{BIAS}"] == "F32"
    table = json.loads((tmp_path / "config.json").read_text())
    assert table["torch_dtype"] == "bfloat16"
    assert table["quantization_config"] == {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [8, 8],
    }


@pytest.mark.parametrize(
    ("weights", "kinds", "says"),
    [
        ("float32", {"F32"}, "float32"),
        ("bfloat16", {"BF16", "F32"}, "bfloat16"),
    ],
)
def test_other_layouts_are_not_quantised(tmp_path, tensors, weights, kinds, says):
    write_folder(tmp_path, TINY, tensors, weights)
    opened = open_folder(tmp_path)
    assert {tensor.dtype for tensor in opened.stored.values()} == kinds
    assert (
        all(BIAS in name for name, tensor in opened.stored.items() if tensor.dtype == "F32")
        or says == "float32"
    )
    assert opened.config_table["torch_dtype"] == says
    assert "quantization_config" not in opened.config_table
    assert opened.block is None


def test_files_are_named_and_indexed_as_published(tmp_path, tensors):
    write_folder(tmp_path, TINY, tensors, "fp8", shard_bytes=4000)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    count = len(files)
    assert count > 3
    assert files == [f"model-{i:05d}-of-{count:06d}.safetensors" for i in range(1, count + 1)]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    sizes = 0
    for file in files:
        header = read_header(tmp_path / file)
        assert {index["weight_map"][name] for name in header.entries} == {file}
        held = sum(entry.end - entry.begin for entry in header.entries.values())
        assert held <= 4000 or len(header.entries) <= 2  # a tensor by itself, with its scales
        sizes += held
    assert index["metadata"]["total_size"] == sizes
    assert set(index["weight_map"]) == set(open_folder(tmp_path).stored)


@pytest.mark.parametrize("sizes", [(10**9, 4000), (4000, 10**9), (2000, 6000)])
def test_nothing_of_an_earlier_model_is_left(tmp_path, tensors, sizes):
    """A file that readers look for first, or an index, would win over the new one."""
    other = {name: values + 1 for name, values in tensors.items()}
    (tmp_path / "average.safetensors").write_bytes(b"another's")
    (tmp_path / "model-of-mine.safetensors").write_bytes(b"another's")
    write_folder(tmp_path, TINY, other, "bfloat16", shard_bytes=sizes[0])
    write_folder(tmp_path, TINY, tensors, shard_bytes=sizes[1])
    back = read_folder(tmp_path)[1]
    assert all(np.array_equal(back[name], tensors[name]) for name in SHAPES)
    kept = {path.name for path in tmp_path.iterdir()} - {path.name for path in open_folder(tmp_path).files}
    index = {"model.safetensors.index.json"} if sizes[1] < 10**9 else set()
    assert kept == {"config.json", "average.safetensors", "model-of-mine.safetensors"} | index


def test_the_index_comes_last(tmp_path, tensors, monkeypatch):
    """A writer that dies before it has named nothing that is not there."""
    written = []
    rename = type(tmp_path).replace
    monkeypatch.setattr(type(tmp_path), "replace", lambda a, b: (written.append(b.name), rename(a, b))[1])
    write_folder(tmp_path, TINY, tensors, shard_bytes=8000)
    assert written[-2:] == ["config.json", "model.safetensors.index.json"]
    assert len(written) == len(set(written)) == len(list(tmp_path.iterdir()))


@pytest.mark.parametrize("earlier", [8000, 10**9])
def test_half_a_model_over_another_is_none(tmp_path, tensors, earlier):
    """A function that fails in a late file leaves files of two models, and no index that joins them."""
    write_folder(tmp_path, TINY, tensors, shard_bytes=earlier)
    other = {name: values + 1 for name, values in tensors.items()}
    other["lm_head.weight"] = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        write_folder(tmp_path, TINY, other, shard_bytes=8000)
    with pytest.raises(CheckpointError, match=r"expected model.safetensors or .*, got neither"):
        open_folder(tmp_path)
    assert not list(tmp_path.glob(".*"))  # nothing partial either


# ---- sources -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", saving.FORMATS_OF_WEIGHTS)
def test_tensors_of_another_folder_and_functions_are_sources(tmp_path, tensors, weights):
    write_folder(tmp_path / "a", TINY, tensors, weights)
    stored = open_folder(tmp_path / "a").tensors
    sources = {n: stored[n] if i % 2 else (lambda n=n: stored[n].read()) for i, n in enumerate(SHAPES)}
    write_folder(tmp_path / "b", TINY, sources, weights)
    for name, values in read_folder(tmp_path / "a")[1].items():
        np.testing.assert_array_equal(open_folder(tmp_path / "b").tensors[name].read(), values)


def test_codes_in_the_same_blocks_are_taken_over(tmp_path, tensors):
    """Scales too, which another quantiser may have chosen otherwise."""
    write_folder(tmp_path / "a", TINY, tensors, "fp8")
    scale = open_folder(tmp_path / "a").tensors[PROJECTION].scale
    with scale.path.open("rb+") as file:
        file.seek(scale.offset)
        file.write((scale.read() * np.float32(2)).tobytes())
    source = open_folder(tmp_path / "a").tensors
    write_folder(tmp_path / "b", TINY, source, "fp8")
    came = open_folder(tmp_path / "b").tensors[PROJECTION]
    np.testing.assert_array_equal(came.raw(), source[PROJECTION].raw())
    np.testing.assert_array_equal(came.scale.read(), source[PROJECTION].scale.read())
    write_folder(tmp_path / "c", TINY, source, "fp8", block=4)  # other blocks: encoded anew
    assert open_folder(tmp_path / "c").tensors[PROJECTION].scale.shape == (10, 8)


def test_each_function_is_called_once_and_its_array_let_go(tmp_path):
    big = dataclasses.replace(TINY, vocab_size=5000, n_mtp_layers=0)  # two tensors of 800 KB
    called = []

    def make(name: str, shape: tuple[int, ...]) -> np.ndarray:
        called.append(name)
        return np.ones(shape, np.float32)

    shapes = big.tensor_shapes()
    sources = {name: (lambda name=name: make(name, shapes[name])) for name in shapes}
    tracemalloc.start()
    write_folder(tmp_path, big, sources)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert called == list(shapes)
    assert most < 1.5 * 5000 * 40 * 4


# ---- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "int8"}, "expected weights one of .*, got 'int8'"),
        ({"shard_bytes": 0}, "expected shard_bytes to be a whole number of at least 1, got 0"),
        ({"block": 0}, "expected block to be a whole number of at least 1, got 0"),
        ({"block": 2.5}, r"expected block to be a whole number of at least 1, got 2\.5"),
        ({"block": (64, 128)}, "expected block to be a whole number"),
    ],
)
def test_other_options_are_refused(tmp_path, tensors, options, said):
    with pytest.raises(ValueError, match=said):
        write_folder(tmp_path / "m", TINY, tensors, **options)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.norm.weight": np.zeros(9, "f")}, r"'model.norm.weight': expected \(40,\), got \(9,\)"),
        ({"model.q.weight": np.zeros(9, "f")}, "'model.q.weight': expected none of this name"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, tensors, change, said):
    with pytest.raises(ValueError, match=said):
        write_folder(tmp_path / "m", TINY, tensors | change)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("array", [np.zeros(9, "f"), np.zeros(40, "i4")])
def test_what_a_function_makes_is_checked(tmp_path, tensors, array):
    with pytest.raises(ValueError, match=r"'model.norm.weight': expected floating-point \(40,\), got"):
        write_folder(tmp_path, TINY, tensors | {"model.norm.weight": lambda: array})
    assert not any(tmp_path.iterdir())


def test_what_fp8_cannot_scale_is_named(tmp_path, tensors):
    bad = tensors[PROJECTION].copy()
    bad[3, 3] = np.nan
    with pytest.raises(ValueError, match=f"'{PROJECTION}': expected finite values"):
        write_folder(tmp_path, TINY, tensors | {PROJECTION: bad}, "fp8")


def test_a_folder_is_not_written_over_its_own_source(tmp_path, tensors):
    write_folder(tmp_path, TINY, tensors)
    with pytest.raises(ValueError, match="expected another folder than the tensors are read from"):
        write_folder(tmp_path, TINY, open_folder(tmp_path).tensors, "bfloat16")
    assert read_folder(tmp_path)[0] == TINY


# ---- blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "block"),
    [
        ({}, 8),
        ({"fp8_block": 16}, 8),  # 40 and 24 are no multiples of 16, but of 8
        ({"fp8_block": 128}, 128),  # one block holds any of them
        ({"fp8_block": 4}, 4),
        ({"fp8_block": 7}, 7),
        ({"dim": 36, "fp8_block": 16}, 16),  # 36 is a multiple of 4 at most
    ],
)
def test_the_block_is_the_largest_that_leaves_no_edge(changes, block):
    assert default_block(dataclasses.replace(TINY, **changes)) == block


def test_presets_are_written_in_whole_blocks():
    for name in ("nano", "mini", "v3", "moonlight"):
        config = ModelConfig.preset(name)
        block = default_block(config)
        shapes = config.tensor_shapes()
        sides = {side for key, shape in shapes.items() if is_fp8_weight(key, shape) for side in shape}
        assert all(side <= block or side % block == 0 for side in sides)


def test_a_model_is_saved_in_every_format(tmp_path):
    model = Model.initialise(TINY, seed=0)
    for weights in saving.FORMATS_OF_WEIGHTS:
        model.save(tmp_path / weights, weights=weights)
        back = Model.load(tmp_path / weights)
        assert back.config == TINY
        tokens = np.arange(8).reshape(2, 4)
        assert np.abs(back.logits(tokens) - model.logits(tokens)).max() < 0.05
    model.save(tmp_path / "published", weights="fp8", block=128)
    assert open_folder(tmp_path / "published").block == (128, 128)
