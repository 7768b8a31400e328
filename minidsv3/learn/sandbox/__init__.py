"""What a student's code may use, what holds on this system, and how it ended, in words.

The code runs in a process that only answers calls; our process judges the answers. Around that one stand
limits. It guards against accidents, and each has a word: a loop (CPU time, wall time), a list that grows
(memory), a print in a loop (output), a fork in a loop (processes), a file that fills the disk (file size,
disk space), a kill that hits the checker (signals), a path that is not its own (files), a download (network).

It is no security boundary. A program that means harm finds what these leave open; run those of strangers in
a machine that you can throw away. Nor is it a judge of style: right values from a peculiar place are right.

Linux holds all of these, given root or a kernel that lets users make namespaces, and most without. macOS
holds no memory, signals, files, network or disk space, and may keep a process that went into a session of its
own; Windows holds wall time and output alone. `Session.held` says what was found.

    >>> in_words({"code": -11, "cpu": 0.2, "why": None}, Limits())
    'crashed (SIGSEGV)'

Next: minidsv3.learn.sandbox.values
"""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ALWAYS", "WALLS", "Limits", "environment", "in_words"]

WALLS = {
    "wall time": "seconds that the checker waits for answers, all together",
    "output": "bytes that are kept of what it prints",
    "CPU time": "seconds that it computes",
    "memory": "address space of each process; what all of them hold",
    "processes": "processes and threads at once",
    "file size": "bytes of one file",
    "disk space": "bytes of all its files, which are gone at the end",
    "files": "none can be written but its own",
    "reading": "solutions, keys and what others handed in are out of sight",
    "signals": "it can end no process but its own",
    "network": "there is none",
    "user": "it runs as a user that owns nothing",
}
"""What may hold -> what that means."""

ALWAYS = ("output", "wall time")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Limits:
    """What a session may use."""

    memory_mib: int = 512
    cpu_seconds: int = 10
    wall_seconds: float = 20.0  # of waiting for it
    file_mib: int = 16  # the largest file that may be written
    disk_mib: int = 32  # all files together
    processes: int = 16  # and threads, its own among them
    output_bytes: int = 64 * 1024


def environment(folder: str) -> dict[str, str]:
    """Variables of a student's process: where programs are, its folder, one BLAS thread; none of ours."""
    names = ("PATH", "SYSTEMROOT")  # Windows starts nothing without the second
    own = {name: os.environ[name] for name in names if name in os.environ}
    own |= {"LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder}
    return own | dict.fromkeys(THREADS, "1")


def in_words(status: Mapping[str, Any], limits: Limits) -> str:
    """How a process ended.

    status: code (exit code, a signal negative), cpu (seconds), why (a limit that its guard ended it for).
    """
    code, cpu, why = status["code"], status["cpu"], status["why"]
    if why == "processes":
        return f"started more than {limits.processes} processes"
    if why == "memory":
        return f"ran out of memory (limit {limits.memory_mib} MiB)"
    name = next((known.name for known in signal.Signals if known == -code), str(-code))
    if name == "SIGXCPU" or (name == "SIGKILL" and cpu >= limits.cpu_seconds):
        return f"used {limits.cpu_seconds} s of CPU"
    if name == "SIGKILL":
        return "was killed"
    return f"crashed ({name})" if code < 0 else "left before it answered"
