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
import secrets
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, NoReturn, Self
from weakref import WeakSet

from minidsv3.learn.child_values import HEADER, MOST_BYTES, Other, Value, pack, unpack
from minidsv3.learn.sandbox import ALWAYS, Limits, environment, in_words
from minidsv3.learn.work import Work

__all__ = ["Answer", "Ended", "Limits", "Lost", "Other", "Session", "Warm"]

START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from minidsv3.learn.child_guard import nursery; nursery()"
)
MOST_SOURCE = 2**20  # characters
MOST_AT_ONCE = 2**20  # bytes read
START_SECONDS = 30.0  # for the warm process to come up
LAST_SECONDS = 1.0  # for the guard to tell how it ended
END_SECONDS = 5.0  # for it to end everything
UNASKED = "answered something that was not asked"
UNREADABLE = "sent an answer that cannot be read"
Ends = tuple[socket.socket, socket.socket, socket.socket]


class Ended(Exception):
    """The session gave no valid answer and is over; says why, in words."""


class Lost(Ended):
    """It ended because its guard is gone or never came: worth one more try, alone."""


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
        self.limits = limits
        self._channel, self._printed, self._guard = ends
        self._number, self._left = 0, limits.wall_seconds
        self._heard, self._output, self._told = bytearray(), bytearray(), bytearray()
        self._over: str | None = None
        for end in ends:
            end.setblocking(False)
        self._begin()
        self._load(source)

    def _begin(self) -> None:
        """The guard says what holds as soon as it has put up the walls."""
        said = self._guard_says(START_SECONDS)
        if said is None or "held" not in said:
            self._end("could not be started")
            raise Lost("could not be started")
        self.held = tuple(sorted({*self.held, *said["held"]}))

    def _load(self, source: str) -> None:
        try:
            if len(source) > MOST_SOURCE:
                self._fail(f"is longer than {MOST_SOURCE} characters")
            said = self._ask({"source": source})
            self.problem = self._part(said, "problem", str | None)
            self.callables = self._texts(said, "callables")
        except Lost:
            raise
        except Ended as ended:
            self.problem = str(ended)

    def call(self, function: str, arguments: Mapping[str, Value], count: bool = False) -> Answer:
        """Call a function with the arguments in their order; Ended if no valid answer comes.

        count: also count the work, which is slower.
        """
        names, values = list(arguments), list(arguments.values())
        start = monotonic()
        said = self._ask({"function": function, "names": names, "values": values, "count": count})
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
        return self._output.decode(errors="replace")

    def finish(self) -> None:
        """Ended if the session is over, or has said something that it was not asked."""
        if self._over is None and (self._heard or _readable(self._channel)):
            self._broken(asked=False)
        if self._over is not None:
            raise Ended(self._over)

    def close(self) -> None:
        """End the session and everything that it started; when this returns, that is done."""
        self._end("was closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- one question, one answer

    def _ask(self, request: dict[str, Value]) -> dict[str, Value]:
        self.finish()
        nonce, body = secrets.token_bytes(16), pack(request)
        until = monotonic() + self._left
        self._send(HEADER.pack(nonce, self._number, len(body)) + body, until)
        theirs, number, size = HEADER.unpack(self._receive(HEADER.size, until))
        if (theirs, number) != (nonce, self._number):
            self._fail(UNASKED)
        if size > MOST_BYTES:
            self._fail(f"sent an answer of {size} bytes; at most {MOST_BYTES} are read")
        data = self._receive(size, until)
        self._left = until - monotonic()
        self._number += 1
        try:
            said = unpack(data)
        except (ValueError, MemoryError):
            said = None
        if not isinstance(said, dict):
            self._fail(UNREADABLE)
        return dict(said)

    def _send(self, data: bytes, until: float) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._channel.send(rest) :]
            except BlockingIOError:
                self._wait(until, writing=True)
            except OSError:
                self._broken(asked=False)

    def _receive(self, size: int, until: float) -> bytes:
        while len(self._heard) < size:
            self._wait(until)
            try:
                part = self._channel.recv(MOST_AT_ONCE)
            except BlockingIOError:
                continue
            except OSError:
                part = b""
            if not part:
                self._broken(asked=True)
            self._heard += part
        data = bytes(self._heard[:size])
        del self._heard[:size]
        return data

    def _wait(self, until: float, writing: bool = False) -> None:
        """Until the channel is ready, keeping what is printed meanwhile; Ended if it takes too long."""
        reading = [] if writing else [self._channel]
        while True:
            left = until - monotonic()
            if left <= 0:
                self._fail(f"ran longer than {self.limits.wall_seconds:g} s")
            printing = [self._printed] if self._printed.fileno() >= 0 else []
            ready, free, _ = select.select(
                printing + reading, [self._channel] if writing else [], [], min(left, 1.0)
            )
            if self._printed in ready:
                self._keep()
            if free or self._channel in ready:
                return

    def _keep(self) -> bool:
        """Read what was printed, and whether there was any; beyond the cap it is thrown away."""
        try:
            data = self._printed.recv(MOST_AT_ONCE)
        except OSError:
            data = b""
        if not data:
            self._printed.close()
        self._output += data[: max(self.limits.output_bytes - len(self._output), 0)]
        return bool(data)

    # ---- the end

    def _broken(self, asked: bool) -> NoReturn:
        """The channel is closed, or spoke without being asked; the guard may know why."""
        spoke = not asked and bool(self._heard)
        with contextlib.suppress(OSError):
            spoke = spoke or bool(self._channel.recv(1, socket.MSG_PEEK))
        if spoke:
            self._fail(UNASKED)
        said = self._guard_says(LAST_SECONDS)
        if said is None:
            self._fail("closed its line to the checker")
        if not said:
            self._end("was killed, and its guard with it")
            raise Lost("was killed, and its guard with it")
        self._fail(in_words(said, self.limits))

    def _guard_says(self, seconds: float) -> dict[str, Any] | None:
        """The next line of the guard; none in time: None, none any more: empty."""
        until = monotonic() + seconds
        while b"\n" not in self._told:
            if not _readable(self._guard, max(until - monotonic(), 0.0)):
                return None
            try:
                data = self._guard.recv(4096)
            except OSError:
                data = b""
            if not data:
                return {}
            self._told += data
        line, _, rest = self._told.partition(b"\n")
        self._told = bytearray(rest)
        said = json.loads(line)
        return said if isinstance(said, dict) else {}

    def _fail(self, words: str) -> NoReturn:
        self._end(words)
        raise Ended(words)

    def _end(self, words: str) -> None:
        """Let go of everything, and wait until the guard has ended what still ran."""
        if self._over is not None:
            return
        self._over = words
        most = self.limits.output_bytes
        while len(self._output) < most and _readable(self._printed) and self._keep():
            pass
        with contextlib.suppress(OSError):
            self._guard.shutdown(socket.SHUT_WR)
        self._channel.close()
        self._printed.close()
        while self._guard_says(END_SECONDS):
            pass
        self._guard.close()

    # ---- parts of an answer, which may be anything

    def _part(self, said: dict[str, Value], name: str, kind: Any) -> Any:
        value = said.get(name)
        if not isinstance(value, kind):
            self._fail(UNREADABLE)
        return value

    def _texts(self, said: dict[str, Value], name: str) -> tuple[str, ...]:
        values = self._part(said, name, tuple | list)
        if not all(isinstance(value, str) for value in values):
            self._fail(UNREADABLE)
        return tuple(values)

    def _work(self, counts: tuple[Value, ...]) -> Work:
        if len(counts) != len(Work._fields) or not all(type(n) is int and n >= 0 for n in counts):
            self._fail(UNREADABLE)
        return Work(*counts)


def _readable(end: socket.socket, seconds: float = 0.0) -> bool:
    return end.fileno() >= 0 and bool(select.select([end], [], [], seconds)[0])


# ---- the warm process -------------------------------------------------------------------------------------


class Warm:
    """A process from which sessions are forked. A context manager; starts at once, beside what follows."""

    def __init__(self, plain: bool = False) -> None:
        """plain: with the limits of any POSIX system alone, without spaces and users of its own."""
        self._plain = plain
        self._folder = tempfile.TemporaryDirectory(prefix="minidsv3-", ignore_cleanup_errors=True)
        Path(self._folder.name).chmod(0o711)
        self._one_at_a_time = Lock()
        self._sessions: WeakSet[Session] = WeakSet()
        self._start()

    def _start(self) -> None:
        package, plain = Path(__file__).resolve().parents[2], ["plain"] * self._plain
        self._control, theirs = socket.socketpair()
        self._control.settimeout(START_SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-c",
                    START,
                    str(package),
                    str(theirs.fileno()),
                    *plain,
                ],
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
        try:
            session = self._fork(source, limits or Limits())
        except Lost:
            self._stop()
            self._start()
            session = self._fork(source, limits or Limits())
        self._sessions.add(session)
        return session

    def _fork(self, source: str, limits: Limits) -> Session:
        try:
            return Session(source, limits, self._order(limits))
        except OSError as problem:
            raise Lost(f"could not be started: {problem}") from None

    def _order(self, limits: Limits) -> Ends:
        """Have a session forked  ->  our ends of its channel, its output and the line to its guard."""
        pairs = [socket.socketpair() for _ in range(3)]
        order = json.dumps({"limits": asdict(limits), "folder": self._folder.name}).encode()
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
