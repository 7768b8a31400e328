"""Numbers as people read them: prefixes for FLOPs and bytes, units for seconds, shapes with crosses.

Three significant digits, decimal prefixes (1 kB is 1000 bytes, as in the report), a space before the unit.

Does: turn numbers into short ASCII text. Does not: round anything that is computed with.

    >>> flops(12_345_678), size(70272), duration(0.00042), shape((4, 256))
    ('12.3 MFLOP', '70.3 kB', '420 us', '4x256')
    >>> duration(95), duration(3700), count(1234567)
    ('1 min 35 s', '1 h 1 min', '1,234,567')
    >>> counted(1, "file"), counted(0, "file")
    ('1 file', '0 files')

Next: minidsv3.show.chart
"""

from collections.abc import Sequence

__all__ = ["count", "counted", "duration", "flops", "shape", "size"]

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
