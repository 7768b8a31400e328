"""What keeps a student's process in: limits of the system that it is put under before its code runs.

POSIX limits on memory, CPU, files and processes, its own session, no file descriptor but its own.

Does: put up what the system allows, and say what that is. Does not: promise more; no wall here stops a
program that means harm.

    >>> limit_self({"memory_mib": 512, "cpu_seconds": 1, "file_mib": 1})  # doctest: +SKIP

Next: minidsv3.learn.child
"""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

__all__ = ["limit_self", "take_descriptors"]


def limit_self(limits: Mapping[str, Any]) -> None:
    """Put this process under the limits."""
    import resource

    memory, file = limits["memory_mib"] * 2**20, limits["file_mib"] * 2**20
    cpu = limits["cpu_seconds"]
    for name, soft, hard in (
        ("RLIMIT_CPU", cpu, cpu + 1),
        ("RLIMIT_FSIZE", file, file),
        ("RLIMIT_CORE", 0, 0),
        ("RLIMIT_AS", memory, memory),
    ):
        with contextlib.suppress(ValueError, OSError, AttributeError):  # macOS refuses some
            resource.setrlimit(getattr(resource, name), (soft, hard))


def take_descriptors(channel: int, output: int) -> int:
    """No input, `output` as stdout and stderr, nothing else open but the channel  ->  its number now."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    channel = os.dup2(channel, 63, inheritable=False) if channel != 63 else channel
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    os.closerange(3, channel)
    os.closerange(channel + 1, 4096)
    return channel
