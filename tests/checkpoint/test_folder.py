"""Model folders: what is written is read; what does not fit is refused, with its name."""

import dataclasses
import json
import re
import time

import numpy as np
import pytest
from checkpoint.oracle import by_oracle

from minidsv3.checkpoint import (
    CheckpointError,
    Coded,
    open_folder,
    read_folder,
    read_safetensors,
    safetensors,
    saving,
    to_hugging_face,
    write_folder,
    write_safetensors,
)
from minidsv3.checkpoint.header import CODED
from minidsv3.checkpoint.quantisation_config import quantization_config
from minidsv3.config import ModelConfig
from minidsv3.numerics import E5M2

TINY = ModelConfig(
    vocab_size=11,
    dim=8,
    inter_dim=6,
    moe_inter_dim=4,
    n_layers=2,
    n_dense_layers=1,
    n_heads=2,
    n_routed_experts=4,
    n_shared_experts=1,
    n_activated_experts=2,
    n_expert_groups=2,
    n_limited_groups=1,
    route_scale=2.5,
    kv_lora_rank=3,
    qk_nope_head_dim=2,
    qk_rope_head_dim=2,
    v_head_dim=3,
    q_lora_rank=4,
    n_mtp_layers=1,
)


def tensors_of(config: ModelConfig) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {name: draw.standard_normal(shape, np.float32) for name, shape in config.tensor_shapes().items()}


@pytest.fixture
def folder(tmp_path):
    """A sound folder, to be damaged."""
    write_folder(tmp_path / "model", TINY, tensors_of(TINY))
    return tmp_path / "model"


def rewrite(folder, **changes) -> None:
    """Change fields of config.json; `...` takes one out."""
    table = json.loads((folder / "config.json").read_text()) | changes
    table = {name: value for name, value in table.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(table))


def shard(folder, changes=None) -> None:
    """Spread the weights over two files and an index, alternating."""
    tensors = read_safetensors(folder / "model.safetensors")
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    weight_map = {name: files[i % 2] for i, name in enumerate(tensors)}
    for file in files:
        write_safetensors(
            folder / file, {name: tensors[name] for name in tensors if weight_map[name] == file}
        )
    (folder / "model.safetensors").unlink()
    table = {"metadata": {"total_size": 0}, "weight_map": weight_map | (changes or {})}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))


@pytest.mark.parametrize("copies", [False, True])
def test_what_is_written_is_read(tmp_path, copies):
    tensors = tensors_of(TINY)
    write_folder(tmp_path / "a" / "b", TINY, tensors, mtp_copies=copies)
    stored = read_safetensors(tmp_path / "a" / "b" / "model.safetensors")
    assert len(stored) == len(tensors) + 2 * copies
    config, back = read_folder(tmp_path / "a" / "b")
    assert config == TINY
    assert list(back) == list(TINY.tensor_shapes())
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)
    assert not any(array.flags.owndata for array in back.values())


def test_shards_are_read(folder):
    whole = read_folder(folder)[1]
    shard(folder)
    parts = read_folder(folder)[1]
    assert list(parts) == list(whole)
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


def test_modules_announced_but_not_stored_are_left_out(tmp_path):
    plain = dataclasses.replace(TINY, n_mtp_layers=0)
    write_folder(tmp_path, plain, tensors_of(plain))
    rewrite(tmp_path, num_nextn_predict_layers=1)
    assert read_folder(tmp_path)[0] == plain


# ── config.json, which test_config_json.py reads closely ──


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"a": 1, "a": 2}', b"[" * 10**5])
def test_a_config_that_is_no_object_is_refused(folder, text):
    (folder / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"config\.json: expected"):
        read_folder(folder)


def test_sizes_beyond_what_is_stored_are_refused_before_they_are_listed(folder):
    for change in ({"num_hidden_layers": 10**12}, {"n_routed_experts": 10**12}):
        rewrite(folder, **change)
        with pytest.raises(ValueError, match=r"expected over .* got"):
            read_folder(folder)


# ── tensors ──


def damage(folder, change) -> None:
    tensors = dict(read_safetensors(folder / "model.safetensors"))
    change(tensors)
    write_safetensors(folder / "model.safetensors", tensors)


NORM = "model.norm.weight"
HEAD_COPY = "model.layers.2.shared_head.head.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(NORM), r"missing 'model\.norm\.weight'"),
        (
            lambda t: t.update({NORM: np.zeros(9, "f")}),
            r"'model\.norm\.weight': expected .*\(8,\), got F32 \(9,\)",
        ),
        (lambda t: t.update({NORM: np.zeros(8, "i4")}), "expected floating-point"),
        (lambda t: t.update({"model.q.weight": np.zeros(9, "f")}), r"'model\.q\.weight': expected none"),
        (lambda t: t.update({HEAD_COPY: np.zeros((8, 11), "f")}), r"shared_head\.head\.weight': expected"),
        (lambda t: [t.pop(name) for name in list(t) if "experts.1" in name], "missing .* and 3 more"),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder, change, said):
    damage(folder, change)
    with pytest.raises(ValueError, match=said):
        read_folder(folder)


def test_stored_frequencies_are_dropped(folder):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    damage(folder, lambda tensors: tensors.update({name: np.zeros(1, "f")}))
    assert name not in read_folder(folder)[1]


def test_tensors_that_do_not_fit_are_not_written(tmp_path):
    tensors = tensors_of(TINY)
    del tensors[NORM]
    with pytest.raises(ValueError, match="missing"):
        write_folder(tmp_path / "x", TINY, tensors)
    assert not (tmp_path / "x").exists()


# ── files ──


def test_a_folder_without_config_is_refused(tmp_path):
    for path, why in ((tmp_path, "no such file in it"), (tmp_path / "none", "no such folder")):
        with pytest.raises(ValueError, match=f"expected a model folder with config.json, got .*{why}"):
            read_folder(path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt"])
def test_a_pickle_is_refused_by_name(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ValueError, match=f"{name}, a pickle, which is never opened"):
        read_folder(folder)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..", "", "a\\b.safetensors"]
)
def test_an_index_never_leads_out_of_the_folder(folder, name):
    (folder.parent / "x.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    shard(folder, {NORM: name})
    with pytest.raises(ValueError, match=r"expected (the bare name|names of .safetensors)"):
        read_folder(folder)


def test_links_lead_nowhere_but_into_the_hubs_cache(folder, tmp_path):
    blobs, revision = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "1a2b"
    blobs.mkdir(parents=True)
    revision.mkdir(parents=True)
    for file in folder.iterdir():
        file.rename(blobs / file.name)
        (revision / file.name).symlink_to(f"../../blobs/{file.name}")
        (folder / file.name).symlink_to(blobs / file.name)
    assert read_folder(revision)[0] == TINY
    with pytest.raises(ValueError, match="got a link out of it"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.none": "model-00001-of-00002.safetensors"}, "expected tensor 'model.none'"),
        ({NORM: "model-00003-of-00002.safetensors"}, "expected a(?: safetensors file| model)|expected in"),
        ({NORM: 3}, "expected weight_map"),
        ({NORM: "model.bin"}, "expected names of .safetensors files, got 'model.bin'"),
    ],
)
def test_an_index_that_lies_is_refused(folder, changes, said):
    shard(folder, changes)
    with pytest.raises(ValueError, match=said):
        read_folder(folder)


def test_a_tensor_in_two_shards_is_refused(folder):
    shard(folder)
    for file in folder.glob("model-*"):
        write_safetensors(file, {**read_safetensors(file), NORM: np.zeros(8, "f")})
    with pytest.raises(ValueError, match=r"'model\.norm\.weight': expected in model-0000"):
        read_folder(folder)


# ── FP8 ──

PROJECTION = "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"
SCALES = f"{PROJECTION}_scale_inv"


@pytest.fixture
def fp8(tmp_path):
    """A sound FP8 folder whose scales are all in another file than their weights, to be damaged."""
    write_folder(tmp_path / "one", TINY, tensors_of(TINY), "fp8", block=3)
    return spread(tmp_path / "model", tmp_path / "one", lambda name: name.endswith("_scale_inv"))


def spread(folder, source, apart, change=lambda tensors: None):
    """Write the tensors of a folder into two files, those `apart` into the second, after a change."""
    opened = open_folder(source, check=False)
    tensors = {name: coded(stored) for name, stored in opened.stored.items()}
    change(tensors)
    files = ["model-00001-of-000002.safetensors", "model-00002-of-000002.safetensors"]
    weight_map = {name: files[apart(name)] for name in tensors}
    folder.mkdir()
    for file in files:
        write_safetensors(folder / file, {n: tensors[n] for n in tensors if weight_map[n] == file})
    (folder / "config.json").write_text(json.dumps(opened.config_table))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def coded(stored):
    return Coded(stored.raw(), stored.dtype) if stored.dtype in CODED else stored.raw()


def test_scales_in_another_file_are_found(fp8):
    config, tensors = read_folder(fp8)
    assert config == TINY
    for name, stored in open_folder(fp8).tensors.items():
        if stored.dtype == "F8_E4M3":
            assert stored.path != stored.scale.path
            assert stored.block == (3, 3)
            wanted = by_oracle(stored.raw(), stored.scale.raw(), (3, 3))
            np.testing.assert_array_equal(tensors[name].view(np.uint32), wanted)
    assert not any(array.flags.writeable for array in tensors.values())


def test_a_folder_tells_what_is_in_it(fp8):
    opened = open_folder(fp8)
    assert list(opened.tensors) == list(TINY.tensor_shapes())
    assert set(opened.stored) - set(opened.tensors) == {n for n in opened.stored if n.endswith("_scale_inv")}
    assert [file.name[:11] for file in opened.files] == ["model-00001", "model-00002"]
    assert (opened.path, opened.block, opened.copies) == (fp8, (3, 3), {})
    assert opened.config_table["quantization_config"]["weight_block_size"] == [3, 3]
    assert not list(opened.problems())


BROKEN = {
    "no scale": (lambda t: t.pop(SCALES), f"'{PROJECTION}': expected a scale, '{SCALES}', got none"),
    "a scale of another shape": (
        lambda t: t.update({SCALES: np.ones((3, 2), "f")}),
        rf"'{SCALES}': expected F32 or BF16 \(2, 3\), .* blocks of \(3, 3\) of \(5, 8\), got F32 \(3, 2\)",
    ),
    "a scale of integers": (
        lambda t: t.update({SCALES: np.ones((2, 3), "i4")}),
        rf"'{SCALES}': expected F32 or BF16 \(2, 3\), .* got I32",
    ),
    "a scale of nothing": (
        lambda t: t.update({f"{NORM}_scale_inv": np.ones((1, 1), "f")}),
        rf"'{NORM}_scale_inv': expected an FP8 weight '{NORM}', which it scales, got none",
    ),
    "a scale of BF16": (
        lambda t: t.update({PROJECTION: Coded(np.zeros((5, 8), "u2"), "BF16")}),
        f"'{SCALES}': expected an FP8 weight '{PROJECTION}', which it scales, got none",
    ),
    "FP8 that is no matrix": (
        lambda t: t.update({NORM: Coded(np.zeros(8, "u1"), "F8_E4M3"), f"{NORM}_scale_inv": np.ones(1, "f")}),
        rf"'{NORM}': expected a matrix, as FP8 weights are, got \(8,\)",
    ),
    "codes of another format": (
        lambda t: t.update({PROJECTION: np.zeros((5, 8), "u1")}),
        rf"'{PROJECTION}': expected floating-point \(5, 8\), got U8",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_scales_that_do_not_fit_are_named(fp8, tmp_path, what):
    change, said = BROKEN[what]
    broken = spread(tmp_path / "broken", fp8, lambda name: name.endswith("_scale_inv"), change)
    with pytest.raises(CheckpointError, match=said):
        open_folder(broken)
    problems = list(open_folder(broken, check=False).problems())
    assert any(re.search(said, problem) for problem in problems)


def test_all_that_does_not_fit_is_told(fp8, tmp_path):
    def change(tensors) -> None:
        BROKEN["no scale"][0](tensors)
        BROKEN["a scale of nothing"][0](tensors)
        tensors["model.q.weight"] = np.zeros(3, "f")
        del tensors["lm_head.weight"]

    opened = open_folder(spread(tmp_path / "broken", fp8, lambda name: False, change), check=False)
    said = "\n".join(opened.problems())
    for part in (
        f"'{SCALES}', got none",
        f"'{NORM}_scale_inv'",
        "'model.q.weight'",
        "missing 'lm_head",
    ):
        assert part in said
    with pytest.raises(CheckpointError, match="expected a scale"):
        opened.tensors[PROJECTION].read()
    assert list(opened.tensors)[-2:] == [f"{NORM}_scale_inv", "model.q.weight"]  # unknown ones come last


def test_fp8_without_quantization_config_is_refused(fp8):
    rewrite(fp8, quantization_config=...)
    with pytest.raises(
        CheckpointError, match=r"\.weight': expected quantization_config in config.json, .* got none"
    ):
        open_folder(fp8)


@pytest.mark.parametrize("block", [[4, 3], [128, 128]])
def test_blocks_of_another_size_are_refused(fp8, block):
    rewrite(fp8, quantization_config={"quant_method": "fp8", "weight_block_size": block})
    with pytest.raises(CheckpointError, match="_scale_inv': expected F32 or BF16"):
        open_folder(fp8)


def test_a_quantised_folder_may_hold_plain_weights(fp8, tmp_path):
    def change(tensors) -> None:
        del tensors[SCALES]
        tensors[PROJECTION] = np.full((5, 8), 2, "f")

    mixed = spread(tmp_path / "mixed", fp8, lambda name: name < PROJECTION, change)
    assert (read_folder(mixed)[1][PROJECTION] == 2).all()


def test_e5m2_weights_are_read(fp8, tmp_path):
    codes = np.random.default_rng(0).integers(0, 0x7C, (5, 8)).astype(np.uint8)
    change = {PROJECTION: Coded(codes, "F8_E5M2")}
    other = spread(tmp_path / "other", fp8, lambda name: False, lambda tensors: tensors.update(change))
    stored = open_folder(other).tensors[PROJECTION]
    wanted = by_oracle(codes, stored.scale.raw(), (3, 3), E5M2)
    np.testing.assert_array_equal(stored.read().view(np.uint32), wanted)


def test_nan_in_a_scale_is_named_when_it_is_read(fp8, tmp_path):
    scale = np.ones((2, 3), np.float32)
    scale[1, 2] = np.nan
    change = {SCALES: scale}
    broken = spread(tmp_path / "x", fp8, lambda name: False, lambda tensors: tensors.update(change))
    with pytest.raises(
        CheckpointError, match=rf"'{SCALES}': expected scales from 0 .* got nan at row 1, column 2"
    ):
        read_folder(broken)


# ── size ──


@pytest.mark.slow
def test_the_published_number_of_tensors_opens_in_seconds(tmp_path):
    """V3's 91,991 names in 163 files, without the 689 GB: files whose data is a hole."""
    config = ModelConfig.preset("v3")
    entries = list(saving._entries(config, dict.fromkeys(config.tensor_shapes()), "fp8", True, (128, 128)))
    count = 163
    bounds = [len(entries) * i // count for i in range(count + 1)]
    names, weight_map = saving.file_names(count), {}
    for i, file in enumerate(names):
        slots = {name: later for entry in entries[bounds[i] : bounds[i + 1]] for name, later in entry.items()}
        header, size = {}, 0
        for name, entry in safetensors._places(slots).items():
            header[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": entry[2:]}
            size = entry.end
        text = json.dumps(header).encode()
        with (tmp_path / file).open("wb") as holes:
            holes.write(len(text).to_bytes(8, "little") + text)
            holes.truncate(8 + len(text) + size)
        weight_map |= dict.fromkeys(slots, file)
    table = to_hugging_face(config) | {"quantization_config": quantization_config((128, 128))}
    (tmp_path / "config.json").write_text(json.dumps(table))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    began = time.process_time()
    opened = open_folder(tmp_path)
    assert len(opened.tensors) + len(opened.copies) == 46_183
    assert time.process_time() - began < 12  # 2 to 4 where nothing else runs
    assert len(opened.stored) == 91_991
    assert sum(tensor.nbytes for tensor in opened.stored.values()) == 688_574_839_360
    narrow = opened.tensors["model.layers.60.self_attn.kv_a_proj_with_mqa.weight"]
    assert (narrow.shape, narrow.scale.shape) == ((576, 7168), (5, 56))
    assert not narrow.read(slice(500, 576)).any()
