"""`minidsv3 reproduce`: every published figure beside what its own inputs give.

Figures are named by id or by the first parts of it; without a name all are recomputed. --kind chooses by kind
or by verdict: "contradicts" are figures that do not follow from their inputs, "corrected" claims in words,
"agrees" what is ours and equal to what is stated. The exit code is 1 if a figure does not come out although
its entry says that it does.

Does: choose, recompute, print. Does not: hold a figure (`data/published.toml` does).

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["reproduce", "kv.v4"])
    2

Next: minidsv3.cli.show
"""

import argparse
import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidsv3.cost.published import Recomputed

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Every published figure beside what its own inputs give."
EXAMPLES = [
    "minidsv3 reproduce",
    "minidsv3 reproduce kv.v3 --explain",
    "minidsv3 reproduce table4 cost",
    "minidsv3 reproduce --kind contradicts",
    "minidsv3 reproduce notes --kind corrected",
    "minidsv3 reproduce --json",
]
SCHEMA = "minidsv3.reproduce/1"
KINDS = ("derivable", "constant", "measured", "contradicts", "equal", "agrees", "differs", "corrected")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="figures, or first parts of ids: kv.v3, table4 (all)"
    )
    parser.add_argument(
        "--kind", metavar="KIND", help=f"only figures of this kind or verdict: {', '.join(KINDS)}"
    )
    parser.add_argument(
        "--explain", action="store_true", help="formula, and every input with its value, source and status"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Recompute; 1 if a figure differs."""
    from minidsv3.cli.terminal import print_json
    from minidsv3.cost.published import choose, recompute

    kind = _known(args.kind)
    found = [recompute(figure) for figure in choose([_prefix(name) for name in args.ids])]
    found = [one for one in found if kind is None or _fits(one, kind)]
    if args.json:
        ours, published = [[one for one in found if one.figure.ours is of] for of in (True, False)]
        counts = {"counts": _counts(found), "ours": _counts(ours), "published": _counts(published)}
        print_json({"schema": SCHEMA, **counts, "figures": [one.to_dict() for one in found]})
    else:
        _print(found, args.explain)
    return 1 if any(one.verdict == "differs" for one in found) else 0


def _known(kind: str | None) -> str | None:
    from minidsv3.config import near

    if kind is None or kind in KINDS:
        return kind
    raise ValueError(f"--kind: expected {' | '.join(KINDS)}, got {kind!r}: {near(kind, list(KINDS))}")


def _prefix(name: str) -> str:
    """A name without the dot after it; ValueError if nothing is left, for that would be all figures."""
    if not name.removesuffix(".").strip():
        raise ValueError(
            f"expected a figure or the first part of some, got {name!r}: without a name all are meant"
        )
    return name.removesuffix(".")


def _fits(one: "Recomputed", kind: str) -> bool:
    """Whether a word is a figure's verdict or its kind; claims in words are "corrected" alone."""
    if kind == "agrees":
        return one.figure.ours and one.verdict == "equal"
    return kind == one.verdict or (kind == one.figure.kind and one.verdict != "corrected")


def _counts(found: "Sequence[Recomputed]") -> dict[str, int]:
    from minidsv3.cost.published import VERDICTS

    return {verdict: sum(one.verdict == verdict for one in found) for verdict in VERDICTS}


def _print(found: "list[Recomputed]", explain: bool) -> None:
    """Tables, or each figure explained; in words where MINIDSV3_SCREEN_READER asks for that."""
    from minidsv3.cli.terminal import results
    from minidsv3.show.reproduction import Explained, ReproductionTable, summary

    console, in_words = results(), os.environ.get("MINIDSV3_SCREEN_READER", "") not in ("", "0")
    pictures = [Explained(one) for one in found] if explain else [ReproductionTable(found)]
    for picture in pictures:
        if in_words:
            console.print(picture.describe(), soft_wrap=True)
        else:
            console.print(picture)
        if explain:
            console.print()
    if explain:
        console.print(textwrap.fill(summary(found), console.width))
