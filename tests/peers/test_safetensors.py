"""The container against the `safetensors` library: each reads the other, and what it refuses, we refuse."""

import json

import numpy as np
import pytest

from minidsv3.checkpoint import Coded, read_header, read_safetensors, write_safetensors
from minidsv3.checkpoint.safetensors import SafetensorsFile
from minidsv3.checkpoint.stored import stored_tensors
from minidsv3.numerics import BF16, E4M3

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")
peer = pytest.importorskip("safetensors.torch")
from safetensors import SafetensorError, safe_open  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

TYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def _tensors() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes = [(), (0,), (3,), (5, 7), (2, 0, 3), (1, 2, 3, 4)]
    drawn = {(i, dtype): draw.integers(0, 2, shape) for i, shape in enumerate(shapes) for dtype in TYPES}
    return {f"{i}.{dtype} é": values.astype(dtype) for (i, dtype), values in drawn.items()}


def _assert_equal(ours, theirs) -> None:
    assert set(ours) == set(theirs)
    for name in theirs:
        assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_array_equal(ours[name], theirs[name], strict=True)


def test_the_library_reads_what_we_write(tmp_path):
    write_safetensors(tmp_path / "x", _tensors(), {"format": "np", "é": "\n"})
    _assert_equal(_tensors(), load_file(tmp_path / "x"))
    with safe_open(tmp_path / "x", "np") as file:
        assert file.metadata() == {"format": "np", "é": "\n"}


def test_we_read_what_the_library_writes(tmp_path):
    save_file(_tensors(), tmp_path / "x", {"format": "np"})
    _assert_equal(read_safetensors(tmp_path / "x"), _tensors())
    assert read_header(tmp_path / "x").metadata == {"format": "np"}


CODES = {  # torch's name, and codes: all there are
    "BF16": ("bfloat16", np.arange(1 << 16, dtype=np.uint16)),
    "F8_E4M3": ("float8_e4m3fn", np.arange(256, dtype=np.uint8)),
    "F8_E5M2": ("float8_e5m2", np.arange(256, dtype=np.uint8)),
}


@pytest.mark.parametrize("dtype", CODES)
def test_every_code_is_read_as_torch_reads_it(tmp_path, dtype):
    name, codes = CODES[dtype]
    values = torch.from_numpy(codes).view(getattr(torch, name))
    peer.save_file({"w": values.reshape(16, -1)}, tmp_path / "x")
    theirs = values.float().numpy().reshape(16, -1)
    assert read_header(tmp_path / "x").entries["w"].dtype == dtype
    np.testing.assert_array_equal(read_safetensors(tmp_path / "x")["w"], theirs)
    np.testing.assert_array_equal(stored_tensors(SafetensorsFile(tmp_path / "x"))["w"].raw().ravel(), codes)


@pytest.mark.parametrize("dtype", CODES)
def test_the_library_reads_every_code_that_we_write(tmp_path, dtype):
    name, codes = CODES[dtype]
    write_safetensors(tmp_path / "x", {"w": Coded(codes.reshape(4, -1), dtype), "one": np.float32(1)[...]})
    came = peer.load_file(tmp_path / "x")
    assert came["w"].dtype == getattr(torch, name)
    bits = came["w"].view(torch.uint16 if dtype == "BF16" else torch.uint8)
    np.testing.assert_array_equal(bits.numpy().ravel(), codes)
    assert came["one"] == 1


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3"])
def test_we_round_as_torch_does(tmp_path, dtype):
    """BF16 anywhere; E4M3 within its range, where blocks are scaled to lie."""
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.standard_normal(20_000) * 60, draw.uniform(-448, 448, 20_000)])
    values = np.clip(values, -448, 448).astype(np.float32)
    ties = np.arange(-448, 448, 0.0625, dtype=np.float32)
    values = np.concatenate([values, ties, values * np.float32(2.0**-12)])
    ours = (BF16 if dtype == "BF16" else E4M3).encode(values)
    write_safetensors(tmp_path / "x", {"w": Coded(ours, dtype)})
    theirs = torch.from_numpy(values).to(getattr(torch, CODES[dtype][0]))
    assert torch.equal(peer.load_file(tmp_path / "x")["w"].float(), theirs.float())


def test_mutated_headers_that_we_take_are_read_alike(tmp_path):
    """Where both take a file, both read the same; we take nothing that the library refuses."""
    save_file({"a": np.arange(6, dtype="f4").reshape(2, 3), "b": np.arange(8, dtype="u1")}, tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    draw, taken = np.random.default_rng(0), 0
    for _ in range(3000):
        file = bytearray(whole)
        for at in draw.integers(0, 8 + length, draw.integers(1, 3)):
            file[at] = draw.choice(list(b'0123456789{}[],": "FIU'))
        (tmp_path / "y").write_bytes(file)
        try:
            ours = read_safetensors(tmp_path / "y")
        except ValueError:
            continue
        taken += 1
        try:
            _assert_equal(ours, load_file(tmp_path / "y"))
        except SafetensorError as error:
            pytest.fail(f"taken by us, refused there: {json.dumps(file[8 : 8 + length].decode())} ({error})")
    assert taken > 50
