"""`minidsv3 ops`: the op catalogue, one op of it, or the glossary of symbols.

Does: print what `data/ops.toml` and `data/symbols.toml` hold. Does not: run anything.

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["ops", "mla.kv_dwn"])
    2

Next: minidsv3.cli.bill
"""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.machine import Op

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "The op catalogue: equations, formulas, signatures; and the glossary of symbols."
EXAMPLES = ["minidsv3 ops", "minidsv3 ops mla.kv_down", "minidsv3 ops --symbols"]
SCHEMA = "minidsv3.ops/1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("id", nargs="?", metavar="ID", help="one op in full")
    parser.add_argument(
        "--symbols", action="store_true", help="the report's symbols, shapes and tensor names"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Print the catalogue."""
    from minidsv3.cli.terminal import print_json, results
    from minidsv3.machine import catalogue, look_up, symbols
    from minidsv3.show.tables import catalogue_table, glossary_table, op_card

    if args.symbols and args.id:
        raise ValueError(f"expected --symbols alone, got op {args.id!r} too")
    if args.json:
        chosen = [look_up(args.id)] if args.id else list(catalogue().values())
        said = {"symbols": symbols()} if args.symbols else {"ops": [_plain(op) for op in chosen]}
        print_json({"schema": SCHEMA} | said)
    elif args.symbols:
        results().print(glossary_table(symbols()))
    else:
        results().print(op_card(args.id) if args.id else catalogue_table(catalogue().values()))
    return 0


def _plain(op: "Op") -> dict[str, Any]:
    return op._asdict() | {"signature": str(op.signature), "source": op.source}
