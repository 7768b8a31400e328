"""Conversions: against integers, there and back, cut for ranks, stopped in the middle."""

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from official_rule import renamed
from strategies import configs

from minidsv3.checkpoint import CheckpointError, convert, encode_blocks, open_folder
from minidsv3.checkpoint.convert import Piece, Target, bytes_of
from minidsv3.checkpoint.inspect import inspect_checkpoint
from minidsv3.checkpoint.official import open_official
from minidsv3.checkpoint.safetensors import read_safetensors
from minidsv3.checkpoint.synthesise import synthesise
from minidsv3.config import ModelConfig
from minidsv3.numerics import BF16, E4M3

SMALL = ModelConfig.preset(
    "nano", dim=16, inter_dim=32, moe_inter_dim=16, n_layers=2, n_heads=4, qk_nope_head_dim=8,
    qk_rope_head_dim=8, v_head_dim=8, q_lora_rank=8, kv_lora_rank=8, vocab_size=32, n_routed_experts=8,
    n_mtp_layers=1, fp8_block=4,
)  # fmt: skip
RAGGED = dataclasses.replace(SMALL, dim=18, inter_dim=27, moe_inter_dim=11, kv_lora_rank=13, fp8_block=8)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder in each format, of ragged sizes, in three files."""
    folder = tmp_path_factory.mktemp("sources")
    for weights in ("fp8", "bf16", "fp32"):
        synthesise(folder / weights, RAGGED, weights, seed=3, files=3)
    synthesise(folder / "whole", SMALL, "fp8", seed=4)
    return {path.name: path for path in folder.iterdir()}


def raw(folder: Path) -> dict[str, bytes]:
    """Every tensor's bytes."""
    stored = open_folder(folder).stored
    return {name: tensor.dtype.encode() + tensor.raw().tobytes() for name, tensor in stored.items()}


def is_copy(name: str) -> bool:
    return ".shared_head.head." in name or (".layers." in name and ".embed_tokens." in name)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def to_bf16(value: float) -> int:
    """A float64 that is exact, to float32, to BF16: both to nearest even, by the bits."""
    bits = int(np.float32(value).view(np.uint32))
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def test_fp8_to_bf16_is_the_product_in_float32_rounded_once(sources: dict[str, Path], tmp_path: Path) -> None:
    convert.convert(sources["fp8"], tmp_path / "out", Target("bf16"))
    before, after = open_folder(sources["fp8"]), open_folder(tmp_path / "out")
    table = [float(value) for value in E4M3.decode(np.arange(256, dtype=np.uint8))]
    looked = 0
    for name, tensor in after.stored.items():
        source = before.tensors[name]
        if source.scale is None:
            assert tensor.raw().tobytes() == source.raw().tobytes()
            continue
        codes, scale = source.raw(), source.scale.raw()
        for (i, j), code in np.ndenumerate(codes[:20, :20]):
            # four bits times 24: exact in float64
            product = table[code] * float(scale[i // 8, j // 8])
            assert tensor.raw()[i, j] == to_bf16(product), (name, i, j)
            looked += 1
    assert looked > 10_000
    assert "quantization_config" not in after.config_table
    assert not [name for name in after.stored if name.endswith("_scale_inv") or is_copy(name)]


def test_bf16_to_fp32_and_back(sources: dict[str, Path], tmp_path: Path) -> None:
    convert.convert(sources["bf16"], tmp_path / "wide", Target("fp32", shard_bytes=20_000))
    convert.convert(tmp_path / "wide", tmp_path / "back", Target("bf16", mtp_copies=True))
    assert len(open_folder(tmp_path / "wide").files) > 3
    assert raw(tmp_path / "back") == raw(sources["bf16"])
    assert open_folder(tmp_path / "back").config == RAGGED


def test_fp32_to_bf16_rounds_to_nearest(sources: dict[str, Path], tmp_path: Path) -> None:
    convert.convert(sources["fp32"], tmp_path / "out", Target("bf16"))
    before = open_folder(sources["fp32"])
    for name, tensor in open_folder(tmp_path / "out").stored.items():
        values = before.tensors[name].read()
        if name.endswith("bias"):
            assert tensor.dtype == "F32"
            assert (tensor.read() == values).all()
        else:
            assert (tensor.raw() == BF16.encode(values)).all()


def test_fp8_to_fp8_is_a_copy(sources: dict[str, Path], tmp_path: Path) -> None:
    convert.convert(sources["fp8"], tmp_path / "out", Target("fp8", mtp_copies=True, shard_bytes=8_000))
    assert raw(tmp_path / "out") == raw(sources["fp8"])
    files = open_folder(tmp_path / "out").files
    assert len(files) > 3
    assert files[0].name == f"model-00001-of-{len(files):06d}.safetensors"


def test_fp8_in_other_blocks(sources: dict[str, Path], tmp_path: Path) -> None:
    convert.convert(sources["fp8"], tmp_path / "out", Target("fp8", block=5))
    before, after = open_folder(sources["fp8"]), open_folder(tmp_path / "out")
    assert after.block == (5, 5)
    for name, tensor in after.tensors.items():
        old, new = before.tensors[name].read(), tensor.read()
        assert np.abs(new - old).max() <= np.abs(old).max() / 16  # E4M3 has three bits behind the first


def test_mtp_is_kept_or_left_out(sources: dict[str, Path], tmp_path: Path) -> None:
    done = convert.convert(sources["fp8"], tmp_path / "out", Target("fp8", mtp=False))
    after = open_folder(tmp_path / "out")
    assert after.config == dataclasses.replace(RAGGED, n_mtp_layers=0)
    assert after.config_table["num_nextn_predict_layers"] == 0
    assert not [name for name in after.stored if name.startswith("model.layers.2.")]
    assert done.notes == ["left out: MTP modules (1)"]


@pytest.mark.parametrize("piece", [1, 100])
def test_bands_change_nothing(
    piece: int, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for weights in ("fp8", "bf16"):
        convert.convert(sources["fp32"], tmp_path / f"whole-{weights}", Target(weights, block=8))
    monkeypatch.setattr(convert, "PIECE", piece)
    for weights in ("fp8", "bf16"):
        convert.convert(sources["fp32"], tmp_path / weights, Target(weights, block=8))
        assert files_of(tmp_path / weights) == files_of(tmp_path / f"whole-{weights}")


# ---- ranks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["fp8", "bf16"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_and_back(weights: str, ranks: int, sources: dict[str, Path], tmp_path: Path) -> None:
    done = convert.convert(
        sources["whole"], tmp_path / "own", Target(weights, layout="official", ranks=ranks)
    )
    assert done.notes[0] == "left out: MTP modules (1)"
    assert inspect_checkpoint(tmp_path / "own", verify=True).ok
    convert.convert(tmp_path / "own", tmp_path / "back", Target(weights))
    convert.convert(sources["whole"], tmp_path / "straight", Target(weights, mtp=False))
    assert files_of(tmp_path / "back") == files_of(tmp_path / "straight")


def test_ranks_hold_what_the_published_script_gives_them(sources: dict[str, Path], tmp_path: Path) -> None:
    """Its `narrow` is NumPy's split; scales are narrowed along the same axis as their weights."""
    convert.convert(sources["whole"], tmp_path / "own", Target("fp8", layout="official", ranks=2))
    files = [read_safetensors(tmp_path / "own" / f"model{rank}-mp2.safetensors") for rank in range(2)]
    wanted: list[dict[str, Any]] = [{}, {}]
    for tensors in map(read_safetensors, open_folder(sources["whole"]).files):
        for name, array in tensors.items():
            if name.startswith("model.layers.2."):  # of the MTP module
                continue
            own, axis = renamed(name)
            for rank in range(2):
                if ".experts." in name:
                    if int(name.split(".")[-3]) // 4 == rank:
                        wanted[rank][own] = array
                else:
                    wanted[rank][own] = array if axis is None else np.split(array, 2, axis)[rank]
    for found, meant in zip(files, wanted, strict=True):
        assert found.keys() == meant.keys()
        assert all(np.array_equal(found[name], meant[name]) for name in meant)


def test_deepseeks_config_alone_will_do(sources: dict[str, Path], tmp_path: Path) -> None:
    convert.convert(sources["whole"], tmp_path / "own", Target("bf16", layout="official"))
    (tmp_path / "own" / "hugging_face_config.json").unlink()
    table = json.loads((tmp_path / "own" / "config.json").read_text())
    assert (table["dim"], table["dtype"]) == (16, "bf16")
    config = open_official(tmp_path / "own").config
    assert dataclasses.replace(config, fp8_block=4, n_mtp_layers=1) == SMALL


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target("fp8", layout="official", ranks=8), "cut it between blocks of 4, got parts of 2"),
        (Target("bf16", layout="official", ranks=3), "ranks that divide 32, got 3"),
        (Target("bf16", layout="official", ranks=32), "ranks that divide"),
        (Target("fp32", layout="official"), "fp32, which it does not load"),
        (Target("bf16", ranks=2), "ranks 1 in Hugging Face's layout, got 2"),
        (Target("bf16", layout="official", mtp_copies=True), "no MTP copies in DeepSeek's own layout"),
        (Target("bf15"), "weights fp8, bf16 or fp32, got 'bf15'"),
        (Target("fp8", block=0), "block of at least 1, got 1, 5000000000 and 0"),
        (Target("bf16", layout="gguf"), "a layout among hugging-face, official, got 'gguf'"),
    ],
)
def test_requests_that_make_no_sense(
    target: Target, message: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        convert.convert(sources["whole"], tmp_path / "out", target)
    assert message in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("gone", "model1-mp2.safetensors among files of 2 ranks, got none"),
        ("other", "expected the files of one conversion, got files of 1 and 2 ranks"),
        ("config", "expected dim as hugging_face_config.json beside it says, 16, got 17"),
        ("no config", "expected config.json with the fields of DeepSeek's ModelArgs, got none"),
        ("short", "bytes of data"),
        ("huge", "expected over 12000002 tensors for 2 layers of 4000000 experts"),
    ],
)
def test_damaged_ranks(damage: str, message: str, sources: dict[str, Path], tmp_path: Path) -> None:
    own = tmp_path / "own"
    convert.convert(sources["whole"], own, Target("fp8", layout="official", ranks=2))
    last, config = own / "model1-mp2.safetensors", own / "config.json"
    if damage == "gone":
        last.unlink()
    elif damage == "other":
        shutil.copy(last, own / "model0-mp1.safetensors")
    elif damage == "config":
        config.write_text(config.read_text().replace('"dim": 16', '"dim": 17'))
    elif damage == "huge":
        (own / "hugging_face_config.json").unlink()
        config.write_text(config.read_text().replace('"n_routed_experts": 8', '"n_routed_experts": 4000000'))
    elif damage == "no config":
        config.unlink()
    else:
        last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(CheckpointError) as refused:
        convert.convert(own, tmp_path / "out", Target("bf16"))
    assert message in str(refused.value)


# ---- stopped and gone on ----------------------------------------------------------------------------------


class PowerCut(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 40, 75])
def test_a_conversion_goes_on_where_it_was_stopped(
    after: int, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Target("bf16", shard_bytes=20_000)
    convert.convert(sources["fp8"], tmp_path / "whole", wanted)
    left, honest = after, Piece.numbers

    def cut(piece: Piece, rows: slice) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise PowerCut
        return honest(piece, rows)

    monkeypatch.setattr(Piece, "numbers", cut)
    with pytest.raises(PowerCut):
        convert.convert(sources["fp8"], tmp_path / "out", wanted)
    monkeypatch.setattr(Piece, "numbers", honest)
    finished = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.safetensors")}
    assert not (tmp_path / "out" / "config.json").exists()
    next_file = min(
        path.name for path in (tmp_path / "whole").glob("*.safetensors") if path.name not in finished
    )
    (tmp_path / "out" / f".{next_file}.partial").write_bytes(b"left by a process that was killed")
    seen: list[tuple[int, int, str]] = []
    done = convert.convert(sources["fp8"], tmp_path / "out", wanted, lambda *now: seen.append(now))
    assert done.kept_files == len(finished)
    assert len(finished) == 0 or after > 1
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == time for name, time in finished.items())
    assert seen[-1][0] == seen[-1][1]  # all that was left, written
    assert not {file for _, _, file in seen} & set(finished)


def begin(source: Path, folder: Path, wanted: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop a conversion before its first tensor."""
    with monkeypatch.context() as patch:
        patch.setattr(Piece, "numbers", lambda *_: (_ for _ in ()).throw(PowerCut))
        with pytest.raises(PowerCut):
            convert.convert(source, folder, wanted)


def test_another_plan_is_refused(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(sources["fp8"], source)
    begin(source, out, Target("bf16"), monkeypatch)
    with pytest.raises(ValueError, match=r"go on with weights 'bf16', .* got 'fp8'"):
        convert.convert(source, out, Target("fp8"))
    with pytest.raises(ValueError, match="go on with source"):
        convert.convert(sources["bf16"], out, Target("bf16"))
    (source / "config.json").write_text((source / "config.json").read_text() + "\n")
    with pytest.raises(ValueError, match="go on with fingerprint"):
        convert.convert(source, out, Target("bf16"))
    (out / ".conversion.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"\.conversion\.json: expected JSON"):
        convert.convert(source, out, Target("bf16"))


def test_a_finished_file_of_another_header_is_made_again(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(sources["fp8"], tmp_path / "out", Target("bf16"), monkeypatch)
    (tmp_path / "out" / "model.safetensors").write_bytes(b"not what was planned")
    done = convert.convert(sources["fp8"], tmp_path / "out", Target("bf16"))
    assert done.kept_files == 0
    assert open_folder(tmp_path / "out").config == RAGGED


# ---- refusals ---------------------------------------------------------------------------------------------


def test_folders_in_each_other(sources: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(sources["fp8"], source)
    (tmp_path / "link").symlink_to(source)
    for target in (source, source / "inside", tmp_path, tmp_path / "link", source / ".." / "source"):
        with pytest.raises(ValueError, match="two folders, neither inside the other"):
            convert.convert(source, target, Target("bf16"))


def test_a_folder_that_holds_something(sources: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("not to be touched")
    with pytest.raises(ValueError, match="which holds something"):
        convert.convert(sources["fp8"], tmp_path, Target("bf16"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_is_told_before(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 10**7))  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="bytes free on this disk, got 10,000,000"):
        convert.convert(sources["fp8"], tmp_path / "out", Target("bf16"))
    assert not list((tmp_path / "out").glob("*.safetensors"))


def damaged(sources: dict[str, Path], folder: Path, name: str, at: tuple[int, ...], codes: bytes) -> Path:
    """A copy of the FP8 folder with other bytes at one place of a tensor."""
    shutil.copytree(sources["fp8"], folder)
    tensor = open_folder(folder).stored[name]
    place = tensor.offset + int(np.ravel_multi_index(at, tensor.shape)) * len(codes)
    with tensor.path.open("r+b") as file:
        file.seek(place)
        file.write(codes)
    return folder


@pytest.mark.parametrize("weights", ["fp8", "bf16"])
@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("model.layers.0.mlp.up_proj.weight", b"\x7f"),
        ("model.layers.0.mlp.up_proj.weight", b"\xff"),
        ("model.layers.0.mlp.up_proj.weight_scale_inv", np.float32(np.nan).tobytes()),
        ("model.layers.0.mlp.up_proj.weight_scale_inv", np.float32(-1).tobytes()),
    ],
)
def test_what_is_no_number(
    name: str, codes: bytes, weights: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    folder = damaged(sources, tmp_path / "bad", name, (1, 1), codes)
    with pytest.raises(CheckpointError) as refused:
        convert.convert(folder, tmp_path / "out", Target(weights))
    assert f"tensor {name!r}: expected" in str(refused.value)
    assert ".safetensors" in str(refused.value)


def test_what_lies_beside_comes_along(sources: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(sources["fp8"], source)
    (source / "tokenizer.json").write_text('{"model": {}}')
    (source / "notes.txt").write_text("mine")
    (source / "tokenizer_config.json").symlink_to("/etc/hostname")
    convert.convert(source, tmp_path / "out", Target("bf16"))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize("text", ["", "5", "GB", "5XB", "-1GB", "1e9", "5GB!", "9" * 99])
def test_sizes(text: str) -> None:
    if text == "5":
        assert bytes_of(text) == 5
        return
    with pytest.raises(ValueError, match="expected a size such as 5GB"):
        bytes_of(text)


# ---- any sizes --------------------------------------------------------------------------------------------


@given(configs(), st.integers(1, 9), st.integers(1, 40), st.integers(100, 3000))
@settings(max_examples=10)
def test_any_sizes_there_and_back(config: ModelConfig, block: int, piece: int, shard_bytes: int) -> None:
    """float32 to FP8 is each tensor's own encoding; FP8 to DeepSeek's names and back is a copy."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        folder = Path(place)
        patch.setattr(convert, "PIECE", piece)
        synthesise(folder / "fp32", config, "fp32")
        convert.convert(folder / "fp32", folder / "fp8", Target("fp8", block=block, shard_bytes=shard_bytes))
        wide, narrow = open_folder(folder / "fp32").tensors, open_folder(folder / "fp8").tensors
        for name in config.fp8_tensors():
            codes, scale = encode_blocks(wide[name].read(), (block, block))
            stored = narrow[name]
            assert stored.scale is not None
            assert stored.raw().tobytes() == codes.tobytes()
            assert stored.scale.raw().tobytes() == scale.tobytes()
        convert.convert(folder / "fp8", folder / "own", Target("fp8", layout="official"))
        convert.convert(folder / "own", folder / "back", Target("fp8", shard_bytes=shard_bytes))
        assert raw(folder / "back") == raw(folder / "fp8")
        assert open_folder(folder / "back").block == (block, block)
