"""A precision recipe: which op multiplies in which format, what is rounded, what is stored how. Data.

`data/precision/*.toml` holds the recipes: "fp32", "bf16", "fp8" (DeepSeek-V3's, report section 3.3) and
variants of it. A file may name another as its `base` and change some entries. In a table from op patterns to
formats the first pattern that fits counts, and those of the file come before those of its base.

Does: read, check, answer by op. Does not: round (`minidsv3.machine.rounding` does).

    >>> recipe = load_precision("fp8")
    >>> recipe.product("mla.kv_down"), recipe.product("mtp.join"), recipe.product("gate.logits")
    ('fp8', 'bf16', 'fp32')
    >>> recipe.scale("mla.out"), recipe.kept("mla.keep_o"), recipe.combine
    ('power-of-two', 'e5m6', 'bf16')
    >>> recipe.blocks(128)["weight"], recipe.blocks(128)["gradient"]
    ((128, 128), (1, 128))

Next: minidsv3.machine.operands
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from minidsv3.config import near
from minidsv3.numerics import FORMATS

__all__ = ["Precision", "load_precision", "precision_names"]

GROUPINGS = ("tile", "block", "tensor")
SCALES = ("float32", "power-of-two")
PRODUCTS = ("fp8", "bf16", "fp32")
EIGHT_BITS = ("e4m3", "e5m2")
COMBINES = ("fp32", "bf16", "fp8", "logfmt-8", "logfmt-10")

# section -> key -> values allowed; "*": any op pattern
_ALLOWED: dict[str, dict[str, Any]] = {
    "product": {"*": PRODUCTS},
    "result": {"*": ("bf16", "fp32")},
    "gradient": {"*": ("bf16", "fp32")},
    "fp8": {
        "format": EIGHT_BITS, "gradient_format": EIGHT_BITS, "activation": GROUPINGS, "gradient": GROUPINGS,
        "weight": GROUPINGS, "block": int, "amax_floor": float,
    },
    "scale": {"*": SCALES},
    "gradient_scale": {"*": SCALES},
    "keep": {"*": tuple(FORMATS)},
    "exchange": {"dispatch": PRODUCTS, "combine": COMBINES},
    "stacked": {"*": int},
    "published": {"relative_loss_error": float},
    "optimiser": {"moments": ("bf16", "fp32")},
}  # fmt: skip


@dataclass(frozen=True)
class Precision:
    """A recipe.  Methods take an op's id; one that no pattern fits, the empty one too, is met by "*"."""

    name: str
    title: str
    source: str
    tables: Mapping[str, Mapping[str, Any]]

    def __hash__(self) -> int:
        return id(self)

    @lru_cache(maxsize=4096)  # noqa: B019 (recipes live as long as the process)
    def _look_up(self, table: str, op: str) -> str:
        rows = self.tables.get(table, {})
        return next((str(value) for pattern, value in rows.items() if fnmatchcase(op, pattern)), "")

    @property
    def rounds(self) -> bool:
        """Whether anything is rounded at all."""
        return bool(self.tables)

    def product(self, op: str) -> str:
        """Format of the operands of a product with weights: "fp8", "bf16" or "fp32"."""
        return self._look_up("product", op) or "fp32"

    def result(self, op: str) -> str:
        """Format of what an op writes."""
        return self._look_up("result", op) or "fp32"

    def gradient(self, op: str) -> str:
        """Format of the gradient of what an op reads."""
        return self._look_up("gradient", op) or "fp32"

    def scale(self, op: str, role: str = "activation") -> str:
        """Kind of an operand's scales, "float32" or "power-of-two".  role: or "gradient", "weight"."""
        table = {"activation": "scale", "gradient": "gradient_scale"}.get(role, "")
        return self._look_up(table, op) or "float32"

    def stacked(self, op: str) -> int:
        """How many tensors of the checkpoint lie on top of each other in an op's weights."""
        return int(self._look_up("stacked", op) or 1)

    def kept(self, op: str) -> str:
        """Format in which an activation waits for the backward; "" if it waits as it is."""
        return self._look_up("keep", op)

    @property
    def multiplies_fp8(self) -> bool:
        """Whether any product is in FP8."""
        return "fp8" in self.tables.get("product", {}).values()

    @property
    def dispatch(self) -> str:
        """What the copies travel in on the way to the experts."""
        return str(self.tables.get("exchange", {}).get("dispatch", self.result("experts.dispatch")))

    @property
    def combine(self) -> str:
        """What the results travel in on the way back."""
        return str(self.tables.get("exchange", {}).get("combine", self.result("experts.combine")))

    @property
    def moments(self) -> str:
        """Format of AdamW's moments."""
        return str(self.tables.get("optimiser", {}).get("moments", "fp32"))

    def fp8(self, key: str) -> Any:
        """An entry of the table `fp8`."""
        return self.tables["fp8"][key]

    def blocks(self, width: int) -> dict[str, tuple[int, int] | None]:
        """Rows and columns that share a scale, of operands summed along rows; None: the whole tensor."""
        by = {"tile": (1, width), "block": (width, width), "tensor": None}
        return {role: by[self.fp8(role)] for role in ("activation", "gradient", "weight")}


@lru_cache
def precision_names() -> list[str]:
    """Names of the recipes shipped in `data/precision`, sorted."""
    folder = resources.files("minidsv3") / "data" / "precision"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_precision(name: str | Path) -> Precision:
    """A recipe by name, or from a file; ValueError naming file, table and key for one that does not check."""
    if isinstance(name, str) and name in precision_names():
        return _shipped(name)
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return _parse(path.read_text(encoding="utf-8"), path.stem)
    if path.suffix == ".toml":
        raise ValueError(f"expected a precision, got {str(name)!r}: no such file")
    known = near(str(name), precision_names())
    raise ValueError(f"expected a precision, got {str(name)!r}: {known}; or a path to a .toml file")


@lru_cache
def _shipped(name: str) -> Precision:
    folder = resources.files("minidsv3") / "data" / "precision"
    return _parse((folder / f"{name}.toml").read_text(encoding="utf-8"), name)


def _parse(text: str, name: str) -> Precision:
    try:
        rows = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name}.toml: expected TOML: {error}") from None
    words = {key: rows.pop(key, None) for key in ("title", "source")}
    for key, value in words.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name}.toml: expected a {key}, got {value!r}")
    base = rows.pop("base", None)
    if base is not None and (base not in precision_names() or base == name):
        known = near(str(base), precision_names())
        raise ValueError(f"{name}.toml: expected base to be another precision, got {base!r}: {known}")
    for section, table in rows.items():
        _check(name, section, table)
    below = dict(_shipped(base).tables) if base else {}
    tables = {
        section: {**rows.get(section, {}), **_without(below.get(section, {}), rows.get(section, {}))}
        for section in dict.fromkeys([*rows, *below])
    }
    precision = Precision(name, str(words["title"]), str(words["source"]), tables)
    _check_whole(precision)
    return precision


def _without(table: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}


def _check(name: str, section: str, table: Any) -> None:
    """Every key and value of a table."""
    if section not in _ALLOWED or not isinstance(table, dict):
        raise ValueError(f"{name}.toml: unknown table {section!r}: {near(section, list(_ALLOWED))}")
    known = _ALLOWED[section]
    for key, value in table.items():
        allowed = known.get(key, known.get("*"))
        if allowed is None:
            raise ValueError(f"{name}.toml: {section}: unknown key {key!r}: {near(key, list(known))}")
        if isinstance(allowed, tuple) and value not in allowed:
            raise ValueError(
                f"{name}.toml: {section}.{key}: expected one of {', '.join(allowed)}, got {value!r}"
            )
        if isinstance(allowed, type) and not _is_number(value, allowed):
            least = "a whole number >= 1" if allowed is int else "a number >= 0"
            raise ValueError(f"{name}.toml: {section}.{key}: expected {least}, got {value!r}")


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return False
    return math.isfinite(value) and value >= (1 if kind is int else 0)


def _check_whole(precision: Precision) -> None:
    """What depends on several tables at once."""
    needs = precision.multiplies_fp8 or precision.dispatch == "fp8" or precision.combine == "fp8"
    missing = [key for key in _ALLOWED["fp8"] if key not in precision.tables.get("fp8", {})]
    if needs and missing:
        raise ValueError(f"{precision.name}.toml: expected fp8.{missing[0]} for products in FP8, got none")
