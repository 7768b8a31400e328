"""`minidsv3 tokenize`: a text's tokens, as chips, ids and bytes.

The tokenizer is that of `--model` or `--tokenizer`, else that of the newest run below ./runs, else one that
has learned nothing: its tokens are single bytes, which is where every byte-level BPE begins.

Does: encode, show. Does not: learn (`minidsv3 run`).

Next: minidsv3.cli.checkpoint
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidsv3.tokenizer import Tokenizer

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "A text's tokens: chips, ids, bytes."
EXAMPLES = [
    'minidsv3 tokenize "def f(x): return x"',
    'minidsv3 tokenize "naïve 図" --tokenizer runs/nano-0/tokenizer.json',
    'minidsv3 tokenize "a<｜fim▁hole｜>b" --special --json',
]
SCHEMA = "minidsv3.tokenize/1"
BYTES_ONLY = 262  # 256 bytes and six markers: no room for a merge


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from minidsv3.cli.models import model_argument

    parser.add_argument("text", metavar="TEXT", help="text to cut; - reads it from stdin")
    model_argument(parser)
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="a tokenizer.json")
    parser.add_argument("--special", action="store_true", help="markers spelled out become themselves")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Cut the text."""
    import sys

    from minidsv3.cli.terminal import print_json, results, talk
    from minidsv3.show import Chips

    text = sys.stdin.read() if args.text == "-" else args.text
    tokenizer, source = _tokenizer(args)
    ids = tokenizer.encode(text, special=args.special)
    pieces = [tokenizer.token_bytes(token) for token in ids]
    if args.json:
        hexed = [piece.hex() for piece in pieces]
        print_json({"schema": SCHEMA, "tokenizer": source, "text": text, "ids": ids, "bytes": hexed})
        return 0
    talk().print(f"tokenizer: {source}, {tokenizer.vocab_size} tokens")
    console = results()
    console.print(Chips(pieces))
    console.print("ids    " + " ".join(map(str, ids)))
    console.print("bytes  " + " ".join(piece.hex() for piece in pieces))
    size = len(text.encode(errors="surrogateescape"))
    console.print(f"{len(ids)} tokens, {size} bytes, {size / max(len(ids), 1):.2f} bytes a token")
    return 0


def _tokenizer(args: argparse.Namespace) -> "tuple[Tokenizer, str]":
    from minidsv3.cli.models import find_model, find_tokenizer
    from minidsv3.tokenizer import Tokenizer
    from minidsv3.training import newest_run

    if args.tokenizer and args.model:
        raise ValueError("expected --model or --tokenizer, got both")
    path: Path | None = args.tokenizer
    if path is not None and not path.is_file():
        raise ValueError(
            f"expected a tokenizer.json, got {path}: {'a folder' if path.is_dir() else 'no such file'}"
        )
    if path is None and (args.model or newest_run("runs")):
        path = find_tokenizer(find_model(args.model))
    if path is None:
        return Tokenizer.train(["a"], vocab_size=BYTES_ONLY), "bytes only (no run below ./runs)"
    return Tokenizer.load(path), str(path)
