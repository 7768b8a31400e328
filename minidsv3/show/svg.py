"""The other forms of a picture: plain text of a given width, and an SVG that stands on its own.

rich's SVG asks a server for its fonts and has no words for those who cannot see it. Here the fonts are the
reader's own monospaced ones, and `role`, `<title>` and `<desc>` are added, the latter being the
picture in words or as text. The bytes are a function of the picture and nothing else.

Does: render renderables off screen. Does not: write files.

    >>> print(plain_text("two words", width=20))
    two words
    >>> svg = svg_text("two words", title="a title", width=20)
    >>> 'role="img"' in svg, "<title>a title</title>" in svg, "@font-face" in svg
    (True, True, False)

Next: minidsv3.learn
"""

import io
import re
from html import escape

from rich.console import Console, RenderableType

from minidsv3.show.forms import PLAIN, in_words, off_screen

__all__ = ["in_words", "plain_text", "svg_text"]

FONTS = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace'


def plain_text(picture: RenderableType, width: int = 100, ascii_only: bool = False) -> str:
    """The picture without colour, lines without trailing spaces."""
    return off_screen(picture, width, "ascii" if ascii_only else "utf-8")


def svg_text(
    picture: RenderableType, title: str, width: int = 100, description: str = "", name: str = "minidsv3"
) -> str:
    """The picture as SVG.

    description: for those who hear it; the text form if not given.  name: in front of all its ids and
    classes; pictures on one page need different ones.
    """
    console = Console(
        file=io.StringIO(),
        record=True,
        width=width,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        **PLAIN,
    )
    console.print(picture)
    svg = console.export_svg(title=title, unique_id=name)
    svg = re.sub(r"@font-face\s*\{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family:[^;]*;", f"font-family: {FONTS};", svg)
    said = escape(description or plain_text(picture, width), quote=False)
    head = f'xml:space="preserve" role="img" aria-describedby="{name}-about">\n'  # spaces in front count
    head += f"<title>{escape(title)}</title>\n"
    head += f'<desc id="{name}-about">{said}</desc>'
    svg = re.sub(r"(<svg\b[^>]*)>", lambda found: f"{found[1]} {head}", svg, count=1)
    return re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL) + ("" if svg.endswith("\n") else "\n")
