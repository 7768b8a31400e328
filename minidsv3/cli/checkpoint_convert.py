"""`minidsv3 checkpoint convert`: one checkpoint made of another, streaming.

The disk must have room for the result and is asked first. A conversion that was stopped is continued by the
same command. With --json one object, `minidsv3.checkpoint.convert/1`: path, tensors, bytes, files, kept_files
(finished by an earlier run), notes.

Does: options, progress, printing. Does not: convert (`minidsv3.checkpoint.convert`).

Next: minidsv3.cli.checkpoint_synthesise
"""

import argparse
from pathlib import Path

from minidsv3.cli.checkpoint import Ticker, present

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Convert a model folder: fp8, bf16, fp32; Hugging Face's names and files, or DeepSeek's own."
EXAMPLES = [
    "minidsv3 checkpoint convert DeepSeek-V3 DeepSeek-V3-bf16 --to bf16",
    "minidsv3 checkpoint convert runs/nano-0/model nano-fp8 --to fp8 --block 32",
    "minidsv3 checkpoint convert DeepSeek-V3 DeepSeek-V3-mp16 --to fp8 --names official --mp 16",
    "minidsv3 checkpoint convert DeepSeek-V3-mp16 again --to fp8 --mtp-copies",
]
SCHEMA = "minidsv3.checkpoint.convert/1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The action's options."""
    parser.add_argument("source", type=Path, metavar="SRC", help="a model folder of either layout")
    parser.add_argument("target", type=Path, metavar="DST", help="a new folder, or one begun by this command")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="fp32, bf16 or fp8")
    parser.add_argument("--block", type=int, metavar="N", help="side of FP8's blocks (the source's, or 128)")
    parser.add_argument(
        "--names", default="hugging-face", metavar="LAYOUT", help="hugging-face or official (hugging-face)"
    )
    parser.add_argument("--mp", type=int, default=1, metavar="N", help="ranks of the official layout (1)")
    parser.add_argument("--shard-size", default="5GB", metavar="SIZE", help="largest file (5GB)")
    parser.add_argument("--no-mtp", action="store_true", help="leave MTP modules out")
    parser.add_argument("--mtp-copies", action="store_true", help="repeat embedding and head in MTP modules")


def main(args: argparse.Namespace) -> int:
    """Convert and tell."""
    from minidsv3.checkpoint.convert import Target, bytes_of, convert
    from minidsv3.cli.terminal import talk
    from minidsv3.show.checkpoint_table import FactsPage
    from minidsv3.show.numbers import count, counted

    if args.no_mtp and args.mtp_copies:
        raise ValueError("expected --no-mtp or --mtp-copies, got both")
    wanted = Target(
        weights=args.to,
        layout=args.names,
        ranks=args.mp,
        block=args.block,
        shard_bytes=bytes_of(args.shard_size),
        mtp=not args.no_mtp,
        mtp_copies=args.mtp_copies,
    )
    ticker = Ticker("writing")
    try:
        done = convert(args.source, args.target, wanted, ticker)
    except KeyboardInterrupt:
        ticker.end()
        talk().print(f"stopped; finished files are kept in {args.target}: the same command goes on")
        raise
    finally:
        ticker.end()
    facts = {"tensors": count(done.tensors), "files": f"{done.files}, {count(done.bytes)} bytes"}
    if done.kept_files:
        facts["kept"] = f"{counted(done.kept_files, 'file')} that an earlier run had finished"
    page = FactsPage(f"left in {done.path}: {args.to}, {args.names}", facts, notes=done.notes)
    present(args.json, page, {"schema": SCHEMA} | done._asdict() | {"path": str(done.path)})
    return 0
