"""The key of a class: which exercises, at which hidden numbers and sizes, for how many points.

`key.toml` stands in the instructor's folder and is made to be read and changed by hand. Hidden is only *what
is drawn*: the properties are those that the student's `check` has, with numbers drawn from another `seed` and
axes up to `larger` longer. `points` are those of a property, `weight` is that of the exercise in the mark.

The `salt` makes the ids of an anonymous report: an id is a keyed hash of the submission's name, so a list of
the names alone does not undo it. Whoever has the key can.

Does: read, check, write, make ids. Does not: know who the students are.

    >>> key = Key("00ff", (ExerciseKey("00", seed=5, larger=2, weight=1, points={"shape": 1, "value": 4}),))
    >>> key.exercises[0].out_of, key.identity("ada") == key.identity("Ada"), len(key.identity("ada"))
    (5, False, 12)
    >>> key_from_toml(key.to_toml()) == key
    True

Next: minidsv3.learn.classroom.template
"""

import hashlib
import hmac
import json
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidsv3.config import near
from minidsv3.learn.exercises import Lesson, find_lesson

__all__ = ["KEY", "ExerciseKey", "Key", "key_from_toml", "read_key"]

KEY = "key.toml"
SCHEMA = "minidsv3.key/1"
MOST_LARGER = 64  # elements that an axis may be longer
MOST_POINTS = 10**9
FIELDS = ("seed", "larger", "weight", "points")
HEAD = f"""\
# The key of this class: for the instructor alone.
#   seed     what the hidden inputs are drawn from; keep it until all submissions are graded
#   larger   how much longer than the student's the axes of hidden inputs may be
#   weight   of the exercise in the mark
#   points   of each property; 0 takes it out of the mark
schema = "{SCHEMA}"
"""


@dataclass(frozen=True)
class ExerciseKey:
    """How one exercise is graded."""

    exercise: str  # "00"
    seed: int
    larger: int  # added to the axes' largest size
    weight: float
    points: Mapping[str, float]  # by property, in their order

    @property
    def out_of(self) -> float:
        """All its points."""
        return sum(self.points.values())

    @property
    def lesson(self) -> Lesson:
        """The lesson that it belongs to."""
        return find_lesson(self.exercise)


@dataclass(frozen=True)
class Key:
    """How a class is graded."""

    salt: str  # of the ids
    exercises: tuple[ExerciseKey, ...]

    def identity(self, name: str) -> str:
        """The id of a submission's name: an s, lest spreadsheets read a number, and 11 digits."""
        return "s" + hmac.new(self.salt.encode(), os.fsencode(name), hashlib.sha256).hexdigest()[:11]

    def to_toml(self, sentences: Mapping[tuple[str, str], str] | None = None) -> str:
        """The key as a file. sentences: of (exercise, property), written behind the points."""
        lines = [HEAD, f"salt = {_quoted(self.salt)}  # of the ids in anonymous reports"]
        for one in self.exercises:
            lines += ["", f"[exercises.{one.exercise}]"]
            lines += [f"seed = {one.seed}", f"larger = {one.larger}", f"weight = {one.weight}"]
            lines += [f"[exercises.{one.exercise}.points]"]
            for name, points in one.points.items():
                said = (sentences or {}).get((one.exercise, name), "")
                lines += [f"{name} = {points}" + (f"  # {said}" if said else "")]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A text as TOML has it: as in JSON, halves of surrogates excepted, and DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_key(path: Path) -> Key:
    """The key in a file; ValueError that names the file and what is wrong."""
    try:
        return key_from_toml(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as problem:  # a TOMLDecodeError is a ValueError
        raise ValueError(f"{path}: {problem}") from problem


def key_from_toml(text: str) -> Key:
    """The key in a text; ValueError that says which line's value is not what it has to be."""
    table = tomllib.loads(text)
    if table.get("schema") != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA!r}, got {table.get('schema')!r}")
    salt, exercises = table.get("salt"), table.get("exercises")
    if not isinstance(salt, str) or not salt:
        raise ValueError(f"expected salt, some text, got {salt!r}")
    if not isinstance(exercises, dict) or not exercises:
        raise ValueError("expected [exercises.NUMBER] for at least one exercise, got none")
    key = Key(salt, tuple(_exercise(name, found) for name, found in exercises.items()))
    if not sum(one.weight for one in key.exercises):
        raise ValueError("expected a weight of more than 0 for at least one exercise, got none")
    return key


def _exercise(name: str, table: Any) -> ExerciseKey:
    where = f"exercises.{find_lesson(name).id}"
    if not isinstance(table, dict):
        raise ValueError(f"{where}: expected a table, got {table!r}")
    for field in table:
        if field not in FIELDS:
            raise ValueError(f"{where}: expected a field, got {field!r}: {near(field, list(FIELDS))}")
    points = table.get("points")
    if not isinstance(points, dict) or not points:
        raise ValueError(f"{where}: expected points of each property, got {points!r}")
    found = {name: _number(f"{where}.points.{name}", value) for name, value in points.items()}
    if not 0 < sum(found.values()) < MOST_POINTS:
        raise ValueError(f"{where}: expected points of more than 0 in all, and less than {MOST_POINTS:,}")
    seed, larger = (_whole(f"{where}.{field}", table.get(field)) for field in FIELDS[:2])
    if larger > MOST_LARGER:
        raise ValueError(f"{where}.larger: expected at most {MOST_LARGER}, got {larger}")
    weight = _number(f"{where}.weight", table.get("weight", 1))
    return ExerciseKey(find_lesson(name).id, seed, larger, weight, found)


def _whole(where: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{where}: expected a whole number from 0 on, got {value!r}")
    return value


def _number(where: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{where}: expected a number from 0 on, got {value!r}")
    number: float = value
    return number
