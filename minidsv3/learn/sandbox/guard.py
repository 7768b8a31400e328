"""The warm process and the guard of each session: fork, watch, kill all of it at the end.

The warm process has Python, NumPy and `child` loaded, and waits for orders on a socket: limits, and three
descriptors (the channel of calls, what is printed, the line to the guard). For each it forks a guard, and the
guard forks the process that runs the student's code. The guard looks at what that one started, tells how it
ended, and ends everything that is left when the checker lets go of its line, or is gone.

Where a space of processes can be had, the guard is the first process of one: when it ends, the system ends
all others there, and none of them can signal it. Elsewhere it adopts what they leave behind, and kills that.

Does: fork, wait, kill. Does not: run a line of the student's.

    >>> told(9, 1.25, None) == {"code": -9, "cpu": 1.25, "why": None}
    True

Next: minidsv3.learn.sandbox.alone
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from minidsv3.learn.sandbox import child, spaces, walls

__all__ = ["nursery", "told"]

TICK = 0.1  # seconds between two looks at a session's processes
PAGE = 4096 if not hasattr(os, "sysconf") else os.sysconf("SC_PAGE_SIZE")
Table = dict[str, Any]


def nursery() -> NoReturn:
    """What the warm process runs; `sys.argv[2]` is its end of the socket, how many walls follows."""
    control, said = socket.socket(fileno=int(sys.argv[2])), sys.argv[3:]
    sys.argv = [""]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = str(Path.cwd())
    held = spaces.enclose(plain="plain" in said)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(control, 65536, 3)
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            spaces.remove_folder(folder, held)
            os._exit(0)
        if descriptors and spaces.fork_alone(held) == 0:
            try:
                control.close()
                guard(json.loads(data), held, *descriptors)
            finally:
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)
        control.sendall(b"+")


# ---- the guard --------------------------------------------------------------------------------------------


def guard(order: Table, held: set[str], channel: int, output: int, line: int) -> NoReturn:
    """Fork the student's process, tell how it ended, and end what it left."""
    spaces.die_with_parent()
    spaces.adopt()
    limits, user = order["limits"], spaces.a_user(held)
    folder, held_there = spaces.own_folder(order["folder"], limits, held, user)
    if "disk space" in held_there:
        held_there |= spaces.hide(order["hidden"], folder)
    awake = _awake()
    says, hears = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(line)
            os.chdir(folder)
            _student(limits, held, user, (channel, output, hears))
        finally:
            os._exit(1)
    for descriptor in (channel, output, hears):
        os.close(descriptor)
    holds = json.loads(_all_of(says) or b"[]")
    _tell(line, {"held": sorted({*holds, *held_there, *(held - {"user"})})})
    _watch(pid, line, awake, limits)
    if folder != order["folder"]:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _watch(pid: int, line: int, awake: int, limits: Table) -> None:
    """Until the student's process ends or the checker lets go; then nothing of the session is left."""
    why, before = None, _resident(os.getpid())
    while True:
        ready, _, _ = select.select([line, awake], [], [], TICK)
        ended = _collect(pid, awake)
        if ended:
            _end_all(pid)
            return _tell(line, told(*ended, why))
        if line in ready:
            return _end_all(pid)
        why = why or _too_much(limits, before)
        if why:
            os.kill(pid, signal.SIGKILL)


def _collect(pid: int, awake: int) -> tuple[int, float] | None:
    """Take notice of all that have ended  ->  status and CPU seconds of the student's process, if it has."""
    with contextlib.suppress(BlockingIOError):
        os.read(awake, 4096)
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, status, usage = os.wait4(-1, os.WNOHANG)
            if not ended:
                break
            if ended == pid:
                found = status, usage.ru_utime + usage.ru_stime
    return found


def told(status: int, cpu: float, why: str | None) -> Table:
    """How a process ended: exit code (a signal negative), CPU seconds, and why it was ended if it was."""
    return {"code": os.waitstatus_to_exitcode(status), "cpu": cpu, "why": why}


def _tell(line: int, said: Table) -> None:
    with contextlib.suppress(OSError):
        os.write(line, json.dumps(said).encode() + b"\n")


def _all_of(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read(4096)


def _awake() -> int:
    """A descriptor that can be read as soon as a child has ended."""
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(awake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    return awake


def _student(limits: Table, held: set[str], user: int, ends: tuple[int, int, int]) -> NoReturn:
    """Become the process that runs the student's code."""
    channel, output, hears = ends
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    holds = walls.become_nobody(user, limits, held)
    os.write(hears, json.dumps(sorted(holds)).encode())
    channel = walls.take_descriptors(channel, output)
    child.serve(channel, limits)


# ---- what runs below --------------------------------------------------------------------------------------


def _below() -> list[int]:
    """Processes that this one started, and what those started; none where the system does not tell."""
    with contextlib.suppress(OSError):
        if Path("/proc/self").readlink().name != str(os.getpid()):
            return []  # a list of other processes than those we can signal
    parents: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = place.read_text(errors="replace").rpartition(")")[2].split()
            parents[int(place.parent.name)] = int(fields[1])
    found: list[int] = []
    last = {os.getpid()}
    while last:
        last = {pid for pid, parent in parents.items() if parent in last}
        found += last
    return found


def _resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 if it has gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def _too_much(limits: Table, before: int) -> str | None:
    """Which limit all processes of the session together are beyond."""
    pids = _below()
    if len(pids) > limits["processes"]:
        return "processes"
    more = sum(max(_resident(pid) - before, 0) for pid in pids)
    return "memory" if more > limits["memory_mib"] * 2**20 else None


def _end_all(pid: int) -> None:
    """Kill the session's processes until there are none."""
    for _ in range(100):
        if os.getpid() == 1:  # alone in a space: all but this one
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        for other in _below():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(other, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            select.select([], [], [], 0.001)
        except ChildProcessError:
            return
