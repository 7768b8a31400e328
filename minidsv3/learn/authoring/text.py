"""Names and numbers of a lesson's words, its hints' and its stub's: each exists, or says what it is.

Names: in backticks a command (`minidsv3 ops mla.out`), a module, an op; in prose and comments the report's
symbols (W_DKV), equations and sections; in strings of code, patterns of ops. A name that the package no
longer has is how lessons go stale.

Numbers: what prose, comments and printed strings state is telling from three digits on, or two with a point.
Such a number is one of the package's data, a power of two, or stands in `[numbers]` of `lesson.toml` with the
reason why it may. Numbers that a lesson computes need no permission.

Does: read. Does not: run the lesson (`runs`).

    >>> [word for word in ("64", "4096", "0.0721", "3,970", "100") if is_telling(word)]
    ['0.0721', '3,970']

Next: minidsv3.learn.authoring.runs
"""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import import_module, resources
from typing import Any, NamedTuple

from minidsv3.config import near
from minidsv3.cost.figures import figures
from minidsv3.hardware.units import UNITS
from minidsv3.learn.exercises import Lesson, lessons
from minidsv3.learn.percent import Cell, parse
from minidsv3.machine import catalogue, symbols

__all__ = ["Finding", "Words", "is_telling", "lines", "names", "numbers", "words_of"]

MOST_LINES = 250  # of a lesson
CODE = re.compile(r"`([^`]+)`")
OP = re.compile(r"[a-z]+\.[a-zA-Z_*]+")
SYMBOL = re.compile(r"\b(?:d_)?([A-Za-z]{1,3}_(?:[A-Z][A-Za-z]*|[chv]))\b")
EQUATIONS = re.compile(r"(?:\beqs?\.|[Ee]quations?) ?(\d+(?:(?:, | and |-)\d+)*)")
SECTION = re.compile(r"[Ss]ections? (\d+(?:\.\d+)*)")
NUMBER = re.compile(r"(?<![\w.^/-])\d[\d,]*(?:\.\d+)?(?![\w^]|\.\d)")
ELSEWHERE = re.compile(r"`[^`]*`|arXiv \S+|" + EQUATIONS.pattern + "|" + SECTION.pattern)  # numbers that name
LESSON_COMMANDS = ("check", "hint", "solution", "reset")


class Finding(NamedTuple):
    """A rule that a lesson breaks."""

    rule: str
    where: str  # a file, with the line where there is one
    says: str  # what is there
    do: str  # what to do


class Words(NamedTuple):
    """Words that a reader sees."""

    line: int
    text: str
    kind: str  # prose, comment, string
    file: str = "lesson.py"

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"


def words_of(lesson: Lesson) -> Iterator[Words]:
    """Prose, comments and strings of a lesson in its order, its hints, the words of its stub."""
    for cell in parse(lesson.path.read_text(encoding="utf-8")):
        yield Words(cell.line, cell.title, "prose")
        if cell.kind == "markdown":
            for i, text in enumerate(cell.text.splitlines()):
                yield Words(cell.line + 1 + i, text, "prose")
        else:
            yield from _comments(cell)
            yield from _strings(ast.parse(cell.text), cell.line)
    for i, text in enumerate(lesson.hints):
        yield Words(i + 1, text, "prose", "hints.toml")
    for word in _strings(ast.parse(lesson.stub), 0):
        yield word._replace(kind="prose", file="exercise.py")


def _comments(cell: Cell) -> Iterator[Words]:
    for token in tokenize.generate_tokens(io.StringIO(cell.text + "\n").readline):
        if token.type == tokenize.COMMENT:
            yield Words(cell.line + token.start[0], token.string, "comment")


def _strings(node: ast.AST, line: int) -> Iterator[Words]:
    """Strings, docstrings, and the fixed parts of f-strings; not how their values are laid out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield Words(line + node.lineno, node.value, "string")
    elif isinstance(node, ast.FormattedValue):
        yield from _strings(node.value, line)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _strings(child, line)


def lines(lesson: Lesson) -> Iterator[Finding]:
    """A lesson begins with prose, titles every cell, and is read in one sitting."""
    text = lesson.path.read_text(encoding="utf-8")
    cells = parse(text)
    if len(text.splitlines()) > MOST_LINES:
        yield Finding("lines", "lesson.py", f"{len(text.splitlines())} lines", f"{MOST_LINES} at most")
    if not cells or cells[0].kind != "markdown" or cells[-1].kind != "markdown":
        do = "say first what it is about, and last where to go"
        yield Finding("lines", "lesson.py:1", "begins or ends with code", do)
    for cell in cells:
        if not cell.title:
            yield Finding("lines", f"lesson.py:{cell.line}", "a cell without title", "give it one")


# ---- names ------------------------------------------------------------------------------------------------


def names(lesson: Lesson, commands: Collection[str] = ()) -> Iterator[Finding]:
    """Every name that the text mentions exists.  commands: known ones; none given, none are checked."""
    for words in words_of(lesson):
        for says, do in _wrong_names(words, commands):
            yield Finding("names", words.where, says, do)
    for cell in parse(lesson.path.read_text(encoding="utf-8")):
        for says, do in _equations(f"eq. {cell.options['eq']}" if "eq" in cell.options else ""):
            yield Finding("names", f"lesson.py:{cell.line}", says, do)


Wrong = list[tuple[str, str]]


def _wrong_names(words: Words, commands: Collection[str]) -> Wrong:
    text = words.text
    if words.kind == "string":
        return _ops([text] if OP.fullmatch(text) else [])
    wrong = [*_symbols(text), *_equations(text), *_sections(text)]
    for span in CODE.findall(text):
        wrong += _span(span, commands)
    return wrong


def _span(span: str, commands: Collection[str]) -> Wrong:
    """What is wrong with a piece of code in prose."""
    if span.startswith("minidsv3 "):
        return _command(span.split()[1:], commands)
    if span.startswith("minidsv3."):
        return [] if _exists(span) else [(f"`{span}`", "name a module or a name of the package")]
    return _ops([span] if OP.fullmatch(span) else [])


def _command(words: list[str], commands: Collection[str]) -> Wrong:
    if commands and words[0] not in commands:
        return [(f"`minidsv3 {words[0]}`", near(words[0], sorted(commands)))]
    known = [name for lesson in lessons() for name in (lesson.id, lesson.name)]
    at = 2 if words[:2] == ["lesson", "run"] else 1 if words[0] in LESSON_COMMANDS else len(words)
    for lesson in [word for word in words[at : at + 1] if word not in known]:
        return [(f"lesson {lesson}", near(lesson, known))]
    return _ops(words[1:2] if words[0] == "ops" else [])


def _exists(name: str) -> bool:
    """Whether a dotted name leads to a module or to something in one."""
    try:
        import_module(name)
    except ImportError:
        home, _, last = name.rpartition(".")
        return bool(home) and _exists(home) and hasattr(import_module(home), last)
    return True


def _ops(found: list[str]) -> Wrong:
    """Ids or patterns of ops, those that begin like one."""
    ids = list(catalogue())
    parts = {op_id.partition(".")[0] for op_id in ids}
    like = [name for name in found if name.partition(".")[0] in parts]
    return [(f"op {n!r}", near(n, ids)) for n in like if not any(fnmatchcase(op_id, n) for op_id in ids)]


@lru_cache
def _known_symbols() -> frozenset[str]:
    """Symbols and widths of the glossary, and those of the ops."""
    said = [name for op in catalogue().values() for name in op.symbols]
    said += [*symbols(), *(row["shape"] for row in symbols().values())]
    return frozenset(re.findall(r"[A-Za-z_]+", " ".join(said)))


def _symbols(text: str) -> Wrong:
    found = [name for name in SYMBOL.findall(text) if name not in _known_symbols()]
    return [(f"symbol {name}", near(name, list(symbols()))) for name in found]


@lru_cache
def _equation_numbers() -> frozenset[str]:
    return frozenset(number for op in catalogue().values() for number in op.equations)


def _equations(text: str) -> Wrong:
    found = [number for group in EQUATIONS.findall(text) for number in re.findall(r"\d+", group)]
    missing = [number for number in found if number not in _equation_numbers()]
    return [(f"equation {number}", "name an equation of an op: minidsv3 ops") for number in missing]


def _sections(text: str) -> Wrong:
    sources = " ".join(figure.source for figure in figures().values())
    known = {*_equation_numbers(), *re.findall(r"\b\d+(?:\.\d+)+", sources)}
    missing = [number for number in SECTION.findall(text) if number not in known]
    return [(f"section {number}", "name a section that the data cite") for number in missing]


# ---- numbers ----------------------------------------------------------------------------------------------


def numbers(lesson: Lesson) -> Iterator[Finding]:
    """Every telling number of the text is of the data, or has a reason; the anchor is of the data."""
    table = tomllib.loads((lesson.folder / "lesson.toml").read_text(encoding="utf-8"))
    reasons, used = table.get("numbers", {}), set()
    for words in words_of(lesson):
        for word in _numbers_in(words.text):
            used.add(word)
            if word not in reasons and _key(word) not in data_numbers():
                do = f'compute it, correct it, or give a reason in lesson.toml, [numbers]: "{word}" = "…"'
                yield Finding("numbers", words.where, f"{word} is not of the data", do)
    for word in [word for word in reasons if word not in used]:
        yield Finding("numbers", "lesson.toml", f"nothing says {word} any more", "take it out of [numbers]")
    if not any(_key(word.rstrip(",")) in data_numbers() for word in NUMBER.findall(lesson.anchor)):
        do = "end on a number that the report or the hardware data state"
        yield Finding("anchor", "lesson.toml", f"no number of the data in {lesson.anchor!r}", do)


def _numbers_in(text: str) -> list[str]:
    found = [word.rstrip(",") for word in NUMBER.findall(ELSEWHERE.sub(" ", text))]
    return [word for word in found if is_telling(word)]


def is_telling(word: str) -> bool:
    """Whether a number could not be there by chance: three digits, or two with a point; no power of two."""
    value = float(word.replace(",", ""))
    digits = word.replace(",", "").replace(".", "").strip("0")
    power = value > 0 and abs(value).hex().partition("p")[0] == "0x1.0000000000000"
    return not power and len(digits) >= (2 if "." in word else 3)


def _key(word: str) -> str:
    return f"{float(word.replace(',', '')):.12g}"


@lru_cache
def data_numbers() -> frozenset[str]:
    """Every number of the package's data, those with a unit in base units too."""
    found: set[str] = set()
    for entry in _tables(resources.files("minidsv3") / "data"):
        found |= {f"{number:.12g}" for number in _walk(tomllib.loads(entry))}
    for figure in figures().values():
        if figure.value is not None and figure.unit is not None:
            found |= {f"{figure.value * figure.unit.size:.12g}"}
        found |= {_key(word.rstrip(",")) for word in NUMBER.findall(figure.printed)}
    return frozenset(found)


def _tables(folder: Any) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _tables(entry)
        elif entry.name.endswith(".toml"):
            yield entry.read_text(encoding="utf-8")


def _walk(part: Any) -> Iterator[float]:
    """Numbers of a table, at any depth."""
    if isinstance(part, dict):
        value, unit = part.get("value"), str(part.get("unit"))
        if isinstance(value, int | float) and unit in UNITS:
            yield value * UNITS[unit][1]
        for inner in part.values():
            yield from _walk(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _walk(inner)
    elif isinstance(part, int | float) and not isinstance(part, bool):
        yield part
