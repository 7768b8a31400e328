"""A check's result in words and numbers: at most 22 lines, for any width from 60 columns on.

What failed, in one sentence; the smallest input; yours, expected and their difference side by side where they
fit, the worst cell with a star behind it; the equation; where the next hint is; the command that replays.
Arrays give way: of large ones the rows and columns around the worst cell are shown.

Does: lines of text, for eyes (`panel`) and for ears (`spoken`). Does not: colour them.

    >>> cells(np.array([[0.25, -3.0], [np.nan, 12.5]]), worst=(1, 0))
    ['0.25    -3 ', ' nan* 12.5 ']
    >>> Block("yours", np.array([0.5, 2]), (1,)).lines(8, 40)
    ['yours [2]', '0.5    2*']

Next: minidsv3.learn.checker
"""

import textwrap
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from minidsv3.learn.result import CheckResult, Counterexample, Outcome

__all__ = ["LINES", "Block", "cells", "panel", "spoken"]

Array = np.ndarray[Any, Any]
LINES = 22  # of a panel
GAP = 3  # columns between two arrays
MOST_LINES = 2  # of one fact
EXACT = 10  # digits that say 2^-9, 0.001953125, and others that a student computes with by hand
MOST_FAILED = 2  # failures told; more there are only in grading


class Block(NamedTuple):
    """An array under its name."""

    name: str
    array: Array
    worst: tuple[int, ...] | None = None
    digits: int = 5

    def lines(self, rows: int, width: int) -> list[str]:
        """The name with its shape, and at most so many rows and columns around the worst cell."""
        array, worst, less = _window(self.array, self.worst, rows, width, self.digits)
        shape = f" {list(self.array.shape)}" if self.array.ndim else ""
        body = cells(array, worst, self.digits) or ["(empty)"]
        return [f"{self.name}{shape}", *(line.rstrip() for line in body), *([less] if less else [])]


def panel(result: CheckResult, width: int = 80, lines: int = LINES) -> list[str]:
    """The whole result as lines of plain text."""
    head = [_headline(result), *_outcomes(result, width)]
    if result.output and not result.passed:
        head += _fold("printed: ", result.output.rstrip().split("\n")[-1], width)
    if result.passed:
        return head + _scored(result, width)
    tail = ["", *_card(result, width), *_ways(result, width)]
    if result.failed and result.failed.stage != "loads":
        head += ["", *_fold("expected: ", result.failed.sentence, width)]
    if result.counterexample is None:
        return head + tail
    notes = _notes(result.counterexample, width)
    room = lines - len(head) - len(notes) - len(tail)
    return head + _arrays(_blocks(result.counterexample), width, max(room, 3)) + notes + tail


def _headline(result: CheckResult) -> str:
    return f"check {result.exercise}, {result.title}: {'passed' if result.passed else 'FAILED'}"


def _outcomes(result: CheckResult, width: int) -> list[str]:
    """Names that passed, the failures with their notes, names that were skipped."""
    by: dict[str, list[Outcome]] = {"passed": [], "failed": [], "skipped": []}
    for outcome in result.outcomes:
        by[outcome.status].append(outcome)
    most = 1 if by["failed"] else MOST_LINES
    lines = _fold("  passed  ", ", ".join(o.name for o in by["passed"]), width, most) if by["passed"] else []
    for outcome in by["failed"][:MOST_FAILED]:
        lines += _fold("  failed  ", f"{outcome.name}: {outcome.because}", width)
    if by["skipped"]:
        names = ", ".join(o.name for o in by["skipped"])
        lines += _fold("  skipped ", f"{by['skipped'][0].because}: {names}", width, 1)
    return lines + (_fold("  ", result.problem, width) if result.problem else [])


def _scored(result: CheckResult, width: int) -> list[str]:
    """After success: the counted work, and where to look next."""
    lines = []
    if result.score:
        lines += _fold("", f"counted work of {result.score.function} on {result.score.at}:", width)
        lines += [f"  {line}" for line in result.score.lines()]
    return lines + _fold("compare: ", f"minidsv3 solution {result.exercise}", width)


def _card(result: CheckResult, width: int) -> list[str]:
    *equation, source = result.card
    return [line for text in equation for line in _fold("", text, width)] + _fold("", source, width, 1)


def _ways(result: CheckResult, width: int) -> list[str]:
    """What to do next."""
    lines: list[str] = []
    if result.hint:
        lines += [f"hint {result.hint[0]} of {result.hint[1]}: minidsv3 hint {result.exercise}"]
    if result.replay:
        lines += _fold("replay: ", result.replay + (f"  ({result.saved})" if result.saved else ""), width, 1)
    return lines


def _notes(found: Counterexample, width: int) -> list[str]:
    """What belongs to the counterexample beside its arrays."""
    lines = [] if found.worst is None else ["  (* the worst cell)"]
    if found.warnings:
        lines += _fold("  NumPy said: ", "; ".join(found.warnings), width, 1)
    if found.printed.strip():
        lines += _fold("  your code printed: ", found.printed.strip().split("\n")[0], width, 1)
    return lines


def _fold(label: str, text: str, width: int, most: int = MOST_LINES) -> list[str]:
    """A fact in at most so many lines, the label in front of the first."""
    inside = max(width - len(label), 20)
    lines = textwrap.wrap(" ".join(text.split()), inside, max_lines=most, placeholder=" ...") or [""]
    return [(label if i == 0 else " " * len(label)) + line for i, line in enumerate(lines)]


# ---- arrays -----------------------------------------------------------------------------------------------


def _blocks(found: Counterexample) -> list[Block]:
    """The arrays of a counterexample, all with as many digits as show the difference."""
    blocks = [Block(name, array) for name, array in found.inputs.items()]
    digits = _digits(found)
    named = {"yours": found.yours, "expected": found.expected, "difference": found.difference}
    return blocks + [
        Block(name, array, None if name == "expected" else found.worst, 3 if name == "difference" else digits)
        for name, array in named.items()
        if array is not None
    ]


def _digits(found: Counterexample) -> int:
    """As few digits as tell yours from the expected in the worst cell."""
    if found.worst is None or found.yours is None or found.expected is None:
        return 5
    pair = found.yours[found.worst].item(), found.expected[found.worst].item()
    return next((n for n in (5, 7, 9) if len({f"{value:.{n}g}" for value in pair}) > 1), 9)


def _arrays(blocks: list[Block], width: int, room: int) -> list[str]:
    """Blocks side by side in bands: fewer rows, then narrower, then fewer inputs, until there is room."""
    inputs = sum(block.name not in ("yours", "expected", "difference") for block in blocks)
    lines: list[str] = []
    for dropped in range(max(inputs, 1)):
        kept = blocks[: inputs - dropped] + blocks[inputs:]
        less = [f"... and {dropped} more inputs"] if dropped else []
        for rows, share in product((16, 8, 6, 4, 3, 2, 1), (1, 2, 3)):
            wide = (width - 2 - (share - 1) * GAP) // share
            lines = _bands([block.lines(rows, wide) for block in kept], width - 2) + less
            if len(lines) <= room:
                return [f"  {line}".rstrip() for line in lines]
    return [f"  {line}".rstrip() for line in lines[:room]]


def _bands(blocks: list[list[str]], width: int) -> list[str]:
    lines: list[str] = []
    band: list[list[str]] = []
    for block in [*blocks, None]:
        wide = sum(_width(b) + GAP for b in band) + (_width(block) if block else width + 1)
        if band and wide > width:
            lines += _beside(band)
            band = []
        band += [block] if block else []
    return lines


def _beside(band: list[list[str]]) -> list[str]:
    """Blocks of a band, line by line."""
    tall = max(map(len, band))
    padded = [[f"{line:<{_width(b)}}" for line in b] + [" " * _width(b)] * (tall - len(b)) for b in band]
    return [(" " * GAP).join(parts).rstrip() for parts in zip(*padded, strict=True)]


def _width(block: list[str]) -> int:
    return max(map(len, block))


def _window(
    array: Array, worst: tuple[int, ...] | None, rows: int, width: int, digits: int
) -> tuple[Array, tuple[int, ...] | None, str]:
    """The part of an array that is shown, the worst cell in it, and what is left out."""
    flat = array.reshape(-1, array.shape[-1]) if array.ndim > 2 else np.atleast_2d(array)
    at = (0, 0) if worst is None else _in_rows(worst, array)
    columns = max((width + 1) // (_widest(flat, digits) + 2), 1)
    first, left = _start(at[0], flat.shape[0], rows), _start(at[1], flat.shape[1], columns)
    shown = flat[first : first + rows, left : left + columns]
    less = (
        ""
        if shown.size == array.size
        else f"... of {array.size} elements, rows {first}-{first + len(shown) - 1}"
    )
    return shown, None if worst is None else (at[0] - first, at[1] - left), less


def _in_rows(worst: tuple[int, ...], array: Array) -> tuple[int, int]:
    """A cell's place once all axes but the last are one."""
    *front, last = worst or (0,)
    lead = array.shape[:-1]
    return (int(np.ravel_multi_index(tuple(front), lead)) if lead else 0), last


def _start(at: int, size: int, most: int) -> int:
    """Where a window of at most `most` starts, so that `at` is inside."""
    return min(max(at - most // 2, 0), max(size - most, 0))


def _widest(array: Array, digits: int) -> int:
    return max((len(_number(value, digits)) for value in array.ravel().tolist()), default=1)


def _number(value: Any, digits: int) -> str:
    """A number in so many digits; a multiple of a power of two that few more say exactly, in these."""
    if not isinstance(value, float):
        return str(value)
    short, exact = f"{value:.{digits}g}", f"{value:.{EXACT}g}"
    return exact if float(exact) == value and "e" not in exact else short


def cells(array: Array, worst: tuple[int, ...] | None = None, digits: int = 5) -> list[str]:
    """A matrix as lines of aligned numbers, the worst cell with a star behind it."""
    wide = _widest(array, digits)
    return [
        " ".join(
            f"{_number(value, digits):>{wide}}" + ("*" if (i, j) == worst else " ")
            for j, value in enumerate(row)
        )
        for i, row in enumerate(np.atleast_2d(array).tolist())
        if row
    ]


# ---- for ears ---------------------------------------------------------------------------------------------


def spoken(result: CheckResult) -> list[str]:
    """The same result as sentences, one fact a line, nothing aligned."""
    lines = [f"Check {result.exercise}, {result.title}, {'passed' if result.passed else 'failed'}."]
    for outcome in result.outcomes:
        why = f": {outcome.because}" if outcome.because else ""
        lines.append(f"{outcome.status.capitalize()}: {outcome.name}{why}.")
    if result.problem:
        lines.append(f"Problem: {result.problem}.")
    if result.failed:
        lines.append(f"Expected: {result.failed.sentence}.")
    if result.counterexample:
        lines += _told(result.counterexample)
    if result.passed and result.score:
        lines += [f"Counted: {result.score.sentence(kind)}." for kind in ("flops", "bytes", "memory")]
    lines += [] if result.passed else [*result.card, *(way.capitalize() for way in _ways(result, 10_000))]
    return lines


def _told(found: Counterexample) -> list[str]:
    """Arrays row by row; the worst cell by its place, counted from 0 as Python counts."""
    lines: list[str] = []
    for block in _blocks(found):
        shape = " by ".join(map(str, block.array.shape)) or "a number"
        lines.append(f"{block.name.capitalize()}, {shape}:")
        rows = block.array.reshape(-1, block.array.shape[-1]) if block.array.ndim else [block.array.ravel()]
        for i, row in enumerate(rows[:8]):
            lines.append(f"  row {i}: " + ", ".join(_number(v, block.digits) for v in row.tolist()[:16]))
    if found.worst is not None and found.yours is not None and found.expected is not None:
        place, n = ", ".join(map(str, found.worst)), _digits(found)
        yours, expected = (_number(a[found.worst].item(), n) for a in (found.yours, found.expected))
        lines.append(f"The worst cell is [{place}]: yours {yours}, expected {expected}.")
    return lines + ([f"NumPy said: {'; '.join(found.warnings)}."] if found.warnings else [])
