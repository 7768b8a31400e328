"""Every accident and every cheat of the set: never a pass, never a hang, nothing left of it.

The submissions are text and not modules, so that nothing imports them: they run in the sandbox alone. Each
says what it does, the words expected, and which limit has to hold before it may run at all.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np
import pytest

import minidsv3
from minidsv3.learn.checker import check
from minidsv3.learn.exercises import find_lesson
from minidsv3.learn.sandbox import Limits
from minidsv3.learn.sandbox.session import Answer, Ended, Session, Warm

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


def run_all(warm: Warm, found: list[Submission]) -> dict[str, Run]:
    """Those of the set that may run here, several at a time."""
    with warm.open("") as session:
        held = {*session.held}

    def run(submission: Submission) -> Run:
        start = monotonic()
        with warm.open(submission.source, SHORT) as session:
            words = verdict(session)
        return Run(words, monotonic() - start, session.output)

    allowed = [submission for submission in found if submission.needs <= held]
    with ThreadPoolExecutor(6) as pool:
        return dict(zip([s.name for s in allowed], pool.map(run, allowed), strict=True))


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    before = litter()
    with Warm() as warm:
        found = run_all(warm, SET)
    assert litter() == before
    return found


def litter() -> set[Path]:
    """What submissions leave where they should not, and folders of ours that are not gone."""
    places = [Path(tempfile.gettempdir()), *map(Path, ("/tmp", "/var/tmp", "/dev/shm", "/"))]
    found = (place.glob("minidsv3_adversarial*") for place in {*places, Path(minidsv3.__file__).parent})
    return {path for paths in found for path in paths}


def test_there_are_enough() -> None:
    assert len(SET) >= 40


@pytest.mark.parametrize("submission", SET, ids=lambda submission: submission.name)
def test_it_fails_with_words(submission: Submission, runs: dict[str, Run]) -> None:
    if submission.name not in runs:
        pytest.skip(f"{submission.needs} cannot be had on this system")
    fails(submission, runs[submission.name])


def fails(submission: Submission, run: Run) -> None:
    assert run.words is not None, submission.name
    assert re.search(submission.expect, run.words), f"{submission.name}: {run.words}"
    assert run.seconds < 10, submission.name
    assert len(run.output) <= SHORT.output_bytes


def test_those_that_kill_do_not_reach_another_session() -> None:
    killers = [submission for submission in SET if submission.name.startswith("kills_")]
    with Warm() as warm, warm.open("def f(x):\n    return x\n") as other:
        killers = [killer for killer in killers if killer.needs <= {*other.held}]
        for killer in killers:
            with warm.open(killer.source, SHORT) as session:
                assert verdict(session) is not None
            assert other.call("f", {"x": killer.name}).value == killer.name
        other.finish()
    assert len(killers) >= 2


@pytest.mark.slow  # 10 s
def test_it_fails_without_spaces_and_users_of_its_own_too() -> None:
    """As on a system that allows neither; root does not try there what is aimed at other processes."""
    found = [one for one in SET if os.geteuid() or "signals" not in one.needs]
    before = litter()
    with Warm("plain") as warm:
        runs = run_all(warm, found)
    assert litter() == before
    assert len(runs) >= 40
    for submission in found:
        if submission.name in runs:
            fails(submission, runs[submission.name])


# ---- under the checker ------------------------------------------------------------------------------------

SOME = ["answers_twice", "daemon_then_leaves", "kills_everyone", "patches_numpy", "returns_the_input"]


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as process:
        yield process


@pytest.mark.parametrize(
    "submission",
    [pytest.param(s, id=s.name, marks=[] if s.name in SOME else [pytest.mark.slow]) for s in SET],  # 1 s each
)
def test_it_does_not_pass_the_check_of_an_exercise(submission: Submission, warm: Warm) -> None:
    with warm.open("") as session:
        if not submission.needs <= {*session.held}:
            pytest.skip(f"{submission.needs} cannot be had on this system")
    start = monotonic()
    result = check(find_lesson("00"), submission.source, worker=warm, limits=SHORT)
    assert not result.passed
    assert result.failed is not None
    assert result.failed.because
    assert monotonic() - start < 30
