"""The op catalogue: every operation of the model, its equation in the technical report, and how it is
counted.

`data/ops.toml` holds two tables. A *primitive* says what kind of work it is: whether it multiplies matrices,
how many vector operations an element takes, what kind of data each operand is, and which rows its backward
has. An *op* is one use of a primitive in the model: id, equation, formula, signature, symbols, part, lesson.

Does: read, check and look up both. Does not: compute anything on arrays.

    >>> op = catalogue()["mla.kv_down"]
    >>> op.equations, op.formula, str(op.signature)
    (('1',), 'c_KV = W_DKV h', 'N D, C D -> N C')
    >>> primitives()[op.primitive].backward
    (Backward(direction='dgrad', reads=(2, 1), writes=0), Backward(direction='wgrad', reads=(2, 0), writes=1))

Next: minidsv3.machine.primitives
"""

import tomllib
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

from minidsv3.config import near
from minidsv3.machine.signature import Signature

__all__ = ["Backward", "Op", "Primitive", "catalogue", "look_up", "primitives", "symbols"]

KINDS = ("weight", "activation", "kv", "network")


class Backward(NamedTuple):
    """One row of a primitive's backward: operand numbers, the result being the last."""

    direction: str  # dgrad: gradient of an input; wgrad: gradient of a weight
    reads: tuple[int, ...]  # operands read; the result's number stands for its gradient
    writes: int  # the operand whose gradient is written


class Primitive(NamedTuple):
    """How a kind of work is counted."""

    name: str
    matrix: bool  # FLOPs are 2 x every combination of the signature's axes
    vector: int  # vector FLOPs for each element of operand `vector_over`, forward
    vector_backward: tuple[int, ...]  # the same for each backward row
    vector_over: int
    also_writes: tuple[int, ...]  # operands written beside the result
    gather: bool  # operand 0 is a table of which only the rows asked for are read
    kinds: tuple[str, ...]  # weight, activation, kv or network: each operand, then the result
    backward: tuple[Backward, ...]


class Op(NamedTuple):
    """One operation of the model."""

    id: str
    equations: tuple[str, ...]  # numbers in the technical report, or a section such as "2.1.1"
    formula: str
    primitive: str
    signature: Signature
    symbols: tuple[str, ...]  # each operand, then the result
    kinds: tuple[str, ...]  # as the primitive says, unless the op says otherwise
    part: str  # of the roll-up: embedding, attention, gate, experts, dense, norm, head, mtp, loss, update
    lesson: str
    phase: str  # forward, update or communication; a forward op's backward rows say backward

    @property
    def source(self) -> str:
        """Dotted name of the primitive that computes it."""
        return f"minidsv3.machine.primitives.{self.primitive}"


@lru_cache
def _tables() -> dict[str, Any]:
    text = (resources.files("minidsv3") / "data" / "ops.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@lru_cache
def primitives() -> dict[str, Primitive]:
    """All primitives by name."""
    return {name: _primitive(name, row) for name, row in _tables()["primitive"].items()}


def _primitive(name: str, row: dict[str, Any]) -> Primitive:
    kinds = tuple(row["kinds"])
    if set(kinds) - set(KINDS):
        raise ValueError(f"ops.toml: primitive {name}: expected kinds among {KINDS}, got {kinds}")
    return Primitive(
        name=name,
        matrix=row.get("matrix", False),
        vector=row.get("vector", 0),
        vector_backward=tuple(row.get("vector_backward", ())),
        vector_over=row.get("vector_over", 0),
        also_writes=tuple(row.get("also_writes", ())),
        gather=row.get("gather", False),
        kinds=kinds,
        backward=tuple(_backward(text, len(kinds) - 1) for text in row.get("backward", ())),
    )


def _backward(text: str, result: int) -> Backward:
    """Read `"dgrad: y 1 -> 0"`: from the result's gradient and operand 1, the gradient of operand 0."""
    direction, _, rest = text.partition(":")
    reads, _, writes = rest.partition("->")
    numbers = tuple(result if word == "y" else int(word) for word in reads.split())
    return Backward(direction, numbers, int(writes))


@lru_cache
def catalogue() -> dict[str, Op]:
    """All ops by id, in the order in which a token meets them."""
    return {op_id: _op(op_id, row) for op_id, row in _tables()["op"].items()}


def _op(op_id: str, row: dict[str, Any]) -> Op:
    signature = Signature.parse(row["signature"])
    kinds = tuple(row.get("kinds", primitives()[row["primitive"]].kinds))
    if not len(signature.operands) + 1 == len(row["symbols"]) == len(kinds):
        raise ValueError(f"ops.toml: {op_id}: signature, symbols and kinds differ in number")
    return Op(
        id=op_id,
        equations=tuple(row["equations"]),
        formula=row["formula"],
        primitive=row["primitive"],
        signature=signature,
        symbols=tuple(row["symbols"]),
        kinds=kinds,
        part=row["part"],
        lesson=row["lesson"],
        phase=row.get("phase", "forward"),
    )


def look_up(op_id: str) -> Op:
    """The op, or a ValueError that names near ids."""
    ops = catalogue()
    if op_id not in ops:
        raise ValueError(f"expected an op id, got {op_id!r}: {near(op_id, sorted(ops))}")
    return ops[op_id]


@lru_cache
def symbols() -> dict[str, dict[str, str]]:
    """The glossary: each symbol of the report: ASCII name, meaning, shape, published tensor name."""
    text = (resources.files("minidsv3") / "data" / "symbols.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
