"""The shape signature of an op, from which everything countable is derived.

A signature names the axes of the operands and of the result, `"N D, R D -> N R"`. Binding it to arrays checks
their shapes and gives each name its size; from the sizes follow the FLOPs of a contraction (2 for every
combination of all axes) and the number of elements read and written.

Does: parse, bind with errors that name axis and shape, count. Does not: know formats or hardware.

    >>> signature = Signature.parse("N D, R D -> N R")
    >>> sizes = signature.bind([(5, 64), (8, 64)], names=["h", "W", "y"])
    >>> sizes, signature.multiply_adds(sizes), signature.elements(sizes)
    ({'N': 5, 'D': 64, 'R': 8}, 2560, [320, 512, 40])
    >>> signature.bind([(5, 63), (8, 64)], names=["h", "W", "y"])
    Traceback (most recent call last):
    ValueError: expected W [R, D=63], got (8, 64)

Next: minidsv3.machine.catalogue
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

__all__ = ["Signature"]

Sizes = dict[str, int]


class Signature(NamedTuple):
    """Axis names of each operand and of the result."""

    operands: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `"N D, R D -> N R"`; an axis is a letter with optional digits or letters behind it."""
        left, arrow, right = text.partition("->")
        if not arrow:
            raise ValueError(f"expected a signature 'A B, C -> D', got {text!r}")
        return cls(tuple(tuple(part.split()) for part in left.split(",")), tuple(right.split()))

    def bind(self, shapes: Sequence[tuple[int, ...]], names: Sequence[str] = ()) -> Sizes:
        """Sizes of the axes, taken from the operands' shapes in turn; ValueError where two disagree."""
        if len(shapes) < len(self.operands):
            raise ValueError(f"expected {len(self.operands)} operands {self}, got {len(shapes)}")
        sizes: Sizes = {}
        for i, (axes, shape) in enumerate(zip(self.operands, shapes, strict=False)):
            fits = len(axes) == len(shape) and all(
                sizes.get(a, n) == n for a, n in zip(axes, shape, strict=True)
            )
            if not fits:
                expected = ", ".join(f"{a}={sizes[a]}" if a in sizes else a for a in axes)
                name = names[i] if i < len(names) else f"operand {i}"
                raise ValueError(f"expected {name} [{expected}], got {tuple(shape)}")
            sizes |= zip(axes, shape, strict=True)
        return sizes

    def multiply_adds(self, sizes: Sizes) -> int:
        """Multiply-adds of a contraction: one for every combination of all its axes."""
        axes = {axis for operand in self.operands for axis in operand}
        return math.prod(sizes[axis] for axis in sorted(axes))

    def elements(self, sizes: Sizes) -> list[int]:
        """Elements of each operand, then of the result (an axis of the result alone must be in `sizes`)."""
        return [math.prod(sizes[axis] for axis in axes) for axes in (*self.operands, self.result)]

    def __str__(self) -> str:
        return ", ".join(" ".join(axes) for axes in self.operands) + " -> " + " ".join(self.result)
