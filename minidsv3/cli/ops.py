"""`minidsv3 ops`: the op catalogue, one op of it, or the glossary of symbols.

Does: print what `data/ops.toml` and `data/symbols.toml` hold. Does not: run anything.

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["ops", "mla.kv_dwn"])
    2

Next: minidsv3.cli.checkpoint
"""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.machine import Op

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "The op catalogue: equations, formulas, signatures; and the glossary of symbols."
EXAMPLES = ["minidsv3 ops", "minidsv3 ops mla.kv_down", "minidsv3 ops gate", "minidsv3 ops --symbols"]
SCHEMA = "minidsv3.ops/1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("id", nargs="?", metavar="ID", help="one op in full; mla or 'mla.*' for a table")
    parser.add_argument(
        "--symbols", action="store_true", help="the report's symbols, shapes and tensor names"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Print the catalogue."""
    from minidsv3.cli.terminal import print_json, results
    from minidsv3.machine import symbols
    from minidsv3.show.tables import catalogue_table, glossary_table, op_card

    if args.symbols and args.id:
        raise ValueError(f"expected --symbols alone, got op {args.id!r} too")
    if args.json:
        chosen = chosen_ops(args.id)
        said = {"symbols": symbols()} if args.symbols else {"ops": [_plain(op) for op in chosen]}
        print_json({"schema": SCHEMA} | said)
    elif args.symbols:
        results().print(glossary_table(symbols()))
    else:
        found = chosen_ops(args.id)
        results().print(op_card(args.id) if [op.id for op in found] == [args.id] else catalogue_table(found))
    return 0


def chosen_ops(name: str | None) -> list["Op"]:
    """The op of that id, those that a pattern or the first part of an id names, or all."""
    from fnmatch import fnmatchcase

    from minidsv3.machine import catalogue, look_up

    ops = list(catalogue().values())
    patterns = [name, f"{name}.*"] if name else ["*"]
    return [op for op in ops if any(fnmatchcase(op.id, p) for p in patterns)] or [look_up(name or "")]


def _plain(op: "Op") -> dict[str, Any]:
    return op._asdict() | {"signature": str(op.signature), "source": op.source}
