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
import secrets
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Self

from minidsv3.learn.child_values import HEADER, MOST_BYTES, Other, Value, pack, unpack
from minidsv3.learn.sandbox import THREADS, Limits
from minidsv3.learn.work import Work

__all__ = ["Answer", "Ended", "Limits", "Other", "Session", "Warm"]

START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from minidsv3.learn.child_guard import nursery; nursery()"
)
MOST_SOURCE = 2**20  # characters
START_SECONDS = 30.0  # for the warm process to come up
LAST_WORDS = 0.5  # seconds that the guard has to tell how it ended


class Ended(Exception):
    """The session gave no valid answer and is over; says why, in words."""


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

    def __init__(
        self, source: str, limits: Limits, ends: tuple[socket.socket, ...], held: tuple[str, ...]
    ) -> None:
        self.limits, self.held = limits, held
        self._channel, self._printed, self._guard = ends
        self._number, self._left = 0, limits.wall_seconds
        self._output = bytearray()
        self._over: str | None = None
        self.problem: str | None = None
        self.callables: tuple[str, ...] = ()
        for end in ends:
            end.setblocking(False)
        self._load(source)

    def _load(self, source: str) -> None:
        if len(source) > MOST_SOURCE:
            self.problem = f"is longer than {MOST_SOURCE} characters"
            self._end(self.problem)
            return
        try:
            said = self._ask({"source": source})
            self.problem = _checked(said, "problem", str | None)
            self.callables = _texts(said, "callables")
        except Ended as ended:
            self.problem = str(ended)

    def call(self, function: str, arguments: Mapping[str, Value], count: bool = False) -> Answer:
        """Call a function with the arguments in their order; Ended if no valid answer comes.

        count: also count the work, which is slower.
        """
        names, values = list(arguments), list(arguments.values())
        start = monotonic()
        said = self._ask({"function": function, "names": names, "values": values, "count": count})
        work = _checked(said, "work", tuple | None)
        return Answer(
            value=said.get("value"),
            raised=_checked(said, "raised", str | None),
            warnings=_texts(said, "warnings"),
            printed=_checked(said, "printed", str),
            shares=tuple(name for name in names if name in _texts(said, "shares")),
            changed=tuple(name for name in names if name in _texts(said, "changed")),
            work=None if work is None else Work(*(int(count) for count in work)),
            large=bool(said.get("large")),
            seconds=monotonic() - start,
        )

    @property
    def output(self) -> str:
        """What was printed outside of calls, up to the cap."""
        return self._output.decode(errors="replace")

    def finish(self) -> None:
        """Ended if the session is over, or has said something that it was not asked."""
        if self._over is None and _readable(self._channel):
            self._fail_reading()
        if self._over is not None:
            raise Ended(self._over)

    def _ask(self, request: dict[str, Value]) -> dict[str, Value]:
        """One question and its answer."""
        self.finish()
        nonce, body = secrets.token_bytes(16), pack(request)
        until = monotonic() + self._left
        try:
            self._send(HEADER.pack(nonce, self._number, len(body)) + body, until)
            theirs, number, size = HEADER.unpack(self._receive(HEADER.size, until))
            if (theirs, number) != (nonce, self._number):
                self._fail("answered something that was not asked")
            if size > MOST_BYTES:
                self._fail(f"sent an answer of {size} bytes; {MOST_BYTES} are read")
            said = unpack(self._receive(size, until))
        except ValueError:
            self._fail("sent an answer that cannot be read")
        finally:
            self._left = until - monotonic()
        if not isinstance(said, dict):
            self._fail("sent an answer that cannot be read")
        self._number += 1
        return dict(said)

    def _send(self, data: bytes, until: float) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(until, writing=True)
            with contextlib.suppress(BlockingIOError):
                try:
                    rest = rest[self._channel.send(rest) :]
                except OSError:
                    self._fail_reading()

    def _receive(self, size: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(until)
            try:
                part = self._channel.recv(min(size - len(data), 2**20))
            except BlockingIOError:
                continue
            except OSError:
                part = b""
            if not part:
                self._fail_reading()
            data += part
        return bytes(data)

    def _wait(self, until: float, writing: bool = False) -> None:
        """Until the channel is ready, keeping what is printed; Ended if it takes too long."""
        channel = self._channel
        while True:
            left = until - monotonic()
            if left <= 0:
                self._fail(f"ran longer than {self.limits.wall_seconds:g} s")
            watched = [self._printed, *([] if writing else [channel])]
            ready, free, _ = select.select(watched, [channel] if writing else [], [], min(left, 1.0))
            if self._printed in ready:
                self._keep()
            if channel in ready or channel in free:
                return

    def _keep(self) -> None:
        """Read what was printed; beyond the cap it is thrown away."""
        try:
            data = self._printed.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # closed: give the wait something that never becomes ready
            self._printed.close()
            self._printed, self._other = socket.socketpair()
        self._output += data[: self.limits.output_bytes - len(self._output)]

    def _fail_reading(self) -> None:
        """The channel closed, or spoke unasked: ask the guard why, then fail."""
        with contextlib.suppress(OSError):
            if self._channel.recv(1, socket.MSG_PEEK):
                self._fail("answered something that was not asked")
        self._fail(self._last_words())

    def _last_words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            if _readable(self._guard, LAST_WORDS):
                status = json.loads(self._guard.recv(4096) or b"null")
                if status is not None:
                    return in_words(status, self.limits)
                return "was killed, and its guard with it"
        return "closed its line to the checker"

    def _fail(self, words: str) -> None:
        self._end(words)
        raise Ended(words)

    def _end(self, words: str) -> None:
        """Let go of everything; the guard then ends what still runs."""
        if self._over is None:
            self._over = words
            while _readable(self._printed) and self._printed.fileno() >= 0:
                before = self._printed
                self._keep()
                if self._printed is not before:
                    break
            for end in (self._channel, self._printed, self._guard):
                end.close()

    def close(self) -> None:
        """End the session and everything that it started."""
        self._end("was closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _readable(end: socket.socket, seconds: float = 0.0) -> bool:
    return end.fileno() >= 0 and bool(select.select([end], [], [], seconds)[0])


def _checked(said: dict[str, Value], name: str, kind: Any) -> Any:
    """A part of an answer that has to be of a kind."""
    value = said.get(name)
    if not isinstance(value, kind):
        raise Ended("sent an answer that cannot be read")
    return value


def _texts(said: dict[str, Value], name: str) -> tuple[str, ...]:
    """A part of an answer that has to be texts, from here on each once."""
    values = said.get(name)
    if not isinstance(values, tuple | list) or not all(isinstance(value, str) for value in values):
        raise Ended("sent an answer that cannot be read")
    return tuple(values)


def in_words(status: dict[str, Any], limits: Limits) -> str:
    """How a process ended, in words."""
    import signal

    code, cpu = status["code"], status["cpu"]
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu >= limits.cpu_seconds):
        return f"used {limits.cpu_seconds} s of CPU"
    if code == -signal.SIGKILL:
        return "was killed"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return "left before it answered"


# ---- the warm process -------------------------------------------------------------------------------------


class Warm:
    """A process from which sessions are forked. A context manager; starts at once, in the background."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="minidsv3-", ignore_cleanup_errors=True)
        self._start()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        package = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", START, str(package), str(theirs.fileno())],
            cwd=self._folder.name,
            env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"} | dict.fromkeys(THREADS, "1"),
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._held: tuple[str, ...] | None = None

    def open(self, source: str, limits: Limits | None = None) -> Session:
        """Load a source in a process of its own; what went wrong is the session's `problem`."""
        limits = limits or Limits()
        if self._held is None:
            self._control.settimeout(START_SECONDS)
            self._held = tuple(json.loads(self._control.recv(65536))["held"])
        pairs = [socket.socketpair() for _ in range(3)]
        order = {"limits": asdict(limits), "folder": self._folder.name}
        socket.send_fds(self._control, [json.dumps(order).encode()], [theirs.fileno() for _, theirs in pairs])
        for _, theirs in pairs:
            theirs.close()
        return Session(source, limits, tuple(ours for ours, _ in pairs), self._held)

    def close(self) -> None:
        """End the process and all of its sessions."""
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
