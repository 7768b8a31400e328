"""Pictures: results of the other rooms in, rich renderables out.

Every picture is a function of its data. One object serves all: colours on a terminal, characters with the
same meaning without colour, ASCII where the encoding has no more, plain text, and SVG with a description.
Widths from 60 columns on. Only this room and the command line import rich. A module with a `demo()` shows
itself: `python -m minidsv3.show.roofline --form ascii --width 60`.

Reading order: numbers, forms, chart, curve, chips, tables; for numbers in few bits anatomy to measurements;
for training rehearsal to recipe_table; for costs axes to tables of hardware, published figures and wishes;
values of the model from value on; ideas (absorption, mtp_lanes, merge_theatre, fim_spans, rotation); svg.

    >>> from minidsv3.show import Bar, plain_text
    >>> plain_text(Bar(0.75, width=8), ascii_only=True)
    '######'

Next: minidsv3.show.numbers
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.show.chart import Bar, Sparkline, Strip
    from minidsv3.show.chips import Chips
    from minidsv3.show.curve import Curve
    from minidsv3.show.svg import plain_text, svg_text

__all__ = ["Bar", "Chips", "Curve", "Sparkline", "Strip", "plain_text", "svg_text"]

# loaded when first used, so that a module of this room can be run as a demo of itself
_HOMES = {"Bar": "chart", "Sparkline": "chart", "Strip": "chart", "Chips": "chips", "Curve": "curve"}
_HOMES |= {"plain_text": "svg", "svg_text": "svg"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'minidsv3.show' has no attribute {name!r}")
    return getattr(import_module(f"minidsv3.show.{_HOMES[name]}"), name)
