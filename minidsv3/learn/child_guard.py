"""The warm process and the guard of each session: fork, watch, kill all of it at the end.

The warm process has Python, NumPy and the package's child loaded, and waits for orders on a socket: limits,
and three descriptors (the channel of calls, what is printed, the line to the guard). For each it forks a
guard, and the guard forks the process that runs the student's code. The guard tells how that one ended, and
ends everything that is left when the checker lets go of its line, or when the checker is gone.

Does: fork, wait, kill. Does not: run a line of the student's.

    >>> told(9, 1.25, 40.0, None) == {"code": -9, "cpu": 1.25, "rss_mib": 40.0, "why": None}
    True

Next: minidsv3.learn.session
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from minidsv3.learn import child, child_walls

__all__ = ["nursery", "told"]

TICK = 0.05  # seconds between two looks at a session's processes
Table = dict[str, Any]


def nursery() -> NoReturn:
    """What the warm process runs; `sys.argv[2]` is its end of the socket."""
    control = socket.socket(fileno=int(sys.argv[2]))
    sys.argv = [""]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control.sendall(json.dumps({"held": []}).encode() + b"\n")
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 65536, 3)
        if not data:
            os._exit(0)
        if os.fork() == 0:
            try:
                control.close()
                guard(json.loads(data), *descriptors)
            finally:
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)


def guard(order: Table, channel: int, output: int, line: int) -> NoReturn:
    """Fork the student's process, tell how it ended, and end what it left."""
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    pid = os.fork()
    if pid == 0:
        try:
            _student(order, channel, output)
        finally:
            os._exit(1)
    os.close(channel)
    os.close(output)
    while True:
        ready, _, _ = select.select([line, awake], [], [], TICK)
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            said = told(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, None)
            with contextlib.suppress(OSError):
                os.write(line, json.dumps(said).encode())
        if ended or line in ready:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os._exit(0)


def told(status: int, cpu: float, rss: float, why: str | None) -> Table:
    """How a process ended: exit code (a signal negative), CPU seconds, most memory, why it was ended."""
    return {"code": os.waitstatus_to_exitcode(status), "cpu": cpu, "rss_mib": rss, "why": why}


def _student(order: Table, channel: int, output: int) -> NoReturn:
    """Become the process that runs the student's code."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    channel = child_walls.take_descriptors(channel, output)
    os.chdir(order["folder"])
    child_walls.limit_self(order["limits"])
    child.serve(channel, order["limits"])
