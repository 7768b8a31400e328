"""`minidsv3 checkpoint synthesise`: a folder in the published layout, with random numbers or none.

The true names, shapes, formats, scales and files; of V3 as many layers as the disk allows, or all of them as
sparse files. With --json one object, `minidsv3.checkpoint.synthesise/1`: path, config, weights, fill,
tensors, elements, bytes, written, files, file_bytes, published.

Does: options, progress, printing. Does not: write (`minidsv3.checkpoint.synthesise`).

Next: minidsv3.cli.bill
"""

import argparse
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidsv3.cli.checkpoint import Ticker, present

if TYPE_CHECKING:
    from minidsv3.config import ModelConfig

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Write a model folder in the published layout, with random numbers: to measure with."
EXAMPLES = [
    "minidsv3 checkpoint synthesise v3-layout --preset v3 --fill none     # 688 GB apparent, 20 MB of disk",
    "minidsv3 checkpoint synthesise v3-small --preset v3 --layers 4 --fill always",
    "minidsv3 checkpoint synthesise nano --preset nano --tokenizer runs/nano-0/tokenizer.json",
    "minidsv3 checkpoint synthesise moonlight --preset moonlight --layers 2 --weights bf16",
]
SCHEMA = "minidsv3.checkpoint.synthesise/1"
MOST_LAYERS = 1000


def arguments(parser: argparse.ArgumentParser) -> None:
    """The action's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    parser.add_argument("--preset", required=True, metavar="NAME", help="sizes: v3, moonlight, nano, ...")
    parser.add_argument("--layers", type=int, metavar="N", help="layers of the main model (the preset's)")
    parser.add_argument("--dense-layers", type=int, metavar="N", help="with a dense FFN (the preset's)")
    parser.add_argument(
        "--mtp", action=argparse.BooleanOptionalAction, help="MTP modules (as many as the preset has)"
    )
    parser.add_argument("--weights", default="fp8", metavar="FORMAT", help="fp8, bf16 or fp32 (fp8)")
    parser.add_argument(
        "--fill",
        default="all",
        metavar="WHAT",
        help="all numbers; always: those that every token uses, and the first experts; none (all)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the numbers (0)")
    parser.add_argument("--files", type=int, metavar="N", help="so many files (as published)")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="a tokenizer.json to lie beside")


def main(args: argparse.Namespace) -> int:
    """Write and tell."""
    from minidsv3.checkpoint.synthesise import synthesise
    from minidsv3.show.checkpoint_table import FactsPage, beside, model_words
    from minidsv3.show.numbers import count, counted

    config = _config(args)
    if args.tokenizer and not args.tokenizer.is_file():
        raise ValueError(f"expected --tokenizer a file, got {args.tokenizer}: no such file")
    tokenizer = _tokenizer_bytes(args.tokenizer) if args.tokenizer else b""
    ticker = Ticker("writing")
    try:
        made = synthesise(
            args.folder, config, args.weights, args.fill, args.seed, args.files, progress=ticker
        )
    finally:
        ticker.end()
    if args.tokenizer:
        (args.folder / "tokenizer.json").write_bytes(tokenizer)
    published = _published(args, config)
    facts = model_words(config) | {
        "weights": f"{args.weights}, {count(made.elements)} numbers in {count(made.tensors)} tensors",
        "bytes": f"{count(made.bytes)} of tensors, {count(made.file_bytes)} in {counted(made.files, 'file')}",
        "written": f"{count(made.written)} bytes of numbers (--fill {args.fill}), the rest holes",
    }
    if args.fill == "all":
        facts["written"] = "all of them"
    page = FactsPage(f"left in {args.folder}", facts, beside(made._asdict(), published))
    table = {"schema": SCHEMA, "path": str(args.folder), "config": config.to_dict(), "weights": args.weights}
    present(args.json, page, table | {"fill": args.fill} | made._asdict() | {"published": published or None})
    return 0


def _tokenizer_bytes(path: Path) -> bytes:
    """A tokenizer.json as it is; TokenizerFileError, before anything is written, if it is none."""
    from minidsv3.tokenizer import Tokenizer

    Tokenizer.load(path)
    return path.read_bytes()


def _config(args: argparse.Namespace) -> "ModelConfig":
    """The preset with the layers that were asked for."""
    from minidsv3.config import ModelConfig

    whole = ModelConfig.preset(args.preset)
    layers = whole.n_layers if args.layers is None else args.layers
    if layers > MOST_LAYERS:  # every tensor of each is listed by name
        raise ValueError(f"expected at most {MOST_LAYERS} layers, got {layers}")
    dense = min(whole.n_dense_layers, layers) if args.dense_layers is None else args.dense_layers
    modules = whole.n_mtp_layers
    if args.mtp is not None:
        modules = max(modules, 1) if args.mtp else 0
    changes: dict[str, Any] = {"n_layers": layers, "n_dense_layers": dense, "n_mtp_layers": modules}
    return ModelConfig.preset(args.preset, **changes)


def _published(args: argparse.Namespace, config: "ModelConfig") -> dict[str, Any]:
    """Figures of the published files, where this is the whole of one."""
    from minidsv3.config import ModelConfig

    text = (resources.files("minidsv3") / "data" / "published_checkpoints.toml").read_text(encoding="utf-8")
    whole = config == ModelConfig.preset(args.preset) and args.weights == "fp8"
    found: dict[str, Any] = tomllib.loads(text).get(args.preset, {}) if whole else {}
    return found
