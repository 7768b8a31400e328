"""What is wrong with a folder is named: the file, the tensor, what was expected and what came."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minidsv3.checkpoint import CheckpointError, open_folder
from minidsv3.checkpoint.inspect import Inspection, inspect_checkpoint, part_of
from minidsv3.checkpoint.safetensors import Coded, SafetensorsFile, Source, write_safetensors
from minidsv3.checkpoint.synthesise import synthesise
from minidsv3.config import ModelConfig

SMALL = ModelConfig.preset(
    "nano", dim=18, inter_dim=27, moe_inter_dim=11, n_layers=2, n_heads=2, qk_nope_head_dim=8,
    qk_rope_head_dim=8, v_head_dim=8, q_lora_rank=8, kv_lora_rank=13, vocab_size=32, n_routed_experts=8,
    n_mtp_layers=1, fp8_block=8,
)  # fmt: skip
UP = "model.layers.0.mlp.up_proj.weight"
SCALE = f"{UP}_scale_inv"
GATE = "model.layers.1.mlp.gate.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole FP8 folder in one file."""
    folder = tmp_path_factory.mktemp("good") / "model"
    synthesise(folder, SMALL, seed=1)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(good, tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, change: Callable[[dict[str, Source]], object]) -> None:
    """Write the weights anew with some of them changed."""
    path = folder / "model.safetensors"
    tensors: dict[str, Source] = {}
    file = SafetensorsFile(path)
    for name, entry in file.header.entries.items():
        codes = np.array(file.stored(name))
        tensors[name] = codes if entry.dtype == "F32" else Coded(codes, entry.dtype)
    change(tensors)
    write_safetensors(folder / "new.safetensors", tensors)
    (folder / "new.safetensors").replace(path)


def codes_of(tensors: dict[str, Source], name: str) -> np.ndarray:  # type: ignore[type-arg]
    source = tensors[name]
    return source.codes if isinstance(source, Coded) else source  # type: ignore[return-value]


def found_in(folder: Path, verify: bool = False) -> list[tuple[str, str]]:
    return [(finding.kind, finding.tensor) for finding in inspect_checkpoint(folder, verify).findings]


# ---- what is right ----------------------------------------------------------------------------------------


def test_a_good_folder(good: Path) -> None:
    found = inspect_checkpoint(good, verify=True)
    assert (found.ok, found.verified, found.layout) == (True, True, "hugging-face")
    counts = SMALL.parameter_counts()
    parts = {row.part: row for row in found.parts}
    assert all(row.elements == row.expected for row in found.parts if row.expected is not None)
    assert parts["scales"].elements == counts["scales"]
    assert parts["MTP copies"].elements == 2 * 32 * 18
    assert found.totals["main"] == counts["total"]
    assert found.totals["elements"] == counts["checkpoint"]
    assert found.totals["tensors"] == counts["checkpoint_tensors"]
    assert found.totals["bytes"] == counts["checkpoint_bytes"]
    assert parts["attention"].dtypes == ("F8_E4M3",)
    json.dumps(found.to_dict())


@pytest.mark.parametrize("preset", ["v3", "v2", "v2-lite", "moonlight"])
def test_parts_are_the_configs(preset: str) -> None:
    """Every tensor of a published model belongs to one part, and parts are counted as the config counts."""
    import math

    config = ModelConfig.preset(preset)
    sums: dict[str, int] = {}
    for name, shape in config.tensor_shapes().items():
        part = part_of(name, config.n_layers)
        sums[part] = sums.get(part, 0) + math.prod(shape)
    counts = config.parameter_counts()
    assert sums.get("MTP own", 0) == counts["mtp"]
    assert sums["routed experts"] == counts["routed"]
    assert sums["attention"] == counts["attention"]
    assert "unknown" not in sums


def test_one_file(good: Path) -> None:
    found = inspect_checkpoint(good / "model.safetensors", verify=True)
    assert (found.ok, found.config, found.layout) == (True, None, "file")
    assert found.totals["elements"] == SMALL.parameter_counts()["checkpoint"]


def test_tensors_are_listed_by_pattern(good: Path) -> None:
    found = inspect_checkpoint(good)
    assert len(found.listed()) == found.totals["tensors"]
    (row,) = found.listed(SCALE)
    assert row == {
        "name": SCALE,
        "dtype": "F32",
        "shape": [4, 3],
        "bytes": 48,
        "files": ["model.safetensors"],
    }
    assert {row["name"] for row in found.listed("*.mlp.gate.*")} == {
        f"model.layers.{layer}.mlp.gate.{name}"
        for layer in (1, 2)
        for name in ("weight", "e_score_correction_bias")
    }
    assert found.listed("nothing") == []


# ---- what is wrong and named ------------------------------------------------------------------------------


def drop(name: str) -> Callable[[dict[str, Source]], object]:
    return lambda tensors: tensors.pop(name)


def put(name: str, source: Source) -> Callable[[dict[str, Source]], object]:
    return lambda tensors: tensors.update({name: source})


@pytest.mark.parametrize(
    ("change", "kind", "name", "said"),
    [
        (drop(GATE), "missing", GATE, "expected [8, 18], got none"),
        (drop(SCALE), "missing", SCALE, "a scale for each block of [8, 8] of its FP8 weight, got none"),
        (put("model.layers.0.mlp.extra.weight", np.ones(3, "f")), "extra", "model.layers.0.mlp.extra.weight",
         "expected none of this name by config.json, got F32 [3]"),
        (put("stray_scale_inv", np.ones((1, 1), "f")), "extra", "stray_scale_inv", "an FP8 weight that it"),
        (put(GATE, np.ones((8, 17), "f")), "shape", GATE, "expected [8, 18] by config.json, got F32 [8, 17]"),
        (put(GATE, np.ones((8, 18), "i4")), "dtype", GATE, "floating-point [8, 18], got I32 [8, 18]"),
        (put(SCALE, np.ones((4, 4), "f")), "scale", SCALE, "F32 [4, 3], a scale for each block of [8, 8]"),
        (put(SCALE, np.ones((4, 3), "f8")), "scale", SCALE, "got F64 [4, 3]"),
        (put("model.norm.weight", Coded(np.full(18, 56, np.uint8), "F8_E4M3")), "dtype", "model.norm.weight",
         "a matrix, as FP8 weights are, got [18]"),
    ],
    ids=str,
)  # fmt: skip
def test_findings(
    change: Callable[[dict[str, Source]], object], kind: str, name: str, said: str, folder: Path
) -> None:
    rewrite(folder, change)
    found = inspect_checkpoint(folder)
    (finding,) = found.findings
    assert (finding.kind, finding.tensor) == (kind, name)
    assert said in str(finding)
    assert str(folder) in finding.file
    assert not found.ok


def test_fp8_without_quantization_config(folder: Path) -> None:
    change_config(folder, quantization_config=None)
    kinds = {kind for kind, _ in found_in(folder)}
    assert kinds == {"scale"}


def change_config(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"vocab_size": 33}, "shape"),
        ({"num_hidden_layers": 4}, "missing"),
        ({"n_routed_experts": 4, "n_group": 2}, "extra"),
    ],
)
def test_a_config_that_does_not_match(fields: dict[str, object], kind: str, folder: Path) -> None:
    change_config(folder, **fields)
    assert kind in {found for found, _ in found_in(folder)}


def test_a_config_of_far_more_tensors(folder: Path) -> None:
    change_config(folder, n_routed_experts=4 * 10**6)
    with pytest.raises(CheckpointError, match="expected over 24000003 tensors"):
        inspect_checkpoint(folder)


def test_mtp_announced_and_not_there(folder: Path) -> None:
    def without(tensors: dict[str, Source]) -> None:
        for name in [name for name in tensors if name.startswith("model.layers.2.")]:
            del tensors[name]

    rewrite(folder, without)
    found = inspect_checkpoint(folder)
    assert found.ok
    assert found.notes == ["config.json announces MTP modules (1), the files hold none"]


# ---- numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (UP, 0x7F, "finite numbers, got 1 that are not, the first 0x7f at [3, 2]"),
        (UP, 0xFF, "the first 0xff at [3, 2]"),
        (SCALE, np.nan, "finite scales >= 0, got 1 that are not, the first nan at [3, 2]"),
        (SCALE, np.inf, "the first inf at [3, 2]"),
        (SCALE, -1.0, "the first -1.0 at [3, 2]"),
        (GATE, 0x7F80, "the first 0x7f80 at [3, 2]"),
    ],
)
def test_numbers_that_are_none(name: str, value: float, said: str, folder: Path) -> None:
    def damage(tensors: dict[str, Source]) -> None:
        codes_of(tensors, name)[3, 2] = value

    rewrite(folder, damage)
    assert inspect_checkpoint(folder).ok  # not looked at
    (finding,) = inspect_checkpoint(folder, verify=True).findings
    assert (finding.kind, finding.tensor) == ("numbers", name)
    assert said in str(finding)


def test_copies_that_are_none(folder: Path) -> None:
    head = "model.layers.2.shared_head.head.weight"

    def damage(tensors: dict[str, Source]) -> None:
        codes_of(tensors, head)[:2, :3] ^= 1

    rewrite(folder, damage)
    assert found_in(folder) == []
    (finding,) = inspect_checkpoint(folder, verify=True).findings
    assert finding[:4] == ("copy", head, "the numbers of 'lm_head.weight'", "6 others")


def test_an_empty_tensor_of_many_rows_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "empty.safetensors"
    write_safetensors(path, {"none": np.empty((0, 5), "f"), "number": np.array(2.0, "f")})
    path.write_bytes(path.read_bytes().replace(b"[0,5]", b"[" + b"9" * 15 + b",0]").replace(b" ", b""))
    text = path.read_bytes()[8:-4]
    path.write_bytes(len(text).to_bytes(8, "little") + text + path.read_bytes()[-4:])
    found = inspect_checkpoint(path, verify=True)
    assert found.tensors["none"].shape == (10**15 - 1, 0)
    assert found.ok


def test_progress_counts_every_byte(good: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    found = inspect_checkpoint(good, verify=True, progress=lambda *now: seen.append(now))
    assert seen[-1][:2] == (found.totals["bytes"], found.totals["bytes"])


# ---- what cannot be read ----------------------------------------------------------------------------------


def index(folder: Path, weight_map: dict[str, str]) -> None:
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def long_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes((10**15).to_bytes(8, "little") + path.read_bytes()[8:])


def text_in_header(folder: Path, old: bytes, new: bytes) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(old, new, 1))


def outside(folder: Path) -> None:
    index(folder, dict.fromkeys(open_folder(folder).stored, "../x.safetensors"))


def twice(folder: Path) -> None:
    names = list(open_folder(folder).stored)
    index(folder, dict.fromkeys(names, "one.safetensors") | {"more": "two.safetensors"})
    write_safetensors(folder / "two.safetensors", {"more": np.ones(1, "f"), UP: np.ones(2, "f")})


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "bytes of data"),
        (long_header, "got a length of 1000000000000000"),
        (lambda folder: text_in_header(folder, b'"F8_E4M3"', b'"F9_E4M3"'), "expected a dtype among"),
        (lambda folder: text_in_header(folder, b'"__metadata__"', b'"lm_head.weight"'), "stands twice"),
        (outside, "expected the bare name of a file in the folder, got '../x.safetensors'"),
        (twice, f"tensor '{UP}'"),
        (pickled, "pytorch_model.bin, a pickle, which is never opened"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "expected a JSON object"),
    ],
)
def test_what_cannot_be_read(damage: Callable[[Path], object], message: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(CheckpointError) as refused:
        inspect_checkpoint(folder)
    assert message in str(refused.value)
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize("name", ["weights.bin", "weights.pt", "weights"])
def test_other_files_are_not_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="which is not opened"):
        inspect_checkpoint(tmp_path / name)


def test_every_finding_is_in_the_dictionary(folder: Path) -> None:
    rewrite(folder, drop(GATE))
    found: Inspection = inspect_checkpoint(folder)
    table = found.to_dict()
    assert table["findings"][0] == found.findings[0]._asdict()
    assert table["ok"] is False
