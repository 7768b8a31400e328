"""`minidsv3 show bits`, `numberline` and `formats`: what a number format is.

A value may be written as 0.3, -1e-3, 2^-9, inf or nan; a code as 0x2A or 0b101010. A value is first a
float32, which every format here is rounded from in one step.

Does: read values and names, hand them to the pictures. Does not: draw.

    >>> read_value("-2^-10"), read_value("0x2A")
    ((-0.0009765625, False), (42.0, True))

Next: minidsv3.cli.show_scaling
"""

import argparse
import math
from typing import TYPE_CHECKING

from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    from minidsv3.numerics.formats import NumberFormat

__all__ = ["SUBJECTS", "read_format", "read_formats", "read_number", "read_value"]

BESIDE = "e4m3,e5m2,e5m6,bf16,fp16,fp32"  # of a value, when no format is asked for
STACKED = "e4m3,e5m2,e5m6,fp16,bf16"


def read_formats(names: str) -> "list[NumberFormat]":
    """Formats by their names, a comma between; ValueError naming the nearest."""
    from minidsv3.config import near
    from minidsv3.numerics import FORMATS

    found = []
    for name in filter(None, (word.strip().lower() for word in names.split(","))):
        if name not in FORMATS:
            raise ValueError(f"expected a number format, got {name!r}: {near(name, list(FORMATS))}")
        found.append(FORMATS[name])
    if not found:
        raise ValueError("expected names of formats, such as e4m3,e5m2, got none")
    return found


def read_format(name: str) -> "NumberFormat":
    """One format by its name."""
    found = read_formats(name)
    if len(found) > 1:
        raise ValueError(f"expected one number format, got {name!r}")
    return found[0]


def read_value(text: str) -> tuple[float, bool]:
    """A number, and whether it is a code.  A sign in front of a power belongs to the whole: -2^-10 < 0."""
    try:
        if text.lower().startswith(("0x", "0b")):
            return float(int(text, 0)), True
        if "^" in text:
            base, _, power = text.strip().partition("^")
            value = math.pow(float(base.removeprefix("-")), float(power))
            return -value if base.startswith("-") else value, False
        return float(text), False
    except (ValueError, OverflowError):
        known = "a value such as 0.3 or 2^-9, or a code such as 0x2A"
        raise ValueError(f"expected {known}, got {text!r}") from None


def read_number(text: str) -> float:
    """A number where a code would mean nothing."""
    value, is_code = read_value(text)
    if is_code:
        raise ValueError(f"expected a value such as 0.3 or 2^-9, got the code {text}")
    return value


# ---- bits -------------------------------------------------------------------------------------------------


def _bits_arguments(parser: argparse.ArgumentParser) -> None:
    from minidsv3.numerics import OVERFLOWS, ROUNDINGS

    parser.add_argument("value", metavar="VALUE|CODE", help="such as 0.3, 2^-9, -inf, or a code, 0x2A")
    parser.add_argument("--format", metavar="NAMES", help=f"the first is drawn in full ({BESIDE})")
    parser.add_argument("--rounding", default="nearest-even", help=f"{', '.join(ROUNDINGS)} (nearest-even)")
    parser.add_argument("--overflow", help=f"{' or '.join(OVERFLOWS)} (each format's own)")


def _bits(args: argparse.Namespace) -> int:
    from minidsv3.show.bits import BitPage

    value, is_code = read_value(args.value)
    formats = read_formats(args.format or ("e4m3" if is_code else BESIDE))
    if is_code:
        page = BitPage.of_code(int(value), formats)
    else:
        page = BitPage.of_value(value, args.value, formats, args.rounding, args.overflow)
    return present(args, f"bits {args.value}", page, page.to_dict())


# ---- number line ------------------------------------------------------------------------------------------


def _line_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", default=STACKED, metavar="NAMES", help=f"a line for each ({STACKED})")
    parser.add_argument("--from", dest="start", metavar="X", help="where the linear line begins (0)")
    parser.add_argument("--to", dest="stop", metavar="X", help="where it ends (2)")
    parser.add_argument("--value", metavar="X", help="mark this value and what it is rounded to")


def _numberline(args: argparse.Namespace) -> int:
    from minidsv3.show.number_line import LinePage

    formats = read_formats(args.format)
    value = None if args.value is None else read_number(args.value)
    start = 0.0 if args.start is None else read_number(args.start)
    stop = start + 2.0 if args.stop is None else read_number(args.stop)
    page = LinePage.of(formats, start, stop, value)
    return present(args, "numberline", page, page.to_dict())


# ---- table ------------------------------------------------------------------------------------------------


def _formats_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="FORMAT", help="one format in full, with its codes")


def _formats(args: argparse.Namespace) -> int:
    from minidsv3.numerics import BLOCK_FORMATS, FORMATS
    from minidsv3.numerics.integers import INTEGERS
    from minidsv3.show.format_table import FormatPage, FormatsPage, FormatTable, SharedScales, format_row

    if args.name:
        fmt = read_format(args.name)
        return present(args, "formats", FormatPage(fmt), {"formats": [format_row(fmt)]})
    formats = list(FORMATS.values())
    shared = SharedScales(list(BLOCK_FORMATS.values()), list(INTEGERS.values()))
    table = {"formats": [format_row(fmt) for fmt in formats], "shared_scales": shared.rows()}
    return present(args, "formats", FormatsPage(FormatTable(formats), shared), table)


SUBJECTS = {
    "bits": Subject(
        "One number in a format: fields and weights, the value they spell, neighbours, the rounding.",
        [
            "minidsv3 show bits 0.3 --format e4m3",
            "minidsv3 show bits 4.25 --format e5m2         # a tie",
            "minidsv3 show bits 0x7E --format e4m3,e5m2    # a code",
            "minidsv3 show bits 465 --format e4m3 --overflow nonsaturating",
        ],
        _bits_arguments,
        _bits,
    ),
    "numberline": Subject(
        "All values of a format: how many an octave has, and where they lie on a line.",
        [
            "minidsv3 show numberline",
            "minidsv3 show numberline --format e4m3 --from 0 --to 2^-4",
            "minidsv3 show numberline --format e4m3,e5m2 --value 0.3 --to 1",
        ],
        _line_arguments,
        _numberline,
    ),
    "formats": Subject(
        "The table of number formats, or one of them with all its codes.",
        ["minidsv3 show formats", "minidsv3 show formats e2m1", "minidsv3 show formats --json"],
        _formats_arguments,
        _formats,
    ),
}
