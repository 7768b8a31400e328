"""What a student's process is put under before its code runs: its own limits, and no rights.

Everywhere on POSIX: limits on memory, CPU seconds, file size and processes, and no open file but its own. On
Linux it also gives up what it may: root's become the rights of a user that owns nothing. Where no space of
its own could be had (`spaces`), Landlock keeps it from writing other files and signalling others, if
the kernel is new enough.

Does: limit this very process, for good. Does not: promise more than accidents need; this is no security
boundary.

    >>> sorted(limit_self({"memory_mib": 64, "cpu_seconds": 1, "file_mib": 1, "processes": 1}, dry=True))
    ['CPU time', 'file size', 'memory', 'processes']

Next: minidsv3.learn.sandbox.child
"""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidsv3.learn.sandbox.spaces import LINUX, NEWUSER, STRANGERS, keep_ids, pointer, system

__all__ = ["become_nobody", "limit_self", "take_descriptors"]

KEEP_CAPABILITIES, NO_NEW_PRIVILEGES = 8, 38  # of prctl(2)
READ_ANY_FILE = 1 << 2  # a capability
NEW_RULES, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock's calls
WRITING = sum(1 << right for right in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))  # write, remove and make files
NEWER = {2: 1 << 13, 3: 1 << 14}  # rights by Landlock's version: link elsewhere, truncate
SCOPES_FROM, SCOPES = 6, 3  # version; abstract sockets and signals stay inside


def take_descriptors(channel: int, output: int) -> int:
    """No input, `output` as stdout and stderr, nothing else open but the channel  ->  its number now."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    channel = os.dup2(channel, 63, inheritable=False) if channel != 63 else channel
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    os.closerange(3, channel)
    os.closerange(channel + 1, 4096)
    return channel


def limit_self(limits: Mapping[str, Any], own: bool = True, dry: bool = False) -> set[str]:
    """Put this process under the limits. own: its user has no other processes  dry: only say which hold."""
    try:
        import resource
    except ImportError:  # Windows
        return set()
    memory, file, cpu = limits["memory_mib"] * 2**20, limits["file_mib"] * 2**20, limits["cpu_seconds"]
    processes = limits["processes"] + (0 if own or dry else _threads_of(os.getuid()))
    wanted = {
        "CPU time": ("RLIMIT_CPU", cpu, cpu + 1),
        "file size": ("RLIMIT_FSIZE", file, file),
        "memory": ("RLIMIT_AS", memory, memory),
        "processes": ("RLIMIT_NPROC", processes, processes),
        "": ("RLIMIT_CORE", 0, 0),
    }
    held = set()
    for said, (name, soft, hard) in wanted.items():
        with contextlib.suppress(ValueError, OSError, AttributeError):
            if not dry:
                resource.setrlimit(getattr(resource, name), (soft, hard))
            held |= {said} if LINUX or said != "memory" else set()  # macOS sets it and does not hold it
    return held - {""}


def become_nobody(user: int, limits: Mapping[str, Any], held: set[str]) -> set[str]:
    """Give up all rights, become the session's user, go under the limits; the folder is the current one."""
    found: set[str] = set()
    own = False
    with contextlib.suppress(OSError):
        if user >= STRANGERS:
            _change_user(user)
            found, own = {"user", "signals"}, True
    with contextlib.suppress(OSError):
        if not own and "signals" in held and user != 0:
            ids = os.geteuid(), os.getegid()
            system("unshare", NEWUSER)  # each such space counts its own processes
            keep_ids(*ids)
            own = True
            _give_up_capabilities(0)
    with contextlib.suppress(OSError):
        if not own and LINUX:
            _give_up_capabilities(0)
    with contextlib.suppress(OSError):
        system("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if "files" not in held:
            found |= _landlock()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this one goes first
    return found | limit_self(limits, own)


def _landlock() -> set[str]:
    """Files outside of the current folder cannot be written; from a version on, nor others signalled."""
    version = system("syscall", NEW_RULES, None, 0, 1) if LINUX else 0
    rights = WRITING | sum(right for since, right in NEWER.items() if version >= since)
    scoped = SCOPES if version >= SCOPES_FROM else 0
    wanted = np.array([rights, 0, scoped], np.uint64)[: 3 if scoped else 1]  # files, network, scopes
    rules = system("syscall", NEW_RULES, pointer(wanted), wanted.nbytes, 0)
    for place, allowed in ((".", rights), (os.devnull, 2)):
        there = os.open(place, os.O_RDONLY)
        rule = np.frombuffer(np.uint64(allowed).tobytes() + np.int32(there).tobytes(), np.uint8).copy()
        system("syscall", ADD_RULE, rules, 1, pointer(rule), 0)
        os.close(there)
    system("syscall", RESTRICT_SELF, rules, 0)
    os.close(rules)
    return {"files", "signals"} if scoped else {"files"}


def _change_user(user: int) -> None:
    """Become a user that owns nothing; it may read files if Python's own are private to the old one."""
    rights = 0 if all(map(_open_to_all, _needed())) else READ_ANY_FILE
    system("prctl", KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _give_up_capabilities(rights)


def _give_up_capabilities(but: int) -> None:
    header = np.array([0x20080522, 0], np.uint32)
    data = np.array([but, but, 0, 0, 0, 0], np.uint32)  # effective, permitted, inheritable; twice 32 bits
    system("capset", pointer(header), pointer(data))


def _needed() -> Iterator[Path]:
    """Where code is imported from."""
    yield from map(Path, (sys.prefix, sys.base_prefix, np.__file__, __file__))


def _open_to_all(place: Path) -> bool:
    with contextlib.suppress(OSError):
        return all(above.stat().st_mode & stat.S_IXOTH for above in place.resolve().parents)
    return False


def _threads_of(user: int) -> int:
    """How many threads of a user run; 0 where that cannot be seen."""
    count = 0
    for status in Path("/proc").glob("[0-9]*/task/*") if LINUX else ():
        with contextlib.suppress(OSError):
            count += status.stat().st_uid == user
    return count
