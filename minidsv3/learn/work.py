"""Counted work of a function on arrays: FLOPs, bytes moved, and the most memory it held at once.

The arrays that go in are of a class that counts: every NumPy call on them adds one FLOP for each element it
computes (a contraction: 2 for every combination of its axes), and the bytes of the arrays it reads and
writes. Moving, comparing and choosing cost bytes and no FLOPs; a view costs nothing. Memory is what NumPy
and Python allocated during the call, at its largest, the result included.

Does: count, the same on every machine. Does not: time, or see arithmetic on plain Python numbers. Runs in
the student's process and needs NumPy alone.

    >>> x, W = np.ones((4, 8), "f"), np.ones((8, 2), "f")
    >>> y, work = counted(lambda x, W: np.exp(x @ W), x, W)
    >>> work.flops == 2 * 4 * 8 * 2 + 4 * 2, work.bytes == (32 + 16 + 8) * 4 + (8 + 8) * 4
    (True, True)

Next: minidsv3.learn.score
"""

import contextlib
import math
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Counting", "Work", "counted"]

MOVING = {
    "positive",
    "isnan",
    "isinf",
    "isfinite",
    "signbit",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
}
MOVING |= {"equal", "not_equal", "logical_and", "logical_or", "logical_not", "logical_xor"}
MAKING_ALIKE = {np.zeros_like, np.ones_like, np.empty_like, np.full_like, np.shape, np.ndim, np.size}
MAKERS = (
    "array",
    "asarray",
    "ascontiguousarray",
    "zeros",
    "ones",
    "empty",
    "full",
    "arange",
    "eye",
    "linspace",
)


class Work(NamedTuple):
    """What a call did."""

    flops: int
    bytes: int  # read and written by all NumPy calls
    memory: int  # bytes, the most held at once beyond the inputs


class _Counter:
    """Sums of the call under way."""

    flops = 0
    bytes = 0


class Counting(np.ndarray[Any, Any]):
    """An array that counts what is done with it; what comes of it counts too."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Run a ufunc on plain arrays and count it."""
        out = options.pop("out", None)
        if out is not None:
            options["out"] = tuple(_plain(array) for array in out)
        arrays = [_plain(value) for value in inputs]
        result = getattr(ufunc, method)(*arrays, **{k: _plain(v) for k, v in options.items()})
        _Counter.flops += _ufunc_flops(ufunc, method, arrays, result)
        _Counter.bytes += _bytes(arrays) + _bytes(result)
        if out is not None:
            return out[0] if len(out) == 1 else out
        return _counting(result)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        """Run a NumPy function; if nothing inside of it counts, it moves its arrays."""
        before = _Counter.flops, _Counter.bytes
        if function in MAKING_ALIKE:
            return _counting(function(*_plain(args), **options))
        if function in CONTRACTIONS:
            args, options = _plain(args), {k: _plain(v) for k, v in options.items()}
            result = function(*args, **options)
            how = {name: options[name] for name in ("axes", "optimize") if name in options}
            _Counter.flops += CONTRACTIONS[function](*args, **how)
            _Counter.bytes += _bytes(args) + _bytes(result)
        else:
            result = super().__array_function__(function, (), args, options)
        if before == (_Counter.flops, _Counter.bytes) and not _is_view(result, args):
            _Counter.bytes += _bytes(args) + _bytes(result)
        return _counting(result)

    def __getitem__(self, key: Any) -> Any:
        """A view, or a copy that is counted; a single element stays an array, so that it counts."""
        plain = _plain(self)
        result = np.asarray(plain[_plain(key)])
        if not _is_view(result, plain):
            _Counter.bytes += 2 * result.nbytes
        return _counting(result)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write a part."""
        plain = _plain(self)
        plain[_plain(key)] = _plain(value)
        _Counter.bytes += 2 * np.asarray(_plain(value)).nbytes

    def astype(self, *args: Any, **options: Any) -> Any:
        """Another type: read and written."""
        return _moved(self, _plain(self).astype(*args, **options))

    def dot(self, *args: Any, **options: Any) -> Any:
        """As `np.dot`, which counts."""
        return np.dot(self, *args, **options)

    def copy(self, *args: Any, **options: Any) -> Any:
        """A copy: read and written."""
        return _moved(self, _plain(self).copy(*args, **options))


def counted(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Work]:
    """Call a function on arrays that count  ->  its result, in plain arrays, and the work.

    It is called twice: what is allocated once and kept, such as a cache, is no work of a call.
    """
    inputs = [_counting(value) for value in arguments]
    with _makers_count():
        function(
            *(_counting(np.array(value)) if isinstance(value, np.ndarray) else value for value in inputs)
        )
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    _Counter.flops = _Counter.bytes = 0
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        with _makers_count():
            result = function(*inputs)
        memory = tracemalloc.get_traced_memory()[1] - before
    finally:
        if not tracing:
            tracemalloc.stop()
    return _plain(result), Work(_Counter.flops, _Counter.bytes, max(memory, 0))


@contextlib.contextmanager
def _makers_count() -> Iterator[None]:
    """NumPy's functions that make arrays make counting ones for the time of a call."""
    kept = {name: getattr(np, name) for name in MAKERS}

    def making(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **options: Any) -> Any:
            inside = sys._getframe(1).f_globals.get("__name__", "").startswith(("numpy", __name__))
            return make(*args, **options) if inside else _counting(make(*_plain(args), **options))

        return made

    try:
        for name, make in kept.items():
            setattr(np, name, making(make))
        yield
    finally:
        for name, make in kept.items():
            setattr(np, name, make)


# ---- counting ---------------------------------------------------------------------------------------------


def _ufunc_flops(ufunc: np.ufunc, method: str, arrays: list[Any], result: Any) -> int:
    """One for each element computed; a contraction as `_matmul`."""
    if ufunc is np.matmul:
        return _matmul(*arrays[:2])
    if ufunc.__name__ in MOVING or ufunc in (np.vecdot, np.matvec, np.vecmat):
        return 0 if ufunc.__name__ in MOVING else 2 * max(np.size(array) for array in arrays[:2])
    if method in ("reduce", "accumulate", "reduceat"):
        return 0 if ufunc in (np.maximum, np.minimum) else int(np.size(arrays[0]))
    if ufunc in (np.maximum, np.minimum, np.fmax, np.fmin):
        return 0
    parts = result if isinstance(result, tuple) else (result,)
    return int(np.size(parts[0])) if parts[0] is not None else int(np.size(arrays[0]))


def _matmul(a: Any, b: Any) -> int:
    """2 x M x K x N x the stacked matrices."""
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    columns = b.shape[-1] if b.ndim > 1 else 1
    stacks = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows = a.shape[-2] if a.ndim > 1 else 1
    return int(2 * math.prod(stacks) * rows * a.shape[-1] * columns)


def _dot(a: Any, b: Any, *_: Any) -> int:
    """Every element of `a` meets every column of `b`."""
    a, b = np.asarray(a), np.asarray(b)
    if not a.ndim or not b.ndim:
        return int(a.size * b.size)
    met = b.shape[-2] if b.ndim > 1 else b.shape[-1]
    return int(2 * a.size * (b.size // max(met, 1)))


def _inner(a: Any, b: Any, *_: Any) -> int:
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    return int(2 * a.size * (b.size // max(b.shape[-1], 1)))


def _outer(a: Any, b: Any, *_: Any) -> int:
    return int(np.size(a) * np.size(b))


def _einsum(*args: Any, optimize: Any = False) -> int:
    """2 for every combination of all labels (1 if there is one operand); of a path, each step's."""
    labels, arrays, kept = _labels(*args)
    sizes: dict[Any, int] = {}
    for names, array in zip(labels, arrays, strict=True):
        for name, size in zip(names, np.shape(array), strict=True):
            sizes[name] = max(sizes.get(name, 1), size)
    steps = [tuple(range(len(labels)))] if optimize in (False, None) else _path(args, optimize)
    flops = 0
    for step in steps:
        met = set().union(*(labels.pop(i) for i in sorted(step, reverse=True)))
        flops += (2 if len(step) > 1 else 1) * math.prod(sizes[name] for name in met)
        labels.append(tuple(met & kept.union(*labels)))
    return flops


def _path(args: Any, optimize: Any) -> list[tuple[int, ...]]:
    """The operands that meet in each step, as NumPy chooses them."""
    return list(np.einsum_path(*args, optimize=optimize)[0][1:])


def _labels(*args: Any) -> tuple[list[tuple[Any, ...]], list[Any], set[Any]]:
    """Labels of each operand (those of an ellipsis counted from its end), operands, labels of the result."""
    if isinstance(args[0], str):
        inputs, _, output = args[0].replace(" ", "").replace("...", ".").partition("->")
        words: list[Any] = [list(names) for names in inputs.split(",")]
        arrays, explicit = list(args[1:]), "->" in args[0]
        result: Any = list(output)
    else:  # array, labels, array, labels, ..., and the result's labels or none
        pairs, explicit = len(args) // 2, len(args) % 2 == 1
        arrays, words = list(args[: 2 * pairs : 2]), [list(names) for names in args[1 : 2 * pairs : 2]]
        result = list(args[-1]) if explicit else []
    labels = [_spread(names, np.ndim(array)) for names, array in zip(words, arrays, strict=True)]
    every = [name for names in labels for name in names]
    kept = {
        name
        for name in every
        if type(name) is tuple or (name in result if explicit else every.count(name) == 1)
    }
    return labels, arrays, kept


def _spread(names: list[Any], ndim: int) -> tuple[Any, ...]:
    """An operand's labels, an ellipsis as a label for each axis that it stands for."""
    spread: list[Any] = []
    for name in names:
        more = range(len(names) - 1 - ndim, 0) if name in (".", ...) else None
        spread += [name] if more is None else [("...", axis) for axis in more]
    return tuple(spread)


def _tensordot(a: Any, b: Any, axes: Any = 2) -> int:
    count = axes if isinstance(axes, int) else None
    if count is not None:
        shared = math.prod(np.shape(a)[np.ndim(a) - count :])
    else:
        shared = math.prod(np.shape(a)[axis] for axis in np.atleast_1d(axes[0]))
    return int(2 * np.size(a) * np.size(b) // max(shared, 1))


CONTRACTIONS: dict[Any, Callable[..., int]] = {
    np.dot: _dot,
    np.vdot: _inner,
    np.inner: _inner,
    np.outer: _outer,
    np.einsum: _einsum,
    np.tensordot: _tensordot,
}


# ---- plain and counting arrays ----------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """The same without counting arrays, in tuples, lists and dicts too."""
    if isinstance(value, Counting):
        return value.view(np.ndarray)
    if type(value) in (tuple, list):
        return type(value)(_plain(part) for part in value)
    if type(value) is dict:
        return {name: _plain(part) for name, part in value.items()}
    return value


def _counting(value: Any) -> Any:
    """The same with counting arrays."""
    if type(value) is np.ndarray or (isinstance(value, np.generic) and value.dtype.kind == "f"):
        return np.asarray(value).view(Counting)
    if type(value) in (tuple, list):
        return type(value)(_counting(part) for part in value)
    return value


def _moved(before: Any, after: Any) -> Any:
    if not np.shares_memory(_plain(before), after):
        _Counter.bytes += before.nbytes + after.nbytes
    return _counting(after)


def _bytes(value: Any) -> int:
    """Bytes of the arrays in a value."""
    if isinstance(value, np.ndarray | np.generic):
        return int(value.nbytes)
    return sum(_bytes(part) for part in value) if isinstance(value, tuple | list) else 0


def _is_view(result: Any, of: Any) -> bool:
    """Whether a result is memory of one of the arrays that it came from."""
    arrays = of if isinstance(of, tuple | list) else (of,)
    return isinstance(result, np.ndarray) and any(
        isinstance(array, np.ndarray) and np.may_share_memory(_plain(result), _plain(array))
        for array in arrays
    )
