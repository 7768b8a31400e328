"""Python source as HTML with a class for each kind of word: keyword, string, number, comment.

Python's own tokenizer says what is what, so that what is shown is what runs. Source that it cannot read is
shown without classes.

Does: four classes. Does not: tell names apart.

    >>> print(to_html("if x:  # two"))
    <span class="k">if</span> x:  <span class="c"># two</span>

Next: minidsv3.learn.export.html
"""

import io
import keyword
import tokenize
from collections.abc import Iterator
from html import escape

__all__ = ["to_html"]

# classes that the page styles: keyword, string, number, comment
CLASSES = {tokenize.STRING: "s", tokenize.NUMBER: "n", tokenize.COMMENT: "c"}
STRINGS = {"FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END", "TSTRING_START", "TSTRING_MIDDLE", "TSTRING_END"}


def to_html(source: str) -> str:
    """Source with its words marked; the text of the result is the source."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    done, end = [], 0
    for first, last, kind in _words(source):
        begin, stop = starts[first[0] - 1] + first[1], starts[last[0] - 1] + last[1]
        if begin < end:
            continue
        word = escape(source[begin:stop], quote=False)
        done += [escape(source[end:begin], quote=False), f'<span class="{kind}">{word}</span>']
        end = stop
    return "".join([*done, escape(source[end:], quote=False)])


def _words(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int], str]]:
    """Begin, end and class of what gets one; nothing if the source cannot be read."""
    try:
        found = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return
    for token in found:
        if token.type == tokenize.NAME and keyword.iskeyword(token.string):
            yield token.start, token.end, "k"
        elif token.type in CLASSES:
            yield token.start, token.end, CLASSES[token.type]
        elif tokenize.tok_name[token.type] in STRINGS:  # Python 3.12 and newer take f-strings apart
            yield token.start, token.end, "s"
