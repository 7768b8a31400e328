"""Patterns of other engines, read and written for `re`, or refused by name."""

import re
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.tokenizer.classes import CODE_POINTS, complement, members, overlap, shorthand, union
from minidsv3.tokenizer.patterns import compiled, read_pattern
from minidsv3.tokenizer.pieces import SPLITS
from minidsv3.tokenizer.stages import ALL, GPT2

run_lists = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=5)


def _set(runs: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return union(tuple((first, first + size) for first, size in runs))


def _points(found: tuple[tuple[int, int], ...]) -> set[int]:
    return {code for first, end in found for code in range(first, min(end, 100))}


@given(run_lists, run_lists)
def test_sets_of_code_points(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    a, b = _set(one), _set(other)
    assert _points(union(a, b)) == _points(a) | _points(b)
    assert _points(complement(a)) == set(range(100)) - _points(a)
    assert complement(complement(a)) == a
    assert overlap(a, b) == bool(_points(a) & _points(b))


@pytest.mark.parametrize("name", ["L", "Lu", "Uppercase_Letter", "decimal number", "P", "Cn", "LC"])
def test_members_are_those_of_the_category(name: str) -> None:
    short = {"Uppercase_Letter": "Lu", "decimal number": "Nd"}.get(name, name)
    found = members(name)
    for first, end in found[:40]:
        for code in (first, end - 1):
            category = unicodedata.category(chr(code))
            assert category.startswith("L" if short == "LC" else short) or category == "Cn"
    assert not overlap(found, complement(found))
    assert union(found, complement(found)) == ((0, CODE_POINTS),)


def test_white_space_is_not_pythons() -> None:
    found = shorthand("s")
    assert sum(end - first for first, end in found) == 25
    assert not overlap(found, ((0x1C, 0x20),))


# matched by both engines alike, so Python's own reading is the oracle
SHARED = [
    r"a+b|c",
    r"(?:ab)?c",
    r"[a-c]{1,2}x?",
    r"a(?=b)|b(?!c)",
    r"(?<=a)b",
    r"[^a\n]+",
    r"x*?b",
    r"a?+b",
    r"(?>a|ab)c",
    r"[\-\]\[]",
    r"a{2}",
    r"a{,2}b",
    r"\x41\u0042",
    r"b|\A.",
    r"a\z|b",
    r"[ab-]+",
]


@settings(deadline=None, max_examples=40)
@given(st.text("abcx\nAB-[]", max_size=12))
def test_shared_constructs_match_as_pythons_do(text: str) -> None:
    for pattern in SHARED:
        expected = [match.group() for match in re.finditer(pattern.replace(r"\z", r"\Z"), text)]
        assert compiled(pattern, 128).findall(text) == expected, pattern


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"a$", "a\nba", ["a", "a"]),  # the end of a line
        (r"^a", "a\na\n", ["a", "a"]),
        (r"\s", "\x1c \x85\u3000", [" ", "\x85", "\u3000"]),
        (r"\h+", "beef g", ["beef"]),  # hexadecimal digits
        (r"\d+", "1٢x", ["1٢"]),
        (r"\D", "1x", ["x"]),
        (r"\p{^L}|\P{Lu}", "aB1", ["a", "1"]),
        (r"(?i:'S|'re)", "'s'ſ'RE'Re", ["'s", "'ſ", "'RE", "'Re"]),
        (r"(?i:k)k", "Kk\u212ak", ["Kk", "\u212ak"]),
        (r"\x{1F600}", "😀", ["😀"]),
        (r".+", "a\rb\nc", ["a\rb", "c"]),
        (r"\s+$", "  x  \n \n", ["  \n \n"]),
        (r"\s+$", " \n x", [" "]),
        (r"[^\s\p{L}]++!?", "a,;!b", [",;!"]),
    ],
)
def test_what_the_other_engine_means(pattern: str, text: str, found: list[str]) -> None:
    for size in (0x80, 0x10000, ALL):
        if max(map(ord, text)) < size:
            assert compiled(pattern, size).findall(text) == found


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        (r"\bx", r"\\b"),
        (r"\w", r"\\w"),
        (r"(a)\1", r"\\1"),
        (r"(?<a>x)", r"\(\?<"),
        (r"(?i)x", r"\(\?i"),
        (r"\p{Han}", "property 'Han'"),
        (r"[a[b]]", r"\["),
        (r"[a&&b]", "&&"),
        (r"[[:alpha:]]", r"\["),
        (r"(a+)+$", "repeated group"),
        (r"(?:ab)*c", "repeated group"),
        (r"a**", "repeat of a repeat"),
        (r"a{2}+", "engines read differently"),
        (r"a{2}?", "engines read differently"),
        (r"a{1001}", "at most 1000"),
        (r"a{2,1}", "at most 1000"),
        (r"x*", "may match none"),
        (r"a|", "may match none"),
        (r"", "1 to 4096"),
        (r"a" * 4097, "1 to 4096"),
        (r"(x", r"\), got none"),
        (r"x)", "unopened"),
        (r"[x", "got nothing"),
        (r"[]x]", r"\[\]"),
        (r"[b-a]", "the lower first"),
        (r"[a-\d]", "the lower first"),
        ("\\", "got nothing"),
        (r"*a", "something to repeat"),
        (r"a{x", "such as"),
        (r"(?<=a+)b", "fixed length"),
        (r"^*a", "condition"),
        (r"(?i:ß)", "ASCII"),
        (r"(?i:[a-z])", "a range"),
        (r"(?i:\p{L})", "a set"),
        (r"(?i:st)", "'st'"),
        (r"\xff", "no character"),
        (r"\x{110000}", r"\\x"),
        (r"\u12", r"\\u"),
        (r"\p{L", r"\\p"),
        (r"\R", r"\\R"),
        (r"a*a*b", "another repeat"),
        (r"\s*\s*\s*x", "another repeat"),
        ("a?" * 40 + "a" * 40, "256 ways"),
        ("(" * 20 + "a" + ")" * 20, "16 deep"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(pattern: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"^expected .*{named}"):
        read_pattern(pattern)


@settings(deadline=None, max_examples=300)
@given(st.text(r"ab()[]{}*+?|\pLs^$.-,1!<=>:&", max_size=14))
def test_any_pattern_is_read_or_refused(pattern: str) -> None:
    try:
        read_pattern(pattern)
    except ValueError as error:
        message = str(error)
    else:
        message, found = "expected", compiled(pattern, 128).findall("ab" * 20 + "!")
        assert all(found)  # it compiles, and matches something or nothing
    assert message.startswith("expected")


@pytest.mark.parametrize("name", SPLITS)
def test_known_splits_take_linear_time(name: str) -> None:
    for text in (
        " " * 40_000 + "x",
        "a" * 40_000,
        "!" * 40_000 + "a",
        "\u3000" * 40_000 + "図",
        " \t" * 20_000 + "1",
    ):
        start = time.perf_counter()
        pieces = SPLITS[name].pieces(text)
        assert time.perf_counter() - start < 5  # a square of 40,000 takes minutes
        assert "".join(pieces) == text


def test_gpt2_pieces() -> None:
    assert compiled(GPT2, 128).findall("I'll go  now 12!") == ["I", "'ll", " go", " ", " now", " 12", "!"]
