"""Files that appear whole or not at all, and what is no file."""

import contextlib
import os
import threading
from pathlib import Path

import pytest

from minidsv3.checkpoint import replacing, writing


def test_a_link_is_replaced_or_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with writing(link) as file:
        file.write(b"through")
    assert link.is_symlink()
    assert target.read_bytes() == b"through"
    with replacing(link) as file:
        file.write(b"instead")
    assert not link.is_symlink()
    assert target.read_bytes() == b"through"


def test_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with writing(pipe) as file:
        file.write(b"through the pipe")
    reader.join()
    assert read == [b"through the pipe"]
    with (
        pytest.raises(ValueError, match=r"expected a file, or a name that is free, got .*pipe"),
        replacing(pipe),
    ):
        pass
    assert pipe.is_fifo()


@pytest.mark.parametrize("write", [replacing, writing])
def test_a_folder_is_no_file(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="expected a file, or a name that is free"), write(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with contextlib.suppress(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
