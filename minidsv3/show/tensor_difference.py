"""Two arrays that should be the same: yours, expected, the difference, the worst cell with a star behind it.

Shapes and formats that differ are said first. Of arrays of more axes the matrix with the worst cell is shown,
of large ones the rows and columns around it, so that the picture never takes more than twenty lines.

Does: compare, point at the worst cell. Does not: judge whether that is close enough (`minidsv3.learn`).

    >>> from minidsv3.show.svg import plain_text
    >>> two = TensorDifference(np.float32([0.5, 2.0]), np.float32([0.5, 1.0]))
    >>> print(plain_text(two, width=60, ascii_only=True))
    float32 [2]: 1 of 2 cells differs
                [0]  [1]
    yours       0.5    2 *
    expected    0.5    1
    difference    0   +1 *
    * the worst, at [1]: 2, expected 1, off by +1 (100.0 %)

Next: minidsv3.show.op_card
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.cells import short
from minidsv3.show.forms import shown
from minidsv3.show.numbers import count, counted, percent

__all__ = ["TensorDifference", "demo"]

MOST_ROWS = 4  # of a window
WORST = "bold red"
Place = tuple[int, ...]


@dataclass(frozen=True)
class TensorDifference:
    """Yours beside what was expected.  names: of the two  tolerance: differences up to this are none"""

    yours: ArrayLike
    expected: ArrayLike
    title: str = ""
    names: tuple[str, str] = ("yours", "expected")
    tolerance: float = 0.0

    @property
    def arrays(self) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        """Both, as arrays."""
        return np.asarray(self.yours), np.asarray(self.expected)

    @cached_property
    def difference(self) -> NDArray[np.float64] | None:
        """yours - expected in float64, 0 where both are the same infinity or NaN; None if shapes differ."""
        a, b = self.arrays
        if a.shape != b.shape:
            return None
        with np.errstate(all="ignore"):
            x, y = a.astype(np.float64), b.astype(np.float64)
            same = (x == y) | (np.isnan(x) & np.isnan(y))
            return np.where(same, 0.0, x - y)

    @property
    def worst(self) -> Place | None:
        """Where the difference is largest, what is no number before all else; None if nothing differs."""
        if self.difference is None or not self._differing:
            return None
        size = np.where(np.isnan(self.difference), np.inf, np.abs(self.difference))
        return tuple(int(i) for i in np.unravel_index(int(size.argmax()), size.shape))

    @property
    def _differing(self) -> int:
        """Cells that differ by more than the tolerance."""
        d = self.difference
        return 0 if d is None else int((~(np.abs(d) <= self.tolerance)).sum())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, "bold", overflow="fold")
        yield from (Text(line) for line in self._heads())
        if self.difference is None:
            return
        yield from self._window(options.max_width)
        if self.worst is not None:
            yield Text(f"* the worst, {self._worst_said}")

    def _heads(self) -> list[str]:
        """What is the same and what is not: shapes, formats, cells."""
        (a, b), (mine, theirs) = self.arrays, self.names
        if a.shape != b.shape:
            said = [f"shapes differ: {mine} {list(a.shape)}, {theirs} {list(b.shape)}"]
            if a.ndim == b.ndim:
                axes = [i for i in range(a.ndim) if a.shape[i] != b.shape[i]]
                said += [f"axis {i}: {a.shape[i]} in place of {b.shape[i]}" for i in axes]
            else:
                said.append(f"{a.ndim} axes in place of {b.ndim}")
            return said
        formats = f"{a.dtype} {list(a.shape)}"
        if a.dtype != b.dtype:
            formats = f"formats differ: {mine} {a.dtype}, {theirs} {b.dtype}; {list(a.shape)}"
        beyond = f" by more than {short(self.tolerance)}" if self.tolerance else ""
        n = self._differing
        cells = f"{count(n)} of {counted(a.size, 'cell')} {'differs' if n == 1 else 'differ'}{beyond}"
        return [f"{formats}: {cells if n else 'no cell differs' + beyond}"]

    @property
    def _worst_said(self) -> str:
        place, d = self.worst, self.difference
        assert place is not None
        assert d is not None
        a, b = (float(array.astype(np.float64)[place]) for array in self.arrays)
        digits = _digits(a, b)
        share = (
            f" ({percent(abs(float(d[place])) / abs(b))})" if b and np.isfinite(a) and np.isfinite(b) else ""
        )
        off = f"off by {_signed(float(d[place]))}{share}" if np.isfinite(d[place]) else "no number"
        return f"at {list(place)}: {short(a, digits)}, {self.names[1]} {short(b, digits)}, {off}"

    # ---- the window around the worst cell -----------------------------------------------------------------

    def _window(self, width: int) -> Iterator[Text]:
        """Both matrices and their difference under each other, their columns aligned."""
        a, b = (np.atleast_1d(array).astype(np.float64) for array in self.arrays)
        if not a.size or self.difference is None:
            return
        *lead, column = self.worst or (0,) * a.ndim
        front, row = tuple(lead[:-1]), lead[-1] if lead else 0
        matrices = [np.atleast_2d(m[front]) for m in (a, b, np.atleast_1d(self.difference))]
        rows = _around(row, len(matrices[0]), MOST_ROWS)
        digits = _digits(float(matrices[0][row, column]), float(matrices[1][row, column]))
        names = [self._name(name, front, r, a.ndim) for name in (*self.names, "difference") for r in rows]
        wide = max(map(len, names))
        for columns in (_around(column, a.shape[-1], n) for n in range(min(a.shape[-1], 16), 0, -1)):
            cells = [_texts(m, rows, columns, digits, sign=m is matrices[2]) for m in matrices]
            grid = [[f"[{c}]" for c in columns], *(row for part in cells for row in part)]
            widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
            if wide + sum(widths) + 2 * len(widths) + 2 <= width:
                break
        starred = (rows.index(row), columns.index(column)) if self.worst is not None else (-1, -1)
        for i, (name, line) in enumerate(zip(["", *names], grid, strict=True)):
            at = (i - 1) % len(rows) if i > 0 and (i - 1) // len(rows) != 1 else -2
            yield _line(f"{name:{wide}}", line, widths, starred[1], at == starred[0], "dim" if not i else "")

    def _name(self, name: str, front: Place, row: int, axes: int) -> str:
        """What stands in front of a row."""
        return name if axes < 2 else f"{name} [{''.join(f'{i}, ' for i in front)}{row}]"

    def describe(self) -> str:
        """What differs, in words; all cells of a short vector."""
        said = [*([self.title] if self.title else []), *self._heads()]
        if self.worst is not None:
            said.append(f"worst {self._worst_said}")
        if self.difference is not None and self.difference.ndim < 2 and self.difference.size <= 16:
            for name, array in zip(self.names, self.arrays, strict=True):
                said.append(f"{name}: {', '.join(short(float(v), 6) for v in np.atleast_1d(array))}")
        return "\n".join(said)


def _around(at: int, length: int, most: int) -> list[int]:
    """At most so many neighbours of a place, itself among them.

    >>> _around(7, 8, 3), _around(0, 2, 4)
    ([5, 6, 7], [0, 1])
    """
    first = min(max(at - most // 2, 0), max(length - most, 0))
    return list(range(first, min(first + most, length)))


def _texts(
    matrix: NDArray[np.float64], rows: Sequence[int], columns: Sequence[int], digits: int, sign: bool
) -> list[list[str]]:
    """The cells of a window.  sign: of a difference, three digits and + in front of what is not below 0."""
    return [
        [_signed(float(matrix[r, c])) if sign else short(float(matrix[r, c]), digits) for c in columns]
        for r in rows
    ]


def _line(
    name: str, cells: Sequence[str], widths: Sequence[int], starred: int, star: bool, style: str
) -> Text:
    """One line; behind the column with the worst cell is room for its star."""
    line = Text(name, style, no_wrap=True, overflow="crop")
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        worst = star and i == starred
        line.append(f"  {cell:>{width}}", WORST if worst else "")
        if i == starred:
            line.append(" *" if worst else "  ", WORST)
    line.rstrip()
    return line


def _signed(value: float) -> str:
    """A difference: 0, +0.5, -1e-07, NaN."""
    return "0" if value == 0 else short(value) if np.isnan(value) else f"{value:+.3g}"


def _digits(a: float, b: float) -> int:
    """As few digits as tell two values apart, at least four."""
    return next((n for n in (4, 6, 9, 17) if short(a, n) != short(b, n)), 4)


def demo() -> TensorDifference:
    """A softmax without the largest subtracted, beside the machine's."""
    from minidsv3.machine import Machine

    scores = np.array([[1.0, 2.0, 3.0], [0.0, 89.0, 0.0]], np.float32)  # [T, S]
    with np.errstate(all="ignore"):
        e = np.exp(scores)  # [T, S] overflows float32
        mine = e / e.sum(axis=1, keepdims=True)
    return TensorDifference(
        mine, Machine().row_softmax(scores, at="gate.softmax"), "softmax of [T, S] scores"
    )


if __name__ == "__main__":
    shown(demo())
