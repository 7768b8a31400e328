"""Values as bytes, both ways, for the pipe between a checker and a student's process.

What travels: None, bool, int, float, str, NumPy arrays and scalars of bool, int and float kinds, and tuples,
lists and dicts of these. Anything else goes as an `Other`: its type and how it prints. A byte tells the kind,
sizes stand before what they measure, and reading checks each of them against what is there before it makes
anything of that size. Nothing is evaluated, unpickled, or looked up by name.

A `Frame` is a header (nonce, number, size of the body) and a body. Both sides know the limits below.

Does: pack, unpack, refuse. Does not: read or write a pipe (`child`, `session`).

    >>> unpack(pack({"x": np.array([1.5, 2], "f"), "why": (None, True, -3)}))
    {'x': array([1.5, 2. ], dtype=float32), 'why': (None, True, -3)}
    >>> unpack(pack(range(3)))
    Other(kind='range', said='range(0, 3)')
    >>> unpack(b"l" + bytes([255] * 4))
    Traceback (most recent call last):
    minidsv3.learn.sandbox.values.Malformed: expected 4294967295 values, got 0 bytes

Next: minidsv3.learn.sandbox.spaces
"""

import math
import struct
from reprlib import Repr
from typing import Any, NamedTuple

import numpy as np

__all__ = ["HEADER", "MOST_BYTES", "Malformed", "Other", "TooLarge", "Value", "pack", "unpack"]

Value = Any
"""None, bool, int, float, str, array, NumPy scalar, tuple, list, dict with str or int keys, `Other`."""

HEADER = struct.Struct("<16sIQ")  # nonce, number, bytes of the body
MOST_BYTES = 64 * 2**20  # of a body
MOST_VALUES = 100_000  # in a body
MOST_DEEP = 16  # of nesting
MOST_KEYS = 1024  # of a dict
MOST_DIGITS = 4096  # bytes of an int
MOST_SAID = 200  # characters of an `Other`
FORMATS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")  # little-endian on the way
CODES = {np.dtype(name): code for code, name in enumerate(FORMATS)}
COUNT, SIZE, REAL = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<d")
ndarray, generic = np.ndarray, np.generic
SHORT = Repr()
SHORT.maxother = SHORT.maxstring = MOST_SAID


class Malformed(ValueError):
    """Bytes that are no value, or one that is too large or too deep."""


class TooLarge(ValueError):
    """A value with more bytes or parts than may travel."""


class Other(NamedTuple):
    """A value of another type, in words."""

    kind: str  # name of its type; of an array also what it holds
    said: str  # how it prints, shortened


# ---- to bytes ---------------------------------------------------------------------------------------------


class _Writer:
    def __init__(self, most: int) -> None:
        self.data = bytearray()
        self.most, self.left = most, MOST_VALUES

    def value(self, value: Any, deep: int = 0) -> None:
        """Add a value; TooLarge beyond the most."""
        self.left -= 1
        if self.left < 0 or len(self.data) > self.most:
            raise TooLarge
        kind = type(value)
        if kind is ndarray or (issubclass(kind, generic) and kind.__module__ == "numpy"):
            self._array(b"a" if kind is ndarray else b"c", value)
        elif kind is str:
            self._text(b"s", value)
        elif value is None or kind is bool:
            self.data += b"n" if value is None else b"t" if value else b"f"
        elif kind is float:
            self.data += b"d" + REAL.pack(value)
        elif kind is int and value.bit_length() < 8 * MOST_DIGITS:
            digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.data += b"i" + COUNT.pack(len(digits)) + digits
        elif kind in (list, tuple) and deep < MOST_DEEP:
            parts = tuple(value)
            self.data += (b"l" if kind is list else b"u") + COUNT.pack(len(parts))
            for part in parts:
                self.value(part, deep + 1)
        elif kind is dict and deep < MOST_DEEP and len(value) <= MOST_KEYS and plain_keys(value):
            self.data += b"m" + COUNT.pack(len(value))
            for key, part in tuple(value.items()):
                self.value(key, deep + 1)
                self.value(part, deep + 1)
        else:
            self._other(value if kind is Other else in_words(value))

    def _array(self, tag: bytes, value: Any) -> None:
        code = CODES.get(value.dtype)
        if code is None:
            return self._other(in_words(value))
        if len(self.data) + value.nbytes > self.most:
            raise TooLarge
        self.data += tag + bytes([code, value.ndim])
        for size in value.shape:
            self.data += SIZE.pack(size)
        self.data += value.astype("<" + FORMATS[code], copy=False).tobytes()
        return None

    def _other(self, value: Other) -> None:
        self._text(b"o", value.kind[:MOST_SAID])
        self._text(b"", value.said[:MOST_SAID])

    def _text(self, tag: bytes, text: str) -> None:
        if len(text) > self.most:
            raise TooLarge
        data = text.encode("utf-8", "replace")
        self.data += tag + COUNT.pack(len(data)) + data


def pack(value: Value, most: int = MOST_BYTES) -> bytes:
    """A value as bytes; TooLarge if these are more than `most`."""
    writer = _Writer(most)
    writer.value(value)
    if len(writer.data) > most:
        raise TooLarge
    return bytes(writer.data)


def plain_keys(table: dict[Any, Any]) -> bool:
    """Whether the keys of a dict can travel."""
    return all(type(key) in (str, int) for key in table)


def in_words(value: Any) -> Other:
    """The type of a value and how it prints, shortened, whatever its class does about that."""
    try:
        return Other(type_name(value), SHORT.repr(value))
    except Exception:
        return Other(type_name(value), "something that cannot be shown")


def type_name(value: Any) -> str:
    """The name of its type, and of an array what it holds."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return f"{name} of {value.dtype}" if type(value) is ndarray else name


# ---- from bytes -------------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.values = data, 0, MOST_VALUES

    def take(self, size: int) -> bytes:
        """The next bytes; Malformed if there are fewer."""
        if size > len(self.data) - self.at:
            raise Malformed(f"expected {size} bytes, got {len(self.data) - self.at}")
        self.at += size
        return self.data[self.at - size : self.at]

    def sized(self) -> bytes:
        """Bytes with their number in front."""
        return self.take(COUNT.unpack(self.take(COUNT.size))[0])

    def value(self, deep: int = 0) -> Any:
        """The next value."""
        self.values -= 1
        if self.values < 0 or deep > MOST_DEEP:
            raise Malformed(f"expected at most {MOST_VALUES} values, {MOST_DEEP} deep")
        tag = self.take(1)
        if tag in SIMPLE:
            return SIMPLE[tag]
        if tag == b"i":
            return int.from_bytes(self.sized()[:MOST_DIGITS], "little", signed=True)
        if tag == b"d":
            return REAL.unpack(self.take(REAL.size))[0]
        if tag == b"s":
            return self.sized().decode("utf-8", "replace")
        if tag == b"o":
            return Other(*(self.sized()[: 4 * MOST_SAID].decode("utf-8", "replace") for _ in range(2)))
        return self._array(tag) if tag in (b"a", b"c") else self._many(tag, deep + 1)

    def _many(self, tag: bytes, deep: int) -> Any:
        """A list, a tuple or a dict."""
        if tag not in (b"l", b"u", b"m"):
            raise Malformed(f"expected the kind of a value, got {tag!r}")
        count: int = COUNT.unpack(self.take(COUNT.size))[0]
        if count > len(self.data) - self.at:  # each takes a byte at least
            raise Malformed(f"expected {count} values, got {len(self.data) - self.at} bytes")
        if tag == b"m":
            if count > MOST_KEYS:
                raise Malformed(f"expected at most {MOST_KEYS} keys, got {count}")
            return {self._key(deep): self.value(deep) for _ in range(count)}
        values = [self.value(deep) for _ in range(count)]
        return values if tag == b"l" else tuple(values)

    def _key(self, deep: int) -> str | int:
        key = self.value(deep)
        if type(key) not in (str, int):
            raise Malformed(f"expected str or int as key, got {type(key).__name__}")
        return key  # type: ignore[no-any-return]

    def _array(self, tag: bytes) -> Any:
        """An array or a scalar, in memory of its own that may be written."""
        code, axes = self.take(2)
        if code >= len(FORMATS) or axes > 32 or (tag == b"c" and axes):
            raise Malformed(f"expected the format and axes of an array, got {code} and {axes}")
        shape = [SIZE.unpack(self.take(SIZE.size))[0] for _ in range(axes)]
        held = np.dtype("<" + FORMATS[code])
        if max(shape, default=0) >= 2**31:
            raise Malformed(f"expected sizes below 2**31, got {shape}")
        flat = np.frombuffer(self.take(math.prod(shape) * held.itemsize), held)
        array = flat.astype(held.newbyteorder("=")).reshape(shape)  # copies
        return array if tag == b"a" else array[()]


SIMPLE: dict[bytes, bool | None] = {b"n": None, b"t": True, b"f": False}


def unpack(data: bytes) -> Value:
    """The value again; Malformed if the bytes are not exactly one value."""
    reader = _Reader(data)
    value = reader.value()
    if reader.at != len(data):
        raise Malformed(f"expected the end, got {len(data) - reader.at} bytes more")
    return value
