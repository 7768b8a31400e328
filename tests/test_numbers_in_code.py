"""No number of a chip, a model, a deployment or a published figure stands in code; all are in data.

Two readings of the syntax trees, docstrings and comments left out. Of the whole package: no literal is a
telling value of the data files, one with three digits or more that is no power of two; from four digits on in
any unit, since 2664 thousand hours are 2.664e6 hours. Of the rooms that price, `hardware`, `cost` and
`cluster`: no literal at all but tiny ones, powers of ten, seconds, and those listed below with the reason why
they are arithmetic and not data.
"""

import ast
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import minidsv3
from minidsv3.hardware.units import UNITS

PACKAGE = Path(minidsv3.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
DATA = resources.files("minidsv3") / "data"
FOLDERS = ("hardware", "models", "dense")
TABLES = ("deployments", "training_runs", "published", "scenarios", "co_design", "memory_recipes")


TIME = (60, 3600, 24, 86400)  # seconds of a minute, an hour, a day; hours of a day


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


# ---- what the data say ------------------------------------------------------------------------------------


def data_files() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every file of numbers nobody computes."""
    for folder in FOLDERS:
        for entry in (DATA / folder).iterdir():
            if entry.name.endswith(".toml"):
                yield f"{folder}/{entry.name}", tomllib.loads(entry.read_text(encoding="utf-8"))
    for table in TABLES:
        entry = DATA / f"{table}.toml"
        if entry.is_file():
            yield f"{table}.toml", tomllib.loads(entry.read_text(encoding="utf-8"))


def numbers_in(entry: Any, units: dict[str, float]) -> Iterator[float]:
    """Every number of a table as it stands; one with a unit also in base units."""
    if isinstance(entry, dict):
        value, unit = entry.get("value"), entry.get("unit")
        if is_number(value) and unit in units:
            yield value * units[unit]
        for part in entry.values():
            yield from numbers_in(part, units)
    elif isinstance(entry, list):
        for part in entry:
            yield from numbers_in(part, units)
    elif is_number(entry):
        yield entry


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def digits(number: float) -> str:
    """Significant digits of the shortest way to write it: "989" of 989e12, "5" of 0.5."""
    written = str(abs(number)) if isinstance(number, int) else repr(abs(number))
    return written.partition("e")[0].replace(".", "").strip("0")


def is_telling(number: float) -> bool:
    """Three digits or more, and not what everybody writes: no power of two nor one less, no 1/8, no day."""
    whole = int(abs(number))
    power = number == whole and (whole & (whole - 1) == 0 or whole & (whole + 1) == 0)
    return len(digits(number)) >= 3 and not power and (1 / number) % 1 != 0 and number not in TIME


def key(number: float) -> float | str:
    """What numbers are compared by: four digits tell in any unit, three in their own."""
    return digits(number) if len(digits(number)) >= 4 else float(number)


@lru_cache
def telling_numbers() -> dict[float | str, str]:
    """Number, or its digits -> a file that has it."""
    known = {unit: size for unit, (_, size) in UNITS.items()}
    found: dict[float | str, str] = {}
    for name, table in data_files():
        own = {unit: size for unit, (size, _) in table.pop("units", {}).items()}
        for number in numbers_in(table, known | own):
            measured = (
                "/" not in name and number == int(number) and number < 1000
            )  # "192 us", say: anything's
            if is_telling(number) and not measured:
                found.setdefault(key(number), name)
    return found


# ---- what the code says -----------------------------------------------------------------------------------


@lru_cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def literals(tree: ast.Module) -> Iterator[tuple[float, int]]:
    """Numbers of a module with their lines; those that cut a text or a list short (`[:80]`) left out."""
    cuts = (node for node in ast.walk(tree) if isinstance(node, ast.Slice))
    skipped = {id(part) for cut in cuts for part in ast.walk(cut)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and is_number(node.value) and id(node) not in skipped:
            yield node.value, node.lineno  # type: ignore[misc]


EXPONENT = {126: "the lowest exponent of a normal float32"}
# literals that equal a value of the data and are none of it: file -> number -> what it is
BY_CHANCE: dict[str, dict[float, str]] = {
    "config.py": {
        0.9662: "when a plan that does not say it stops moving the bias, a share of its tokens",
        0.6757: "when a plan that does not say it lowers the MTP weight, a share of its tokens",
    },
    "numerics/accumulator.py": EXPONENT,
    "numerics/block_formats.py": EXPONENT,
    "numerics/fused_step.py": EXPONENT,
    "numerics/scaling.py": EXPONENT,
    "show/axes.py": {0x2800: "BRAILLE PATTERN BLANK, a character"},
    "show/tables.py": {108: "columns of a screen"},
    "tokenizer/composing.py": {0x1161: "HANGUL JUNGSEONG A, a character"},
    "tokenizer/newer.py": {0x3000: "IDEOGRAPHIC SPACE, the end of a range of characters"},
}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_number_of_the_data_stands_in_code(path: Path) -> None:
    telling, chance = telling_numbers(), BY_CHANCE.get(name_of(path), {})
    met = [
        (n, line)
        for n, line in literals(tree_of(path))
        if is_telling(n) and n not in chance and n not in TIME
    ]
    found = [(n, line, telling[key(n)]) for n, line in met if key(n) in telling]
    assert not found, f"{name_of(path)}: number, line, file of the data: {found}"


STRICT = [path for path in FILES if path.parent.name in ("hardware", "cost", "cluster")]
# the rest, by file: numbers that no chip and no model has
ARITHMETIC: dict[str, dict[float, str]] = {
    "hardware/load.py": {
        8: "parts of the deepest key of a file",
        18: "a quarter of a megabyte, the largest file that is read: 2**18",
        2000: "characters of the longest line of a file",
    },
    "hardware/overrides.py": {80: "characters of a change"},
    "hardware/schema.py": {0.75: "how alike two words are that are near"},
    "hardware/tensor_cores.py": {23: "fraction bits of float32", 53: "significant bits of float64"},
    "hardware/units.py": {
        6: "M, a prefix: 10**6",
        9: "G, a prefix: 10**9",
        12: "T, a prefix: 10**12",
        15: "P, a prefix: 10**15",
    },
    "cost/claims.py": {
        8: "bits of the two codes compared, LogFMT-8 and E4M3",
        12: "decimals of a rounded sum",
        16: "rows and columns of a drawn product whose error is measured",
    },
    "cost/closed_form.py": {5: "FLOPs an element of a softmax, of the loss"},
    "cost/copies.py": {2048: "tokens drawn for a mean: its standard error is 0.1 % of the copies"},
    "cost/memory.py": {
        8: "bits a byte",
        32: "bits of a tile's float32 scale, of an int32",
        64: "bits of an int64",
    },
    "cost/networks.py": {5: "switches of a three-layer fat tree, 5 k^2 / 4"},
    "cost/published.py": {0.4: "how alike two names are that are near"},
    "cost/rates.py": {8: "bytes of an int64 and of a float64"},
    "cost/row_changes.py": {5: "operands of a row"},
    "cost/serving.py": {8: "bits a byte"},
    "cost/wish_figures.py": {
        16: "results that are kept",
        256: "rows and columns of a drawn matrix whose error is measured",
        512: "rows and columns of a drawn matrix whose error is measured",
        1024: "K of a drawn product whose error is measured",
    },
    "cost/work.py": {
        5: "passes over the elements of a norm's backward",
        6: "FLOPs an element of SwiGLU",
        7: "passes over the elements of SwiGLU's backward",
        8: "bytes of an index; FLOPs an element of SwiGLU's backward",
    },
    "cluster/traffic.py": {5: "counts in one array"},
}


def is_tiny(number: float) -> bool:
    """0 to 4, a half, a power of ten: counts of dimensions, units, tolerances."""
    power = f"{number:e}".replace(".", "").partition("e")[0].strip("0") == "1"
    return number in (0, 1, 2, 3, 4, 0.5) or power or number in TIME


@pytest.mark.parametrize("path", STRICT, ids=name_of)
def test_rooms_that_price_hold_arithmetic_alone(path: Path) -> None:
    allowed = ARITHMETIC.get(name_of(path), {})
    found = [(n, line) for n, line in literals(tree_of(path)) if not is_tiny(n) and n not in allowed]
    assert not found, (
        f"{name_of(path)}: number, line: {found}; belongs in data, or into this test with a reason"
    )


def test_the_lists_of_this_test_are_used() -> None:
    """An exception that nothing needs any more is taken out."""
    for listed in (BY_CHANCE, ARITHMETIC):
        for name, numbers in listed.items():
            there = {n for n, _ in literals(tree_of(PACKAGE / name))}
            assert not set(numbers) - there, f"{name}: {set(numbers) - there} are not in the code"
            assert all(len(reason) > 10 for reason in numbers.values()), name


# ---- that the readings can fail ---------------------------------------------------------------------------


def test_the_data_are_found() -> None:
    telling = telling_numbers()
    for number in (
        989,
        989e12,
        1979,
        3.35e12,
        3.35,
        132,
        84_943_110_144,
        7168,
        18432,
        129280,
        2.664e6,
        70272,
    ):
        assert is_telling(number)
        assert key(number) in telling, number
    assert key(248) not in telling
    assert {name.partition("/")[0] for name in telling.values()} >= {"hardware", "models", "dense"}


def test_what_is_telling() -> None:
    assert [digits(n) for n in (989e12, 0.5, 1979, 70.272, 3.35, 100, 1e-9)] == [
        "989",
        "5",
        "1979",
        "70272",
        "335",
        "1",
        "1",
    ]
    assert key(2664) == key(2.664e6) != key(266)
    assert [is_telling(n) for n in (1024, 4095, 0.125, 0.001, 160, 7168, 3.35)] == [False] * 5 + [True] * 2


def test_literals_are_read_and_words_are_not() -> None:
    source = '"""989 TFLOPS."""\nx = 989e12  # 1979\ny = name[:132] + f"{z:7168}"\nw = -61\n'
    assert list(literals(ast.parse(source))) == [(989e12, 2), (61, 4)]
    assert [is_tiny(n) for n in (0, 4, 0.5, 1e-9, 1e12, 3600, 1000)] == [True] * 7
    assert [is_tiny(n) for n in (5, 8, 61, 132, 0.25, 989, 20)] == [False] * 7
