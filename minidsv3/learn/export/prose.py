"""The prose of a lesson as HTML: the part of Markdown that lessons use, and nothing that runs.

Blocks: paragraphs, headings, lists with - or numbers, tables with |, code in fences or behind four spaces.
Inside a line: `code`, **strong**, *emphasis*, [links](https://…). Everything else is text: what HTML would
read as markup is escaped, and a link leads to the web, to a place on the page, or stays text.

Does: this much of Markdown. Does not: nested lists, pictures, raw HTML.

    >>> to_html("Two *small* words:\\n\\n- `a < b`\\n- [here](https://example.org)")
    '<p>Two <em>small</em> words:</p>\\n<ul><li><code>a &lt; b</code></li><li><a href="https://example.org">here</a></li></ul>'
    >>> to_html("[no](javascript:alert(1))")
    '<p>[no](javascript:alert(1))</p>'

Next: minidsv3.learn.export.highlight
"""

import re
from collections.abc import Iterator
from html import escape

__all__ = ["to_html"]

FENCE, CODE = re.compile(r"^```"), re.compile(r"^ {4}")
HEADING = re.compile(r"^(?P<level>#{1,4}) +(?P<text>.*)$")
BULLET, NUMBER = re.compile(r"^[-*] +"), re.compile(r"^\d+[.)] +")
ROW, RULE = re.compile(r"^\|.*\|\s*$"), re.compile(r"^\|[\s|:-]+\|\s*$")
INLINE = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    r"|(?<![\w*])\*(?P<em>[^*\s](?:[^*]*[^*\s])?)\*(?![\w*])"
    r"|\[(?P<text>[^\]]+)\]\((?P<href>(?:https?://|#)[^)\s]+)\)"
)


def to_html(text: str, top: int = 3) -> str:
    """Prose as HTML.  top: the heading level that a single # becomes."""
    return "\n".join(_block(kind, lines, top) for kind, lines in _blocks(text.split("\n")))


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Lines that belong together, with what they are."""
    i = 0
    while i < len(lines):
        kind, start = _kind(lines[i]), i
        i += 1
        if kind == "fence":
            while i < len(lines) and not FENCE.match(lines[i]):
                i += 1
            yield kind, lines[start + 1 : i]
            i += 1
        elif kind != "blank":
            while i < len(lines) and _continues(kind, lines[i]):
                i += 1
            yield kind, lines[start:i]


def _kind(line: str) -> str:
    for kind, pattern in (
        *(("fence", FENCE), ("code", CODE), ("heading", HEADING)),
        *(("bullets", BULLET), ("numbers", NUMBER), ("table", ROW)),
    ):
        if pattern.match(line):
            return kind
    return "text" if line.strip() else "blank"


def _continues(kind: str, line: str) -> bool:
    """Whether a line belongs to the block above it."""
    own = _kind(line)
    if kind in ("bullets", "numbers"):
        return own == kind or (own in ("text", "code") and line.startswith("  "))
    return own == kind and kind != "heading"


def _block(kind: str, lines: list[str], top: int) -> str:
    match kind:
        case "heading":
            found = HEADING.match(lines[0])
            assert found is not None
            level = min(top + len(found["level"]) - 1, 6)
            return f"<h{level}>{_inline(found['text'])}</h{level}>"
        case "fence":
            return _code(lines)
        case "code":
            return _code([line[4:] for line in lines])
        case "bullets" | "numbers":
            tag = "ul" if kind == "bullets" else "ol"
            return f"<{tag}>{''.join(f'<li>{_inline(item)}</li>' for item in _items(lines))}</{tag}>"
        case "table":
            return _table(lines)
        case _:
            return f"<p>{_inline(' '.join(line.strip() for line in lines))}</p>"


def _code(lines: list[str]) -> str:
    return f'<pre class="plain" tabindex="0">{escape(chr(10).join(lines), quote=False)}</pre>'


def _items(lines: list[str]) -> list[str]:
    """List items, each with the lines that go on with it."""
    items: list[str] = []
    for line in lines:
        if line.startswith(" "):
            items[-1] += " " + line.strip()
        else:
            items.append(BULLET.sub("", NUMBER.sub("", line)))
    return items


def _table(lines: list[str]) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    headed = len(rows) > 1 and RULE.match(lines[1]) is not None
    head = f"<thead>{_row(rows[0], 'th')}</thead>" if headed else ""
    body = "".join(_row(row, "td") for row in (rows[2:] if headed else rows))
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _row(cells: list[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{_inline(cell)}</{tag}>' for cell in cells)}</tr>"


def _inline(text: str) -> str:
    """Code, strong, emphasis and links; the rest escaped."""
    done, end = [], 0
    for found in INLINE.finditer(text):
        done += [escape(text[end : found.start()], quote=False), _marked(found)]
        end = found.end()
    return "".join([*done, escape(text[end:], quote=False)])


def _marked(found: re.Match[str]) -> str:
    if found["code"]:
        return f"<code>{escape(found['code'], quote=False)}</code>"
    if found["href"]:
        return f'<a href="{escape(found["href"])}">{_inline(found["text"])}</a>'
    tag = "strong" if found["strong"] else "em"
    return f"<{tag}>{_inline(found[tag])}</{tag}>"
