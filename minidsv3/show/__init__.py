"""Pictures: results of the other rooms in, rich renderables out.

Every picture is a function of its data. One object serves all: colours on a terminal, characters with the
same meaning without colour, ASCII where the encoding has no more, plain text, and SVG with a description.
Widths from 60 columns on. Only this room and the command line import rich.

Reading order: numbers, chart, curve, chips, tables; for numbers in few bits anatomy, bits, number_line,
format_table, quantisation_map, logfmt_tile, accumulator, microscope, plot, measurements; for training
dashboard, report, needle, context, comparison, recipe_table; for costs axes, legend, roofline, waterfall,
kv_growth, memory_budget, and tables of hardware, published figures and wishes; checkpoint_table; svg.

    >>> from minidsv3.show.svg import plain_text
    >>> plain_text(Bar(0.75, width=8), ascii_only=True)
    '######'

Next: minidsv3.show.numbers
"""

from minidsv3.show.chart import Bar, Sparkline, Strip
from minidsv3.show.chips import Chips
from minidsv3.show.curve import Curve
from minidsv3.show.svg import plain_text, svg_text

__all__ = ["Bar", "Chips", "Curve", "Sparkline", "Strip", "plain_text", "svg_text"]
