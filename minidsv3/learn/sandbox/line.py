"""One line to a student's process: a question out, its answer back, within the time that is left.

A question carries a nonce of 16 random bytes and a number; its answer has to carry both. What comes without
being asked for, too late, too large, or is no value at all ends the line: `Ended`, in words. The guard of the
process says on a line of its own what holds and how it ended; what is printed comes on a third, up to a cap.

Every byte from there may be anything. Sizes are checked before they are read, values by `values`.

Does: ask, wait, give up. Does not: know what is asked (`session`), or start anything (`alone`, `Warm`).

    >>> issubclass(Lost, Ended)
    True

Next: minidsv3.learn.sandbox.session
"""

import contextlib
import json
import secrets
import select
import socket
from time import monotonic
from typing import Any, NoReturn

from minidsv3.learn.sandbox import Limits, in_words
from minidsv3.learn.sandbox.values import HEADER, MOST_BYTES, Value, pack, unpack

__all__ = ["END_SECONDS", "START_SECONDS", "UNREADABLE", "Ended", "Ends", "Line", "Lost"]

MOST_AT_ONCE = 2**20  # bytes read
START_SECONDS = 30.0  # for a process to come up
LAST_SECONDS = 1.0  # for the guard to tell how it ended
END_SECONDS = 5.0  # for it to end everything
UNASKED = "answered something that was not asked"
UNREADABLE = "sent an answer that cannot be read"
Ends = tuple[socket.socket, socket.socket, socket.socket]
"""Our ends: of the channel of questions, of what is printed, of the line to the guard."""


class Ended(Exception):
    """The session gave no valid answer and is over; says why, in words."""


class Lost(Ended):
    """It ended because its guard is gone or never came: worth one more try, alone."""


class Line:
    """Three sockets to a session."""

    def __init__(self, ends: Ends, limits: Limits) -> None:
        self.limits = limits
        self.output = bytearray()
        self.over: str | None = None  # why, in words
        self._channel, self._printed, self._guard = ends
        self._number, self._left = 0, limits.wall_seconds
        self._heard, self._told = bytearray(), bytearray()
        for end in ends:
            end.setblocking(False)

    def begin(self) -> tuple[str, ...]:
        """What holds, which the guard says as soon as it has put up the walls; `Lost` if there is none."""
        said = self._guard_says(START_SECONDS)
        if said is None or "held" not in said:
            self.end("could not be started")
            raise Lost("could not be started")
        return tuple(said["held"])

    def finish(self) -> None:
        """`Ended` if it is over, or has said something that it was not asked."""
        if self.over is None and (self._heard or _readable(self._channel)):
            self._broken(asked=False)
        if self.over is not None:
            raise Ended(self.over)

    def ask(self, request: dict[str, Value]) -> dict[str, Value]:
        """One question and its answer."""
        self.finish()
        nonce, body = secrets.token_bytes(16), pack(request)
        until = monotonic() + self._left
        self._send(HEADER.pack(nonce, self._number, len(body)) + body, until)
        theirs, number, size = HEADER.unpack(self._receive(HEADER.size, until))
        if (theirs, number) != (nonce, self._number):
            self.fail(UNASKED)
        if size > MOST_BYTES:
            self.fail(f"sent an answer of {size} bytes; at most {MOST_BYTES} are read")
        data = self._receive(size, until)
        self._left = until - monotonic()
        self._number += 1
        try:
            said = unpack(data)
        except (ValueError, MemoryError):
            said = None
        if not isinstance(said, dict):
            self.fail(UNREADABLE)
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
                self.fail(f"ran longer than {self.limits.wall_seconds:g} s")
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
        self.output += data[: max(self.limits.output_bytes - len(self.output), 0)]
        return bool(data)

    # ---- the end

    def _broken(self, asked: bool) -> NoReturn:
        """The channel is closed, or spoke without being asked; the guard may know why."""
        spoke = not asked and bool(self._heard)
        with contextlib.suppress(OSError):
            spoke = spoke or bool(self._channel.recv(1, socket.MSG_PEEK))
        if spoke:
            self.fail(UNASKED)
        said = self._guard_says(LAST_SECONDS)
        if said is None:
            self.fail("closed its line to the checker")
        if not said:
            self.end("was killed, and its guard with it")
            raise Lost("was killed, and its guard with it")
        self.fail(in_words(said, self.limits))

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

    def fail(self, words: str) -> NoReturn:
        """End it and say why."""
        self.end(words)
        raise Ended(words)

    def end(self, words: str) -> None:
        """Let go of everything, and wait until the guard has ended what still ran."""
        if self.over is not None:
            return
        self.over = words
        most = self.limits.output_bytes
        while len(self.output) < most and _readable(self._printed) and self._keep():
            pass
        with contextlib.suppress(OSError):
            self._guard.shutdown(socket.SHUT_WR)
        self._channel.close()
        self._printed.close()
        while self._guard_says(END_SECONDS):
            pass
        self._guard.close()


def _readable(end: socket.socket, seconds: float = 0.0) -> bool:
    return end.fileno() >= 0 and bool(select.select([end], [], [], seconds)[0])
