"""A whole class graded: some workers side by side, and no submission that stops the others.

Each submission is read, looked up in the journal, graded by a worker if it is not there, and kept. A worker
that dies is replaced; its submission is graded once more when all others are done, alone, and if that ends
the same way its row says so. After a number of submissions a worker is replaced by a fresh one, so that
memory stays what it was. Nothing grows with the class but a row of plain values for each student.

Rows come in the order in which they are done; what is in them does not depend on it, nor on the number of
workers (the seconds apart).

Does: hand out, replace, retry, resume. Does not: judge (`grading`), or write reports (`grades`).

    >>> default_jobs() >= 1
    True

Next: minidsv3.learn.classroom.grades
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from minidsv3.learn.classroom.grading import refused
from minidsv3.learn.classroom.journal import MOST_BEGUN, Journal
from minidsv3.learn.classroom.key import Key
from minidsv3.learn.classroom.submission import Handed, Submission, hand_in
from minidsv3.learn.classroom.worker import Died, Order, Worker
from minidsv3.learn.sandbox.session import Limits

__all__ = ["Batch", "Graded", "default_jobs", "digest_of", "is_ungraded"]

Row = dict[str, Any]
RENEWED_AFTER = 40  # submissions of one worker
DIED_TWICE = "the grading process ended twice at this submission; grade it by hand"
HOPELESS = f"the whole run ended {MOST_BEGUN} times while this was graded; grade it by hand"


def default_jobs() -> int:
    """One worker a core."""
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Graded:
    """A submission with its row, and whether the row was in the journal."""

    submission: Submission
    row: Row
    kept: bool


Work = Callable[[Submission], Graded | None]


@dataclass
class Batch:
    """How a class is graded; `run` does it."""

    key: Key
    limits: Limits
    home: Path | None  # folder for counterexamples
    anonymous: bool = False
    jobs: int = field(default_factory=default_jobs)
    hidden: Sequence[Path] = ()  # folders that no submission shall see into

    def run(self, submissions: Sequence[Submission], journal: Journal | None) -> Iterator[Graded]:
        """Grade them all, as they get done."""
        alone = [one for one in submissions if journal and journal.suspect(one.id)]
        side_by_side = [one for one in submissions if one not in alone]
        with contextlib.closing(_Pool(self._order(), self.jobs)) as pool:
            for submission, graded in pool.each(side_by_side, lambda one: self._one(pool, one, journal)):
                if graded is None:
                    alone.append(submission)
                else:
                    yield graded
            for submission in alone:
                yield self._alone(pool, submission, journal)

    def _order(self) -> Order:
        patience = 60 + 10 * self.limits.wall_seconds * len(self.key.exercises)
        home = None if self.home is None else str(self.home)
        hidden = tuple(str(folder.absolute()) for folder in self.hidden)
        return Order(self.key.to_toml(), self.limits, home, self.anonymous, patience, hidden)

    def _one(self, pool: "_Pool", submission: Submission, journal: Journal | None) -> Graded | None:
        """From the journal, or graded; None if the worker died."""
        handed = [hand_in(submission, one.lesson) for one in self.key.exercises]
        files = digest_of(*(one.digest for one in handed))
        known = journal and journal.row(submission.id, files)
        if known:
            return Graded(submission, known, kept=True)
        if journal and journal.hopeless(submission.id):
            return Graded(submission, self._given_up(handed, HOPELESS), kept=False)
        if journal:
            journal.begins(submission.id)
        try:
            row = pool.grade(submission, handed)
        except Died:
            return None
        if journal and is_ungraded(row):
            journal.gave_up(submission.id)
        elif journal:
            journal.ended(submission.id, files, row)
        return Graded(submission, row, kept=False)

    def _alone(self, pool: "_Pool", submission: Submission, journal: Journal | None) -> Graded:
        graded = self._one(pool, submission, journal)
        if graded is not None:
            return graded
        if journal:
            journal.gave_up(submission.id)
        handed = [hand_in(submission, one.lesson) for one in self.key.exercises]
        return Graded(submission, self._given_up(handed, DIED_TWICE), kept=False)

    def _given_up(self, handed: Sequence[Handed], problem: str) -> Row:
        return refused(handed, {one.exercise: one.points for one in self.key.exercises}, problem)


class _Pool:
    """Workers that wait to be asked."""

    def __init__(self, order: Order, jobs: int) -> None:
        self._order, self._jobs, self._stopped = order, jobs, False
        self._free: SimpleQueue[Worker] = SimpleQueue()
        self._all: list[Worker] = []

    def grade(self, submission: Submission, handed: Sequence[Handed]) -> Row:
        """By a free worker, or by a new one: one a thread, so there are never more than jobs."""
        worker = self._take()
        try:
            row = worker.grade(submission.id, submission.student, handed)
        except BaseException:
            self._end(worker)
            raise
        if worker.asked < RENEWED_AFTER:
            self._free.put(worker)
        else:
            self._end(worker)
        return row

    def each(
        self, submissions: Sequence[Submission], work: Work
    ) -> Iterator[tuple[Submission, Graded | None]]:
        """`work` of each one, jobs at a time, as they get done."""
        waiting, running = iter(submissions), dict[Future[Graded | None], Submission]()
        with ThreadPoolExecutor(self._jobs) as threads:
            try:
                while True:
                    for _, submission in zip(range(self._jobs + 1 - len(running)), waiting, strict=False):
                        running[threads.submit(work, submission)] = submission
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        yield running.pop(future), future.result()
            finally:
                self._stop(running)

    def close(self) -> None:
        """End every worker."""
        for worker in list(self._all):
            self._end(worker)

    def _stop(self, running: Iterable[Future[Graded | None]]) -> None:
        """Let threads end that wait for an answer; nothing to do when none is running."""
        for future in running:
            future.cancel()
            self._stopped = True
        for worker in list(self._all) if self._stopped else []:
            worker.kill()

    def _take(self) -> Worker:
        if self._stopped:
            raise Died
        with contextlib.suppress(Empty):
            return self._free.get_nowait()
        self._all.append(Worker(self._order))
        return self._all[-1]

    def _end(self, worker: Worker) -> None:
        worker.close()
        with contextlib.suppress(ValueError):
            self._all.remove(worker)


def is_ungraded(row: Row) -> bool:
    """Whether something of a submission is left to be graded by hand."""
    return any(one["status"] == "ungraded" for one in row["exercises"])


def digest_of(*texts: str) -> str:
    """A short digest of texts, in this order."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
