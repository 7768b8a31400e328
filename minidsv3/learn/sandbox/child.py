"""In the student's process: load the file, then answer calls, one after the other, until the pipe closes.

The first request carries the source; its answer says why it did not load, or which functions it defines.
Every further one names a function and its arguments. The answer holds what it returned (or raised, in words
with the line), what NumPy warned of and what was printed meanwhile, whether the result shares memory with an
argument or an argument was changed, and the work, if that was asked for.

This package cannot be imported there, lest an exercise be done by what it asks for.

Does: run and tell. Does not: judge, nor keep the code from anything (`walls` and `guard` have
done that by then). What this side says is believed by nobody: a student's code may replace all of it.

    >>> request = {"function": "f", "names": ["x"], "values": [3], "count": False}
    >>> answer(request, {"f": lambda x: 2 * x})["value"]
    6

Next: minidsv3.learn.sandbox.guard
"""

import contextlib
import io
import linecache
import os
import sys
import traceback
import types
import warnings
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from minidsv3.learn.sandbox.values import HEADER, Other, TooLarge, pack, type_name, unpack
from minidsv3.learn.work import counted

__all__ = ["FILE", "answer", "load", "raised", "serve"]

FILE = "exercise.py"  # what the student's file is called in tracebacks
MOST_SAID = 2000  # characters of print that are kept with a call
MOST_WARNINGS, MOST_PARTS = 16, 200
MOST_NAMES = 10_000  # that a file defines, those of `from numpy import *` among them
PACKAGE = "minidsv3"
MOST_WORK: Any = 1000  # of comparing two strided arrays
Table = dict[str, Any]


def serve(channel: int, limits: Mapping[str, Any], answers: int | None = None) -> NoReturn:
    """Answer requests until the other side is gone; then leave, whatever runs on beside.

    answers: where they go, if not to the channel that the requests come from
    """
    back = channel if answers is None else answers
    read, write, leave, getpid = os.read, os.write, os._exit, os.getpid
    me = getpid()
    names: Table = {}
    _take_away_the_package()
    try:
        while True:
            nonce, number, size = HEADER.unpack(_exactly(read, channel, HEADER.size))
            request = unpack(_exactly(read, channel, size))
            if not number:
                _lay_down(request["source"])
            said = answer(request, names, limits) if number else load(request["source"], names, limits)
            if getpid() != me:  # a copy that the code forked
                break
            body = _packed(said)
            data = memoryview(HEADER.pack(nonce, number, len(body)) + body)
            while data:
                data = data[write(back, data) :]
    finally:
        leave(0)


class _NotHere:
    """Finds every module but those of this package."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Refuse them; say nothing of the others."""
        if name.partition(".")[0] == PACKAGE:
            raise ImportError(f"expected NumPy and Python's own modules alone, got {name}")


def _take_away_the_package() -> None:
    """What an exercise asks for stands in this package: here it cannot be imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    sys.meta_path.insert(0, _NotHere)


def _lay_down(source: str) -> None:
    """Write the file where the code runs, for what wants to read its own source."""
    with contextlib.suppress(OSError, UnicodeError):
        Path(FILE).write_text(source, encoding="utf-8")


def _exactly(read: Any, channel: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = read(channel, min(size - len(data), 2**20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def _packed(said: Table) -> bytes:
    """The answer as bytes; a value that is too large goes in words."""
    try:
        return pack(said)
    except TooLarge:
        value = said["value"]
        what = (
            f"an array {list(value.shape)}"
            if type(value) is np.ndarray
            else "more parts or bytes than travel"
        )
        return pack(said | {"value": Other(type_name(value), what), "large": True})


# ---- the file ---------------------------------------------------------------------------------------------


def load(source: str, names: Table, limits: Mapping[str, Any] = types.MappingProxyType({})) -> Table:
    """Run the student's file as a module; what it defines goes into `names`."""
    module = types.ModuleType("exercise")
    module.__file__ = FILE
    sys.modules["exercise"] = module
    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
    problem = None
    try:
        exec(compile(source, FILE, "exec"), vars(module))
    except BaseException as error:
        problem = raised(error, limits)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    names.update(vars(module))
    functions = [k for k, v in names.items() if not k.startswith("_") and callable(v)]
    return {"problem": problem, "callables": functions[:MOST_NAMES]}


def raised(problem: BaseException, limits: Mapping[str, Any] = types.MappingProxyType({})) -> str:
    """What a student's code raised, and on which line of it."""
    if isinstance(problem, MemoryError):
        most = limits.get("memory_mib")
        return "ran out of memory" + (f" (limit {most} MiB)" if most else "") + _where(problem)
    if isinstance(problem, SystemExit):
        return "called sys.exit; a function has to return" + _where(problem)
    try:
        text = problem.msg if isinstance(problem, SyntaxError) else f"{problem}"
        text = text.strip().split("\n")[0][:MOST_SAID]
    except Exception:
        text = ""
    return f"raised {type(problem).__name__}" + (f": {text}" if text else "") + _where(problem)


def _where(problem: BaseException) -> str:
    if isinstance(problem, SyntaxError):
        return f" (line {problem.lineno})"
    frames = [f for f in traceback.extract_tb(problem.__traceback__) if f.filename == FILE]
    return f" (line {frames[-1].lineno}: {frames[-1].line})" if frames else ""


# ---- calls ------------------------------------------------------------------------------------------------


def answer(
    request: Table, names: Mapping[str, Any], limits: Mapping[str, Any] = types.MappingProxyType({})
) -> Table:
    """One call of a student's function, whatever it does."""
    values = request["values"]
    before = [pack(value) for value in values]
    value, problem, work = None, None, None
    with _listening() as (caught, printed):
        try:
            function = names[request["function"]]
            value, work = _counted(function, values) if request["count"] else (function(*values), None)
        except BaseException as error:
            problem = raised(error, limits)
    return {
        "value": value,
        "raised": problem,
        "warnings": tuple(dict.fromkeys(str(w.message)[:MOST_SAID] for w in caught))[:MOST_WARNINGS],
        "printed": printed.getvalue(),
        "shares": tuple(n for n, v in zip(request["names"], values, strict=True) if _share(value, v)),
        "changed": _changed(request["names"], before, values),
        "work": work,
    }


def _counted(function: Any, values: list[Any]) -> tuple[Any, tuple[int, ...]]:
    value, work = counted(function, *values)
    return value, tuple(int(count) for count in work)


def _arrays(value: Any) -> Iterator[np.ndarray[Any, Any]]:
    """The arrays in a value, of many parts the first."""
    if isinstance(value, np.ndarray):
        yield value
    elif type(value) in (tuple, list, dict):
        for part in islice(value.values() if type(value) is dict else value, MOST_PARTS):
            yield from _arrays(part)


def _share(result: Any, given: Any) -> bool:
    """Whether a result has memory of an argument, or is the argument itself, where that can be told apart."""
    try:
        mine = tuple(_arrays(given))
        return any(np.shares_memory(a, b, max_work=MOST_WORK) for a in _arrays(result) for b in mine)
    except (RecursionError, np.exceptions.TooHardError) as problem:
        return not isinstance(problem, RecursionError)


def _changed(names: list[str], before: list[bytes], values: list[Any]) -> tuple[str, ...]:
    """The names of arguments that are not what they were."""
    both = zip(names, before, values, strict=True)
    return tuple(name for name, was, now in both if pack(now) != was)


class _Capped(io.StringIO):
    """Text up to a length; the rest is dropped."""

    def write(self, text: str) -> int:
        super().write(text[: max(MOST_SAID - self.tell(), 0)])
        return len(text)


@contextlib.contextmanager
def _listening() -> Iterator[tuple[list[warnings.WarningMessage], io.StringIO]]:
    """Warnings and prints of a call."""
    printed = _Capped()
    with (
        warnings.catch_warnings(record=True) as caught,
        np.errstate(all="warn", under="ignore"),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # of files left open
        yield caught, printed
