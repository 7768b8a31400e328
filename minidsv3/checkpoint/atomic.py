"""Writing a file so that it is there whole or not at all.

A run may be killed at any moment and the disk may fill up. So a file is written under another name beside
its place, flushed to the disk, and only then renamed: a rename replaces the old file in one step, and who
opens the name sees the old content or the new, never a half.

The other name is fixed (`.NAME.partial`), so a killed writer leaves at most one such file, and the next
writer takes it over. One writer a file at a time is assumed.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "note.txt") as file:
    ...         _ = file.write(b"all of it")
    ...         before = (Path(folder) / "note.txt").exists()
    ...     before, (Path(folder) / "note.txt").read_bytes()
    (False, b'all of it')

Next: minidsv3.checkpoint.header
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["FilePath", "replacing", "writing"]

FilePath = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: FilePath) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` when the block ends without an error.

    After an error (a full disk, Ctrl-C) the old file is untouched and the partial one is gone. A link is
    replaced, not what it leads to; ValueError for a folder, a device or a pipe, which no file can replace.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise ValueError(f"expected a file, or a name that is free, got {path}, which is neither")
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # the bytes, before the name that promises them
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_names(target.parent)


@contextlib.contextmanager
def writing(path: FilePath) -> Iterator[BinaryIO]:
    """As `replacing`, at a place that a user names: links are followed, devices and pipes are written to."""
    target = Path(path)
    if target.exists() and not (target.is_file() or target.is_dir()):
        with target.open("wb") as file:
            yield file
        return
    with replacing(target.resolve()) as file:
        yield file


def _flush_names(folder: Path) -> None:
    """Flush the folder too: on a power cut a rename is lost unless its folder was written."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # some systems do not open folders; the rename is then as safe as they make it
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
