"""Changing a value: `mla.softmax[layer=0,head=1,token=3] = 0`, or `= x * 2`.

In front of the equals sign stands which op, and which part of its result; behind it an expression in which
`x` is that part as the model computed it, `np` is NumPy, and the op's operands go by their symbols where
these are names. What comes out has to fit the part's shape. `d_` in front of the op means its gradients.

Does: read, compute the changed array. Does not: run anything behind it again (`Stepper.change`).

    >>> edit = Edit.read("mla.softmax[head=1] = x / x.sum()")
    >>> str(edit.target), edit.expression
    ('mla.softmax[head=1]', 'x / x.sum()')
    >>> edit.applied(np.ones((2, 1, 2)), ("H", "T", "S")).tolist()
    [[[1.0, 1.0]], [[0.5, 0.5]]]

Next: minidsv3.learn.stepping.compare
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from minidsv3.learn.selector import Selector, index_of, parse
from minidsv3.machine import look_up

__all__ = ["Edit"]

_FORM = re.compile(r"(?P<target>[^=\[\]]+(?:\[[^\[\]]*\])?)\s*=(?!=)\s*(?P<value>.*\S)\s*", re.DOTALL)


@dataclass(frozen=True)
class Edit:
    """A change to an op's result.

    index: of the only stop it is made at; None: at every one that matches  gradient: of its backward
    """

    target: Selector
    expression: str
    index: int | None = None
    gradient: bool = False

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `NAME[…] = expression`; ValueError for another form, or an op that is not in the catalogue."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"expected OP[head=1] = expression, got {text!r}")
        target = parse(found["target"])
        gradient = target.name.startswith("d_")
        target = target._replace(name=target.name.removeprefix("d_"))
        if not set("*?") & set(target.name):
            look_up(target.name)
        return cls(target, found["value"], gradient=gradient)

    def __str__(self) -> str:
        return f"{'d_' if self.gradient else ''}{self.target} = {self.expression}"

    def applied(
        self, result: NDArray[Any], axes: Sequence[str], operands: Mapping[str, Any] | None = None
    ) -> NDArray[Any]:
        """A changed copy of a result.

        axes: its names in the signature  operands: by symbol.  ValueError if the expression fails or does not
        fit.
        """
        out, index = result.copy(), index_of(result.shape, axes, self.target.at)
        x = np.array(out[index])
        new = np.asarray(self._value(x, operands or {}))
        try:
            out[index] = np.broadcast_to(new, x.shape)
        except (ValueError, TypeError):
            raise ValueError(f"expected {self.target} {x.shape}, got {new.dtype} {new.shape}") from None
        return out

    def _value(self, x: NDArray[Any], operands: Mapping[str, Any]) -> Any:
        names = {name: array for name, array in operands.items() if name.isidentifier()}
        try:
            return eval(self.expression, {**names, "np": np, "x": x})
        except (Exception, SystemExit) as problem:
            raise ValueError(f"{self}: {type(problem).__name__}: {problem}") from None
