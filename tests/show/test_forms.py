"""The five forms of every picture: each module's own demo through all of them; palettes; glyphs."""

import codecs
import importlib
import io
import pkgutil
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import lru_cache
from itertools import pairwise, product
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

import minidsv3.show as show
from minidsv3.show.forms import (
    DIVERGING,
    FORMS,
    INKS,
    SEQUENTIAL,
    STANDS_FOR,
    Palette,
    alphabet,
    contrast,
    in_form,
    in_words,
    ink_on,
    lightness,
    protected,
    shown,
)
from minidsv3.show.svg import svg_text

WIDTHS, ENCODINGS = (60, 80, 120), ("utf-8", "cp1252", "cp437", "ascii")
# what these demos draw takes a second or more to compute
SLOW = {"co_design_table", "comparison", "mtp_lanes"}
BLOCKS = re.compile(r"[─-▟]|-----|\+--")  # lines, corners, bars: read aloud one by one


def modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(show.__path__)]


def with_demo() -> list[Any]:
    """Names of modules that show themselves, the slow ones marked."""
    found = [name for name in modules() if hasattr(importlib.import_module(f"minidsv3.show.{name}"), "demo")]
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in found]


@lru_cache
def demo(name: str) -> Any:
    return importlib.import_module(f"minidsv3.show.{name}").demo()


def columns(text: str) -> int:
    return max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in text.split("\n"))


def check(name: str, form: str, width: int, encoding: str) -> str:
    text = in_form(demo(name), form, width, encoding)
    assert text.strip()
    text.encode("ascii" if form == "ascii" else encoding)
    if form == "words":
        assert not BLOCKS.search(text), BLOCKS.search(text)
        assert "\x1b" not in text
    else:
        assert columns(text) <= width
        assert ("\x1b" in text) <= (form in ("colour", "16 colours"))
    return text


@pytest.mark.parametrize("name", with_demo())
def test_every_picture_has_its_forms(name: str) -> None:
    for form, encoding in (("colour", "utf-8"), ("no colour", "cp1252"), ("words", "ascii")):
        check(name, form, 60, encoding)


@pytest.mark.slow  # 40 s
@pytest.mark.parametrize("name", with_demo())
def test_every_picture_in_every_form_width_and_encoding(name: str) -> None:
    for form, width, encoding in product(FORMS, WIDTHS, ENCODINGS):
        assert check(name, form, width, encoding) == check(name, form, width, encoding)
    svg = svg_text(demo(name), f"show {name}", 80, in_words(demo(name)))
    root, space = ET.fromstring(svg), "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{space}title") == f"show {name}"
    assert len(root.findtext(f"{space}desc") or "") > 20
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_modules_without_a_demo_are_no_pictures() -> None:
    """What others draw with."""
    found = {param.values[0] for param in with_demo()}
    assert set(modules()) - found <= {"anatomy", "axes", "cells", "legend", "numbers", "rehearsal", "svg"}


def test_a_demo_runs_as_a_module() -> None:
    command = [sys.executable, "-W", "error", "-m", "minidsv3.show.chips", "--form", "ascii", "--width", "60"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout.decode("ascii").startswith("|def|_scale|")
    assert not done.stderr


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of the forms colour, 16 colours, .* got 'sepia'"):
        in_form("x", "sepia")


# ---- glyphs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437", "utf-8"])
def test_no_glyph_stops_a_file(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    glyphs = "".join(STANDS_FOR.values()) + "図🙂"
    held = io.BytesIO()
    file = io.TextIOWrapper(held, encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", file)
    shown(glyphs, ["--form", "no colour", "--width", "300"])
    shown(glyphs, ["--width", "300"])
    file.flush()
    once, _, again = held.getvalue().decode(encoding).partition("\n")
    assert once == again.strip()
    assert len(once) == len(glyphs) if encoding == "utf-8" else len(once) == len(glyphs) - 2 + 6 + 10


def test_a_twin_is_one_ascii_character_for_one_glyph() -> None:
    glyphs = "".join(STANDS_FOR.values())
    assert len(set(glyphs)) == len(glyphs)
    assert all(len(twin) == 1 and twin.isascii() for twin in STANDS_FOR)
    assert not glyphs.isascii()


def test_files_without_an_encoding_are_left_alone() -> None:
    file = io.StringIO()
    assert protected(file) is file


def test_decoding_is_not_ours() -> None:
    with pytest.raises(UnicodeDecodeError):
        codecs.decode(b"\xff", "utf-8", "minidsv3.twins")


def test_the_ladder_ends_on_its_last_rung() -> None:
    assert alphabet("ascii", "▁█", "░█", "_#") == "_#"
    assert alphabet("cp437", "▁█", "░█", "_#") == "░█"


# ---- palettes ---------------------------------------------------------------------------------------------


def test_the_sequence_is_ordered_by_lightness_in_even_steps() -> None:
    steps = [b - a for a, b in pairwise(map(lightness, SEQUENTIAL.colours))]
    assert all(6 < step < 10 for step in steps)
    assert [round(lightness(colour)) for colour in ("#000000", "#ffffff")] == [0, 100]


def test_diverging_grows_lighter_from_a_dark_middle_alike_on_both_sides() -> None:
    light = [lightness(colour) for colour in DIVERGING.colours]
    assert all(9 < b - a < 17 for a, b in pairwise(light[4:]))
    assert all(abs(a - b) < 2 for a, b in zip(light, reversed(light), strict=True))


@pytest.mark.parametrize("palette", [SEQUENTIAL, DIVERGING])
def test_numbers_can_be_read_on_every_fill(palette: Palette) -> None:
    assert all(contrast(ink_on(colour), colour) >= 4.5 for colour in palette.colours)
    lengths = {len(palette.colours), len(palette.sixteen), len(palette.glyphs), len(palette.plain)}
    assert lengths == {9}
    assert len(set(palette.glyphs)) == len(set(palette.plain)) == 9
    assert palette.plain.isascii()


@pytest.mark.parametrize("background", ["#000000", "#1e1e1e", "#ffffff", "#fdf6e3"])
def test_inks_are_seen_on_light_and_on_dark(background: str) -> None:
    assert all(contrast(ink, background) >= 3 for ink in INKS)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_a_share_has_a_step() -> None:
    assert [SEQUENTIAL.step(share) for share in (-1, 0, 0.5, 1, 7, float("nan"))] == [0, 0, 4, 8, 8, 0]
    few, many = (Console(color_system=system, file=io.StringIO()) for system in ("standard", "truecolor"))
    assert SEQUENTIAL.fill(1, few).bgcolor.name == "bright_yellow"  # type: ignore[union-attr]
    assert SEQUENTIAL.fill(1, many).bgcolor.name == SEQUENTIAL.colours[-1]  # type: ignore[union-attr]
    assert DIVERGING.colour(0, few) == "bright_cyan"
    assert DIVERGING.colour(0, many) == DIVERGING.colours[0]


def test_a_table_is_told_row_by_row() -> None:
    table = Table("name", "bytes", "", title="sizes")
    table.add_row("W_O", "12", "")
    assert in_words(table) == "sizes\nname W_O, bytes 12"
