"""Exported lessons: every format holds all of the lesson, stands alone, and is the same each time."""

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from browsers import browser, dump
from hypothesis import given
from hypothesis import strategies as st

from minidsv3.cli import main
from minidsv3.learn.exercises import lessons
from minidsv3.learn.export import (
    FORMATS,
    LessonFailed,
    LessonPage,
    Shown,
    export,
    highlight,
    lesson_page,
    prose,
)
from minidsv3.learn.export.pictures import svgs
from minidsv3.learn.percent import Cell, parse
from minidsv3.show import Sparkline

FILES = [form for form in FORMATS if form != "svg"]
HOSTILE = "</script><script>alert(1)</script> & <b>bold</b> ```` `x` \x1b[31m"
CELLS = (
    Shown(Cell("markdown", "Begin", "Eq. 1: `c_KV = W_DKV h`, *twice*.\n\n- one\n- two")),
    Shown(Cell("code", "Add", "x = 1 + 1  # two\nprint(f'{x}')"), "2\n", (("a line", Sparkline([1, 2, 3])),)),
    Shown(Cell("code", HOSTILE, "'''</pre>'''"), HOSTILE + "\n", ((HOSTILE, HOSTILE),)),
    Shown(Cell("code", "", "")),
)
PAGE = LessonPage("07", "Two & two", 5, "the number 2", CELLS, "Add.")


@pytest.fixture(
    scope="module",
    params=[pytest.param(one, marks=[pytest.mark.slow] * (one.id != "00"), id=one.id) for one in lessons()],
)
def page(request):
    return lesson_page(request.param)


class Elements(HTMLParser):
    """Tags that open and close, and the text between."""

    VOID = ("meta", "br", "rect", "circle", "path", "line", "link", "img")

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(text):
    found = Elements()
    found.feed(text)
    found.close()
    assert found.open == []
    return found


# ---- all formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FILES)
def test_the_same_lesson_gives_the_same_bytes(form):
    assert export(PAGE, form) == export(PAGE, form)


@pytest.mark.parametrize("form", FILES)
def test_whole_lessons_are_in_every_format(page, form):
    text = export(page, form)
    assert page.title.replace("&", "&amp;" if form == "html" else "&") in text
    if form == "html":
        text = "".join(read(text).text)
    for shown in page.cells:
        first = next((line for line in shown.output.splitlines() if line.strip()), "")
        assert (json.dumps(first)[1:-1] if form == "ipynb" and first.isascii() else first) in text


def test_unknown_formats_are_named():
    with pytest.raises(ValueError, match="expected a format, got 'htm'"):
        export(PAGE, "htm")


def test_a_lesson_that_fails_is_not_exported(tmp_path):
    from dataclasses import replace

    folder = tmp_path / "99_fails"
    folder.mkdir()
    (folder / "lesson.py").write_text("# %% One\nx = 1\n# %% Two\n1 / 0\n")
    with pytest.raises(LessonFailed, match="cell 2, 'Two'") as told:
        lesson_page(replace(lessons()[0], folder=folder))
    assert "ZeroDivisionError" in str(told.value)


# ---- the page ---------------------------------------------------------------------------------------------


def test_what_a_lesson_says_is_text_and_never_markup():
    text = export(PAGE, "html")
    found = read(text)
    assert [tag for tag, _ in found.attributes].count("script") == 1
    assert not [tag for tag, _ in found.attributes if tag == "b"]
    assert "alert(1)" in "".join(found.text)


def test_the_page_asks_nobody_for_anything(page):
    found = read(export(page, "html"))
    for tag, attributes in found.attributes:
        assert tag not in ("link", "img", "iframe", "object")
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    policies = [a["content"] for tag, a in found.attributes if a.get("http-equiv")]
    assert policies == [
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    ]


def test_ids_of_the_page_are_there_once_and_links_lead_to_them(page):
    found = read(export(page, "html"))
    ids = [a["id"] for _, a in found.attributes if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for tag, a in found.attributes if tag == "a" and a["href"].startswith("#")]
    assert len(links) == len(page.cells) + 1
    assert {link[1:] for link in links} <= set(ids)


def test_every_picture_of_the_page_has_words(page):
    text = export(page, "html")
    pictures = re.findall(r"<svg\b.*?</svg>", text, re.DOTALL)
    assert len(pictures) == sum(len(shown.pictures) for shown in page.cells)
    for picture in pictures:
        root = ET.fromstring(picture)
        assert root.get("role") == "img"
        assert all(
            (root.findtext(f"{{http://www.w3.org/2000/svg}}{name}") or "").strip()
            for name in ("title", "desc")
        )


# ---- the notebook -----------------------------------------------------------------------------------------


def test_the_notebook_is_nbformat_4_5(page):
    book = json.loads(export(page, "ipynb"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in ids)
    sources = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [source.partition("\n")[2] for source in sources] == [
        shown.cell.text for shown in page.cells if shown.cell.kind == "code"
    ]


def test_the_notebooks_code_runs_from_top_to_bottom(page, tmp_path):
    book = json.loads(export(page, "ipynb"))
    sources = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    names = {"__name__": "__main__"}
    said = []
    names["print"] = lambda *words, **_: said.append(words)
    for source in sources:
        exec(compile(source, "notebook", "exec"), names)
    assert said


# ---- Markdown, text, pictures -----------------------------------------------------------------------------


def test_fences_are_longer_than_what_they_hold():
    text = export(PAGE, "md")
    assert "`````text\n" + HOSTILE + "\n`````" in text


def test_pictures_are_files_of_their_own(page):
    files = svgs(page)
    assert len(files) == sum(len(shown.pictures) for shown in page.cells)
    for name, svg in files.items():
        assert re.fullmatch(r"\w+\.svg", name)
        ET.fromstring(svg)


def test_hostile_titles_are_no_paths():
    shown = Shown(Cell("code", "x", "1"), "", (("../../etc/passwd", "p"), ("../../etc/passwd", "q")))
    assert list(svgs(LessonPage("00", "t", 1, "", (shown,)))) == [
        "00_cell_1_etc_passwd.svg",
        "00_cell_1_etc_passwd_1.svg",
    ]


# ---- words marked, prose ----------------------------------------------------------------------------------


@given(st.text(alphabet="ab'\"#\\\n ()[]{}1.f<&:=\t\r\x0c", max_size=40))
def test_marking_words_never_changes_the_source(source):
    from html import unescape

    assert unescape(re.sub(r"</?span[^>]*>", "", highlight.to_html(source))) == source


@given(st.text(alphabet="ab*`[]()#|- 1.\n<&:/", max_size=60))
def test_prose_closes_what_it_opens(text):
    read(prose.to_html(text))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("# A\ntext", "<h3>A</h3>\n<p>text</p>"),
        ("1. a\n2. b\n   c", "<ol><li>a</li><li>b c</li></ol>"),
        ("| a | b |\n|---|---|\n| `1` | 2 |", None),
        ("```\nx < 1\n```", '<pre class="plain" tabindex="0">x &lt; 1</pre>'),
        ("    y = W x", '<pre class="plain" tabindex="0">y = W x</pre>'),
        ("2 * 3 * 4 and a*b*c", "<p>2 * 3 * 4 and a*b*c</p>"),
        ("**yes** [x](#cell-1)", '<p><strong>yes</strong> <a href="#cell-1">x</a></p>'),
        ('[x](https://a.b/"onclick=1)', '<p><a href="https://a.b/&quot;onclick=1">x</a></p>'),
    ],
)
def test_prose(text, html):
    done = prose.to_html(text)
    if html is None:
        html = (
            "<table><thead><tr><th>a</th><th>b</th></tr></thead>"
            "<tbody><tr><td><code>1</code></td><td>2</td></tr></tbody></table>"
        )
    assert done == html


def test_all_prose_of_the_lessons_is_understood():
    """No mark of Markdown is left over in the text of the page."""
    for lesson in lessons():
        for cell in parse(lesson.path.read_text(encoding="utf-8")):
            if cell.kind == "markdown":
                left = re.sub(r"<(code|pre)\b.*?</\1>", "", prose.to_html(cell.text), flags=re.DOTALL)
                assert not re.search(r"`|\*\*|\]\(|^#", left, re.MULTILINE), (lesson.id, cell.title)


# ---- a real browser ---------------------------------------------------------------------------------------


@pytest.mark.slow  # a browser's start: 2 s a page
@pytest.mark.skipif(browser() is None, reason="no Chromium here")
def test_a_browser_opens_the_page(page, tmp_path):
    file = tmp_path / "lesson.html"
    file.write_text(export(page, "html"), encoding="utf-8")
    dom, said = dump(file, tmp_path)
    found = read(dom)
    sections = [a for tag, a in found.attributes if tag == "section"]
    assert len(sections) == len(page.cells)
    assert "here" in sections[0]["class"]  # the page's script ran
    assert not [a for tag, a in found.attributes if tag == "p" and "hidden" in a]
    assert "ERR_" not in said
    assert "Content Security Policy" not in said
    assert "Uncaught" not in said


@pytest.mark.slow
@pytest.mark.skipif(browser() is None, reason="no Chromium here")
def test_hostile_words_stay_words_in_a_browser(tmp_path):
    file = tmp_path / "lesson.html"
    file.write_text(export(PAGE, "html"), encoding="utf-8")
    dom, said = dump(file, tmp_path)
    assert [tag for tag, _ in read(dom).attributes].count("script") == 1
    assert "alert" in dom
    assert "Uncaught" not in said


# ---- the command ------------------------------------------------------------------------------------------


def test_the_command_writes_every_format(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, said = main(["lesson", "export", "00", "--to", "all", "--out", "away"]), capsys.readouterr()
    assert code == 0, said.err
    names = {path.name for path in (tmp_path / "away").iterdir()}
    assert names == {*(f"00_one_prediction.{form}" for form in FILES), "00_one_prediction_pictures"}
    assert said.out.count("left in away") == len(FORMATS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["00", "--to", "pdf"], "expected --to a format, got 'pdf'"),
        (["--to", "md"], "expected which lesson"),
        (["00", "--to", "md,txt", "--out", "-"], "expected one lesson and one format"),
        (["00", "--to", "md", "--out", "no/such/file.md"], "expected --out in a folder that exists"),
    ],
)
def test_the_command_says_what_it_expected(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["lesson", "export", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
