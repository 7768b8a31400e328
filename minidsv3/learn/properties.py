"""Properties of an exercise, and the search for the smallest input that breaks one; runs in the sandbox.

A lesson's `check.py` lists properties in the order in which they make sense: shape, then value, and so on.

    @prop("each row of the result sums to 1", arrays("T T", scores=(-100, 100)))
    def rows_sum_to_one(softmax, scores):
        return close(softmax(scores).sum(axis=1), np.ones(len(scores)))

A judge calls the student's function on the drawn arrays and returns None or a `Difference`. Hypothesis draws,
and shrinks what fails; the first property that fails ends the chain and the rest are skipped. Draws are the
same in every run, so a counterexample comes back until it is fixed.

Does: search, compare, say what was raised. Does not: score, or print. Only this file imports Hypothesis.

    >>> close(np.array([0.5, np.nan]), np.array([0.5, 1.0])).note
    'yours and the expected differ'

Next: minidsv3.learn.result
"""

import contextlib
import io
import linecache
import math
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.extra import numpy as hnp

from minidsv3.learn import result
from minidsv3.learn.result import pack, unpack
from minidsv3.machine.signature import Signature

__all__ = ["Difference", "Property", "arrays", "close", "like", "prop"]

Array = np.ndarray[Any, Any]
Inputs = dict[str, Array]
Judge = Callable[..., "Difference | None"]
FILE = "exercise.py"  # what the student's file is called in tracebacks
MOST_SAID = 2000  # characters of print kept with a counterexample
SHRINK_SECONDS = 2.0  # after the first failure
NOT_EQUAL = "yours and the expected differ"
NO_MEMORY = "ran out of memory"

PROFILE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    max_examples=100,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Difference:
    """Why an answer is wrong."""

    note: str
    yours: Array | None = None
    expected: Array | None = None


@dataclass(frozen=True)
class Property:
    """One check of the chain."""

    name: str
    sentence: str
    inputs: st.SearchStrategy[Inputs]
    judge: Judge


@dataclass
class Failure:
    """A property broken by an input."""

    inputs: Inputs
    difference: Difference
    warnings: list[str] = field(default_factory=list)  # of NumPy, each once
    printed: str = ""


class Falsified(Exception):
    """Raised inside the search; one class, so that shrinking follows the property and not the error."""


def prop(sentence: str, inputs: st.SearchStrategy[Inputs]) -> Callable[[Judge], Property]:
    """Make a judge a property; its name is the function's."""
    return lambda judge: Property(judge.__name__, sentence, inputs, judge)


def arrays(
    signature: str, at_most: int = 4, **ranges: tuple[float, float]
) -> st.SearchStrategy[Inputs]:
    """Float32 arrays whose shapes fit a signature of the catalogue's kind.

    signature: an operand for each name, `"T D, R D"`  at_most: the largest size of an axis  ranges: name=(low, high).
    """
    operands = Signature.parse(signature if "->" in signature else f"{signature} ->").operands
    axes = list(dict.fromkeys(axis for operand in operands for axis in operand))

    @st.composite
    def drawn(draw: st.DrawFn) -> Inputs:
        sizes = {axis: draw(st.integers(1, at_most)) for axis in axes}
        return {
            name: draw(
                hnp.arrays(np.float32, tuple(sizes[a] for a in operand), elements=st.floats(*bounds, width=32))
            )
            for (name, bounds), operand in zip(ranges.items(), operands, strict=True)
        }

    return drawn()


# ---- judging ----------------------------------------------------------------------------------------------


def like(yours: Any, expected: Array) -> Difference | None:
    """None if it is an array of the expected shape and dtype."""
    said = f"expected an array {list(expected.shape)} of {expected.dtype}, got "
    if type(yours) is not np.ndarray:
        return Difference(said + f"{type(yours).__name__}: {_short(yours)}")
    if yours.shape != expected.shape or yours.dtype != expected.dtype:
        return Difference(said + f"{list(yours.shape)} of {yours.dtype}")
    return None


def close(yours: Any, expected: Array, tolerance: float = 1e-5) -> Difference | None:
    """None if equal up to `tolerance` x (1 + size of the expected), NaN never being equal."""
    if not isinstance(yours, np.ndarray) or yours.shape != expected.shape or yours.dtype.kind not in "biuf":
        return like(yours, expected) or Difference(NOT_EQUAL, yours, expected)
    with np.errstate(invalid="ignore"):
        off = np.abs(yours - expected) <= tolerance * (1 + np.abs(expected))
    return None if bool((off | (yours == expected)).all()) else Difference(NOT_EQUAL, yours, expected)


def _short(value: Any) -> str:
    try:
        return repr(value)[:60]
    except Exception:
        return "something that cannot be shown"


def _judge(check: Property, function: Callable[..., Any], inputs: Inputs) -> Failure | None:
    """One call of the student's function, whatever it does."""
    printed = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as caught,
        np.errstate(all="warn", under="ignore"),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("always")
        try:
            difference = check.judge(function, **{name: array.copy() for name, array in inputs.items()})
        except BaseException as problem:
            difference = Difference(_raised(problem))
    if difference is None:
        return None
    said = list(dict.fromkeys(str(warning.message) for warning in caught))
    return Failure(inputs, difference, said, printed.getvalue()[:MOST_SAID])


def _raised(problem: BaseException) -> str:
    """What a student's code raised, and on which line of it."""
    if isinstance(problem, MemoryError):
        return NO_MEMORY + _where(problem)
    if isinstance(problem, SystemExit):
        return "called sys.exit; a function has to return" + _where(problem)
    try:
        text = f"{problem}".strip().split("\n")[0]
    except Exception:
        text = ""
    return f"raised {type(problem).__name__}" + (f": {text}" if text else "") + _where(problem)


def _where(problem: BaseException) -> str:
    if isinstance(problem, SyntaxError):
        return f" (line {problem.lineno})"
    frames = [f for f in traceback.extract_tb(problem.__traceback__) if f.filename == FILE]
    return f" (line {frames[-1].lineno}: {frames[-1].line})" if frames else ""


def smallest_failure(check: Property, function: Callable[..., Any]) -> Failure | None:
    """The smallest input found that breaks a property; None if none was found."""
    known: dict[tuple[Any, ...], Failure] = {}
    last: list[Failure] = []
    until = math.inf  # from then on only inputs known to fail do: shrinking ends

    @PROFILE
    @given(check.inputs)
    def falsify(inputs: Inputs) -> None:
        nonlocal until
        key = tuple((array.shape, array.tobytes()) for array in inputs.values())
        failure = known.get(key) if monotonic() > until else _judge(check, function, inputs)
        if failure is not None:
            no_memory = failure.difference.note.startswith(NO_MEMORY)
            until = min(until, monotonic() + (0 if no_memory else SHRINK_SECONDS))
            known[key], last[:] = failure, [failure]
            raise Falsified

    try:
        falsify()
    except Falsified:
        return last[0]
    except Flaky:
        note = "gives different answers for the same input"
        return replace(last[0], difference=replace(last[0].difference, note=note))
    return None


# ---- the whole chain, in the child ------------------------------------------------------------------------


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
    properties, replay = load_properties(Path(request["check"])), request["replay"]
    module = sys.modules[properties[0].judge.__module__]
    sealed = [(sealed, dict(vars(sealed))) for sealed in (sys.modules[__name__], module, result, np, np.linalg)]
    found: list[Callable[..., Any]] = []

    def search(check: Property) -> Failure | None:
        return _replayed(check, found[0], replay["inputs"]) if replay else smallest_failure(check, found[0])

    if replay:
        properties = [check for check in properties if check.name == replay["property"]]
    return [
        ("loads", f"the file loads and defines {request['function']}", lambda: _load(request, found)),
        *((check.name, check.sentence, partial(search, check)) for check in properties),
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
        return Failure({}, Difference(_raised(problem)))
    function = vars(module).get(name)
    if not callable(function):
        return Failure({}, Difference(f"expected a function {name!r} in the file, found none"))
    found.append(function)
    return None


def _replayed(check: Property, function: Callable[..., Any], inputs: Mapping[str, Any]) -> Failure | None:
    """One call on a saved counterexample."""
    drawn = {name: unpack(packed) for name, packed in inputs.items()}
    return _judge(check, function, {name: array for name, array in drawn.items() if array is not None})


def _broken_seal(sealed: list[tuple[types.ModuleType, dict[str, Any]]]) -> Failure | None:
    """Whether a name of these modules is another object than it was."""
    for module, names in sealed:
        for name, value in names.items():
            if vars(module).get(name) is not value:
                return Failure({}, Difference(f"your code replaced {module.__name__}.{name}; leave it as it is"))
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
