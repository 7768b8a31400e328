"""A lesson as one HTML page that stands alone: no network, no fonts, no library.

Prose, code with its words marked, output, pictures as SVG with title and description, a table of contents.
A small script lets a reader go from cell to cell by keys and hide results until they are asked for: guess,
then look; without scripts everything is shown. The page forbids itself every request.

Does: the page's text. Does not: run the code it shows.

    >>> from minidsv3.learn.export.page import Shown
    >>> from minidsv3.learn.percent import Cell
    >>> text = html(LessonPage("00", "Sums & more", 5, "2", (Shown(Cell("code", "Add", "1"), "<2>"),)))
    >>> "<title>00 Sums &amp; more</title>" in text, "&lt;2&gt;" in text, "http-equiv" in text
    (True, True, True)

Next: minidsv3.learn.export.notebook
"""

from html import escape
from importlib import resources

from minidsv3.learn.export import highlight, prose
from minidsv3.learn.export.page import LessonPage, Shown
from minidsv3.show import svg_text
from minidsv3.show.forms import in_words

__all__ = ["html"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
COLUMNS = 88  # of a picture


def html(page: LessonPage) -> str:
    """The page."""
    title = escape(f"{page.id} {page.title}", quote=False)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}</title>
<style>
{_file("page.css")}</style>
</head>
<body>
<a class="skip" href="#cell-1">to the lesson</a>
<header>
<p class="kind">minidsv3 lesson {escape(page.id)}</p>
<h1>{escape(page.title, quote=False)}</h1>
<p>{page.minutes} minutes. Ends on: {escape(page.anchor, quote=False)}.</p>
<p class="keys" hidden><button type="button" id="guess" aria-pressed="false">guess first</button>
<span id="told">keys: n next cell, p the one before, r its result</span></p>
</header>
<nav aria-label="cells"><ol>
{_contents(page)}
</ol></nav>
<main>
{"".join(_cell(shown, i) for i, shown in enumerate(page.cells, 1))}</main>
<footer>
{_closing(page)}</footer>
<script>
{_file("page.js")}</script>
</body>
</html>
"""


def _file(name: str) -> str:
    return (resources.files("minidsv3") / "data" / "lesson_page" / name).read_text(encoding="utf-8")


def _contents(page: LessonPage) -> str:
    titles = [shown.cell.title or f"cell {i}" for i, shown in enumerate(page.cells, 1)]
    entries = [
        f'<li><a href="#cell-{i}">{escape(title, quote=False)}</a></li>' for i, title in enumerate(titles, 1)
    ]
    return "\n".join(entries)


def _cell(shown: Shown, i: int) -> str:
    """One section: prose, or code with what came of it."""
    cell = shown.cell
    title = escape(cell.title or f"cell {i}", quote=False)
    head = f'<section id="cell-{i}" class="{cell.kind}" tabindex="-1">\n<h2>{title}</h2>\n'
    if cell.kind == "markdown":
        return f"{head}{prose.to_html(cell.text)}\n</section>\n"
    code = f'<pre class="code" tabindex="0"><code>{highlight.to_html(cell.text)}</code></pre>\n'
    return f"{head}{code}{_result(shown, i)}</section>\n"


def _result(shown: Shown, i: int) -> str:
    """What a cell printed and showed."""
    printed = escape(shown.output.rstrip("\n"), quote=False)
    parts = [f'<pre class="output" tabindex="0">{printed}</pre>\n'] if printed else []
    for j, (title, picture) in enumerate(shown.pictures, 1):
        svg = svg_text(picture, title, COLUMNS, description=in_words(picture), name=f"cell-{i}-{j}")
        parts.append(f"<figure>\n{svg}<figcaption>{escape(title, quote=False)}</figcaption>\n</figure>\n")
    return f'<div class="result">\n{"".join(parts)}</div>\n' if parts else ""


def _closing(page: LessonPage) -> str:
    task = f"<p>Exercise: {escape(page.task, quote=False)} <code>minidsv3 check {page.id}</code></p>\n"
    step = f"<p>Step through it: <code>minidsv3 lesson run {page.id}</code></p>\n"
    return (task if page.task else "") + step
