"""Numbers as people read them: prefixes for FLOPs and bytes, units for seconds, shapes with crosses.

Three significant digits, decimal prefixes (1 kB is 1000 bytes, as in the report), a space before the unit.

Does: turn numbers into short ASCII text. Does not: round anything that is computed with.

    >>> flops(12_345_678), size(70272), duration(0.00042), shape((4, 256))
    ('12.3 MFLOP', '70.3 kB', '420 us', '4x256')
    >>> duration(95), duration(3700), count(1234567)
    ('1 min 35 s', '1 h 1 min', '1,234,567')
    >>> counted(1, "file"), counted(0, "file")
    ('1 file', '0 files')
    >>> number(0.3125), number(2.0**-133), number(float("nan")), percent(0.000554), signed_percent(-0.04)
    ('0.3125', '9.18355e-41', 'NaN', '0.055 %', '-4.0 %')

Next: minidsv3.show.forms
"""

from collections.abc import Sequence

__all__ = [
    "count",
    "counted",
    "duration",
    "flops",
    "number",
    "percent",
    "shape",
    "signed_percent",
    "size",
]

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def _digits(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _prefixed(value: float, unit: str) -> str:
    power = 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    number = f"{value:.0f}" if power == 0 else _digits(value)
    return f"{number} {_PREFIXES[power]}{unit}"


def flops(value: float) -> str:
    """Floating-point operations."""
    return _prefixed(value, "FLOP")


def size(value: float) -> str:
    """Bytes."""
    return _prefixed(value, "B")


def duration(seconds: float) -> str:
    """Seconds, from nanoseconds to hours."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    if seconds >= 90:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    if seconds >= 1 or seconds <= 0:
        return f"{seconds:.3g} s"
    for scale, unit in ((1e3, "ms"), (1e6, "us")):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def counted(number: int, noun: str) -> str:
    """So many things, by a noun whose plural has an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shape(sizes: Sequence[int]) -> str:
    """The shape of an array."""
    return "x".join(map(str, sizes)) or "1"


def number(value: float, sign: bool = False) -> str:
    """A float, in full if that is short.  sign: + in front of what is not negative."""
    if value != value:
        return "NaN"
    full = repr(float(value)).removesuffix(".0")
    text = full if len(full.lstrip("-")) <= 11 else f"{value:.6g}"
    return f"+{text}" if sign and not text.startswith("-") else text


def percent(share: float) -> str:
    """A share of one in per cent, two or three significant digits."""
    value = abs(share) * 100
    if value == 0:
        return "0 %"
    if value < 0.001:
        return f"{share * 100:.5f} %" if value >= 0.0001 else f"{share * 100:.1e} %"
    digits = 4 if value < 0.01 else 3 if value < 1 else 2 if value < 10 else 1
    return f"{share * 100:.{digits}f} %"


def signed_percent(share: float) -> str:
    """A change in per cent, with its sign."""
    return f"{share * 100:+.2g} %" if 0 < abs(share) < 0.01 else f"{share * 100:+.1f} %"
