"""Two cores at once: data parallelism over threads, with the BLAS held to one thread in each.

NumPy lets go of the interpreter lock inside its loops and its matrix products, so two Python threads that
each run the whole model on half of a batch keep two cores busy in *every* operation, not in the matrix
products alone. Results do not depend on which thread finishes first: they come back in the order of the
shards.

Does: split work over threads, set the number of OpenBLAS threads where NumPy carries OpenBLAS. Does not:
change anything where the BLAS is another one; then shards run one after the other and the BLAS keeps its
threads.

    >>> run_shards(lambda i: i * i, 3, workers=2)
    [0, 1, 4]

Next: minidsv3.machine.crew
"""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np

__all__ = ["blas_threads", "keep_freed_memory", "run_shards", "workers"]

T = TypeVar("T")


@lru_cache
def _openblas() -> tuple[Callable[[int], None], Callable[[], int], int] | None:
    """OpenBLAS in NumPy's wheel: setter and getter of its threads, and how many it began with."""
    package = Path(np.__file__).parent
    folders = (package.parent / "numpy.libs", package / ".dylibs")
    for path in (found for folder in folders for found in sorted(folder.glob("*openblas*"))):
        library = ctypes.CDLL(str(path))
        for prefix, suffix in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("set", "get")]
            if all(hasattr(library, name) for name in names):
                setter, getter = (getattr(library, name) for name in names)
                return setter, getter, getter()
    return None


@contextlib.contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Hold OpenBLAS to `count` threads inside the block; nothing happens with another BLAS."""
    found = _openblas()
    if found is None:
        yield
        return
    setter, getter, _ = found
    before = getter()
    setter(count)
    try:
        yield
    finally:
        setter(before)


@lru_cache
def workers() -> int:
    """How many shards to run at once: as many as the BLAS was allowed threads, at most the cores."""
    found = _openblas()
    if found is None:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(found[2], cores))


@lru_cache
def keep_freed_memory() -> None:
    """Ask glibc to keep large freed blocks instead of handing them back to the system after each step.

    A training step frees and takes the same arrays again and again; fresh pages would cost it 5 % in page
    faults.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def run_shards(function: Callable[[int], T], shards: int, workers: int) -> list[T]:
    """`[function(0), …, function(shards - 1)]`, up to `workers` of them at a time."""
    if workers <= 1 or shards <= 1:
        return [function(i) for i in range(shards)]
    keep_freed_memory()
    with blas_threads(1), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, range(shards)))
