"""The chain of checks on one exercise, in the order that says most; runs in the sandbox.

First the file has to load and define its function; then come the properties of the lesson's `check.py`; last,
NumPy and the checker must be the objects that they were, so that nobody passes by replacing them, least of
all by accident. The first check that fails ends the chain.

Messages: the names and sentences of all checks, then for each "running" and its outcome. So the parent knows
which check a killed child was at.

Does: load, run, send. Does not: judge (`properties`), limit (`sandbox`).

    >>> sent = []
    >>> from minidsv3.learn.exercises import find_lesson
    >>> check = str(find_lesson("00").folder / "check.py")
    >>> run_chain({"source": "1 / 0", "function": "softmax", "check": check, "replay": None}, sent.append)
    >>> sent[-1]["failure"]["note"]
    'raised ZeroDivisionError: division by zero (line 1: 1 / 0)'

Next: minidsv3.learn.result
"""

import linecache
import sys
import types
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minidsv3.learn import properties, result
from minidsv3.learn.properties import FILE, Difference, Drawn, Failure, Property, first_failure, judge, raised
from minidsv3.learn.result import pack, unpack

__all__ = ["load_properties", "run_chain"]

Step = tuple[str, str, Callable[[], "Failure | None"]]


def run_chain(request: dict[str, Any], send: Callable[[dict[str, Any]], None]) -> None:
    """Check a student's source. request: source, function, check (path of check.py), replay (or None).

    Sends the names first, then "running" and an outcome for each; the first that fails ends the chain.
    """
    steps = _steps(request)
    send({"checks": [[name, sentence] for name, sentence, _ in steps]})
    for name, _, step in steps:
        send({"running": name})
        failure = step()
        send({"outcome": name, "failure": None if failure is None else _packed(failure)})
        if failure is not None:
            return


def _steps(request: dict[str, Any]) -> list[Step]:
    """The chain: the file loads, each property (or the one replayed), nothing was tampered with."""
    checks, replay = load_properties(Path(request["check"])), request["replay"]
    module = sys.modules[checks[0].judge.__module__]
    sealed = [(m, dict(vars(m))) for m in (sys.modules[__name__], module, properties, result, np, np.linalg)]
    found: list[Callable[..., Any]] = []
    drawn: Drawn = {}

    def search(check: Property) -> Failure | None:
        if replay:
            return _replayed(check, found[0], replay["inputs"])
        return first_failure(check, found[0], drawn)

    if replay:
        checks = [check for check in checks if check.name == replay["property"]]
    return [
        ("loads", f"the file loads and defines {request['function']}", lambda: _load(request, found)),
        *((check.name, check.sentence, partial(search, check)) for check in checks),
        ("untouched", "NumPy and the checker are as they were", lambda: _broken_seal(sealed)),
    ]


def load_properties(path: Path) -> list[Property]:
    """The properties that a lesson's `check.py` defines, in its order."""
    module = types.ModuleType(f"lesson_check_{path.parent.name}")
    sys.modules[module.__name__] = module
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), vars(module))
    return [value for value in vars(module).values() if isinstance(value, Property)]


def _load(request: Mapping[str, Any], found: list[Callable[..., Any]]) -> Failure | None:
    """Run the student's file as a module; its function goes into `found`."""
    source, name = request["source"], request["function"]
    module = types.ModuleType("exercise")
    module.__file__ = FILE
    sys.modules["exercise"] = module
    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
    try:
        exec(compile(source, FILE, "exec"), vars(module))
    except BaseException as problem:
        return Failure({}, Difference(raised(problem)))
    function = vars(module).get(name)
    if not callable(function):
        return Failure({}, Difference(f"expected a function {name!r} in the file, found none"))
    found.append(function)
    return None


def _replayed(check: Property, function: Callable[..., Any], inputs: Mapping[str, Any]) -> Failure | None:
    """One call on a saved counterexample."""
    drawn = {name: unpack(packed) for name, packed in inputs.items()}
    return judge(check, function, {name: array for name, array in drawn.items() if array is not None})


def _broken_seal(sealed: list[tuple[types.ModuleType, dict[str, Any]]]) -> Failure | None:
    """Whether a name of these modules is another object than it was."""
    for module, names in sealed:
        for name, value in names.items():
            if vars(module).get(name) is not value:
                return Failure({}, Difference(f"your code replaced {module.__name__}.{name}; leave it alone"))
    return None


def _packed(failure: Failure) -> dict[str, Any]:
    difference = failure.difference
    return {
        "note": difference.note,
        "inputs": {name: pack(array) for name, array in failure.inputs.items()},
        "yours": pack(difference.yours),
        "expected": pack(difference.expected),
        "warnings": failure.warnings,
        "printed": failure.printed,
    }
