"""Synthetic folders: the published layout to the unit, reproducible numbers, holes that take no disk."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.checkpoint import open_folder, read_folder
from minidsv3.checkpoint.inspect import inspect_checkpoint
from minidsv3.checkpoint.shards import Slot, check_room, in_files, pack
from minidsv3.checkpoint.synthesise import files_of, layout, synthesise
from minidsv3.config import ModelConfig
from minidsv3.interpreter import Model

NANO = ModelConfig.preset("nano", n_layers=2, n_mtp_layers=1)
V2_LIKE = ModelConfig.preset(
    "nano", n_layers=2, n_mtp_layers=0, q_lora_rank=0, score_func="softmax", norm_topk_prob=False,
    topk_method="group_limited_greedy",
)  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


@pytest.mark.slow
def test_the_whole_of_v3_is_as_published(tmp_path: Path) -> None:
    config = ModelConfig.preset("v3")
    try:
        check_room(tmp_path, 50_000_000, 1)
    except OSError:
        pytest.skip("no room on this disk")
    if shutil.disk_usage(tmp_path).total < 10**12 and disk_of_a_hole(tmp_path) > 10**6:
        pytest.skip("this disk has no holes")
    made = synthesise(tmp_path / "v3", config, fill="none")
    assert made[:3] == (91_991, 684_531_386_000, 688_574_839_360)
    assert (made.written, made.files) == (0, 163)
    assert disk(tmp_path / "v3") < 40_000_000
    index = json.loads((tmp_path / "v3" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 688_574_839_360
    places = {name: int(file[6:11]) for name, file in index["weight_map"].items()}
    assert set(places.values()) == set(range(1, 164))
    assert places["model.embed_tokens.weight"] == places["model.layers.2.mlp.up_proj.weight"] == 1
    assert places["model.layers.3.input_layernorm.weight"] == 2
    assert places["lm_head.weight"] == places["model.norm.weight"] == 160
    for name in ("eh_proj", "enorm", "hnorm", "embed_tokens", "shared_head.norm", "shared_head.head"):
        assert places[f"model.layers.61.{name}.weight"] == 163
    folder = open_folder(tmp_path / "v3")
    assert folder.block == (128, 128)
    kv_a = folder.tensors["model.layers.60.self_attn.kv_a_proj_with_mqa.weight"]
    assert (kv_a.dtype, kv_a.shape) == ("F8_E4M3", (576, 7168))
    assert kv_a.scale is not None
    assert kv_a.scale.shape == (5, 56)
    for name, dtype in {"eh_proj.weight": "BF16", "mlp.gate.weight": "BF16", "embed_tokens.weight": "BF16",
                        "mlp.gate.e_score_correction_bias": "F32"}.items():  # fmt: skip
        assert folder.stored[f"model.layers.61.{name}"].dtype == dtype


def disk_of_a_hole(folder: Path) -> int:
    path = folder / "hole"
    with path.open("wb") as file:
        file.truncate(1 << 24)
    taken = path.stat().st_blocks * 512
    path.unlink()
    return taken


def test_files_have_published_names(tmp_path: Path) -> None:
    synthesise(tmp_path / "three", NANO, files=3)
    assert sorted(files(tmp_path / "three")) == [
        "config.json",
        *(f"model-0000{i}-of-000003.safetensors" for i in (1, 2, 3)),
        "model.safetensors.index.json",
    ]
    sizes = [path.stat().st_size for path in (tmp_path / "three").glob("*.safetensors")]
    assert max(sizes) < 1.5 * min(sizes)


@pytest.mark.parametrize("weights", ["fp8", "bf16", "fp32"])
def test_a_seed_gives_the_same_bytes(weights: str, tmp_path: Path) -> None:
    for name, seed in {"a": 5, "b": 5, "c": 6}.items():
        synthesise(tmp_path / name, NANO, weights, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_numbers_do_not_depend_on_files_or_fill(tmp_path: Path) -> None:
    synthesise(tmp_path / "one", NANO)
    synthesise(tmp_path / "many", NANO, files=9, fill="always", mtp_copies=False)
    one, many = open_folder(tmp_path / "one").stored, open_folder(tmp_path / "many").stored
    holes = 0
    for name, tensor in many.items():
        expert = name.split(".mlp.experts.")[1:]
        if expert and int(expert[0].split(".")[0]) >= NANO.n_activated_experts:
            assert not tensor.raw().any()
            holes += 1
        else:
            assert tensor.raw().tobytes() == one[name].raw().tobytes()
    assert holes == 2 * 3 * 2 * (16 - 4)  # codes and scales of three weights in two layers


@pytest.mark.parametrize("weights", ["fp8", "bf16", "fp32"])
@pytest.mark.parametrize("model", [NANO, V2_LIKE], ids=["v3", "v2"])
def test_a_small_model_is_sane(model: ModelConfig, weights: str, tmp_path: Path) -> None:
    synthesise(tmp_path / "m", model, weights, seed=1)
    assert inspect_checkpoint(tmp_path / "m", verify=True).ok  # the copies too
    config, tensors = read_folder(tmp_path / "m")
    assert config == model
    for name, values in tensors.items():
        if name.endswith("norm.weight"):
            assert 0.8 < values.mean() < 1.2
        elif values.ndim == 2 and values.size > 1000:
            assert 0.8 < values.std() / NANO.initializer_range < 1.25
            assert abs(values.mean()) < 0.1 * NANO.initializer_range
        elif name.endswith("bias"):
            assert 0 < np.abs(values).max() < 0.1
    scales = [tensor.scale.read() for tensor in open_folder(tmp_path / "m").tensors.values() if tensor.scale]
    assert all(len(np.unique(scale)) == scale.size for scale in scales if 1 < scale.size < 9)
    logits = Model.load(tmp_path / "m").logits(np.array([[5, 6, 7, 8]]))
    assert np.isfinite(logits).all()
    assert 0.01 < logits.std() < 100
    assert len(np.unique(logits.argmax(-1))) > 1


def test_experts_differ(tmp_path: Path) -> None:
    synthesise(tmp_path / "m", NANO)
    stored = open_folder(tmp_path / "m").stored
    seen = {tensor.raw().tobytes() for name, tensor in stored.items() if ".experts." in name}
    assert len(seen) == sum(".experts." in name for name in stored)


@pytest.mark.parametrize("preset", ["moonlight", "v2", "v2-lite", "mini", "v3"])
def test_every_preset_has_a_layout_of_its_counts(preset: str) -> None:
    config = ModelConfig.preset(preset)
    counts, slots = config.parameter_counts(), layout(config, "fp8")
    assert len(slots) == counts["checkpoint_tensors"]
    assert sum(slot.elements for slot in slots.values()) == counts["checkpoint"]
    assert sum(slot.nbytes for slot in slots.values()) == counts["checkpoint_bytes"]


@given(st.integers(1, 40), st.sampled_from(["fp8", "bf16"]))
@settings(max_examples=20)
def test_every_tensor_is_in_one_file_beside_its_scale(count: int, weights: str) -> None:
    slots = layout(NANO, weights)
    shards = files_of(NANO, slots, count)
    assert len(shards) == count
    assert all(shard.slots for shard in shards)
    assert {name: slot for shard in shards for name, slot in shard.slots.items()} == slots
    assert sum(len(shard.slots) for shard in shards) == len(slots)
    for shard in shards:
        assert all(name.removesuffix("_scale_inv") in shard.slots for name in shard.slots)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 100))
def test_packing(sizes: list[int], most: int) -> None:
    slots = {f"t{i}": Slot("U8", (size,)) for i, size in enumerate(sizes)}
    groups = pack(slots, most)
    assert [name for group in groups for name in group] == list(slots)
    for group in groups:
        assert len(group) == 1 or sum(slot.nbytes for slot in group.values()) <= most
    assert [shard.size for shard in in_files(groups)] == [
        len(shard.header) + shard.data_bytes for shard in in_files(groups)
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fill": "some"}, "fill one of ('all', 'always', 'none'), got 'some'"),
        ({"weights": "int4"}, "weights one of ('fp8', 'bf16', 'fp32'), got 'int4'"),
        ({"seed": -1}, "a seed >= 0, got -1"),
        ({"files": 0}, "got 0"),
        ({"files": 10_000}, "got 10000"),
    ],
)
def test_bad_requests(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        synthesise(tmp_path / "m", NANO, **options)  # type: ignore[arg-type]
    assert message in str(refused.value)
    assert not (tmp_path / "m").exists()


def test_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(ValueError, match="which holds something"):
        synthesise(tmp_path, NANO)


def test_a_disk_that_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="bytes free on this disk, got") as refused:
        synthesise(tmp_path / "m", ModelConfig.preset("nano", vocab_size=10**12))
    assert "expected 1,024,0" in str(refused.value)  # 10^12 rows of 128 in BF16, four times
    assert not list((tmp_path / "m").iterdir())
