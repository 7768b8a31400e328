"""Worker processes for the shards of a training step, which share arrays and talk over pipes.

In threads, Python's lock is handed back and forth at every NumPy call; where calls are short and many, as in
FP8, two threads are hardly faster than one. A crew is forked once: every member sees the same shared arrays
at the same addresses, gets each job as bytes, and answers with bytes. Nothing is pickled. A member ends with
its pipe, so that none outlives a parent that was killed; Ctrl-C is the parent's affair.

Does: Linux, where a fork is safe and cheap; elsewhere `crew_size` is 1 and callers use threads. Does not:
restart a member that died: the job then fails.

    >>> total = shared_array((2,))
    >>> def work(member: int, job: bytes) -> bytes:
    ...     total[member] = len(job)
    ...     return b"done"
    >>> with Crew(work, crew_size(2)) as crew:
    ...     answers = crew.run(b"three")
    >>> answers == [b"done"] * crew_size(2), total[0]
    (True, np.float32(5.0))

Next: minidsv3.tokenizer
"""

import ctypes
import math
import mmap
import os
import signal
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minidsv3.machine.parallel import blas_threads, keep_freed_memory

__all__ = ["Crew", "CrewFailed", "crew_size", "shared_array"]

Work = Callable[[int, bytes], bytes]
Member = tuple[int, "Connection[bytes, bytes]"]  # process id, the parent's end of the pipe
_ENDED = "expected an answer of a worker process, got none: it has ended (killed, or out of memory)"
_DEATH_SIGNAL = 1  # prctl: PR_SET_PDEATHSIG


def crew_size(wanted: int) -> int:
    """How many members a crew may have here."""
    return wanted if sys.platform == "linux" else 1


def shared_array(shape: Sequence[int], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Zeros in memory that processes forked later share."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.ndarray(tuple(shape), dtype, mmap.mmap(-1, max(size, 1)))


class CrewFailed(RuntimeError):
    """A member ended (killed, out of memory), or its work raised; the crew is closed."""


class Crew:
    """`work(member, job)` in several processes; member 0 is the caller's own.

    Forked here and now: what work refers to is as it is at this moment, shared arrays apart.
    """

    def __init__(self, work: Work, count: int) -> None:
        self._work, self._members = work, list[Member]()
        self._closing = weakref.finalize(self, _dismiss, self._members)
        keep_freed_memory()
        for i in range(1, count):
            self._members.append(_fork(work, i, self._members))

    def run(self, job: bytes, count: int | None = None) -> list[bytes]:
        """Answers of the first `count` members, or of all, in order; `CrewFailed` if one failed.

        Whatever stops the work here stops the crew: half an answer would be taken for the next job's.
        """
        others = self._members[: (count or len(self._members) + 1) - 1]
        try:
            for _, pipe in others:
                _send(pipe, job)
            with blas_threads(1):
                answers = [self._work(0, job)]
            return answers + [_answer(pipe) for _, pipe in others]
        except BaseException:
            self.close()
            raise

    @property
    def open(self) -> bool:
        """Whether its members are there."""
        return self._closing.alive

    def close(self) -> None:
        """Send the members home."""
        self._closing()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _send(pipe: "Connection[bytes, bytes]", job: bytes) -> None:
    try:
        pipe.send_bytes(job)
    except OSError:  # not to be taken for a full disk
        raise CrewFailed(_ENDED) from None


def _answer(pipe: "Connection[bytes, bytes]") -> bytes:
    try:
        said = pipe.recv_bytes()
    except (EOFError, OSError):
        raise CrewFailed(_ENDED) from None
    if said[:1] != b"+":
        raise CrewFailed(f"a worker process failed: {said[1:].decode()}")
    return said[1:]


def _fork(work: Work, number: int, earlier: Sequence[Member]) -> Member:
    ours, theirs = Pipe()
    with warnings.catch_warnings():  # later Pythons warn of threads; those of the BLAS know how to fork
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process:
        theirs.close()
        return process, ours
    try:
        for _, pipe in earlier:
            pipe.close()
        ours.close()
        _serve(work, number, theirs)
    finally:
        os._exit(0)


def _serve(work: Work, number: int, pipe: "Connection[bytes, bytes]") -> None:
    """Jobs, until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    with blas_threads(1):
        while True:
            try:
                job = pipe.recv_bytes()
            except (EOFError, OSError):
                return
            try:
                pipe.send_bytes(b"+" + work(number, job))
            except Exception as error:
                pipe.send_bytes(b"-" + f"{type(error).__name__}: {error}".encode())


def _dismiss(members: list[Member]) -> None:
    for process, pipe in members:
        pipe.close()
        try:
            os.kill(process, signal.SIGKILL)  # it holds nothing that could be lost
            os.waitpid(process, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
    members.clear()
