"""What a picture of values is of: a model, a text run through it once, and the values that its ops left.

The model is that of `--model`, else the newest run below ./runs, else nano with fresh weights, which is said:
then the bytes of the text stand in for tokens. An op is named as in the catalogue (`minidsv3 ops`), its layer
by `--layer`; of an op of several experts `--expert` picks one.

Does: open, run on a machine that keeps an op's results, pick one. Does not: draw (`minidsv3.show.value`).

    >>> parser = argparse.ArgumentParser()
    >>> source_arguments(parser)
    >>> source = open_source(parser.parse_args(["--preset", "nano", "--ids", "1,2,3"]))
    >>> row = kept(source, "gate.sigmoid", layer=1)
    >>> row.value.shape, source.said
    ((3, 16), 'nano, UNTRAINED weights of seed 0; 3 ids')

Next: minidsv3.cli.show_values
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from minidsv3.interpreter import Model
    from minidsv3.machine import Machine, Row, Trace
    from minidsv3.tokenizer import Tokenizer

__all__ = ["Source", "kept", "open_source", "place_arguments", "run", "source_arguments"]

TEXT = "def add(a, b):"


class Source(NamedTuple):
    """A model and what it reads."""

    model: "Model"
    ids: list[int]
    labels: list[str]  # what the tokens spell; empty if nobody knows
    said: str
    folder: Path | None  # of the model; None of fresh weights


def source_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, which text."""
    from minidsv3.cli.model_arguments import memory_argument, model_argument

    model_argument(parser, "the newest of ./runs, else fresh nano weights")
    memory_argument(parser)
    parser.add_argument("--preset", metavar="NAME", help="fresh weights of these sizes, untrained")
    parser.add_argument("--text", help=f"text to run ({TEXT!r})")
    parser.add_argument("--ids", metavar="1,2,3", help="token ids in place of --text; needs no tokenizer")


def place_arguments(parser: argparse.ArgumentParser, op: str = "", *places: str) -> None:
    """Which value: `--op` with a default, unless that is empty; `--layer`; one of further axes."""
    if op:
        parser.add_argument("--op", default=op, metavar="ID", help=f"whose result ({op}); `minidsv3 ops`")
    parser.add_argument("--layer", type=int, metavar="N", help="of which layer (the first that has it)")
    for place in places:
        parser.add_argument(f"--{place}", type=int, metavar="N", help=f"of which {place}")


def open_source(args: argparse.Namespace) -> Source:
    """Open what the options name; ValueError for both of two."""
    from minidsv3.training import newest_run

    if args.preset and args.model:
        raise ValueError(f"expected --preset or --model, got both: {args.preset} and {args.model}")
    if args.text is not None and args.ids is not None:
        raise ValueError("expected --text or --ids, got both")
    fresh = args.preset or (None if args.model or newest_run("runs") else "nano")
    return _fresh(fresh, args) if fresh else _stored(args)


def _fresh(preset: str, args: argparse.Namespace) -> Source:
    """A model of random weights; bytes in place of tokens."""
    from minidsv3.cli.models import fresh_model, given_ids
    from minidsv3.show.numbers import counted

    model = fresh_model(preset)
    said = f"{preset}, UNTRAINED weights of seed 0"
    if args.ids is not None:
        ids = given_ids(args.ids, model)
        return Source(model, ids, [], f"{said}; {counted(len(ids), 'id')}", None)
    content = (TEXT if args.text is None else args.text).encode()
    if not content:
        raise ValueError("expected a text, got an empty one")
    labels = [chr(byte) if byte < 128 else f"{byte:02x}" for byte in content]
    model.check_tokens([list(content)])
    return Source(model, list(content), labels, f"{said}; a text's bytes as tokens", None)


def _stored(args: argparse.Namespace) -> Source:
    """A model of a folder, and its tokenizer if the text needs one."""
    from minidsv3.cli.models import open_prompt
    from minidsv3.show.numbers import counted

    text = TEXT if args.text is None and args.ids is None else args.text
    prompt = open_prompt(argparse.Namespace(prompt=text, ids=args.ids, model=args.model, memory=args.memory))
    labels = _spelled(prompt.ids, prompt.tokenizer) if prompt.tokenizer else []
    said = f"{prompt.folder}; {counted(len(prompt.ids), 'token')}"
    return Source(prompt.model, prompt.ids, labels, said, prompt.folder)


def _spelled(ids: Sequence[int], tokenizer: "Tokenizer") -> list[str]:
    """Each token's text, without the marks of a marker; its bytes in hexadecimal where they are none."""
    from minidsv3.show.chips import visible

    known = tokenizer.vocab_size
    texts = [visible(tokenizer.decode_bytes([i])) if i < known else f"<{i}>" for i in ids]
    return [text.replace("｜", "").replace("▁", "-") for text in texts]


def run(source: Source, machine: "Machine", backward: bool = False) -> "Trace":
    """The rows that one pass leaves."""
    import numpy as np

    from minidsv3.cli.terminal import talk
    from minidsv3.cli.weights import Reading

    with Reading(source.model, machine, talk()) as reading:
        if backward:
            source.model.loss_and_gradients(np.array([source.ids]), machine=machine)
        else:
            source.model.logits(np.array([source.ids]), machine)
        reading.token()
    return machine.trace


def kept(
    source: Source, op: str, layer: int | None = None, expert: int | None = None, **options: Any
) -> "Row":
    """The row, value included, of an op's result.  options: of the machine.

    ValueError if the op does not run, or not in that layer, or not for that expert.
    """
    from minidsv3.machine import Machine, look_up

    name = look_up(op).id
    rows = [row for row in run(source, Machine(trace=True, keep=name, **options)) if row.value is not None]
    if not rows:
        raise ValueError(f"expected an op of this pass, got {name}, which does not run in it")
    for what, asked in (("layer", layer), ("expert", expert)):
        found = [row for row in rows if asked is None or getattr(row, what) == asked]
        if not found:
            there = ", ".join(_there(getattr(row, what) for row in rows)) or "none"
            raise ValueError(f"expected {name} of some {what} that has it ({there}), got {asked}")
        rows = found
    return rows[0]


def _there(numbers: Iterator[int | None]) -> list[str]:
    """Numbers in order, each once."""
    return [str(n) for n in sorted({n for n in numbers if n is not None})]
