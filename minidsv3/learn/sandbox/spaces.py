"""Spaces of its own for a session: processes, files, network, where Linux lets us make them.

The warm process goes into namespaces once, with root's rights or those that a user namespace gives, and makes
every file in them read-only. Each session then gets a space of processes whose first is its guard, and a
folder that is a small file system in memory. Where that cannot be had, `walls` does what it can.

Everything is tried before it is relied on. What a function returns is what holds, in words of
`sandbox.WALLS`.

Does: namespaces and mounts, by the C library. Does not: limits (`walls`), kill (`guard`).

    >>> enclose(plain=True)
    set()

Next: minidsv3.learn.sandbox.walls
"""

import contextlib
import ctypes
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

__all__ = [
    "STRANGERS",
    "a_user",
    "adopt",
    "enclose",
    "fork_alone",
    "own_folder",
    "pointer",
    "remove_folder",
    "system",
]

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
RDONLY, NOSUID, NODEV, REC, PRIVATE = 1, 2, 4, 0x4000, 0x40000  # of mount(2)
MOUNT_SETATTR, HERE, RECURSIVE = 442, -100, 0x8000
DEATH_SIGNAL, ADOPT = 1, 36  # of prctl(2)
STRANGERS = 2**30  # user ids from here on belong to nobody
LINUX = sys.platform == "linux"


def system(name: str, *arguments: Any) -> int:
    """A function of the C library; OSError if it fails or there is none."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = -1 if function is None else function(*wide)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return int(result)


def pointer(array: np.ndarray[Any, Any]) -> ctypes.c_void_p:
    """An array as C sees it; it has to stay alive meanwhile."""
    return ctypes.c_void_p(array.ctypes.data)


def die_with_parent() -> None:
    """Be killed when the parent is gone."""
    with contextlib.suppress(OSError):
        system("prctl", DEATH_SIGNAL, 9, 0, 0, 0)


def adopt() -> None:
    """Be the parent of what processes started from here leave behind."""
    with contextlib.suppress(OSError):
        system("prctl", ADOPT, 1, 0, 0, 0)


# ---- once, by the warm process ----------------------------------------------------------------------------


def enclose(plain: bool = False) -> set[str]:
    """Go into spaces of our own: what follows then runs in a fork, the first process there.

    plain: do not, as where the system does not allow it.
    """
    if plain or not LINUX:
        return set()
    spaces = NEWNS | NEWPID | NEWIPC | NEWNET
    for flags in (spaces, spaces | NEWUSER):
        if _can(flags):
            user = {"user"} if os.geteuid() == 0 and flags == spaces else set()
            _enter(flags)
            _go_on_in_a_fork()
            return {"signals", "network"} | user | _read_only()
    return {"user"} if os.geteuid() == 0 else set()


def _can(flags: int) -> bool:
    """Whether a fork can enter such spaces."""
    pid = os.fork()
    if pid == 0:
        try:
            _enter(flags)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _enter(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    system("unshare", flags)
    if flags & NEWUSER:
        keep_ids(user, group)


def keep_ids(user: int, group: int) -> None:
    """Have the same ids in a new user namespace."""
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{user} {user} 1")
    (own / "gid_map").write_text(f"{group} {group} 1")


def _go_on_in_a_fork() -> None:
    """Fork; the parent only waits."""
    pid = os.fork()
    if pid:
        _wait_for(pid)
    die_with_parent()


def _wait_for(pid: int) -> NoReturn:
    os.closerange(0, 4096)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)


def _read_only() -> set[str]:
    """Make every file read-only here; "files" if that holds."""
    try:
        system("mount", None, b"/", None, REC | PRIVATE, None)
        with contextlib.suppress(OSError):
            system("mount", b"proc", b"/proc", b"proc", 0, None)
        _set_everywhere(RDONLY, 0)
    except OSError:
        return set()
    return {"files"}


def _set_everywhere(these: int, not_these: int) -> None:
    """Set and clear attributes of all mounts."""
    attributes = np.array([these, not_these, 0, 0], np.uint64)
    system("syscall", MOUNT_SETATTR, HERE, b"/", RECURSIVE, pointer(attributes), attributes.nbytes)


def remove_folder(folder: str, held: set[str]) -> None:
    """At the very end: the folder of all sessions, for a checker that was killed and cannot."""
    with contextlib.suppress(OSError):
        if "files" in held:
            _set_everywhere(0, RDONLY)
    shutil.rmtree(folder, ignore_errors=True)


def fork_alone(held: set[str]) -> int:
    """Fork a first process of a new space of processes, if there are such; 0 in the child."""
    if "signals" not in held:
        return os.fork()
    before = os.open("/proc/self/ns/pid", os.O_RDONLY)
    try:
        system("unshare", NEWPID)
        pid = os.fork()
        if pid:
            system("setns", before, NEWPID)
        return pid
    finally:
        os.close(before)


# ---- for each session, by its guard -----------------------------------------------------------------------


def a_user(held: set[str]) -> int:
    """The user id for a session: one that owns nothing, if this process may choose."""
    return STRANGERS + secrets.randbelow(2**24) if "user" in held else os.geteuid()


def own_folder(folder: str, limits: Mapping[str, Any], held: set[str], user: int) -> tuple[str, set[str]]:
    """An empty folder for the session: a file system in memory over this one, or a new one inside it."""
    group = user if user >= STRANGERS else os.getegid()
    with contextlib.suppress(OSError):
        if "files" in held:
            system("unshare", NEWNS)
            options = f"size={limits['disk_mib']}m,nr_inodes=1000,mode=700,uid={user},gid={group}"
            system("mount", b"tmpfs", folder.encode(), b"tmpfs", NOSUID | NODEV, options.encode())
            with contextlib.suppress(OSError):  # its own list of processes; others still map their ids there
                system(
                    "mount", b"proc", b"/proc", b"proc", RDONLY if "user" in held or user == 0 else 0, None
                )
            return folder, {"disk space"}
    within = tempfile.mkdtemp(dir=folder)
    with contextlib.suppress(OSError):
        os.chown(within, user, group)
    return within, set()


def hide(folders: Iterable[str], own: str) -> set[str]:
    """Put an empty file system over each of these, in the session's own view; "reading" if that was done.

    own: the session's folder; it, this Python and this package stay in sight.
    """
    needed = (own, sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2]))
    for folder in folders:
        if Path(folder).is_dir() and not any(Path(place).is_relative_to(folder) for place in needed):
            try:
                system("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", RDONLY | NOSUID | NODEV, b"size=4k")
            except OSError:
                return set()
    return {"reading"}
