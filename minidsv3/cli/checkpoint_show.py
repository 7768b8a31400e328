"""`minidsv3 checkpoint show`: what a model folder or a safetensors file is, and whether it is right.

Exit 1 when something is wrong that can be named tensor by tensor, 3 when the folder cannot be read at all.
With --json one object, `minidsv3.checkpoint.show/1`: path, layout, ok, config, files, parts (tensors,
elements, bytes, dtypes, expected elements), totals, expected counts, notes, findings; with --tensors also a
list of tensors.

Does: options, printing. Does not: look (`minidsv3.checkpoint.inspect`).

Next: minidsv3.cli.checkpoint_convert
"""

import argparse
from pathlib import Path

from minidsv3.cli.checkpoint import Ticker, present

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "What a model folder holds: parts, counts, and whether they are what its config says."
EXAMPLES = [
    "minidsv3 checkpoint show runs/nano-0/model",
    "minidsv3 checkpoint show DeepSeek-V3 --verify          # reads all numbers",
    'minidsv3 checkpoint show DeepSeek-V3 --tensors "*.61.*"',
    "minidsv3 checkpoint show DeepSeek-V3/model-00163-of-000163.safetensors --json",
]
SCHEMA = "minidsv3.checkpoint.show/1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The action's options."""
    parser.add_argument("path", type=Path, metavar="DIR", help="a model folder, or one .safetensors file")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read all numbers: NaN, infinities, scales, copies in MTP modules",
    )
    parser.add_argument("--all", action="store_true", help="every finding, not the first few of a kind")
    parser.add_argument(
        "--tensors",
        nargs="?",
        const="*",
        metavar="PATTERN",
        help="list the tensors too, those whose name has or fits PATTERN (all)",
    )


def main(args: argparse.Namespace) -> int:
    """Look and tell; 1 if something is wrong."""
    from minidsv3.checkpoint.inspect import inspect_checkpoint
    from minidsv3.show.checkpoint_table import CheckpointPage, TensorList

    ticker = Ticker("reading")
    try:
        found = inspect_checkpoint(args.path, args.verify, ticker)
    finally:
        ticker.end()
    tensors = found.listed(args.tensors) if args.tensors else []
    if args.json:
        listed = {"tensors": tensors} if args.tensors else {}
        present(True, "", {"schema": SCHEMA} | found.to_dict() | listed)
        return 0 if found.ok else 1
    if args.tensors:
        present(False, TensorList(tensors) if tensors else f"no tensor fits {args.tensors!r}\n", {})
    present(False, CheckpointPage(found, args.all), {})
    return 0 if found.ok else 1
