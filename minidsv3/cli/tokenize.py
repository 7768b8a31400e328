"""`minidsv3 tokenize`: a text's tokens, as chips, ids and bytes; and ids back to text.

The tokenizer is that of `--model` or `--tokenizer` (any byte-level BPE of the DeepSeek family: a
tokenizer.json, or a folder that holds one), else that of the newest run below ./runs, else one that has
learned nothing: its tokens are single bytes, which is where every byte-level BPE begins.

Does: encode, decode, show pieces stage by stage. Does not: learn (`minidsv3 run`).

Next: minidsv3.cli.ops
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.tokenizer import Tokenizer

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "A text's tokens: chips, ids, bytes; and ids back to text."
EXAMPLES = [
    'minidsv3 tokenize "def f(x): return x"',
    'minidsv3 tokenize "naïve 図" --tokenizer runs/nano-0/tokenizer.json --offsets',
    'minidsv3 tokenize "a<｜fim▁hole｜>b" --special --json',
    'minidsv3 tokenize "   123, isn\'t it?" --tokenizer DeepSeek-V2/ --stages',
    "minidsv3 tokenize --decode 74,71,78 --tokenizer DeepSeek-V3/",
]
SCHEMA = "minidsv3.tokenize/1"
BYTES_ONLY = 262  # 256 bytes and six markers: no room for a merge
PATTERN_SHOWN = 60  # characters of a stage's pattern


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from minidsv3.cli.model_arguments import model_argument

    parser.add_argument("text", metavar="TEXT", nargs="?", help="text to cut; - reads it from stdin")
    model_argument(parser)
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE|DIR", help="a tokenizer.json, or a folder that holds one"
    )
    parser.add_argument("--special", action="store_true", help="markers spelled out become themselves")
    parser.add_argument("--offsets", action="store_true", help="one line a token: its place in the text")
    parser.add_argument("--stages", action="store_true", help="the pieces after each stage, before any merge")
    parser.add_argument("--decode", metavar="IDS", help="ids to turn into text, such as 1,2,3; no TEXT then")
    parser.add_argument("--skip-special", action="store_true", help="with --decode: leave special tokens out")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Cut the text, or put it together."""
    import sys

    from minidsv3.cli.terminal import talk

    _check(args)
    tokenizer, source = _tokenizer(args)
    if not args.json:
        talk().print(f"tokenizer: {source}, {tokenizer.vocab_size} tokens")
    if args.decode is not None:
        return _decode(args, tokenizer, source)
    text = sys.stdin.read() if args.text == "-" else args.text
    if args.stages:
        return _show_stages(args, tokenizer, source, text)
    return _encode(args, tokenizer, source, text)


def _check(args: argparse.Namespace) -> None:
    if (args.text is None) == (args.decode is None):
        raise ValueError("expected TEXT or --decode IDS, got " + ("none" if args.text is None else "both"))
    if args.tokenizer and args.model:
        raise ValueError("expected --model or --tokenizer, got both")
    if args.stages and (args.special or args.offsets or args.decode is not None):
        raise ValueError("expected --stages alone, got it with --special, --offsets or --decode")
    if args.skip_special and args.decode is None:
        raise ValueError("expected --skip-special with --decode, got it without")


def _encode(args: argparse.Namespace, tokenizer: "Tokenizer", source: str, text: str) -> int:
    from minidsv3.cli.terminal import print_json, results
    from minidsv3.show import Chips
    from minidsv3.show.chips import visible

    ids, offsets = tokenizer.encode_with_offsets(text, special=args.special)
    pieces = [tokenizer.token_bytes(token) for token in ids]
    if args.json:
        table: dict[str, Any] = {"schema": SCHEMA, "tokenizer": source, "text": text, "ids": ids}
        table["bytes"] = [piece.hex() for piece in pieces]
        if args.offsets:
            table["offsets"] = [list(pair) for pair in offsets]
        print_json(table)
        return 0
    console = results()
    console.print(Chips(pieces))
    if args.offsets:
        for token, piece, (begin, end) in zip(ids, pieces, offsets, strict=True):
            console.print(f"{token:8} {f'{begin}:{end}':>12}  {visible(piece, console.options.ascii_only)}")
    else:
        console.print("ids    " + " ".join(map(str, ids)))
        console.print("bytes  " + " ".join(piece.hex() for piece in pieces))
    size = len(text.encode(errors="surrogateescape"))
    console.print(f"{len(ids)} tokens, {size} bytes, {size / max(len(ids), 1):.2f} bytes a token")
    return 0


def _show_stages(args: argparse.Namespace, tokenizer: "Tokenizer", source: str, text: str) -> int:
    from minidsv3.cli.terminal import print_json, results
    from minidsv3.show import Chips

    trail = [
        ({"kind": stage.kind, "pattern": stage.pattern, "behaviour": stage.behaviour}, pieces)
        for stage, pieces in tokenizer.stages(text)
    ]
    if args.json:
        stages = [{**fields, "pieces": pieces} for fields, pieces in trail]
        print_json({"schema": SCHEMA, "tokenizer": source, "text": text, "stages": stages})
        return 0
    console = results()
    for number, (fields, pieces) in enumerate(trail, 1):
        pattern = (fields["pattern"] or "").replace("\r", "\\r").replace("\n", "\\n")
        shown = pattern if len(pattern) <= PATTERN_SHOWN else pattern[:PATTERN_SHOWN] + "…"
        console.print(f"{number} {fields['kind']} {shown}".rstrip())
        console.print(Chips([piece.encode(errors="surrogateescape") for piece in pieces]))
    return 0


def _decode(args: argparse.Namespace, tokenizer: "Tokenizer", source: str) -> int:
    from minidsv3.cli.terminal import print_json

    words = args.decode.replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise ValueError(f"expected --decode with ids such as 1,2,3, got {args.decode!r}")
    ids = [int(word) for word in words]
    text = tokenizer.decode(ids, skip_special=args.skip_special)
    if args.json:
        hexed = [tokenizer.token_bytes(token).hex() for token in ids]
        print_json({"schema": SCHEMA, "tokenizer": source, "text": text, "ids": ids, "bytes": hexed})
    else:
        print(text)
    return 0


def _tokenizer(args: argparse.Namespace) -> "tuple[Tokenizer, str]":
    from minidsv3.cli.models import find_model, find_tokenizer
    from minidsv3.tokenizer import Tokenizer
    from minidsv3.training import newest_run

    path: Path | None = args.tokenizer
    if path is not None and not path.exists():
        raise ValueError(f"expected a tokenizer.json or a folder that holds one, got {path}: no such file")
    if path is None and (args.model or newest_run("runs")):
        path = find_tokenizer(find_model(args.model))
    if path is None:
        return Tokenizer.train(["a"], vocab_size=BYTES_ONLY), "bytes only (no run below ./runs)"
    return Tokenizer.load(path), str(path)
