"""Tensors that are read when they are asked for: their numbers, no more of the file than needed, refusals."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoint.oracle import by_oracle, codes_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidsv3.checkpoint import CheckpointError, Coded, StoredTensor, stored, write_safetensors
from minidsv3.checkpoint.safetensors import SafetensorsFile
from minidsv3.checkpoint.scaled_blocks import blocks_of
from minidsv3.checkpoint.stored import stored_tensors
from minidsv3.numerics import BF16, E4M3, E5M2

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def opened(path: Path, tensors) -> dict[str, StoredTensor]:
    write_safetensors(path, tensors)
    return stored_tensors(SafetensorsFile(path))


def weight(folder: Path, shape=(130, 257), block=(128, 128), dtype="F8_E4M3", codes=None, scale=None):
    """An FP8 weight whose scale lies in another file, and what it is by integers."""
    draw = np.random.default_rng(0)
    codes = codes_of(shape, draw) if codes is None else codes
    if dtype == "F8_E5M2":
        codes = np.where((codes & 0x7F) > E5M2.top, 0, codes).astype(np.uint8)
    if scale is None:
        scale = draw.lognormal(-9, 1, blocks_of(shape, block)).astype(np.float32)
    of = opened(folder / "scales", {"w_scale_inv": scale})["w_scale_inv"]
    tensor = replace(opened(folder / "codes", {"w": Coded(codes, dtype)})["w"], scale=of, block=block)
    values = BF16.decode(scale.codes) if isinstance(scale, Coded) else scale
    fmt = E4M3 if dtype == "F8_E4M3" else E5M2
    return tensor, lambda: by_oracle(codes, values, block, fmt)


def bits(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint32)


# ---- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("shape", [(1, 1), (127, 129), (130, 257), (576, 900)])
def test_fp8_weights_are_read_exactly(tmp_path, shape, dtype):
    tensor, oracle = weight(tmp_path, shape, dtype=dtype)
    np.testing.assert_array_equal(bits(tensor.read()), oracle())
    assert tensor.nbytes == shape[0] * shape[1]
    assert tensor.stored_bytes == tensor.nbytes + 4 * np.prod(blocks_of(shape, (128, 128)))
    assert tensor.path.name == "codes"


def test_scales_may_be_bf16(tmp_path):
    scale = Coded(BF16.encode(np.float32([[1e-3, 2e-3, 3e-3], [0, 1, 2]])), "BF16")
    tensor, oracle = weight(tmp_path, scale=scale)
    np.testing.assert_array_equal(bits(tensor.read()), oracle())


@same_folder
@given(st.data())
def test_any_rows_are_those_of_the_whole(tmp_path, data):
    shape = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    block = data.draw(st.tuples(st.integers(1, 31), st.integers(1, 31)))
    tensor, oracle = weight(tmp_path, shape, block)
    ends = st.one_of(st.none(), st.integers(-40, 40))
    rows = slice(data.draw(ends), data.draw(ends))
    piece, shared = data.draw(st.integers(1, 200)), data.draw(st.sampled_from([1, 1 << 22]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "PIECE", piece)
        patch.setattr(stored, "SHARED", shared)  # 1: always two threads
        came = tensor.read(rows)
    assert came.flags.c_contiguous
    np.testing.assert_array_equal(bits(came), oracle()[rows])


NUMBERS = np.random.default_rng(0).standard_normal((7, 2, 5))


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "bf16"])
@pytest.mark.parametrize("rows", [None, slice(2, 5), slice(6, None), slice(3, 3), slice(5, 2)])
def test_other_formats_are_read_as_float32(tmp_path, monkeypatch, dtype, rows):
    monkeypatch.setattr(stored, "PIECE", 4)
    if dtype == "bf16":
        codes = BF16.encode(NUMBERS.astype("f"))
        source, wanted = Coded(codes, "BF16"), BF16.decode(codes)
    else:
        source = NUMBERS.astype(dtype)
        wanted = source.astype(np.float32)
    came = opened(tmp_path / "x", {"w": source, "pad": np.zeros(1, "u1")})["w"].read(rows)
    assert came.dtype == np.float32
    np.testing.assert_array_equal(came, wanted[rows] if rows else wanted, strict=True)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 3), (2, 0, 3)])
def test_single_numbers_and_empty_shapes_are_read(tmp_path, shape):
    for dtype in ("f4", "f2"):
        came = opened(tmp_path / "x", {"w": np.ones(shape, dtype)})["w"].read()
        np.testing.assert_array_equal(came, np.ones(shape, "f"), strict=True)


def test_numbers_are_put_where_they_are_wanted(tmp_path):
    tensor, oracle = weight(tmp_path)
    out = np.empty((300, 257), np.float32)
    assert tensor.read(slice(1, 120), out=out[7:126]).base is out
    np.testing.assert_array_equal(bits(out[7:126]), oracle()[1:120])
    for wrong in (out[:4], out[:119, ::2], np.empty((119, 257)), np.empty((257, 119), "f").T):
        with pytest.raises(ValueError, match=r"expected out float32 \(119, 257\), C-contiguous"):
            tensor.read(slice(1, 120), out=wrong)


def test_raw_is_what_is_stored(tmp_path):
    tensor, _ = weight(tmp_path)
    assert tensor.raw().dtype == np.uint8
    assert not tensor.raw().flags.writeable
    assert not tensor.raw().flags.owndata


# ---- how much is read --------------------------------------------------------------------------------------


def test_no_more_is_read_than_the_rows_need(tmp_path, monkeypatch):
    tensor, oracle = weight(tmp_path, (400, 257))
    read = []
    fill = StoredTensor._fill

    def counting(self, file, skip, room):
        read.append((self.name, skip, room.size))
        fill(self, file, skip, room)

    monkeypatch.setattr(StoredTensor, "_fill", counting)
    came = tensor.read(slice(200, 300))
    np.testing.assert_array_equal(bits(came), oracle()[200:300])
    assert read == [("w_scale_inv", 1 * 3, 4 * 2 * 3), ("w", 200 * 257, 100 * 257)]


MEASURE = """
import resource, sys
from dataclasses import replace
import numpy as np
from minidsv3.checkpoint.safetensors import SafetensorsFile
from minidsv3.checkpoint.stored import stored_tensors

all = stored_tensors(SafetensorsFile(sys.argv[1]))
tensor = replace(all["w"], scale=all["w_scale_inv"], block=(128, 128))
out = np.zeros((64, tensor.shape[1]), np.float32)
tensor.read(slice(0, 64), out=out)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for first in range(0, tensor.shape[0], 64):
    tensor.read(slice(first, first + 64), out=out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes are Linux's unit")
def test_reading_leaves_nothing_in_memory(tmp_path):
    """64 MB go through; a mapping would have kept them resident."""
    scale = np.ones((128, 32), np.float32)
    codes = Coded(np.zeros((1 << 14, 1 << 12), np.uint8), "F8_E4M3")
    write_safetensors(tmp_path / "x", {"w": codes, "w_scale_inv": scale})
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "x")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 4000  # kilobytes


# ---- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("code", [0x7F, 0xFF])
@pytest.mark.parametrize("shared", [1, 1 << 22])
def test_a_code_that_is_no_number_is_named_with_its_place(tmp_path, monkeypatch, dtype, code, shared):
    monkeypatch.setattr(stored, "SHARED", shared)
    monkeypatch.setattr(stored, "PIECE", 600)
    codes = np.zeros((130, 257), np.uint8)
    codes[100, 200] = code
    tensor, _ = weight(tmp_path, codes=codes)
    tensor = replace(tensor, file=opened(tmp_path / "x", {"w": Coded(codes, dtype)})["w"].file, dtype=dtype)
    with pytest.raises(CheckpointError, match=rf"x: tensor 'w': .* code 0x{code:X} at row 100, column 200"):
        tensor.read()
    with pytest.raises(CheckpointError, match="at row 100, column 200"):
        tensor.read(slice(90, 101))
    assert not tensor.read(slice(0, 100)).any()


def test_infinity_in_e5m2_is_refused(tmp_path):
    tensor, _ = weight(tmp_path, codes=np.full((130, 257), 0x7C, np.uint8))
    with pytest.raises(CheckpointError, match="code 0x7C at row 0, column 0"):
        replace(
            tensor,
            file=opened(tmp_path / "x", {"w": Coded(tensor.raw(), "F8_E5M2")})["w"].file,
            dtype="F8_E5M2",
        ).read()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e-3, 1e36])
def test_a_scale_that_scales_nothing_is_named_with_its_place(tmp_path, bad):
    scale = np.ones((4, 3), np.float32)
    scale[2, 1] = bad
    tensor, _ = weight(tmp_path, (500, 300), scale=scale)
    got = re.escape(f"got {np.float32(bad)} at row 2, column 1")
    with pytest.raises(CheckpointError, match=f"scales: tensor 'w_scale_inv': expected scales .*, {got}"):
        tensor.read(slice(270, 280))
    tensor.read(slice(0, 256))


def test_a_weight_without_scale_is_refused(tmp_path):
    tensor, _ = weight(tmp_path)
    with pytest.raises(CheckpointError, match=r"'w': expected a scale, w_scale_inv, got none"):
        replace(tensor, scale=None).read()


def test_integers_are_no_weights(tmp_path):
    tensor = opened(tmp_path / "x", {"w": np.zeros(3, "i4")})["w"]
    with pytest.raises(CheckpointError, match="expected floating-point numbers, got I32"):
        tensor.read()


def test_what_float32_cannot_hold_is_refused(tmp_path):
    tensor = opened(tmp_path / "x", {"w": np.array([1.0, np.inf, -1e300])})["w"]
    with pytest.raises(CheckpointError, match=r"expected numbers up to 3.40282346.*, got 1e\+300"):
        tensor.read()


@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_a_file_that_was_cut_after_it_was_opened_is_refused(tmp_path, dtype):
    tensor = opened(tmp_path / "x", {"w": np.zeros(1000, dtype)})["w"]
    with (tmp_path / "x").open("rb+") as file:
        file.truncate(tensor.offset + 100)
    for read in (tensor.read, tensor.raw):
        with pytest.raises(
            CheckpointError, match=rf"x: expected .* as when opened, got one of {tensor.offset + 100} "
        ):
            read()


@pytest.mark.parametrize("how", ["replaced", "written over", "removed"])
def test_a_file_that_was_replaced_after_it_was_opened_is_refused(tmp_path, how):
    """Its header may still fit; the numbers would be another model's."""
    path = tmp_path / "x"
    tensor = opened(path, {"w": np.zeros(1000, np.float32)})["w"]
    text = path.read_bytes()[:-4] + b"\x00\x00\x80\x3f"
    if how == "written over":
        path.write_bytes(text)
    else:
        path.unlink()
    if how == "replaced":
        write_safetensors(path, {"w": np.ones(1000, np.float32)})
    for read in (tensor.read, tensor.raw):
        with pytest.raises(CheckpointError, match=r"x: expected the file .*as when opened, got"):
            read()


@pytest.mark.parametrize("rows", [slice(0, 5, 2), slice(None, None, -1)])
def test_rows_stand_one_after_the_other(tmp_path, rows):
    with pytest.raises(ValueError, match="expected rows one after the other"):
        opened(tmp_path / "x", {"w": np.zeros((9, 2), "f")})["w"].read(rows)


def test_a_single_number_has_no_rows(tmp_path):
    with pytest.raises(ValueError, match="expected rows None of a single number"):
        opened(tmp_path / "x", {"w": np.zeros((), "f")})["w"].read(slice(0, 1))
