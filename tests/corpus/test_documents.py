"""Finding, reading and splitting documents."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidsv3.corpus import (
    Document,
    documents,
    library_documents,
    python_library_files,
    read_documents,
    split_documents,
)


def test_the_library_is_source_without_tests() -> None:
    files = python_library_files()
    assert files == sorted(files)
    assert {"argparse.py", "heapq.py"} <= {file.name for file in files}
    for part in ("test", "tests", "idle_test", "site-packages", "__pycache__"):
        assert not any(part in file.parts[-4:] for file in files)


def test_the_library_is_read_up_to_a_limit() -> None:
    few = library_documents(limit=200_000)
    assert 200_000 <= sum(document.byte_count for document in few) < 800_000
    assert few == library_documents(limit=200_000)
    assert all(document.text and not document.name.startswith("/") for document in few)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_library", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"expected \.py files"):
        library_documents()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub" / ".hidden").mkdir(parents=True)
    (root / "b.txt").write_bytes(b"zwei\r\n")
    (root / "a.md").write_text("ä", encoding="utf-8")
    (root / "sub" / "c").write_text("three")
    (root / "sub" / ".hidden" / "d").write_text("hidden")
    (root / ".e").write_text("hidden")
    (root / "empty").write_text("")
    (root / "binary").write_bytes(b"a\0b")
    (root / "latin").write_bytes("é".encode("latin-1"))
    (root / "large").write_text("x" * 100)
    (tmp_path / "outside").write_text("secret")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "ring").symlink_to(root)
    (root / "same").symlink_to(root / "a.md")
    os.mkfifo(root / "pipe")
    return root


def test_folders_give_their_text_files_in_order(folder: Path) -> None:
    expected = [("root/a.md", "ä"), ("root/b.txt", "zwei\r\n"), ("root/sub/c", "three")]
    found = read_documents([folder], limit=99)
    assert [(document.name, document.text) for document in found] == expected
    assert [document.byte_count for document in found] == [2, 6, 5]
    assert read_documents([folder, folder / "a.md"], limit=99) == found


def test_a_file_is_named_by_itself(folder: Path) -> None:
    assert read_documents([folder / "b.txt"]) == [Document("b.txt", "zwei\r\n")]


@pytest.mark.parametrize("name", ["binary", "latin", "large", "empty", "nowhere", "pipe"])
def test_a_named_file_must_be_text(folder: Path, name: str) -> None:
    with pytest.raises(
        ValueError, match=f"expected .*{name} to be a folder or a UTF-8 text file of 1 to 99 bytes"
    ):
        read_documents([folder / name], limit=99)


def test_nothing_to_read_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=tmp_path.name):
        read_documents([tmp_path])
    with pytest.raises(ValueError, match="got none"):
        read_documents([])
    with pytest.raises(ValueError, match="list of paths"):
        read_documents("text.txt")


names = st.lists(st.text(min_size=1), min_size=2, max_size=40, unique=True)


@given(names, st.floats(0.01, 0.99), st.integers(0, 3))
def test_a_split_keeps_every_document_once(drawn: list[str], held_out: float, seed: int) -> None:
    given_documents = [Document(name, "x") for name in drawn]
    learned, held = split_documents(given_documents, held_out, seed)
    assert learned
    assert held
    assert sorted(learned + held, key=lambda document: document.name) == sorted(
        given_documents, key=lambda document: document.name
    )
    reverse = split_documents(given_documents[::-1], held_out, seed)
    assert (reverse[0][::-1], reverse[1][::-1]) == (learned, held)


def test_a_new_file_moves_no_other() -> None:
    many = [Document(f"{index}.py", "x") for index in range(300)]
    before, after = split_documents(many[:200], 0.2)[1], split_documents(many, 0.2)[1]
    assert before == [document for document in after if document in many[:200]]
    assert 30 < len(after) < 90
    assert split_documents(many, 0.2, seed=1)[1] != after


def test_a_split_needs_two_documents() -> None:
    one = Document("a", "x")
    assert split_documents([one], held_out=0) == ([one], [])
    with pytest.raises(ValueError, match="at least 2 documents to split, got 1"):
        split_documents([one])
    with pytest.raises(ValueError, match="different names"):
        split_documents([one, one])
    with pytest.raises(ValueError, match="held_out from 0"):
        split_documents([one, one], held_out=1)
