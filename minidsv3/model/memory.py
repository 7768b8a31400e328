"""Sizes in words, how much memory there is, and how much was taken.

Does: "8GiB" to bytes and back, what Linux says is free (a container's limit included), the most that this
process has held. Does not: take or give any.

    >>> memory_bytes("8GiB"), memory_bytes("800 MB"), memory_bytes(4096), in_words(8 << 30)
    (8589934592, 800000000, 4096, '8.00 GiB')
    >>> memory_bytes("much")
    Traceback (most recent call last):
    ValueError: expected memory such as 8GiB, 800MB or a number of bytes, got 'much'

Next: minidsv3.model.weight_cache
"""

import contextlib
import re
import sys
from pathlib import Path

__all__ = ["available_memory", "in_words", "memory_bytes", "peak_memory"]

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(i?)(b?)", re.IGNORECASE)
_FALLBACK = 8 << 30  # bytes, where the system does not say


def memory_bytes(size: int | str) -> int:
    """Bytes of "8GiB" (2^30), "800MB" (10^6), "4096" or 4096; ValueError for anything else, or for none."""
    found = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    fits = found and not (found[3] and not found[2]) and (found[4] or not found[3]) and len(found[1]) < 40
    if isinstance(size, int) and not isinstance(size, bool):
        count = size
    elif found and fits:
        count = int(float(found[1]) * (1024 if found[3] else 1000) ** _UNITS[found[2].lower()])
    else:
        raise ValueError(f"expected memory such as 8GiB, 800MB or a number of bytes, got {size!r:.80}")
    if count < 1:
        raise ValueError(f"expected memory of at least one byte, got {size!r}")
    return count


def in_words(count: float) -> str:
    """Bytes in powers of two."""
    for unit, power in (("TiB", 4), ("GiB", 3), ("MiB", 2), ("KiB", 1)):
        if count >= 1024**power:
            return f"{count / 1024**power:.2f} {unit}"
    return f"{count:.0f} bytes"


def available_memory() -> int:
    """Bytes that can be taken without anything being swapped out; 8 GiB where the system does not say."""
    found = [_FALLBACK]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")] or found
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
        limit, held = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        found.append(max(limit - held, 1))
    return min(found)


def peak_memory() -> int:
    """The most resident memory that this process has had, in bytes; 0 where the system does not say."""
    with contextlib.suppress(OSError):  # a child begins anew here, where getrusage tells of its parent's too
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    with contextlib.suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0
