"""What rules say a tensor core answers, and how they fare against answers.

A rule is a description of the arithmetic: the emulator under one of its conventions for zeros, or a
misreading of it that somebody has published or could hold. Against a case's results each rule has a number of
hits, bit for bit; results on which two rules differ are what can decide between them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.hardware.tensor_cores import TensorCore, tensor_core
from minidsv3.numerics import FP16
from minidsv3.numerics.tensor_core import ZEROS, mma
from silicon.operands import UNITS, Case

Results = NDArray[np.float32]
Rule = Callable[[Case], Results]
NAN = np.uint32(0x7FFF_FFFF).view(np.float32)


# ---- wgmma -------------------------------------------------------------------------------------------------


def emulated(case: Case, zeros: str, **changes: Any) -> Results:
    """The emulator, every tile through its chain of instructions; `changes` are to the unit."""
    unit = UNITS[case.unit]
    core = replace(tensor_core("hopper-wgmma", unit.core), **changes)
    return np.stack([_tile(case, tile, core, zeros) for tile in range(len(case.a))])


def _tile(case: Case, tile: int, core: TensorCore, zeros: str) -> Results:
    unit = UNITS[case.unit]
    a = np.concatenate(case.a[tile], axis=1)  # [64, S K]
    b = np.concatenate(case.b[tile], axis=1).T  # [S K, 8]
    c = None if case.c is None else np.ascontiguousarray(case.c[tile])
    return mma(a, b, c, core, a_format=unit.a, b_format=unit.b, zeros=zeros)


def wgmma_rules() -> dict[str, Rule]:
    """The conventions, which are to be told apart, by name."""
    return {f"zeros {name}": lambda case, name=name: emulated(case, name) for name in ZEROS}


def misreadings(unit: str) -> dict[str, Rule]:
    """What the results must not agree with, lest they say nothing."""
    core = tensor_core("hopper-wgmma", UNITS[unit].core)
    changes: dict[str, dict[str, Any]] = {
        "a bit fewer": {"fraction_bits": core.fraction_bits - 1},
        "a bit more": {"fraction_bits": core.fraction_bits + 1},
        "two groups": {"terms": core.terms // 2},
        "C added after": {"accumulator": "added"},
        "nearest output": {"rounding": "nearest-even"},
    }
    if core.output_fraction_bits < 23:
        changes["uncut output"] = {"output_fraction_bits": 23}
    return {
        name: lambda case, change=change: emulated(case, ZEROS[0], **change)
        for name, change in changes.items()
    }


# ---- mma.sync ----------------------------------------------------------------------------------------------


def mma_rules(unit: str) -> dict[str, Rule]:
    """What mma.sync is expected to do on Hopper."""
    if UNITS[unit].core == "fp8":
        return {"FP16 halves, FP32 add": halves_in_fp16, "as wgmma": lambda case: emulated(case, ZEROS[0])}
    return {f"zeros {name}": lambda case, name=name: emulated(case, name) for name in ZEROS}


def halves_in_fp16(case: Case) -> Results:
    """FP8 mma.sync as nvcc 13.0 compiles it for sm_90a; read off its machine code, not off a GPU.

    Both operands become FP16. Of each four neighbours along K the first two go through one FP16 instruction
    of 16 terms, which starts from zero, the last two through a second on top of it; an FADD brings C in.
    """
    unit, core = UNITS[case.unit], tensor_core("hopper-mma", "fp16")
    first = np.arange(unit.depth) % 4 < 2
    found = np.zeros((len(case.a), case.a.shape[2], case.b.shape[2]), np.float32)
    for tile in range(len(case.a)):
        total = found[tile] if case.c is None else case.c[tile]
        for a, b in zip(case.a[tile], case.b[tile], strict=True):
            x, y = FP16.encode(unit.a.decode(a)), FP16.encode(unit.b.decode(b)).T  # exact
            half = mma(x[:, first], y[first], None, core, zeros=ZEROS[0])
            half = mma(x[:, ~first], y[~first], half, core, zeros=ZEROS[0])
            with np.errstate(invalid="ignore", over="ignore"):
                total = total + half  # [64, 8]
            total[np.isnan(total)] = NAN
        found[tile] = total
    return found


# ---- comparing ---------------------------------------------------------------------------------------------


def same_bits(a: Results, b: Results) -> NDArray[np.bool_]:
    """Which results are equal, NaN and the sign of zero included."""
    equal: NDArray[np.bool_] = a.view(np.uint32) == b.view(np.uint32)
    return equal


@dataclass(frozen=True)
class Score:
    """Rules against one case's results."""

    case: str
    results: int
    hits: dict[str, int]  # of each rule
    telling: int  # results on which the rules do not all say the same
    told: dict[str, int]  # of these, the hits of each rule
    first_miss: str  # where the first rule is wrong, for a person to look at


def score(case: Case, results: Results, rules: dict[str, Rule]) -> Score:
    """Hits of each rule."""
    said = {name: rule(case) for name, rule in rules.items()}
    right = {name: same_bits(values, results) for name, values in said.items()}
    first = next(iter(said.values()))
    telling = np.any([~same_bits(first, values) for values in said.values()], axis=0)
    return Score(
        case.id,
        results.size,
        {name: int(hits.sum()) for name, hits in right.items()},
        int(telling.sum()),
        {name: int(hits[telling].sum()) for name, hits in right.items()},
        _miss(case, results, first),
    )


def _miss(case: Case, results: Results, said: Results) -> str:
    wrong = np.argwhere(~same_bits(results, said))
    if not len(wrong):
        return ""
    tile, m, n = wrong[0]
    got, expected = (values.view(np.uint32)[tile, m, n] for values in (results, said))
    c = "none" if case.c is None else f"{case.c.view(np.uint32)[tile, m, n]:08x}"
    return f"tile {tile} row {m} column {n}: got {got:08x}, expected {expected:08x}, C {c}"


def table(scores: list[Score]) -> list[str]:
    """Lines to print: a case a line, the hits of each rule, and those among the telling results."""
    names = list(scores[0].hits)
    wide = max(len(score.case) for score in scores)
    short = [name.removeprefix("zeros ") for name in names]
    lines = [f"{'case':{wide}} {'results':>8} " + " ".join(f"{s:>22}" for s in short)]
    for one in scores:
        shown = []
        for name in names:
            told = f" ({one.told[name]}/{one.telling})" if one.telling else ""
            whole = "all" if one.hits[name] == one.results else str(one.hits[name])
            shown.append(f"{whole + told:>22}")
        lines.append(f"{one.case:{wide}} {one.results:>8} " + " ".join(shown))
    return lines


def verdict(scores: list[Score]) -> str:
    """Which rules survive all cases."""
    whole = [name for name in scores[0].hits if all(one.hits[name] == one.results for one in scores)]
    telling = sum(one.telling for one in scores)
    if not whole:
        best = max(scores[0].hits, key=lambda name: sum(one.hits[name] for one in scores))
        missed = [one for one in scores if one.hits[best] < one.results]
        places = ", ".join(f"{one.case} {one.results - one.hits[best]}" for one in missed)
        return f"no rule gives every result; nearest is '{best}', which misses: {places}"
    if len(whole) == len(scores[0].hits) and len(whole) > 1:
        return f"all rules give every result: {telling} telling ones, nothing settled"
    return f"settled by {telling} telling results: {' and '.join(whole)}"
