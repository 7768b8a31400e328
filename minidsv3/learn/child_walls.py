"""What keeps a student's process in: what the system allows of it, put up before the code runs.

Everywhere on POSIX: limits on memory, CPU seconds, file size and processes; a session of its own; no open
file but its own. On Linux, with root or where users may make namespaces, also: processes, network and mounts
of its own. It sees and signals no process but those it started, all files are read-only, and its folder is a
small file system in memory. A root checker's session runs as a user that owns nothing.

Each function tries and tells: what it returns is what holds here, in the words of `Session.held`.

Does: put up walls. Does not: promise more than accidents need; this is no security boundary.

    >>> sorted(limit_self({"memory_mib": 64, "cpu_seconds": 1, "file_mib": 1, "processes": 1}, dry=True))
    ['CPU time', 'file size', 'memory', 'processes']

Next: minidsv3.learn.child
"""

import contextlib
import ctypes
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["become_nobody", "enclose", "fork_alone", "limit_self", "own_folder", "take_descriptors"]

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
RDONLY, NOSUID, NODEV, REC, PRIVATE = 1, 2, 4, 0x4000, 0x40000  # of mount(2)
MOUNT_SETATTR, HERE, RECURSIVE = 442, -100, 0x8000
DEATH_SIGNAL, KEEP_CAPABILITIES, NO_NEW_PRIVILEGES, ADOPT = 1, 8, 38, 36  # of prctl(2)
READ_ANY_FILE = 1 << 2  # a capability
STRANGERS = 2**30  # user ids from here on belong to nobody
LINUX = sys.platform == "linux"


def _system(name: str, *arguments: Any) -> int:
    """A call of the C library; OSError if it fails or there is none."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = -1 if function is None else function(*wide)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return int(result)


def die_with_parent() -> None:
    """Be killed when the parent is gone."""
    with contextlib.suppress(OSError):
        _system("prctl", DEATH_SIGNAL, 9, 0, 0, 0)


def adopt() -> None:
    """Be the parent of what processes started from here leave behind."""
    with contextlib.suppress(OSError):
        _system("prctl", ADOPT, 1, 0, 0, 0)


# ---- once, by the warm process ----------------------------------------------------------------------------


def enclose() -> set[str]:
    """Namespaces for this process: what follows runs in a fork, the first process of a space of its own."""
    user, group = os.geteuid(), os.getegid()
    held = {"user"} if LINUX and user == 0 else set()
    spaces = NEWNS | NEWPID | NEWIPC | NEWNET
    for flags in (spaces, spaces | NEWUSER) if LINUX else ():
        with contextlib.suppress(OSError):
            _system("unshare", flags)
            if flags & NEWUSER:
                _be(user, group)
                held = set()
            _go_on_in_a_fork()
            return held | {"signals", "network"} | _read_only()
    return held


def _be(user: int, group: int) -> None:
    """Keep the ids in a new user namespace."""
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{user} {user} 1")
    (own / "gid_map").write_text(f"{group} {group} 1")


def _go_on_in_a_fork() -> None:
    """Fork; the parent only waits."""
    pid = os.fork()
    if pid:
        os.closerange(0, 4096)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
    die_with_parent()


def _read_only() -> set[str]:
    """Make every file read-only here; "files" if that holds."""
    try:
        _system("mount", None, b"/", None, REC | PRIVATE, None)
        _system("mount", b"proc", b"/proc", b"proc", 0, None)
        attributes = np.array([RDONLY, 0, 0, 0], np.uint64)  # to set, to clear, propagation, user namespace
        place = attributes.ctypes.data_as(ctypes.c_void_p)
        _system("syscall", MOUNT_SETATTR, HERE, b"/", RECURSIVE, place, attributes.nbytes)
    except OSError:
        return set()
    return {"files"}


def fork_alone(held: set[str]) -> int:
    """Fork a first process of a new space of processes, if there are such; 0 in the child."""
    if "signals" not in held:
        return os.fork()
    before = os.open("/proc/self/ns/pid", os.O_RDONLY)
    try:
        _system("unshare", NEWPID)
        pid = os.fork()
        if pid:
            _system("setns", before, NEWPID)
        return pid
    finally:
        os.close(before)


# ---- for each session, by its guard -----------------------------------------------------------------------


def own_folder(folder: str, limits: Mapping[str, Any], held: set[str], user: int) -> tuple[str, set[str]]:
    """An empty folder for the session: a file system in memory over this one, or a new one inside it."""
    with contextlib.suppress(OSError):
        if "files" in held:
            _system("unshare", NEWNS)
            options = f"size={limits['disk_mib']}m,nr_inodes=1000,mode=700,uid={user},gid={_group(user)}"
            _system("mount", b"tmpfs", folder.encode(), b"tmpfs", NOSUID | NODEV, options.encode())
            _system("mount", b"proc", b"/proc", b"proc", RDONLY if user >= STRANGERS else 0, None)
            return folder, {"disk space"}
    within = tempfile.mkdtemp(dir=folder)
    with contextlib.suppress(OSError):
        os.chown(within, user, _group(user))
    return within, set()


def a_user(held: set[str]) -> int:
    """The user id for a session: one that owns nothing, if this process may choose."""
    return STRANGERS + secrets.randbelow(2**24) if "user" in held else os.geteuid()


def _group(user: int) -> int:
    return user if user >= STRANGERS else os.getegid()


# ---- for each session, by the process itself --------------------------------------------------------------


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
    """Give up all rights, become the session's user, go under the limits."""
    found: set[str] = set()
    own = False
    with contextlib.suppress(OSError):
        if user >= STRANGERS:
            _change_user(user)
            found, own = {"user", "signals"}, True
    with contextlib.suppress(OSError):
        if not own and "signals" in held:
            ids = os.geteuid(), os.getegid()
            _system("unshare", NEWUSER)  # each such space counts its own processes
            _be(*ids)
            own = True
            _give_up_capabilities(0)
    with contextlib.suppress(OSError):
        _system("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        Path("/proc/self/oom_score_adj").write_text("1000")
    return found | limit_self(limits, own)


def _change_user(user: int) -> None:
    """Become a user that owns nothing; it may read files if Python's own are private to the old one."""
    rights = 0 if all(map(_open_to_all, _needed())) else READ_ANY_FILE
    _system("prctl", KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _give_up_capabilities(rights)


def _give_up_capabilities(but: int) -> None:
    header = np.array([0x20080522, 0], np.uint32)
    data = np.array([but, but, 0, 0, 0, 0], np.uint32)  # effective, permitted, inheritable; twice 32 bits
    _system("capset", *(array.ctypes.data_as(ctypes.c_void_p) for array in (header, data)))


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
