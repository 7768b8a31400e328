"""Pictures of numbers: golden renderings, and that what they say of a number is true of it."""

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

from minidsv3.hardware import load_hardware
from minidsv3.numerics import BF16, E2M1, E4M3, E5M2, E5M6, FORMATS, FP16, FP32, ROUNDINGS, UE8M0
from minidsv3.numerics.experiments import SumError, dot_trace
from minidsv3.numerics.formats import NumberFormat
from minidsv3.numerics.logfmt import LogFMT
from minidsv3.numerics.scaling import quantize
from minidsv3.numerics.tile_errors import tile_error
from minidsv3.show import plain_text
from minidsv3.show.accumulator import AccumulatorPage
from minidsv3.show.anatomy import anatomy, round_apart
from minidsv3.show.bits import BitPage
from minidsv3.show.format_table import FormatPage, FormatTable, format_row
from minidsv3.show.logfmt_tile import LogFMTPage, float_levels, levels_by_octave, levels_of
from minidsv3.show.measurements import Bars, Comparison
from minidsv3.show.microscope import Microscope, term_bits
from minidsv3.show.number_line import (
    LinearLine,
    LinePage,
    Profile,
    octaves_of,
    values_between,
    values_by_octave,
)
from minidsv3.show.plot import LogPlot
from minidsv3.show.quantisation_map import ElementTable, QuantisationMap, error_level
from minidsv3.show.tables import in_parts

GOLDEN = Path(__file__).parent / "golden"
SMALL = [fmt for fmt in FORMATS.values() if fmt.bits <= 16]


def matrix() -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((8, 256), np.float32)
    x[:, 17] *= 100_000
    return x


X = matrix()
FEW = np.float32([[1.0, 0.1, 300.0, 0.001, -0.02, 0.0]])
FP8 = load_hardware("h800").tensor_core["fp8"]
UNIT = replace(FP8, silicon="an example", status="assumed")
ERRORS = [
    SumError(kind, k, interval, 13, share * k / 4096 if interval is None else 6e-4, share, share / 2, 1.0)
    for kind, share in (("uniform [0, 1)", 0.0745), ("normal", 0.001))
    for interval in (None, 128)
    for k in (128, 512, 1000, 4096)
]
WIDER = [
    SumError("uniform [0, 1)", 4096, i, bits, 2.0**-bits, 0.0, 0.0, 1.0)
    for bits in (10, 13)
    for i in (None, 128)
]
CODES = [E4M3.encode(np.random.default_rng(seed).standard_normal(160, np.float32) * 90) for seed in (0, 1)]
TRACE = dot_trace(*CODES, FP8)
TILE = np.random.default_rng(0).standard_normal((1, 64), np.float32)
ROUNDED = tile_error(TILE, LogFMT(bits=8).round(TILE))
ZEROS = {"to zero": {"E5M2": "0", "E4M3": "12"}}
WAYS = ["E4M3 1x128", "E5M2 1x128", "E4M3 128x128", "E5M2 128x128", "BF16"]
PICTURES: dict[str, RenderableType] = {
    "bits_e4m3": BitPage.of_value(0.3, "0.3", [E4M3, E5M2, E5M6, BF16, FP16, FP32]),
    "bits_tie": BitPage.of_value(4.25, "4.25", [E4M3]),
    "bits_wide": BitPage.of_value(-1e-40, "-1e-40", [FP32, BF16]),
    "bits_code": BitPage.of_code(0x7E, [E4M3, E5M2, UE8M0]),
    "number_line": LinePage.of([E4M3, E5M2, E5M6, FP16, BF16], 0.0, 2.0, 0.3),
    "number_line_signed": LinePage.of([E4M3, E2M1], -1.0, 0.5),
    "formats": FormatTable(list(FORMATS.values())),
    "format": FormatPage(E4M3),
    "quantisation": QuantisationMap(X, quantize(X, (1, 128))),
    "quantisation_blocks": QuantisationMap(X, quantize(X, (4, 256), E5M2, scale="power-of-two")),
    "elements": ElementTable(FEW, quantize(FEW, (1, 6))),
    "accumulator": AccumulatorPage("NVIDIA H800 SXM", UNIT, ERRORS, WIDER, 1024),
    "microscope": Microscope("NVIDIA H800 SXM", FP8, TRACE, "normal operands, seed 0", 2),
    "logfmt": LogFMTPage(
        "a tile", TILE, LogFMT(bits=8), {"LogFMT-8": tile_error(TILE, LogFMT(bits=8).round(TILE))}
    ),
    "bars": Bars(
        "codec", "rel. RMS", {"E5M2": 0.0513, "E4M3": 0.0257}, {"to zero": {"E5M2": "0", "E4M3": "12"}}
    ),
    "comparison": Comparison("op", {f"op.{i}": dict.fromkeys(WAYS, i / 1000) for i in (1, 20)}),
    "plot": LogPlot({"a": [(128, 1e-3), (512, 1e-2), (4096, 0.3)], "b": [(128, 1e-3), (4096, 1e-3)]}, "K"),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PICTURES)
def test_golden(name: str, width: int) -> None:
    check_golden(GOLDEN, name, PICTURES[name], width)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("width", WIDTHS)
def test_ascii_form(name: str, width: int) -> None:
    check_ascii(PICTURES[name], width)


@pytest.mark.parametrize("name", PICTURES)
def test_svg(name: str) -> None:
    check_svg(PICTURES[name])


# ---- bits -------------------------------------------------------------------------------------------------


def computed(equation: str) -> Fraction:
    """The number an equation such as `-2^(5 - 7) x (1 + 2/8)` spells."""
    sign, base, bias, _, hidden, part, steps = re.fullmatch(
        r"([+-]?)2\^\((\d+) - (\d+)\)( x \((\d) \+ (\d+)/(\d+)\))?", equation
    ).groups()  # type: ignore[union-attr]
    significand = Fraction(1) if part is None else int(hidden) + Fraction(int(part), int(steps))
    return (-1 if sign == "-" else 1) * significand * Fraction(2) ** (int(base) - int(bias))


@pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
def test_the_equation_of_every_code_is_its_value(fmt: NumberFormat) -> None:
    for code in range(0, 1 << fmt.bits, 1 if fmt.bits <= 12 else 37):
        part = anatomy(code, fmt)
        assert int(part.sign + part.exponent + part.fraction, 2) == code
        if part.kind in ("NaN", "infinity"):
            assert not np.isfinite(part.value)
            assert part.kind in part.equation
        else:
            assert computed(part.equation) == Fraction(part.value)
        assert (part.kind == "subnormal") == (0 < abs(part.value) < fmt.smallest_normal)


@pytest.mark.parametrize("fmt", [E4M3, E5M2, E2M1, E5M6, BF16, FP16], ids=lambda fmt: fmt.name)
def test_what_is_kept_and_dropped_is_the_number(fmt: NumberFormat) -> None:
    rng = np.random.default_rng(1)
    for x in (rng.standard_normal(200) * 2.0 ** rng.integers(-30, 20, 200)).astype(np.float32):
        parts = round_apart(float(x), fmt)
        assert parts is not None
        digits = (parts.kept + parts.dropped).replace(".", "")
        assert int(digits, 2) * Fraction(2) ** (parts.exponent - len(digits) + 1) == abs(Fraction(float(x)))
        if abs(x) > fmt.largest:
            assert "beyond" in parts.verdict
            stays = np.isfinite(fmt.round(np.float32(x), overflow="nonsaturating")) and fmt.nan is not None
            assert parts.verdict.endswith("down to it") == stays or fmt.nan is None
            continue
        assert parts.below <= abs(x) <= parts.above
        up = abs(parts.rounded) == parts.above > parts.below
        assert parts.verdict.endswith("up") == up, (x, parts)
        assert abs(parts.rounded) == float(np.abs(fmt.round(np.float32(x))))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (4.25, "half a step falls out, a tie: down, to even"),
        (4.75, "half a step falls out, a tie: up, to even"),
        (464.0, "beyond the largest value, 448, by half a step, a tie: down to it"),
        (460.0, "beyond the largest value, 448, by less than half a step: down to it"),
        (465.0, "beyond the largest value, 448: becomes the largest value"),
        (0.5, "nothing falls out: exact"),
        (2.0**-10, "half a step falls out, a tie: down, to even"),
    ],
)
def test_verdicts(x: float, words: str) -> None:
    parts = round_apart(x, E4M3)
    assert parts is not None
    assert parts.verdict == words


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (-1.0, "below zero, in a format without a sign: becomes NaN"),
        (1e-40, "below the smallest value, 5.87747e-39: becomes it"),
        (2.0**-127 * 1.25, "less than half a step falls out: down"),
        (2.0**-127 * 1.75, "more than half a step falls out: up"),
        (0.375, "half a step falls out, a tie: up, to even"),
        (2.0**127 * 1.25, "beyond the largest value, 1.70141e+38, by less than half a step: down to it"),
    ],
)
def test_verdicts_on_scales(x: float, words: str) -> None:
    parts = round_apart(x, UE8M0)
    assert parts is not None
    assert parts.verdict == words
    assert np.isnan(parts.rounded) if x < 0 else parts.rounded in (parts.below, parts.above, 2.0**-127)


@pytest.mark.parametrize(
    ("x", "fmt", "words"),
    [
        (1e39, E4M3, "too large for a float32, there infinity; infinity becomes the largest value"),
        (1e-46, E4M3, "too small for a float32, there zero"),
        (0.0, UE8M0, "a format without zero: it becomes 5.87747e-39"),
        (np.nan, E2M1, "a format without NaN: it becomes the largest value"),
        (np.nan, E4M3, ""),
        (0.0, E4M3, ""),
    ],
)
def test_notes(x: float, fmt: NumberFormat, words: str) -> None:
    assert BitPage.of_value(x, "x", [fmt]).card.note == words


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("fmt", [E4M3, E5M6, BF16, UE8M0], ids=lambda fmt: fmt.name)
def test_the_code_drawn_is_the_one_rounding_gives(fmt: NumberFormat, rounding: str) -> None:
    for x in np.random.default_rng(2).uniform(0.1, 5, 20).astype(np.float32):
        page = BitPage.of_value(float(x), "x", [fmt], rounding)
        draws = {"rng": np.random.default_rng(0)} if rounding == "stochastic" else {}
        assert page.card.part.code == int(fmt.encode(x, rounding=rounding, **draws))
        if rounding == "toward-zero":
            assert page.card.part.value <= x


def test_nothing_to_round() -> None:
    assert [round_apart(x, E4M3) for x in (0.0, np.inf, np.nan)] == [None] * 3
    assert "infinity becomes NaN" in plain_text(
        BitPage.of_value(np.inf, "inf", [E4M3], overflow="nonsaturating")
    )
    with pytest.raises(ValueError, match=r"expected a code of e2m1, 0x0 .. 0xF, got 0x10"):
        BitPage.of_code(16, [E2M1])


# ---- line and table ---------------------------------------------------------------------------------------


def positive_values(fmt: NumberFormat) -> np.ndarray:
    values = fmt.decode(np.arange(1 << fmt.bits).astype(fmt.dtype))
    return np.unique(values[np.isfinite(values) & (values > 0)].astype(np.float64))


@pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
def test_octaves_hold_the_values_that_decoding_finds(fmt: NumberFormat) -> None:
    values, (low, high) = positive_values(fmt), octaves_of(fmt)
    octaves = range(low - 2, min(high + 2, 127) + 1)
    found = values_by_octave(fmt, octaves)
    expected = [np.count_nonzero((values >= 2.0**k) & (values < 2.0 ** (k + 1))) for k in octaves]
    assert found.tolist() == expected
    assert found.sum() == len(values)


@pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
def test_stretches_hold_the_values_that_decoding_finds(fmt: NumberFormat) -> None:
    values = positive_values(fmt)
    every = np.concatenate([-values, [0.0], values]) if fmt.signed else values
    edges = np.sort(np.random.default_rng(0).normal(0, 2, 40)).astype(np.float32)
    edges = np.sort(np.append(edges, np.float32([0.0, 1.0, -1.0])))
    expected = [np.count_nonzero((every >= a) & (every < b)) for a, b in pairwise(edges)]
    assert values_between(fmt, edges).tolist() == expected


@pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
def test_the_table_says_which_codes_are_what(fmt: NumberFormat) -> None:
    row, codes = format_row(fmt), np.arange(1 << (fmt.bits - fmt.signed))
    values = fmt.decode(codes.astype(fmt.dtype))
    nan = codes[np.isnan(values)]
    assert row["nan_codes"] == ([nan[0], nan[-1]] if nan.size else None)
    assert row["infinity_code"] == (codes[np.isinf(values)][0] if np.isinf(values).any() else None)
    assert row["finite_codes"] == np.isfinite(values).sum() * (1 + fmt.signed)
    assert row["largest"] == values[np.isfinite(values)].max()


def test_an_octave_cut_short_is_said_to_be() -> None:
    assert Profile([E4M3, E5M2, FP16, E2M1], -12, 16).uneven() == ["E4M3: 7 values from 2^8 on, not 8"]


def test_a_line_says_where_the_picture_ends() -> None:
    text = plain_text(Profile([BF16], -4, 4), 80)
    assert "<" in text
    assert ">" in text
    assert LinearLine([E4M3], 0.0, 2.0).counts() == {"E4M3": 65}
    for start, stop, value in ((1.0, 1.0, None), (0.0, np.inf, None), (0.0, 1e39, None), (0.0, 1.0, 2.0)):
        with pytest.raises(ValueError, match="expected"):
            LinePage.of([E4M3], start, stop, value)


# ---- tiles ------------------------------------------------------------------------------------------------


def test_levels_of_error() -> None:
    one = np.float32([1.0])
    assert [error_level(one, one * np.float32(1 - e)) for e in (0, 0.001, 0.03, 0.3, 1.0)] == [0, 1, 4, 7, 8]
    assert error_level(one, np.float32([np.nan])) == 8
    assert error_level(np.zeros(1, np.float32), np.zeros(1, np.float32)) == 0


def test_a_tile_with_an_outlier_is_seen_in_the_map() -> None:
    """One scale for everything: the map is worse all over; in tiles only the outlier's own is."""

    def levels(block: tuple[int, int]) -> np.ndarray:
        back = quantize(X, block).dequantize()
        return np.array([error_level(X[:, i : i + 32], back[:, i : i + 32]) for i in range(32, 256, 32)])

    tiles, whole = levels((1, 128)), levels(X.shape)
    assert (whole >= tiles).all()
    assert (whole[4:] > tiles[4:]).any()


def test_a_plot_of_nothing_has_no_axis() -> None:
    text = plain_text(LogPlot({"a": [(1, 0.0)], "b": [(1, 0.0), (2, 0.0)]}, "K"), 60)
    assert text.strip() == "a, b: 0 everywhere, which a logarithm does not show"


def test_a_table_in_parts_loses_nothing() -> None:
    heads = ("name", "one", "another", "a third")
    rows = [{head: f"{head} {i}" for head in heads} for i in (1, 22)]

    class Parts:
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            yield from in_parts(rows, options, right=("one",))

    for width, tables in ((80, 1), (20, 3), (31, 2)):
        text = plain_text(Parts(), width)
        assert text.count("name 22") == tables
        assert all(cell in text for row in rows for cell in row.values())
        assert max(map(len, text.splitlines())) <= width


# ---- accumulator and LogFMT -------------------------------------------------------------------------------


def test_the_digits_under_the_microscope_are_the_term() -> None:
    for step in TRACE.steps:
        fraction = step.largest - step.last
        for term in step.terms:
            kept, dropped = term_bits(term, step.last, 4, fraction)
            digits = kept.replace(".", "") + dropped
            assert abs(Fraction(term.value)) == int(digits, 2) * Fraction(2) ** (step.last - len(dropped))
            assert kept.index(".") == 4
            assert ("1" in dropped) == (term.dropped != 0)


def test_levels_are_those_that_codes_decode_to() -> None:
    fmt = LogFMT(bits=5, tile=32)
    tile = np.random.default_rng(0).standard_normal((1, 32), np.float32)
    levels = levels_of(fmt, tile)
    back = np.unique(np.abs(fmt.round(tile))).astype(np.float64)
    assert len(levels) == 15
    assert all(np.isclose(value, levels, rtol=1e-6).any() for value in back)
    assert levels_by_octave(float_levels(E5M2, 3.0), 3.0, 6) == [4] * 6
    counted = levels_by_octave(float_levels(E4M3, 3.0), 3.0, 20)
    assert sum(counted) == 126
    assert counted[0] == 8
