"""Ask a Hopper GPU what its tensor core does, bit by bit, and compare with the emulator.

    python3 tests/silicon/silicon.py --dry-run     # no GPU: the emulator answers; what can be told apart?
    python3 tests/silicon/silicon.py --rehearse    # no GPU, but nvcc: the program's host path answers
    python3 tests/silicon/silicon.py               # with nvcc and an H100, H200 or H800

Does: builds wgmma.cu, runs every case of operands.py through wgmma and through mma.sync, prints hits case by
case and a verdict, whole matrix products through torch if it is there, and writes vectors/<gpu>.npz. Does
not: change anything in the package; what silicon says is for a person to carry into data/tensor_cores.toml.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __package__ in (None, ""):  # run as a script: find `silicon`, the folder, before this file
    sys.path[:1] = [str(HERE.parent), str(HERE.parents[1])]

import numpy as np  # noqa: E402

from silicon import rules, tiles  # noqa: E402
from silicon.operands import UNITS, Case, cases  # noqa: E402

LIMIT = 1_000_000  # bytes of an .npz
SCHEMA = "minidsv3.silicon/1"
Say = Callable[[str], object]
Found = dict[str, list[rules.Results]]  # by instruction, a case after the other


def main(words: list[str] | None = None, say: Say = print) -> int:
    """Exit code 0: every unit agrees with a rule; 1: some does not; 3: no GPU or no compiler."""
    args = _arguments(words)
    drawn = cases(args.seed, args.tiles, tuple(args.units))
    with tempfile.TemporaryDirectory() as folder:
        if args.dry_run:
            found = {"wgmma": [rules.emulated(case, rules.ZEROS[0]) for case in drawn]}
            about: dict[str, Any] = {"gpu": None}
        else:
            try:
                program = tiles.build(Path(folder), args.swapped)
                if args.rehearse:
                    return rehearse(program, drawn, Path(folder), say)
                about = tiles.gpu(program)
            except (FileNotFoundError, RuntimeError) as error:
                say(f"{error}\ntry --dry-run, or with nvcc --rehearse")
                return 3
            about |= {"driver": tiles.driver_version(), "nvcc": tiles.nvcc_version()}
            found = {how: tiles.run(program, how, drawn, Path(folder)) for how in ("wgmma", "mma")}
    say(json.dumps(about))
    lines: list[str] = []
    good = report(drawn, found, args.dry_run, lambda line: (lines.append(line), say(line)))
    if not args.dry_run:
        about["whole_products"] = whole_products(say)
        path = args.out or HERE / "vectors" / f"{str(about['gpu']).lower().replace(' ', '-')}.npz"
        save(path, drawn, found, about | {"seed": args.seed, "tiles": args.tiles, "report": lines})
        say(f"wrote {path}")
    return 0 if good else 1


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="no GPU: the emulator answers")
    parser.add_argument(
        "--rehearse", action="store_true", help="no GPU, but nvcc: the program's host path answers"
    )
    parser.add_argument("--swapped", action="store_true", help="exchange the matrix descriptors' offsets")
    parser.add_argument("--tiles", type=int, default=8, help="tiles of 512 results a case (8)")
    parser.add_argument("--seed", type=int, default=0, help="of the operands (0)")
    parser.add_argument(
        "--units", nargs="+", choices=list(UNITS), default=list(UNITS), help="all, if not given"
    )
    parser.add_argument("--out", type=Path, help="the .npz (vectors/<gpu>.npz)")
    return parser.parse_args(words)


# ---- the report --------------------------------------------------------------------------------------------


def report(drawn: list[Case], found: Found, dry: bool, say: Say) -> bool:
    """Tables and verdicts; True if for every unit some rule gives every result."""
    good = True
    for how, answers in found.items():
        for unit in dict.fromkeys(case.unit for case in drawn):
            mine = [(case, answer) for case, answer in zip(drawn, answers, strict=True) if case.unit == unit]
            known = rules.wgmma_rules() if how == "wgmma" else rules.mma_rules(unit)
            scores = [rules.score(case, answer, known) for case, answer in mine]
            say(f"\n{how} {unit}: hits of each rule, and among the telling results")
            for line in rules.table(scores):
                say(line)
            _warnings(scores, say)
            if dry:
                say("dry run: the emulator against itself; what counts is the telling results")
            else:
                say(f"{how} {unit}: {rules.verdict(scores)}")
                good &= any(all(one.hits[name] == one.results for one in scores) for name in known)
            if how == "wgmma":
                _misreadings(unit, mine, say)
    return good


def _warnings(scores: list[rules.Score], say: Say) -> None:
    """What no rule gives, and whether it is arithmetic at all that is wrong."""
    missed = [one for one in scores if max(one.hits.values()) < one.results]
    if any(one.case.endswith("/exact") for one in missed):
        say("LAYOUT: small integers are wrong, so operands or results lie elsewhere; try --swapped")
    for one in missed:
        say(f"  {one.case}: {one.first_miss}")


def _misreadings(unit: str, mine: list[tuple[Case, rules.Results]], say: Say) -> None:
    """How many results speak against each misreading."""
    total = sum(answer.size for _, answer in mine)
    for name, rule in rules.misreadings(unit).items():
        against = sum(int((~rules.same_bits(rule(case), answer)).sum()) for case, answer in mine)
        say(f"  against '{name}': {against} of {total} results")


def rehearse(program: Path, drawn: list[Case], folder: Path, say: Say) -> int:
    """The host path of the program against double precision: files and layouts, no arithmetic of a GPU."""
    answers = tiles.run(program, "host", drawn, folder)
    wrong = 0
    for case, answer in zip(drawn, answers, strict=True):
        if case.name == "exact":
            wrong += int((~rules.same_bits(rules.emulated(case, rules.ZEROS[0]), answer)).sum())
    say(f"rehearsed {len(drawn)} cases; {wrong} of the exact results are wrong")
    return int(wrong > 0)


def whole_products(say: Say) -> list[dict[str, Any]]:
    """Whole matrix products through torch, if it is there and has a GPU."""
    from silicon.whole_products import compare

    rows = compare()
    for row in rows:
        say(f"torch {row}")
    if not rows:
        say("torch with CUDA is not here: whole products left out")
    return rows


# ---- vectors -----------------------------------------------------------------------------------------------


def save(path: Path, drawn: list[Case], found: Found, about: dict[str, Any]) -> None:
    """One tile of every case, as many of its rows as fit into LIMIT bytes, with what answered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for rows in (64, 48, 32, 16):
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about | {"schema": SCHEMA}))}
        for i, case in enumerate(drawn):
            part = case.first_rows(rows)
            arrays |= {f"{case.id}/a": part.a, f"{case.id}/b": part.b}
            arrays |= {} if part.c is None else {f"{case.id}/c": part.c}
            arrays |= {f"{case.id}/{how}": answers[i][:1, :rows] for how, answers in found.items()}
        np.savez_compressed(path, **arrays)
        if path.stat().st_size <= LIMIT:
            return
    size = path.stat().st_size
    path.unlink()
    raise ValueError(f"expected 16 rows a case to fit into {LIMIT} bytes, got {size}: choose fewer --units")


def load(path: Path) -> tuple[dict[str, Any], list[Case], Found]:
    """What `save` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
        if about.get("schema") != SCHEMA:
            raise ValueError(f"{path.name}: expected schema {SCHEMA}, got {about.get('schema')!r}")
        names = dict.fromkeys(name.rsplit("/", 1)[0] for name in arrays if "/" in name)
        answered = [how for how in ("wgmma", "mma") if any(name.endswith(f"/{how}") for name in arrays)]
        drawn: list[Case] = []
        found: Found = {how: [] for how in answered}
        for name in names:
            unit, kind = name.split("/")
            c = arrays.get(f"{name}/c")
            drawn.append(Case(kind, unit, arrays[f"{name}/a"], arrays[f"{name}/b"], c))
            for how, answers in found.items():
                answers.append(arrays[f"{name}/{how}"])
    return about, drawn, found


if __name__ == "__main__":
    sys.exit(main())
