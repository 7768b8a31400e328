"""The container: what is written is read, and a damaged file is read right or refused with a ValueError."""

import json
import os
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from minidsv3.checkpoint import read_header, read_safetensors, write_safetensors
from minidsv3.checkpoint.header import CODED, DTYPES, HEADER_LIMIT

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
written = sorted({str(dtype) for name, dtype in DTYPES.items() if name not in CODED})
names = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda name: name != "__metadata__")
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = st.sampled_from(written).flatmap(lambda dtype: hnp.arrays(dtype, shapes))


def raw(path: Path, header: object, data: bytes = b"") -> Path:
    """Write a file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@same_folder
@given(
    st.dictionaries(names, arrays, max_size=5), st.dictionaries(st.text("ab", max_size=3), names, max_size=2)
)
def test_what_is_written_is_read(tmp_path, tensors, metadata):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, tensors, metadata)
    back = read_safetensors(path)
    assert back.keys() == tensors.keys()
    for name, array in tensors.items():
        assert back[name].shape == array.shape
        assert back[name].dtype == array.dtype
        assert back[name].tobytes() == array.tobytes()  # NaNs too
        assert back[name].flags.aligned
    assert read_header(path).metadata == metadata
    assert os.listdir(tmp_path) == ["x.safetensors"]  # noqa: PTH208


def test_arrays_of_any_order_and_endianness_are_written(tmp_path):
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    tensors = {
        "turned": whole.T,
        "strided": whole[::2, 1::3],
        "big": whole.astype(">f4"),
        "one": np.float64(3)[...],
    }
    write_safetensors(tmp_path / "x", tensors)
    for name, array in read_safetensors(tmp_path / "x").items():
        np.testing.assert_array_equal(array, tensors[name])


def test_arrays_are_views_of_the_mapping_and_read_only(tmp_path):
    write_safetensors(tmp_path / "x", {"a": np.zeros(4, "f"), "none": np.zeros((0, 3), "f")})
    back = read_safetensors(tmp_path / "x")
    assert not back["a"].flags.owndata
    for array in back.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1


def test_every_bf16_is_the_float32_with_zeros_below(tmp_path):
    codes = np.arange(1 << 16, dtype="<u2")
    raw(tmp_path / "x", {"w": entry("BF16", [256, 256], [0, 1 << 17])}, codes.tobytes())
    bits = read_safetensors(tmp_path / "x")["w"].view(np.uint32).ravel()
    np.testing.assert_array_equal(bits, codes.astype(np.uint32) << 16)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_safetensors(tmp_path / "x", {"a": np.zeros(4)})
    before = (tmp_path / "x").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_safetensors(tmp_path / "x", {"a": np.ones(9)})
    assert (tmp_path / "x").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("array", [np.zeros(2, complex), np.array(["a"]), np.array([None])])
def test_other_number_formats_are_not_written(tmp_path, array):
    with pytest.raises(ValueError, match="tensor 'w': expected"):
        write_safetensors(tmp_path / "x", {"w": array})
    assert not any(tmp_path.iterdir())


LIES = {
    "no JSON": (b"{}}", "expected JSON"),
    "no end": (b'{"w": [', "ends with"),
    "an end in the numbers": (b'{"w": {}}   \0', r"ends with .* got .*\\x00"),
    "no object": (b"[]", "starts with"),
    "blank first": (b" {}", "starts with"),
    "no UTF-8": (b'{"\xff": 1}', "UTF-8"),
    "deep": (b'{"a":' + b"[" * 100_000 + b"}", "expected JSON"),
    "long number": (b'{"a":' + b"1" * 5000 + b"}", "expected JSON"),
    "twice": (b'{"a": 1, "a": 1}', "twice"),
    "half a surrogate": (rb'{"\ud800": 1}', "surrogates"),
    "not an entry": ({"w": 3}, "fields"),
    "field missing": ({"w": {"dtype": "F32", "shape": [2]}}, "fields"),
    "field unknown": ({"w": {**entry(), "extra": 1}}, "fields"),
    "unknown dtype": ({"w": entry("F4", [8])}, "dtype among F64, F32.*got 'F4'"),
    "dtype a list": ({"w": entry([])}, "dtype"),
    "negative side": ({"w": entry(shape=[-1, -2])}, "shape of whole"),
    "side a truth": ({"w": entry(shape=[True, 2])}, "shape of whole"),
    "side a fraction": ({"w": entry(shape=[2.0])}, "shape of whole"),
    "side beyond 63 bits": ({"w": entry(shape=[0, 2**63], offsets=[0, 0])}, "shape of whole"),
    "too many sides": ({"w": entry(shape=[1] * 65, offsets=[0, 4])}, "shape of whole"),
    "three offsets": ({"w": entry(offsets=[0, 8, 8])}, "begin, end"),
    "shape and bytes differ": ({"w": entry(shape=[3])}, r"expected 12 bytes for F32 \[3\]"),
    "backwards": ({"w": entry(offsets=[8, 0])}, "expected 8 bytes"),
    "beyond the file": ({"w": entry(shape=[2**40], offsets=[0, 2**42])}, "within 8 bytes of data"),
    "overlap": ({"a": entry(), "b": entry("U8", [8], [0, 8])}, "expected offsets from 8"),
    "hole in front": ({"w": entry("U8", [4], [4, 8])}, "expected offsets from 0"),
    "left over": ({"w": entry("U8", [4], [0, 4])}, "expected 4 bytes of data"),
    "metadata no object": ({"__metadata__": [], "w": entry()}, "__metadata__"),
    "metadata a number": ({"__metadata__": {"a": 1}, "w": entry()}, "expected text for 'a'"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(tmp_path, lie):
    header, said = LIES[lie]
    with pytest.raises(ValueError, match=said):
        read_safetensors(raw(tmp_path / "x", header, bytes(8)))


def test_an_empty_shape_that_numpy_cannot_hold_is_refused(tmp_path):
    header = {"w": entry(shape=[0, 2**62, 2**62], offsets=[0, 0])}
    with pytest.raises(ValueError, match="expected a shape NumPy can hold"):
        read_safetensors(raw(tmp_path / "x", header))


def test_bytes_that_are_no_truths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected bytes 0 and 1 for BOOL, got 2"):
        read_safetensors(raw(tmp_path / "x", {"w": entry("BOOL", [2], [0, 2])}, b"\1\2"))


@pytest.mark.parametrize("length", [9, HEADER_LIMIT + 1, 2**63, 2**64 - 1])
def test_a_length_beyond_the_file_is_refused_before_it_is_used(tmp_path, length):
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + b"{}      ")
    with pytest.raises(
        ValueError, match=f"expected a header within the 8 bytes that follow, got a length of {length}"
    ):
        read_safetensors(tmp_path / "x")


def test_a_length_beyond_the_limit_is_refused(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.write((HEADER_LIMIT + 1).to_bytes(8, "little"))
        file.truncate(HEADER_LIMIT + 100)  # sparse: takes no disk
    with pytest.raises(ValueError, match=f"within {HEADER_LIMIT} bytes"):
        read_safetensors(tmp_path / "x")


@pytest.mark.parametrize("size", [0, 7])
def test_a_file_too_short_for_a_length_is_refused(tmp_path, size):
    (tmp_path / "x").write_bytes(bytes(size))
    with pytest.raises(ValueError, match="at least 8 bytes"):
        read_safetensors(tmp_path / "x")


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "pipe"):
        with pytest.raises(ValueError, match="expected a safetensors file"):
            read_safetensors(path)


SOUND = json.dumps(
    {
        "__metadata__": {"format": "np"},
        "wide": entry("F64", [1, 2], [0, 16]),
        "half": entry("BF16", [2, 2], [16, 24]),
        "none": entry("I32", [0, 3], [24, 24]),
        "true": entry("BOOL", [4], [24, 28]),
        "byte": entry("U8", [], [28, 29]),
    }
)
_TOKENS = [
    "{",
    "}",
    "[",
    "]",
    ",",
    '"',
    "-",
    "0",
    "1",
    "9",
    "24",
    "1e9",
    "null",
    "true",
    "F32",
    "BF16",
    "shape",
    "\\u",
]


@settings(same_folder, max_examples=500)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 3), st.sampled_from(_TOKENS)), max_size=3
    ),
    st.one_of(st.none(), st.integers(0, 2**64 - 1), st.integers(len(SOUND) - 4, len(SOUND) + 40)),
    st.integers(0, 32),
)
@example(mutations=[], length=None, data_bytes=29)
def test_a_mutated_file_is_read_right_or_refused(tmp_path, mutations, length, data_bytes):
    text = SOUND
    for at, cut, put in mutations:
        text = text[:at] + put + text[at + cut :]
    length = len(text) if length is None else length
    path = tmp_path / "x"
    path.write_bytes(
        length.to_bytes(8, "little") + text.encode() + bytes(range(2)) * (data_bytes // 2) + b"\0"
    )
    try:
        tensors = read_safetensors(path)
    except ValueError as error:
        refused = str(error)
    else:
        _assert_read_right(path.read_bytes(), tensors)
        return
    assert str(path) in refused


def _assert_read_right(file: bytes, tensors) -> None:
    """Read by the shortest code that trusts everything, and compare."""
    start = 8 + int.from_bytes(file[:8], "little")
    table = json.loads(file[8:start])
    table.pop("__metadata__", None)
    assert tensors.keys() == table.keys()
    for name, fields in table.items():
        begin, end = fields["data_offsets"]
        assert 0 <= begin <= end <= len(file) - start
        stored = np.frombuffer(file[start + begin : start + end], DTYPES[fields["dtype"]]).reshape(
            fields["shape"]
        )
        if fields["dtype"] == "BF16":
            assert tensors[name].dtype == np.float32
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        assert tensors[name].tobytes() == stored.tobytes()
        assert tensors[name].shape == stored.shape
