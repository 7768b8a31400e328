"""`minidsv3 show codecs` and `gradients`: the experiments on a trained model's own activations and gradients.

The model is that of `--model`, else the newest run below ./runs; its text is what the run held out. With
`--preset` random weights stand in, and the picture says so: they are no model's activations.

Does: find model and text, run the experiment, hand over. Does not: train (`minidsv3 run`).

Next: minidsv3.cli.show_ideas
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from minidsv3.model.parameters import Parameters
    from minidsv3.training.experiments import CodecRow, GradientRow

__all__ = ["SUBJECTS"]

MOST_PARAMETERS, MOST_TOKENS = 100_000_000, 16_384


class _Source(NamedTuple):
    """A model, and a batch of text for it."""

    parameters: "Parameters"
    ids: "NDArray[np.intp]"  # [B, T + 1]
    said: str


def _source_arguments(parser: argparse.ArgumentParser) -> None:
    from minidsv3.cli.model_arguments import model_argument

    model_argument(parser)
    parser.add_argument("--preset", metavar="NAME", help="random weights of these sizes, untrained")
    parser.add_argument("--seed", type=int, default=0, help="of untrained weights (0)")
    parser.add_argument("--batch", type=int, default=2, metavar="B", help="sequences of text (2)")
    parser.add_argument("--seq", type=int, default=128, metavar="T", help="tokens of each (128)")


def _open(args: argparse.Namespace) -> _Source:
    if args.batch < 1 or args.seq < 2 or args.seed < 0:
        given = f"{args.batch}, {args.seq} and {args.seed}"
        raise ValueError(f"expected --batch >= 1, --seq >= 2 and --seed >= 0, got {given}")
    if args.batch * args.seq > MOST_TOKENS:
        raise ValueError(f"expected at most {MOST_TOKENS:,} tokens, got {args.batch} x {args.seq}")
    if args.preset and args.model:
        raise ValueError(f"expected --preset or --model, got both: {args.preset} and {args.model}")
    return _untrained(args) if args.preset else _trained(args)


def _untrained(args: argparse.Namespace) -> _Source:
    import numpy as np

    from minidsv3.config import ModelConfig
    from minidsv3.model.parameters import Parameters

    config = ModelConfig.preset(args.preset)
    if (total := config.parameter_counts()["stored"]) > MOST_PARAMETERS:
        raise ValueError(f"expected at most {MOST_PARAMETERS:,} parameters, got {total:,} of {args.preset}")
    rng = np.random.default_rng(args.seed)
    ids = rng.integers(0, config.vocab_size, (args.batch, args.seq + 1))
    said = f"{args.preset}, UNTRAINED weights of seed {args.seed}, random tokens"
    return _Source(Parameters.initialise(config, rng), ids, said)


def _trained(args: argparse.Namespace) -> _Source:
    import numpy as np

    from minidsv3.cli.models import find_model, find_tokenizer
    from minidsv3.interpreter import Model
    from minidsv3.tokenizer import Tokenizer

    folder = find_model(args.model)
    model = Model.load(folder)
    length = min(args.seq, model.config.max_seq_len)
    documents, text = _held_out(folder)
    if not documents:
        tokenizer, text = Tokenizer.load(find_tokenizer(folder)), "Python's argparse.py"
        source = Path(argparse.__file__).read_text(encoding="utf-8")
        documents = [np.array([tokenizer.eos, *tokenizer.encode(source)], np.int32)]
    windows = [ids[i : i + length + 1] for ids in documents for i in range(0, len(ids) - length, length)]
    if len(windows) < args.batch:
        raise ValueError(f"expected {args.batch} stretches of {length} tokens, got {len(windows)} in {text}")
    every = max(len(windows) // args.batch, 1)  # from all over the text
    ids = np.stack(windows[::every][: args.batch]).astype(np.intp)
    return _Source(model.parameters, ids, f"{folder}, {args.batch} x {length} tokens of {text}")


def _held_out(folder: Path) -> "tuple[list[NDArray[np.int32]], str]":
    """The held-out documents of the run that a model folder belongs to, if it belongs to one."""
    from minidsv3.training import RunFolder

    if not (folder.parent / "data.safetensors").is_file():
        return [], ""
    return RunFolder.open(folder.parent).held_out(), "its held-out text"


# ---- codecs -----------------------------------------------------------------------------------------------


def _codec_arguments(parser: argparse.ArgumentParser) -> None:
    _source_arguments(parser)
    parser.add_argument(
        "--op", action="append", metavar="PATTERN", help="whose results, such as mla.* (several)"
    )


def _codecs(args: argparse.Namespace) -> int:
    from minidsv3.training.experiments import BRANCHES, activation_codecs

    source = _open(args)
    rows = activation_codecs(source.parameters, source.ids, args.op or BRANCHES)
    table = {"source": source.said, "tokens": source.ids[:, 1:].size, "rows": [row.to_dict() for row in rows]}
    return present(args, "codecs", _codec_page(source.said, rows), table)


def _codec_page(said: str, rows: "list[CodecRow]") -> Any:
    from minidsv3.show.measurements import Bars, Comparison, Page
    from minidsv3.show.numbers import count

    errors = {row.op: {name: e.relative_rms for name, e in row.errors.items()} for row in rows}
    first = rows[0]
    zeros = {name: count(error.flushed) for name, error in first.errors.items()}
    worst = {name: f"{error.worst_tile:.1%}" for name, error in first.errors.items()}
    beside = {"worst tile": worst, "to zero": zeros}
    bars = Bars("codec", "rel. RMS", errors[first.op], beside)
    head = f"{first.op}: {count(first.shape[0])} rows of {first.shape[1]}"
    parts: dict[str, Any] = {head: bars, "every op, relative RMS error": Comparison("op", errors)}
    notes = [
        "experts.down is what combine sends; 1x128 tiles, cut at a row's end",
        "E5M6's layout is not published: read as a shortened float16",
    ]
    return Page(f"codecs on the activations of {said}", parts, notes)


# ---- gradients --------------------------------------------------------------------------------------------


def _gradient_arguments(parser: argparse.ArgumentParser) -> None:
    _source_arguments(parser)
    parser.add_argument("--block", type=int, metavar="B", help="1xB tiles, BxB blocks (the model's)")


def _gradients(args: argparse.Namespace) -> int:
    from minidsv3.training.experiments import gradient_errors

    source = _open(args)
    width = source.parameters.config.fp8_block if args.block is None else args.block
    if width < 1:
        raise ValueError(f"expected --block >= 1, got {width}")
    rows = gradient_errors(source.parameters, source.ids, width)
    table = {"source": source.said, "tokens": source.ids[:, 1:].size, "block": width}
    table |= {"rows": [row.to_dict() for row in rows]}
    return present(args, "gradients", _gradient_page(source.said, rows), table)


def _gradient_page(said: str, rows: "list[GradientRow]") -> Any:
    from minidsv3.show.measurements import Bars, Comparison, Page
    from minidsv3.show.numbers import count, percent

    whole = {row.way: row.gradient for row in rows}
    worst = {row.way: percent(row.worst_tensor) for row in rows}
    zeros = {row.way: count(sum(error.flushed for error in row.by_op.values())) for row in rows}
    bars = Bars("gradients in", "error", whole, {"worst tensor": worst, "to zero": zeros})
    ops = list(rows[0].by_op)
    scaled = [row for row in rows if "x" in row.way]  # tiles and blocks
    by_op = {op: {row.way: row.by_op[op].relative_rms for row in scaled} for op in ops}
    parts: dict[str, Any] = {
        "error of the whole parameter gradient, |g' - g| / |g|": bars,
        "the rounded gradients themselves, relative RMS error": Comparison("op", by_op),
    }
    notes = [
        "the gradient entering each linear is rounded once; weights and activations stay float32",
        "embedding, head and gate are left alone; one batch, no training",
    ]
    return Page(f"activation gradients of {said}", parts, notes)


SUBJECTS = {
    "codecs": Subject(
        "LogFMT-8 and -10 against E4M3, E5M2, E5M6 and BF16 on a trained model's activations.",
        [
            "minidsv3 show codecs",
            "minidsv3 show codecs --model runs/nano-0 --op experts.down --op 'mla.*'",
            "minidsv3 show codecs --preset nano --seed 0 --json       # untrained weights",
        ],
        _codec_arguments,
        _codecs,
    ),
    "gradients": Subject(
        "E4M3 against E5M2, tiles against blocks, for a trained model's activation gradients.",
        [
            "minidsv3 show gradients",
            "minidsv3 show gradients --model runs/nano-0 --batch 4 --json",
            "minidsv3 show gradients --preset nano --seed 0           # untrained weights",
        ],
        _gradient_arguments,
        _gradients,
    ),
}
