"""A student's functions, called in a process of their own, as if they were here.

`StudentCode` holds a session with the student's file loaded. Each of its functions is called like any
function, and answers with the plain value that came back. A session that ended (a loop, a crash, too much
memory) is opened again for the next call.

Does: name the arguments, remember the answers, count work beside the solution's. Does not: judge.

Next: minidsv3.learn.falsify
"""

from collections.abc import Mapping
from copy import deepcopy
from time import monotonic
from types import TracebackType
from typing import Any, Self

import numpy as np

from minidsv3.learn.exercises import Lesson
from minidsv3.learn.sandbox.session import Answer, Ended, Limits, Session, Warm
from minidsv3.learn.sandbox.values import TooLarge, pack
from minidsv3.learn.score import Score
from minidsv3.learn.work import Work

MOST_KNOWN = 2000  # answers kept
LARGE = 2**14  # bytes of arguments, or of an answer, that is not kept
MOST_WAITED = 60.0  # seconds for all answers together, whatever the sessions
LIMITS = Limits(wall_seconds=3.0)  # for someone who waits for the answer
__all__ = ["LIMITS", "Raised", "StudentCode", "StudentFunction"]


class Raised(Exception):
    """A call raised, or came back with something that is no value; in words."""


class StudentCode:
    """A student's file, loaded; a context manager."""

    def __init__(self, warm: Warm, lesson: Lesson, source: str, limits: Limits | None = None) -> None:
        self.lesson, self.limits = lesson, limits or LIMITS
        self.asked: list[tuple[str, Mapping[str, Any], Answer]] = []  # by the judge that is running
        self.score: Score | None = None  # counted last
        self.seconds = 0.0  # that the last call took, or the one that ended the session
        self.waited = 0.0  # seconds for all calls
        self._warm, self._source = warm, source
        self._session: Session | None = None
        self._known: dict[tuple[str, bytes], Answer] = {}
        self.functions = {name: StudentFunction(self, name) for name in lesson.functions}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restart()

    @property
    def session(self) -> Session:
        """The session, opened if there is none."""
        if self._session is None:
            self._session = self._warm.open(self._source, self.limits)
        return self._session

    def restart(self) -> None:
        """End the session; the next call opens a fresh one."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._known.clear()

    def call(self, function: str, arguments: Mapping[str, Any]) -> Answer:
        """One call, whatever comes of it; `Ended` if the process ended. The same call is asked only once."""
        key = function, pack(list(arguments.values()))
        if key not in self._known:
            answer = self.ask(function, arguments)
            if len(self._known) < MOST_KNOWN and len(key[1]) < LARGE and _small(answer):
                self._known[key] = answer
        else:
            answer = self._known[key]
        self.asked.append((function, arguments, answer))
        return answer

    def steady(self) -> bool:
        """Whether the calls of the last judge are answered the same when they are asked again."""
        return all(
            _said(self.ask(function, arguments)) == _said(answer)
            for function, arguments, answer in list(self.asked)
        )

    def ask(self, function: str, arguments: Mapping[str, Any], count: bool = False) -> Answer:
        """One call for certain, counted if that is wanted."""
        if self.waited > MOST_WAITED:
            raise Ended(f"ran longer than {MOST_WAITED:g} s in all")
        try:
            return self._timed(function, arguments, count)
        except Ended as ended:
            self.restart()
            if self.seconds > self.limits.wall_seconds / 2 or not str(ended).startswith("ran longer"):
                raise
            return self._timed(function, arguments, count)  # the calls before had used the time up

    def _timed(self, function: str, arguments: Mapping[str, Any], count: bool) -> Answer:
        session, start = self.session, monotonic()
        try:
            return session.call(function, arguments, count)
        finally:
            self.seconds = monotonic() - start
            self.waited += self.seconds


class StudentFunction:
    """One function of the student's."""

    def __init__(self, code: StudentCode, name: str) -> None:
        self.name = name
        self._code = code
        self._names = code.lesson.parameters(name)

    @property
    def last(self) -> Answer:
        """The answer of the last call of any function."""
        return self._code.asked[-1][2]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it; raises `Raised` with what it raised."""
        given = {**dict(zip(self._names, arguments, strict=False)), **named}
        answer = self._code.call(self.name, {name: _sent(value) for name, value in given.items()})
        if answer.raised is not None:
            raise Raised(answer.raised)
        return answer.value.copy() if isinstance(answer.value, np.ndarray) else deepcopy(answer.value)

    def score(self, inputs: Mapping[str, Any]) -> Score:
        """Counted work of one call, and of the solution's in a session of its own."""
        sent = {name: _sent(value) for name, value in inputs.items()}
        at = ", ".join(f"{name} {list(np.shape(value))}" for name, value in sent.items())
        mine = self._counted(self._code, sent)
        lesson = self._code.lesson
        with StudentCode(self._code._warm, lesson, lesson.solution, self._code.limits) as solution:
            theirs = self._counted(solution, sent)
        agrees = _agree(mine.value, theirs.value)
        self._code.score = Score(self.name, _work(mine), _work(theirs), at, agrees)
        return self._code.score

    def _counted(self, code: StudentCode, inputs: Mapping[str, Any]) -> Answer:
        answer = code.ask(self.name, inputs, count=True)
        if answer.raised is not None or answer.work is None:
            raise Raised(answer.raised or "its work could not be counted")
        return answer


def _small(answer: Answer) -> bool:
    """Whether an answer may be kept."""
    try:
        pack([answer.value, answer.raised, answer.printed, answer.warnings], LARGE)
    except TooLarge:
        return False
    return True


def _work(answer: Answer) -> Work:
    assert answer.work is not None
    return answer.work


def _agree(yours: Any, expected: Any) -> bool:
    """Whether two results are the same to rounding, arrays in tuples too."""
    if isinstance(yours, tuple | list) and isinstance(expected, tuple | list):
        return len(yours) == len(expected) and all(map(_agree, yours, expected))
    if isinstance(yours, np.ndarray) and isinstance(expected, np.ndarray):
        if yours.shape != expected.shape:
            return False
        with np.errstate(all="ignore"):
            return bool(np.allclose(yours, expected, 1e-3, 1e-3, equal_nan=True))
    return bool(yours == expected)


def _said(answer: Answer) -> tuple[Any, ...]:
    """What two answers to the same call have to share."""
    return pack(answer.value), answer.raised


def _sent(value: Any) -> Any:
    """NumPy's scalars travel as arrays without axes."""
    return np.asarray(value) if isinstance(value, np.generic) else value
