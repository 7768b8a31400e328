"""Where processes cannot be forked: a fresh one for each session, which takes longer to start.

It speaks over its standard pipes, and threads of ours carry them to sockets, since some systems wait for
sockets alone. Another thread of ours is its guard: it says how the process ended, and ends it when our side
lets go. What the process itself started is not found there; of the limits, wall time and output hold, and
those that `walls` can set.

Does: start, carry, end. Does not: keep anything warm.

    >>> alone_command()[1]
    '-I'

Next: minidsv3.learn.sandbox.line
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from threading import Thread, Timer
from typing import IO, NoReturn

from minidsv3.learn.sandbox import Limits, child, environment, walls
from minidsv3.learn.sandbox.line import START_SECONDS, Ends

__all__ = ["alone", "alone_command", "start_alone"]

START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from minidsv3.learn.sandbox import alone as a; a.alone()"
)
UP = b"+"  # its first byte
TICK = 0.1  # seconds between two looks at whether it has ended


def alone_command() -> list[str]:
    """What starts the process; limits follow as JSON."""
    return [sys.executable, "-I", "-c", START, str(Path(__file__).resolve().parents[3])]


def start_alone(limits: Limits, folder: str) -> Ends:
    """Start a process in a folder  ->  our ends of its channel, its output and the line to its guard."""
    process = subprocess.Popen(
        [*alone_command(), json.dumps(asdict(limits))],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    (channel, far), (printed, far_printed), (line, guard) = (socket.socketpair() for _ in range(3))
    asked, answered = far.dup(), far
    Thread(target=_carry_in, args=(asked, process.stdin), daemon=True).start()
    Thread(target=_carry_out, args=(process.stderr, far_printed), daemon=True).start()
    Thread(target=_guard, args=(process, guard, answered, limits), daemon=True).start()
    return channel, printed, line


def _carry_in(near: socket.socket, pipe: IO[bytes]) -> None:
    """From our socket to the process."""
    with near, contextlib.suppress(OSError), pipe:
        while data := near.recv(65536):
            pipe.write(data)
            pipe.flush()


def _carry_out(pipe: IO[bytes], near: socket.socket) -> None:
    """From the process to our socket."""
    with near, contextlib.suppress(OSError), pipe:
        while data := os.read(pipe.fileno(), 65536):
            near.sendall(data)
        near.shutdown(socket.SHUT_RDWR)


def _guard(
    process: subprocess.Popen[bytes], line: socket.socket, answered: socket.socket, limits: Limits
) -> None:
    """When it is up say what holds, then how it ended; end it when the other side lets go."""
    assert process.stdout is not None
    late = Timer(START_SECONDS, process.kill)
    late.start()
    os.read(process.stdout.fileno(), len(UP))
    late.cancel()
    Thread(target=_carry_out, args=(process.stdout, answered), daemon=True).start()
    with line, contextlib.suppress(OSError):
        held = sorted(walls.limit_self(asdict(limits), dry=True))
        line.sendall(json.dumps({"held": held}).encode() + b"\n")
        while process.poll() is None:
            if select.select([line], [], [], TICK)[0]:
                break
        killed = process.poll() is None
        process.kill()
        said = {"code": process.wait(), "cpu": limits.cpu_seconds if killed else 0.0, "why": None}
        line.sendall(json.dumps(said).encode() + b"\n")


# ---- in that process --------------------------------------------------------------------------------------


def alone() -> NoReturn:
    """What the process runs; `sys.argv[2]` is its limits."""
    limits = json.loads(sys.argv[2])
    sys.argv = [""]
    asked, answers = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    walls.limit_self(limits, own=False)
    os.write(answers, UP)
    child.serve(asked, limits, answers)
