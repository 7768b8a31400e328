"""Every accident and every cheat of the set: never a pass, never a hang, nothing left of it.

The submissions are text and not modules, so that nothing imports them: they run in the sandbox alone. Each
says what it does, the words expected, and which limit has to hold before it may run at all.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np
import pytest

from minidsv3.learn.sandbox import Limits
from minidsv3.learn.session import Answer, Ended, Session, Warm

FOLDER = Path(__file__).parent / "adversarial"
SHORT = Limits(memory_mib=256, cpu_seconds=1, wall_seconds=1.0, disk_mib=8)
SCORES = np.array([[0.5, -1.0], [2.0, 0.25]], np.float32)
SOFTMAX = np.array([[1.0, 0.0], [0.85195285, 0.14804718]], np.float32)


class Submission(NamedTuple):
    name: str
    source: str
    expect: str  # a regular expression
    needs: set[str]  # limits that have to hold


def submissions() -> list[Submission]:
    """The set, from its folder."""
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        source = path.read_text(encoding="utf-8")
        said = dict(re.findall(r"^(Expect|Needs): (.*)$", source, re.M))
        found.append(Submission(path.stem, source, said["Expect"], set(filter(None, [said.get("Needs")]))))
    return found


SET = submissions()


def verdict(session: Session) -> str | None:
    """Why a submission fails, in words; None if it does not."""
    if session.problem:
        return session.problem
    if "softmax" not in session.callables:
        return "found none"
    try:
        for _ in range(2):
            words = wrong(session.call("softmax", {"scores": SCORES}))
            if words:
                return words
        session.finish()
    except Ended as ended:
        return str(ended)
    return None


def wrong(answer: Answer) -> str | None:
    value = answer.value
    if answer.raised:
        return answer.raised
    if isinstance(value, np.ndarray) and value.dtype != np.float32:
        return f"expected float32, got {value.dtype}"
    if type(value) is not np.ndarray:
        return f"expected an array of float32, got {type(value).__name__}: {value!r:.300}"
    if value.shape != SOFTMAX.shape or not np.allclose(value, SOFTMAX):
        return "wrong value"
    return f"shares {answer.shares}" if answer.shares or answer.changed else None


class Run(NamedTuple):
    words: str | None
    seconds: float
    output: str


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """All of the set that may run here, several at a time, from one warm process."""
    with Warm() as warm:
        with warm.open("") as session:
            held = {*session.held}

        def run(submission: Submission) -> Run:
            start = monotonic()
            with warm.open(submission.source, SHORT) as session:
                words = verdict(session)
            return Run(words, monotonic() - start, session.output)

        allowed = [submission for submission in SET if submission.needs <= held]
        with ThreadPoolExecutor(6) as pool:
            return dict(zip([s.name for s in allowed], pool.map(run, allowed), strict=True))


def test_there_are_enough() -> None:
    assert len(SET) >= 40


@pytest.mark.parametrize("submission", SET, ids=lambda submission: submission.name)
def test_it_fails_with_words(submission: Submission, runs: dict[str, Run]) -> None:
    if submission.name not in runs:
        pytest.skip(f"{submission.needs} does not hold on this system")
    run = runs[submission.name]
    assert run.words is not None
    assert re.search(submission.expect, run.words), run.words
    assert run.seconds < 10
    assert len(run.output) <= SHORT.output_bytes
