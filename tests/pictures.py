"""What every picture is held to: golden text at three widths, an ASCII form, an SVG that stands alone."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import RenderableType

from minidsv3.show import plain_text, svg_text

WIDTHS = (60, 80, 120)


def check_golden(folder: Path, name: str, picture: RenderableType, width: int) -> None:
    """To renew a file, delete it and run the test twice; read the difference."""
    file = folder / f"{name}_{width}.txt"
    text = plain_text(picture, width) + "\n"
    assert max(map(len, text.splitlines())) <= width
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        pytest.fail(f"{file} was not there; it is now")
    assert text == file.read_text(encoding="utf-8")


def check_ascii(picture: RenderableType, width: int) -> None:
    """Nothing but ASCII, and no wider."""
    text = plain_text(picture, width, ascii_only=True)
    assert text.isascii(), set(text) - set(map(chr, range(128)))
    assert max(map(len, text.splitlines())) <= width


def check_svg(picture: RenderableType) -> None:
    """Deterministic, described, without fonts from elsewhere."""
    svg = svg_text(picture, title="a <title>", width=80)
    assert svg == svg_text(picture, title="a <title>", width=80)
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    assert root.findtext(f"{space}title") == "a <title>"
    assert plain_text(picture, 80) in (root.findtext(f"{space}desc") or "")
    assert not [word for word in ("@font-face", "cdn", "Fira") if word in svg]
