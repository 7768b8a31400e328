"""Worker processes: shared arrays, failures, ends; and training with them is training without them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.machine import crew as crews
from minidsv3.machine.crew import Crew, CrewFailed, crew_size, shared_array
from minidsv3.training import Trainer, gradients

needs_fork = pytest.mark.skipif(crew_size(2) < 2, reason="needs a system where crews are forked")


@needs_fork
def test_members_write_where_all_can_read() -> None:
    table = shared_array((3, 4))

    def work(member: int, job: bytes) -> bytes:
        table[member] = float(job) + member
        return b"%d" % os.getpid()

    with Crew(work, 3) as crew:
        answers = crew.run(b"10")
        assert len(set(answers)) == 3
        assert answers[0] == b"%d" % os.getpid()
        np.testing.assert_array_equal(table[:, 0], [10, 11, 12])
        assert crew.run(b"20", 2) == answers[:2]
        np.testing.assert_array_equal(table[:, 0], [20, 21, 12])


@needs_fork
@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_is_told_and_ends_the_crew(failing: int) -> None:
    def work(member: int, job: bytes) -> bytes:
        if member == failing:
            raise ValueError("expected a better job")
        return b""

    crew = Crew(work, 2)
    with pytest.raises((CrewFailed, ValueError), match="expected a better job"):
        crew.run(b"")
    assert not crew.open


@needs_fork
def test_a_member_that_is_killed_is_missed() -> None:
    def work(member: int, job: bytes) -> bytes:
        if member:
            os.kill(os.getpid(), signal.SIGKILL)
        return b""

    with Crew(work, 2) as crew, pytest.raises(CrewFailed, match="it has ended"):
        crew.run(b"")


@needs_fork
def test_a_member_killed_between_two_jobs_is_missed() -> None:
    with Crew(lambda member, job: b"%d" % os.getpid(), 2) as crew:
        os.kill(int(crew.run(b"")[1]), signal.SIGKILL)
        time.sleep(0.1)
        with pytest.raises(CrewFailed, match="it has ended"):
            crew.run(b"")


PARENT = """
import os, sys, time
from minidsv3.machine.crew import Crew
crew = Crew(lambda member, job: b"%d" % os.getpid(), 3)
print(*(answer.decode() for answer in crew.run(b"")[1:]), flush=True)
time.sleep(60)
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@needs_fork
def test_members_do_not_outlive_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        members = [int(word) for word in parent.stdout.readline().split()]
        assert len(members) == 2
        assert all(map(alive, members))
        parent.kill()
    until = time.monotonic() + 10
    while any(map(alive, members)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(alive, members))


@needs_fork
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp8"])
def test_training_with_processes_is_training_with_threads(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig.preset("nano", dim=32, n_layers=2, vocab_size=32)
    plan = TrainConfig(
        steps=3, seq_len=8, batch_sequences=3, ramp_start_sequences=1, ramp_steps=2, precision=precision
    )
    stream = np.arange(200, dtype=np.int32) * 7 % 32
    monkeypatch.setattr(gradients, "workers", lambda: 2)
    trainer = Trainer(config, plan, stream)
    for step in range(3):
        ids, options = trainer.batch(step), trainer.options(step)
        expected = trainer.parameters.like()
        losses, loads = gradients.accumulate(trainer.parameters, ids, options, expected, make=trainer.machine)
        report = trainer.step()
        assert report.losses == losses
        assert report.loads == loads.tolist()
        np.testing.assert_array_equal(trainer.gradients.buffer, expected.buffer)
    trainer.close()
    assert trainer.shards._crew is not None
    assert not trainer.shards._crew.open


def test_without_a_fork_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews.sys, "platform", "win32")
    assert crew_size(8) == 1
    config = ModelConfig.preset("nano", dim=32, n_layers=1, vocab_size=32)
    plan = TrainConfig(steps=1, seq_len=8, batch_sequences=2, precision="fp8")
    report = Trainer(config, plan, np.arange(100, dtype=np.int32) % 32).step()
    assert np.isfinite(report.losses["total"])
