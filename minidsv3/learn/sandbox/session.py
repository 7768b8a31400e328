"""The checker's side: a session with a student's code, which answers calls and judges nothing.

A `Warm` process has Python and NumPy loaded and forks a session for each source that is opened. A session
calls functions by name; each `Answer` has to carry the nonce and the number of its question, and what comes
without being asked for, too large, malformed or not at all ends the session: `Ended`, in words. So code that
prints a result, leaves early, or replaces NumPy or the checker in its own process gains nothing.

Does: ask, wait, refuse. Does not: judge (`checker`), nor stop a program that means harm: it guards against
accidents, and is no security boundary.

    >>> with Warm() as warm, warm.open("def double(x):\\n    return x + x\\n") as session:
    ...     session.callables, session.call("double", {"x": 21}).value
    (('double',), 42)

Next: minidsv3.learn.work
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, Self
from weakref import WeakSet

from minidsv3.learn.exercises import lessons_folder
from minidsv3.learn.sandbox import ALWAYS, Limits, environment
from minidsv3.learn.sandbox.alone import start_alone
from minidsv3.learn.sandbox.line import END_SECONDS, START_SECONDS, UNREADABLE, Ended, Ends, Line, Lost
from minidsv3.learn.sandbox.values import Other, Value
from minidsv3.learn.work import Work

__all__ = ["Answer", "Ended", "Limits", "Lost", "Other", "Session", "Warm"]

START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from minidsv3.learn.sandbox import guard as g; g.nursery()"
)
MOST_SOURCE = 2**20  # characters


@dataclass(frozen=True)
class Answer:
    """What a call came to, as the student's process tells it."""

    value: Value = None  # an `Other` if it is of a type that does not travel
    raised: str | None = None  # in words, with the line
    warnings: tuple[str, ...] = ()  # of NumPy, each once
    printed: str = ""  # up to a cap
    shares: tuple[str, ...] = ()  # arguments whose memory the result shares
    changed: tuple[str, ...] = ()  # arguments that are not what they were
    work: Work | None = None
    large: bool = False  # the value was too large to travel; `value` is an `Other`
    seconds: float = 0.0  # from question to answer


# ---- a session --------------------------------------------------------------------------------------------


class Session:
    """A student's code, loaded, answering calls. A context manager; at its end nothing of it is left."""

    problem: str | None = None
    """Why the file did not load, in words with the line."""
    callables: tuple[str, ...] = ()
    """Functions and classes that it defines or imports, by public name."""
    held: tuple[str, ...] = ALWAYS
    """Which limits hold on this system, in words of `sandbox.WALLS`."""

    def __init__(self, source: str, limits: Limits, ends: Ends) -> None:
        """Load a source; `Lost` if there is no process at the other ends."""
        self._line = Line(ends, limits)
        self.held = tuple(sorted({*ALWAYS, *self._line.begin()}))
        try:
            self._load(source)
        except Lost:
            raise
        except Ended as ended:
            self.problem = str(ended)

    def _load(self, source: str) -> None:
        if len(source) > MOST_SOURCE:
            self._line.fail(f"is longer than {MOST_SOURCE} characters")
        said = self._line.ask({"source": source})
        self.problem = self._part(said, "problem", str | None)
        self.callables = self._texts(said, "callables")

    def call(self, function: str, arguments: Mapping[str, Value], count: bool = False) -> Answer:
        """Call a function with the arguments in their order; Ended if no valid answer comes.

        count: also count the work, which is slower.
        """
        names, values = list(arguments), list(arguments.values())
        start = monotonic()
        said = self._line.ask({"function": function, "names": names, "values": values, "count": count})
        work = self._part(said, "work", tuple | None)
        return Answer(
            value=said.get("value"),
            raised=self._part(said, "raised", str | None),
            warnings=self._texts(said, "warnings"),
            printed=self._part(said, "printed", str),
            shares=tuple(name for name in names if name in self._texts(said, "shares")),
            changed=tuple(name for name in names if name in self._texts(said, "changed")),
            work=None if work is None else self._work(work),
            large=bool(said.get("large")),
            seconds=monotonic() - start,
        )

    @property
    def output(self) -> str:
        """What was printed outside of calls, up to the cap."""
        return self._line.output.decode(errors="replace")

    def finish(self) -> None:
        """Ended if the session is over, or has said something that it was not asked."""
        self._line.finish()

    def close(self) -> None:
        """End the session and everything that it started; when this returns, that is done."""
        self._line.end("was closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- parts of an answer, which may be anything

    def _part(self, said: dict[str, Value], name: str, kind: Any) -> Any:
        value = said.get(name)
        if not isinstance(value, kind):
            self._line.fail(UNREADABLE)
        return value

    def _texts(self, said: dict[str, Value], name: str) -> tuple[str, ...]:
        values = self._part(said, name, tuple | list)
        if not all(isinstance(value, str) for value in values):
            self._line.fail(UNREADABLE)
        return tuple(values)

    def _work(self, counts: tuple[Value, ...]) -> Work:
        if len(counts) != len(Work._fields) or not all(type(n) is int and n >= 0 for n in counts):
            self._line.fail(UNREADABLE)
        return Work(*counts)


# ---- the warm process -------------------------------------------------------------------------------------


class Warm:
    """A process from which sessions are forked. A context manager; starts at once, beside what follows."""

    def __init__(self, walls: str = "all", hidden: Iterable[Path] = ()) -> None:
        """Start it.

        walls: "all" that can be had, the "plain" limits of any POSIX system, or "none", without a fork
        hidden: folders that sessions shall not see into; the lessons, with their solutions, always
        """
        self._hidden = [str(folder.resolve()) for folder in (lessons_folder(), *hidden)]
        self._walls = walls if hasattr(os, "fork") and hasattr(socket, "send_fds") else "none"
        self._folder = tempfile.TemporaryDirectory(prefix="minidsv3-", ignore_cleanup_errors=True)
        Path(self._folder.name).chmod(0o711)
        self._one_at_a_time = Lock()
        self._sessions: WeakSet[Session] = WeakSet()
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def _start(self) -> None:
        if self._walls == "none":
            return
        self._control, theirs = socket.socketpair()
        self._control.settimeout(START_SECONDS)
        package = str(Path(__file__).resolve().parents[3])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", START, package, str(theirs.fileno()), self._walls],
                cwd=self._folder.name,
                env=environment(self._folder.name),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def open(self, source: str, limits: Limits | None = None) -> Session:
        """Load a source in a process of its own; what went wrong is the session's `problem`.

        A warm process that has died is replaced. Lost if no session can be started.
        """
        process = self._process
        try:
            session = self._begin(source, limits or Limits())
        except Lost:
            self._replace(process)
            session = self._begin(source, limits or Limits())
        self._sessions.add(session)
        return session

    def _begin(self, source: str, limits: Limits) -> Session:
        try:
            if self._walls == "none":
                return Session(source, limits, start_alone(limits, tempfile.mkdtemp(dir=self._folder.name)))
            return Session(source, limits, self._forked(limits))
        except OSError as problem:
            raise Lost(f"could not be started: {problem}") from None

    def _replace(self, dead: subprocess.Popen[bytes] | None) -> None:
        """Start a new process if that one is gone, and nobody else has."""
        with self._one_at_a_time:
            if dead is self._process and not self._alive():
                self._stop()
                self._start()

    def _alive(self) -> bool:
        """Whether it still reads its orders."""
        with contextlib.suppress(OSError):
            self._control.sendall(b"?")
            return self._control.recv(1) == b"+"
        return self._process is None

    def _forked(self, limits: Limits) -> Ends:
        """Have a session forked  ->  our ends of its channel, its output and the line to its guard."""
        pairs = [socket.socketpair() for _ in range(3)]
        order = json.dumps(
            {"limits": asdict(limits), "folder": self._folder.name, "hidden": self._hidden}
        ).encode()
        try:
            with self._one_at_a_time:
                socket.send_fds(self._control, [order], [theirs.fileno() for _, theirs in pairs])
                if not self._control.recv(1):  # it says when it has forked
                    raise ConnectionResetError("the warm process is gone")
        except OSError:
            for ours, _ in pairs:
                ours.close()
            raise
        finally:
            for _, theirs in pairs:
                theirs.close()
        return pairs[0][0], pairs[1][0], pairs[2][0]

    def _stop(self) -> None:
        if self._process is None:
            return
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process and all of its sessions."""
        for session in tuple(self._sessions):
            session.close()
        self._stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
