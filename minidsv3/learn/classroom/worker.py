"""A process that grades: one submission at a time, asked for over a pipe, answered in a line of JSON.

The student's code runs in the sandbox, a process below this one; what the checks themselves need (Hypothesis,
arrays, the solution to compare with) is here and not in the process that holds the class together. A worker
that dies, whatever killed it, is an exception there; a fresh one takes its place.

The worker is started isolated (`-I`): the folder in which the command was given, perhaps one full of
submissions, is not searched for modules. It does not outlive its parent, however that ended: it looks every
half second whether the parent is still there.

Does: start, ask, wait up to a limit, end. Does not: decide what is asked next (`batch`).

    >>> Order.__dataclass_fields__.keys() >= {"key", "home", "anonymous"}
    True

Next: minidsv3.learn.classroom.batch
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread, Timer
from time import sleep
from typing import Any

from minidsv3.learn.classroom.key import key_from_toml
from minidsv3.learn.classroom.submission import Handed
from minidsv3.learn.sandbox.session import Limits

__all__ = ["Died", "Order", "Worker", "serve"]

SERVE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from minidsv3.learn.classroom.worker import serve; serve()"
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

LOOK_SECONDS = 0.5


class Died(Exception):
    """The worker ended, or was ended because it took too long, before it answered."""


@dataclass(frozen=True)
class Order:
    """What all submissions of a run have in common."""

    key: str  # as TOML
    limits: Limits
    home: str | None  # folder for counterexamples
    anonymous: bool
    patience: float  # seconds for one submission, far above what the limits allow it to take
    hidden: tuple[str, ...] = ()  # folders that no submission shall see into


class Worker:
    """One process; a context manager."""

    def __init__(self, order: Order) -> None:
        self.order, self.asked = order, 0
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", SERVE, str(Path(__file__).resolve().parents[3])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | dict.fromkeys(THREADS, "1"),
            start_new_session=True,  # Ctrl-C is for the parent
        )
        self._started = False

    def grade(self, id: str, student: str, handed: Sequence[Handed]) -> dict[str, Any]:
        """The row of a submission; Died if none came."""
        self.asked += 1
        timer = Timer(self.order.patience, self._process.kill)
        timer.start()
        try:
            if not self._started:
                self._tell(asdict(self.order))
                self._started = True
            self._tell({"id": id, "student": student, "handed": [asdict(one) for one in handed]})
            answer = self._answer()
        finally:
            timer.cancel()
        return answer

    def kill(self) -> None:
        """End it; whoever waits for its answer learns that it died."""
        self._process.kill()

    def close(self) -> None:
        """End it and give back its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was not yet sent
                assert pipe is not None
                pipe.close()

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(message) + "\n").encode())
            self._process.stdin.flush()
        except OSError as problem:
            raise Died from problem

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise Died
        answer: dict[str, Any] = json.loads(line)
        return answer


# ---- in the worker ----------------------------------------------------------------------------------------


def serve() -> None:
    """Grade what comes in on stdin until it closes; only rows go out on what was stdout."""
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever prints does not disturb
    from minidsv3.learn.classroom.grading import Grader

    order = json.loads(sys.stdin.buffer.readline())
    home = None if order["home"] is None else Path(order["home"])
    key, limits = key_from_toml(order["key"]), Limits(**order["limits"])
    hidden = [Path(folder) for folder in order["hidden"]]
    with Grader(key, limits, home, order["anonymous"], hidden) as grader:
        for line in sys.stdin.buffer:
            asked = json.loads(line)
            row = grader.grade(asked["id"], asked["student"], [Handed(**one) for one in asked["handed"]])
            answers.write((json.dumps(row) + "\n").encode())
            answers.flush()


def _end_with(parent: int) -> None:
    """End this process, and with it the sandbox under it, once its parent is another."""
    while os.getppid() == parent:
        sleep(LOOK_SECONDS)
    os._exit(1)
