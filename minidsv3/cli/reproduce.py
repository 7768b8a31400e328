"""`minidsv3 reproduce`: every published figure beside what its own inputs give.

Figures are named by id or by the first parts of it; without a name all are recomputed. The exit code is 1 if
one of them does not come out although its entry says that it does.

Does: choose, recompute, print. Does not: hold a figure (`data/published.toml` does).

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["reproduce", "kv.v4"])
    2

Next: minidsv3.cli.show
"""

import argparse
import os
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
    "minidsv3 reproduce --json",
]
SCHEMA = "minidsv3.reproduce/1"
KINDS = ("derivable", "constant", "measured", "contradicts")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="figures, or first parts of ids: kv.v3, table4 (all)"
    )
    parser.add_argument("--kind", choices=KINDS, help="only figures of this kind")
    parser.add_argument(
        "--explain", action="store_true", help="formula, and every input with its value, source and status"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Recompute; 1 if a figure differs."""
    from minidsv3.cli.terminal import print_json
    from minidsv3.cost.published import VERDICTS, choose, recompute

    found = [recompute(figure) for figure in choose(args.ids, args.kind)]
    if args.json:
        counts = {verdict: sum(one.verdict == verdict for one in found) for verdict in VERDICTS}
        print_json({"schema": SCHEMA, "counts": counts, "figures": [one.to_dict() for one in found]})
    else:
        _print(found, args.explain)
    return 1 if any(one.verdict == "differs" for one in found) else 0


def _print(found: "list[Recomputed]", explain: bool) -> None:
    """Tables, or each figure explained; in words where MINIDSV3_SCREEN_READER asks for that."""
    from minidsv3.cli.terminal import results
    from minidsv3.show.reproduction import Explained, ReproductionTable, summary

    console, in_words = results(), os.environ.get("MINIDSV3_SCREEN_READER", "") not in ("", "0")
    pictures = [Explained(one) for one in found] if explain else [ReproductionTable(found)]
    for picture in pictures:
        console.print(picture.describe() if in_words else picture)
        if explain:
            console.print()
    if explain:
        console.print(summary(found))
