"""`minidsv3 check --watch`: the panel again whenever the file is saved.

The worker stays warm and what was drawn stays drawn, so an answer takes a fraction of a second. On a terminal
keys work meanwhile; elsewhere, and for a screen reader, results follow each other.

Does: look at the files ten times a second. Does not: need anything beyond the time of their last change.

Next: minidsv3.cli.hint
"""

import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from time import sleep

from rich.console import Console

from minidsv3.cli.check import checked
from minidsv3.cli.check_panel import print_result
from minidsv3.cli.keyboard import keys, reads_keys, single_keys
from minidsv3.cli.terminal import draws_in_place, results
from minidsv3.learn.exercises import Lesson, student_file
from minidsv3.learn.progress import next_hint, record_hint
from minidsv3.learn.result import CheckResult
from minidsv3.learn.sandbox.session import Warm

__all__ = ["watch"]

TICK = 0.1  # seconds between two looks
FOOTER = "save the file to check again   n next   p previous   h hint   q quit"
Watched = tuple[Lesson, Path]


def watch(chosen: list[Lesson], named: Path | None, warm: Warm) -> int:
    """Until q, Ctrl-C or Ctrl-D: check what was saved; 0 if the last check passed, else 1."""
    console = results()
    files = [(lesson, named or student_file(lesson, Path.cwd())[0]) for lesson in chosen]
    with single_keys() if reads_keys(console) else contextlib.nullcontext():
        return _watched(console, files, warm)


def _watched(console: Console, files: list[Watched], warm: Warm) -> int:
    """What `watch` does while keys come one by one."""
    at, passed, hint = 0, False, ""
    for event in _events(console, files):
        if event == "quit":
            break
        if event in ("n", "p"):
            at = (at + (1 if event == "n" else -1)) % len(files)
        elif isinstance(event, int):
            at = event
        if event == "h":
            hint = _hint(files[at][0])
            console.print(hint, soft_wrap=True)
            continue
        result = _checked(console, files[at], warm)
        passed = bool(result and result.passed)
    return 0 if passed else 1


def _checked(console: Console, file: Watched, warm: Warm) -> CheckResult | None:
    """One check on a fresh screen, with the keys below it."""
    if draws_in_place(console):
        console.clear()
    try:
        result = checked(*file, warm)
    except ValueError as problem:  # a file that is gone, or no text
        console.print(str(problem), soft_wrap=True)
        return None
    print_result(console, result)
    if reads_keys(console):
        console.print(f"[{file[0].id}]  {FOOTER}", soft_wrap=True)
    return result


def _hint(lesson: Lesson) -> str:
    found = next_hint(Path.cwd(), lesson)
    if found is None:
        return "this exercise has no hints"
    record_hint(Path.cwd(), lesson.id, found[0])
    return "hint {} of {}: {}".format(*found)


# ---- what happens -----------------------------------------------------------------------------------------


def _events(console: Console, files: list[Watched]) -> Iterator[str | int]:
    """The number of a file that was saved, a key, or "quit"; the first file at once."""
    pressed: queue.Queue[str] = queue.Queue()
    if reads_keys(console):
        threading.Thread(target=_press, args=(console, pressed), daemon=True).start()
    before = [_changed(path) for _, path in files]
    yield 0
    while True:
        while not pressed.empty():
            key = pressed.get()
            if key in ("q", "quit"):
                yield "quit"
            elif key in ("n", "p", "h", "r", "redraw"):
                yield key
        now = [_changed(path) for _, path in files]
        for i, (was, is_now) in enumerate(zip(before, now, strict=True)):
            if was != is_now and is_now is not None:
                yield i
        before = now
        sleep(TICK)


def _press(console: Console, pressed: "queue.Queue[str]") -> None:
    for key in keys(console):
        pressed.put(key)
    pressed.put("quit")


def _changed(path: Path) -> tuple[int, int] | None:
    """What changes when a file is saved; None while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
