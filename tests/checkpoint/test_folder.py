"""Model folders: what is written is read; what does not fit is refused, with its name."""

import dataclasses
import json

import numpy as np
import pytest

from minidsv3.checkpoint import read_folder, read_safetensors, write_folder, write_safetensors
from minidsv3.config import ModelConfig

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
