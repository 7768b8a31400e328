"""Values go over the pipe as they are; bytes that are none are refused, whatever they are."""

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minidsv3.learn.sandbox.values import (
    FORMATS,
    MOST_DEEP,
    MOST_KEYS,
    MOST_VALUES,
    Malformed,
    Other,
    TooLarge,
    pack,
    unpack,
)

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.text(st.characters(codec="utf-8"), max_size=20),
    hnp.arrays(
        st.sampled_from([np.dtype(name) for name in FORMATS]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ),
    hnp.from_dtype(np.dtype("f4")),
)
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(st.characters(codec="utf-8")), st.integers()), inner, max_size=4),
    ),
    max_leaves=12,
)


def types(value: Any) -> Any:
    """The types of a value and of its parts."""
    if isinstance(value, list | tuple):
        return type(value), [types(part) for part in value]
    if isinstance(value, dict):
        return dict, [(types(key), types(part)) for key, part in value.items()]
    return type(value), getattr(value, "dtype", None)


@settings(max_examples=100, deadline=None)
@given(values)
def test_a_value_comes_out_as_it_went_in(value: Any) -> None:
    found = unpack(pack(value))
    assert types(found) == types(value)
    assert pack(found) == pack(value)  # every bit, NaN's too


@settings(max_examples=100, deadline=None)
@given(values, st.data())
def test_bytes_that_were_changed_are_a_value_or_refused(value: Any, data: st.DataObject) -> None:
    packed = bytearray(pack(value))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack(bytes(packed))
    except ValueError:
        return


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        unpack(data)
    except ValueError:
        return


def array(code: int, *shape: int, data: bytes = b"") -> bytes:
    return b"a" + bytes([code, len(shape)]) + b"".join(struct.pack("<Q", size) for size in shape) + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"z",
        b"nn",
        b"l\xff\xff\xff\xff",
        b"m\xff\xff\xff\xff" + bytes(8),
        b"s\xff\xff\xff\xffabc",
        b"i\x08\x00\x00\x00\x01",
        b"d\x00",
        b"m\x01\x00\x00\x00nn",
        b"l\x01\x00\x00\x00" * 10**5,
        array(99, 1),
        array(11, 2**63),
        array(11, 2**31 - 1, 2**31 - 1),
        array(11, 2**31 - 1, 2**31 - 1, 0, 2**31 - 1),
        array(11, 2, data=bytes(15)),
        array(11, 2, data=bytes(17)),
        b"a" + bytes([11, 255]),
        b"c" + bytes([11, 1]) + struct.pack("<Q", 1) + bytes(8),
        b"l" + struct.pack("<I", MOST_VALUES + 1) + b"n" * (MOST_VALUES + 1),
        b"m" + struct.pack("<I", MOST_KEYS + 1) + b"n" * 2 * (MOST_KEYS + 1),
    ],
)
def test_what_claims_more_than_there_is_costs_nothing(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):  # noqa: PT011  (Malformed, or NumPy's own)
            unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_arrays_that_came_can_be_written_and_are_alone() -> None:
    data = pack(np.zeros(3))
    one, two = unpack(data), unpack(data)
    one += 1
    assert two.tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [np.zeros(100), "x" * 1000, list(range(1000)), [b"x" * 10] * 100])
def test_what_is_too_large_is_not_packed(value: Any) -> None:
    with pytest.raises(TooLarge):
        pack(value, most=500)


def test_too_many_parts_are_too_large_and_too_deep_ones_go_in_words() -> None:
    with pytest.raises(TooLarge):
        pack([None] * (MOST_VALUES + 1))
    value: Any = 1
    for _ in range(MOST_DEEP + 1):
        value = [value]
    found = unpack(pack(value))
    for _ in range(MOST_DEEP):
        (found,) = found
    assert found == Other("list", "[1]")


class Rude:
    def __repr__(self) -> str:
        raise ValueError


class Liar:
    __class__ = np.ndarray  # type: ignore[assignment]
    dtype = np.dtype("f4")


def test_others_are_told_by_their_real_type() -> None:
    assert unpack(pack(Rude())).kind == "Rude"
    assert unpack(pack(Liar())).kind == "Liar"
    assert unpack(pack(np.ma.array([1]))).kind == "MaskedArray"
    assert unpack(pack(np.array([None]))).kind == "ndarray of object"


def test_malformed_is_a_value_error() -> None:
    assert issubclass(Malformed, ValueError)
