"""Documents: the text files of folders, or of the Python that is running, and which of them are held out.

Every machine that runs this package has a corpus already: the standard library of its Python, 12 MB of
source without its tests. `library_documents` reads it; `read_documents` reads files and folders of your
own.

A folder is walked in sorted order. Left out are hidden files and folders, links that leave the folder,
files over the size limit, and whatever is not UTF-8 text; a file that is named outright and cannot be read
as text is an error. Which documents are held out depends on their names and a seed, not on their order or
number: a file added later moves no other file across. The library differs between versions of Python, and
so does all that is learned from it.

>>> documents = [Document(f"{i}.txt", "text") for i in range(100)]
>>> learned, held_out = split_documents(documents, held_out=0.1)
>>> len(learned), len(held_out), held_out[0].name
(85, 15, '4.txt')
>>> Document("é.txt", "é!").byte_count
3

Next: minidsv3.corpus.fill_in_the_middle
"""

import os
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path

FILE_LIMIT = 16 << 20  # bytes; larger files are data more often than text
# other people's packages, tests (some hold broken text on purpose), and what is compiled
_NOT_LIBRARY = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib-dynload"}
)


@dataclass(frozen=True)
class Document:
    """A text and the name it goes by: its path below the folder it was found in."""

    name: str
    text: str

    @property
    def byte_count(self) -> int:
        """The size of the text in UTF-8, by which losses of different tokenizers compare."""
        return len(self.text.encode())


def python_library_files() -> list[Path]:
    """List the `.py` files of the running Python's library, sorted, without tests and others' packages."""
    return [path for path in _walk(_library(), _NOT_LIBRARY) if path.suffix == ".py"]


def library_documents(limit: int | None = None) -> list[Document]:
    """Read the standard library, in order, up to `limit` bytes or all of it."""
    root, documents, size = _library(), list[Document](), 0
    for path in python_library_files():
        text = _text(path, FILE_LIMIT)
        if text:
            documents.append(Document(path.relative_to(root).as_posix(), text))
            size += documents[-1].byte_count
        if limit is not None and size >= limit:
            break
    if not documents:
        raise ValueError(f"expected .py files of the standard library in {root}, got none")
    return documents


def _library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def read_documents(paths: Iterable[str | os.PathLike[str]], limit: int = FILE_LIMIT) -> list[Document]:
    """Read text files and, recursively, folders of them, each file once.

    limit: bytes a file may have. A named file that is missing, too large or no text is a ValueError; in
    folders such files are passed over.
    """
    if isinstance(paths, str):
        raise ValueError(f"expected a list of paths, got the string {paths!r}")
    given = [os.fspath(path) for path in paths]
    if "" in given:  # Path("") is the current folder, which nobody meant
        raise ValueError(f"expected files or folders, got an empty name in {given}")
    roots = [Path(path) for path in given]
    found: dict[Path, Document] = {}
    for path, document in chain.from_iterable(_read(root, limit) for root in roots):
        found.setdefault(path, document)
    if not found:
        looked = [str(root) for root in roots]
        raise ValueError(f"expected UTF-8 text files of 1 to {limit} bytes in {looked}, got none")
    return list(found.values())


def _read(root: Path, limit: int) -> Iterator[tuple[Path, Document]]:
    """Yield each document with its real path, by which a file given twice is known."""
    if root.is_dir():
        for path in _walk(root):
            if text := _text(path, limit):
                name = (Path(root.resolve().name) / path.relative_to(root)).as_posix()
                yield path.resolve(), Document(name, text)
    elif text := _text(root, limit):
        yield root.resolve(), Document(root.name, text)
    else:
        raise ValueError(
            f"expected {root} to be a folder or a UTF-8 text file of 1 to {limit} bytes, got {_what(root)}"
        )


def _walk(root: Path, skipped: frozenset[str] = frozenset()) -> list[Path]:
    """List the files below a folder, sorted, without hidden ones and links that lead out of it."""
    real, files = root.resolve(), list[Path]()
    for folder, folders, names in os.walk(root):  # links to folders are not followed: they may form rings
        folders[:] = [name for name in folders if name not in skipped and not name.startswith(".")]
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(path for path in files if path.is_file() and path.resolve().is_relative_to(real))


def _text(path: Path, limit: int) -> str | None:
    """Read a file, or None if it is not a file of text within the limit."""
    try:
        if not path.is_file() or path.stat().st_size > limit:
            return None
        text = path.read_bytes().decode()  # line breaks stay as they are
    except (OSError, UnicodeDecodeError):
        return None
    return None if "\0" in text else text  # UTF-8 allows NUL, but no text has one


def _what(path: Path) -> str:
    if not path.exists():
        return "nothing there"
    return f"{path.stat().st_size} bytes that are not" if path.is_file() else "something else"


def split_documents(
    documents: Sequence[Document], held_out: float = 0.05, seed: int = 0
) -> tuple[list[Document], list[Document]]:
    """Split by file into documents to learn from and documents held out; both keep their order.

    held_out: the share of files, on average. At least one is held out, and one kept, unless the share is 0.
    """
    if not 0 <= held_out < 1:
        raise ValueError(f"expected held_out from 0 to below 1, got {held_out}")
    if not documents or (held_out and len(documents) < 2):
        raise ValueError(f"expected at least {2 if held_out else 1} documents to split, got {len(documents)}")
    if not held_out:
        return list(documents), []
    draws = {document.name: _draw(document.name, seed) for document in documents}
    if len(draws) < 2:
        raise ValueError(
            f"expected documents of different names, got {len(documents)} of {documents[0].name!r}"
        )
    ordered = sorted(draws, key=lambda name: draws[name])
    chosen = {name for name in ordered if draws[name] < held_out} | {ordered[0]}
    chosen.discard(ordered[-1])  # one stays to learn from
    learned = [document for document in documents if document.name not in chosen]
    return learned, [document for document in documents if document.name in chosen]


def _draw(name: str, seed: int) -> float:
    """Turn a name and a seed into a number from 0 to 1 that looks random and never changes."""
    digest = sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:7]) / (1 << 56)
