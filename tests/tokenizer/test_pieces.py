"""The alphabet, the character classes, and the two ways of cutting a text into pieces."""

import re
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.tokenizer import alphabet
from minidsv3.tokenizer.classes import CJK_RANGES, character_class, kinds
from minidsv3.tokenizer.newer import NEWER
from minidsv3.tokenizer.pieces import split_in_stages, split_pieces

# one or more of every kind, inside and outside the CJK ranges, below and above U+FFFF
TRICKY = (
    "aZéñßあカー日本語一龥" + "龦" + "\u0301\u3099\u309a" + "019٣²Ⅷ〇" + "!.'_$+~()·«€゠・\u309b"
    " \t\n\r\x0b\x0c\x85\xa0\u2003\u2028\u3000"
    + "\x00\x1b\x1c\x1f\x7f\u200d\ue000\u0378\u3040\u3097"
    + "😀𝔸𝟙𠀀\U000e0041"
)
tricky_texts = st.text(st.sampled_from(TRICKY)) | st.text()


@given(st.binary())
def test_alphabet_inverts(data: bytes) -> None:
    assert alphabet.to_bytes(alphabet.to_characters(data)) == data


def test_alphabet_is_printable_and_ordered() -> None:
    assert len(set(alphabet.BYTE_TOKENS)) == 256
    assert list(alphabet.BYTE_TOKENS) == sorted(alphabet.BYTE_TOKENS)
    assert all(character.isprintable() and not character.isspace() for character in alphabet.BYTE_TOKENS)


def test_alphabet_refuses_other_characters() -> None:
    with pytest.raises(ValueError, match="byte alphabet"):
        alphabet.to_bytes("a｜")


def test_kinds_agree_with_unicodedata() -> None:
    written = kinds(sys.maxunicode + 1)
    inside = {code for first, last in CJK_RANGES for code in range(first, last + 1)}
    for code in range(0, sys.maxunicode + 1, 7):
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cn":
            continue  # the running Python may be older than the table; the next test looks there
        category = category[0]
        space = character.isspace() and character not in "\x1c\x1d\x1e\x1f"
        expected = "W" if space else category
        expected = "B" if character in "\r\n" else expected
        assert written[code] == (expected.lower() if code in inside else expected)


def test_newer_unicode_fills_only_what_was_unassigned() -> None:
    for category, found in NEWER.items():
        for first, end in found:
            known = {unicodedata.category(chr(code)) for code in range(first, end)}
            assert known <= {"Cn", category}
            assert set(kinds(sys.maxunicode + 1)[first:end]) == {category[0]}


def test_kinds_of_less_are_a_prefix() -> None:
    assert kinds(128) == kinds(0x10000)[:128]
    assert kinds(0x10000) == kinds(sys.maxunicode + 1)[:0x10000]


def test_no_blank_and_no_number_inside_cjk() -> None:
    assert not set(kinds(0x10000)) & set("nwb")


@pytest.mark.parametrize("letters", ["L", "PS", "Ww", "Cc"])
def test_character_class_matches_its_kinds_only(letters: str) -> None:
    written = kinds(0x10000)
    matched = re.compile(f"[{character_class(written, letters)}]").findall("".join(map(chr, range(0x10000))))
    assert [ord(character) for character in matched] == [
        code for code, kind in enumerate(written) if kind in letters
    ]


@settings(deadline=None, max_examples=400)
@given(tricky_texts)
def test_one_pass_equals_the_stages(text: str) -> None:
    assert split_pieces(text) == split_in_stages(text)


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("ab Z0129 \n\r\t.,_'!\x00\x0b\x1c\x1f\x7f")))
def test_one_pass_equals_the_stages_in_ascii(text: str) -> None:
    assert split_pieces(text) == split_in_stages(text)


@given(tricky_texts)
@settings(deadline=None)
def test_pieces_join_to_the_text(text: str) -> None:
    pieces = split_pieces(text)
    assert "".join(pieces) == text
    assert all(pieces)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("   123", ["   ", "123"]),
        ("hello!\n\n", ["hello", "!\n\n"]),
        ("don't", ["don", "'t"]),
        ("1234567", ["123", "456", "7"]),
        ("x  y", ["x", " ", " y"]),
        ("a\x1cb", ["a", "\x1cb"]),
        ("\x00\x00a", ["\x00", "\x00a"]),
        ("東京タワー333m", ["東京タワー", "333", "m"]),
        ("カ・タ", ["カ", "・", "タ"]),
        ("", []),
    ],
)
def test_known_pieces(text: str, pieces: list[str]) -> None:
    assert split_pieces(text) == split_in_stages(text) == pieces
