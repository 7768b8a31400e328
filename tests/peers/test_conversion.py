"""Converted folders as safetensors and torch read them: FP8 to BF16 is torch's product, rounded."""

from pathlib import Path

import pytest

from minidsv3.checkpoint.convert import Target, convert
from minidsv3.checkpoint.shards import INDEX
from minidsv3.checkpoint.synthesise import synthesise
from minidsv3.config import ModelConfig

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors")

# 576 rows as V3's kv_a, and sides that no block of 128 divides
RAGGED = ModelConfig.preset("nano", dim=300, kv_lora_rank=512, qk_rope_head_dim=64, n_layers=2, fp8_block=128)


def test_fp8_to_bf16_is_torchs_product(tmp_path: Path) -> None:
    synthesise(tmp_path / "fp8", RAGGED, seed=2)
    convert(tmp_path / "fp8", tmp_path / "bf16", Target("bf16", mtp_copies=True))
    stored = safetensors.safe_open(tmp_path / "fp8" / "model.safetensors", "pt")
    converted = safetensors.safe_open(tmp_path / "bf16" / "model.safetensors", "pt")
    products = 0
    for name in converted.keys():  # noqa: SIM118
        weight = stored.get_tensor(name)
        if weight.dtype == torch.float8_e4m3fn:
            scale = stored.get_tensor(f"{name}_scale_inv")
            rows, columns = weight.shape
            spread = scale.repeat_interleave(128, 0)[:rows].repeat_interleave(128, 1)[:, :columns]
            weight = (weight.float() * spread).to(torch.bfloat16)
            products += 1
        assert torch.equal(weight, converted.get_tensor(name)), name
    assert products == len(RAGGED.fp8_tensors())


def test_every_file_is_read_by_safetensors(tmp_path: Path) -> None:
    synthesise(tmp_path / "a", RAGGED, files=5)
    convert(tmp_path / "a", tmp_path / "b", Target("fp8", layout="official", ranks=1))
    convert(tmp_path / "a", tmp_path / "c", Target("fp32", shard_bytes=2_000_000))
    assert (tmp_path / "c" / INDEX).is_file()
    for path in tmp_path.glob("*/*.safetensors"):
        with safetensors.safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                assert torch.isfinite(file.get_tensor(name).float()).all()
