"""`minidsv3 show`: any picture on demand, and the experiments behind the report's low precision.

A subject is a command of its own with its own options; the table below says in which file it is, and only
that file is imported. Every subject has `--json`, one object with a `schema`, and `--svg FILE`.

Does: find the subject, parse, print, write. Does not: compute or draw (`minidsv3.numerics`, `minidsv3.show`).

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["show", "numberlin"])
    2
    >>> minidsv3(["show", "bits", "4.25", "--format", "e9m9"])
    2

Next: minidsv3.cli.show_formats
"""

import argparse
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidsv3.cli import one_of, parser_of, take_one_of

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["EXAMPLES", "SUBJECTS", "SUMMARY", "Subject", "arguments", "main", "present"]

SUMMARY = "A model's values, number formats, the tensor core's sums, costs, as pictures and experiments."
EXAMPLES = [
    "minidsv3 show bits 0.3 --format e4m3",
    "minidsv3 show accumulator --microscope",
    "minidsv3 show attention --text 'def main():'",
    "minidsv3 show codecs --model runs/nano-0 --json",
]
# subject -> (module, what it shows)
SUBJECTS = {
    "bits": ("show_formats", "one number: its fields, its neighbours, how it was rounded"),
    "numberline": ("show_formats", "all values of a format, on a line and by octave"),
    "formats": ("show_formats", "the table of formats"),
    "quantise": ("show_scaling", "a tensor in tiles: scales, errors, what is lost"),
    "outliers": ("show_scaling", "one scale a tensor against one a tile, as outliers grow"),
    "logfmt": ("show_scaling", "a tile in LogFMT beside the float formats"),
    "accumulator": ("show_accumulator", "what the tensor core's sum loses, and which bits"),
    "precision": ("show_precision", "a precision recipe: the format of every product"),
    "models": ("show_models", "V2, V2-Lite, V3, Moonlight side by side: sizes, router, exact parameters"),
    "hardware": ("show_hardware", "a machine's values with their sources; two machines' differences"),
    "roofline": ("show_costs", "ops by FLOPs a byte, under a machine's peaks and its memory"),
    "waterfall": ("show_costs", "where the seconds of training, prefill or decode go"),
    "kv": ("show_costs", "the KV cache by length: MLA, MQA, GQA, MHA, dense models"),
    "memory": ("show_costs", "what lies in one GPU's memory, against its capacity"),
    "what-ifs": ("show_wishes", "wishes to hardware, each priced before and after"),
    "co-design": ("show_wishes", "challenge, method, what it saves, wish, what that would save"),
    "compare": ("show_wishes", "V3, V2, Qwen2.5-72B, LLaMA-3.1-405B by one rule; runs and clusters"),
    "codecs": ("show_training", "LogFMT and float codecs on a model's activations"),
    "gradients": ("show_training", "formats and tiles for a model's activation gradients"),
    "value": ("show_values", "any op's result, as the picture that its kind asks for"),
    "heatmap": ("show_values", "a matrix: an op's result or a weight"),
    "attention": ("show_values", "where each token looks: mask, entropies, several heads"),
    "difference": ("show_values", "an op's result under two precisions: where they part"),
    "timeline": ("show_values", "a pass over time: which part runs when, what it has cost so far"),
    "router": ("show_routing", "one token's way to its experts: scores, bias, groups, weights"),
    "load": ("show_routing", "how evenly tokens fall on experts, and the bias that follows"),
    "absorption": ("show_ideas", "MLA over its cache, naive and absorbed, arrays to scale"),
    "mtp": ("show_ideas", "drafts of the MTP modules, accepted and rejected, lane by lane"),
    "merges": ("show_ideas", "byte pair encoding, merge by merge"),
    "fim": ("show_ideas", "fill-in-the-middle: a document turned round"),
    "rope": ("show_ideas", "rotating pairs, scores by distance, YaRN's ramp"),
    "needle": ("show_needle", "needle in a haystack, length by depth, before and after an extension"),
}


@dataclass(frozen=True)
class Subject:
    """What a subject is to the command line."""

    summary: str
    examples: Sequence[str]
    arguments: Callable[[argparse.ArgumentParser], None]
    main: Callable[[argparse.Namespace], int]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options: a subject, and whatever that takes."""
    take_one_of(parser, "subject", {name: summary for name, (_, summary) in SUBJECTS.items()})


def main(args: argparse.Namespace) -> int:
    """Show the subject."""
    name = one_of(SUBJECTS, args.subject, "a subject")
    module = import_module(f"minidsv3.cli.{SUBJECTS[name][0]}")
    subject: Subject = module.SUBJECTS[name]
    parser = parser_of(f"show {name}", subject.summary, subject.examples)
    subject.arguments(parser)
    parser._negative_number_matcher = re.compile(r"-(\d|\.\d|inf|nan|2\^)")  # values, -1e-3 and -inf too
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a picture")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the picture to FILE")
    return subject.main(parser.parse_args(args.rest))


def present(args: argparse.Namespace, title: str, picture: "RenderableType", table: Mapping[str, Any]) -> int:
    """Print the picture, write it to `--svg`, or print the table as JSON.

    It is told in words where MINIDSV3_SCREEN_READER asks for that, and in the SVG's description.
    """
    from minidsv3.cli.terminal import print_json, print_picture, talk
    from minidsv3.show.forms import in_words

    if args.svg:
        _write_svg(args.svg, picture, title, in_words(picture))
        talk().print(f"left in {args.svg}")
    if args.json:
        print_json({"schema": f"minidsv3.show.{title.split()[0]}/1"} | _finite(dict(table)))
    elif not args.svg:
        print_picture(picture)
    return 0


def _finite(value: Any) -> Any:
    """The same with NaN and infinity as words, which JSON has no numbers for."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def _write_svg(path: Path, picture: "RenderableType", title: str, words: str) -> None:
    from minidsv3.checkpoint import writing
    from minidsv3.show import svg_text

    if not path.parent.is_dir():
        raise ValueError(f"expected --svg in a folder that exists, got {path}")
    if path.is_dir():
        raise ValueError(f"expected --svg a file, got the folder {path}")
    with writing(path) as file:
        file.write(svg_text(picture, f"minidsv3 show {title}", width=100, description=words).encode())
