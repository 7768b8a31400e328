"""`minidsv3 predict`: a prompt in, its continuation out.

The text goes to stdout as it is decoded, prompt included; how many tokens, how fast, and how many MTP
drafts were accepted goes to stderr. Decoding runs over the latent cache with absorbed MLA. With `--cache fp8`
or `bf16` the cache holds packed latents, and the text that came is run again over each kind of cache, to say
what the rounding changed.

A model that does not fit `--memory` is read from its folder as it runs: stderr says what is read meanwhile,
and at the end what a token took.

Does: find a model, decode, print. Does not: train one (`minidsv3 run`).

Next: minidsv3.cli.model_arguments
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.cli.models import Prompt

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Continue a prompt with a trained model."
EXAMPLES = [
    'minidsv3 predict "def main("',
    'minidsv3 predict "import os" --model runs/nano-0 --tokens 100 --temperature 0.8 --top-p 0.9',
    'minidsv3 predict "class " --speculative --json',
    'minidsv3 predict "def main(" --precision fp8 --cache fp8',
    'minidsv3 predict "The capital of France is" --model DeepSeek-V3 --memory 8GiB --tokens 4',
    "minidsv3 predict --ids 0,671,6,5 --model DeepSeek-V3 --memory 2GiB --tokens 1",
]
SCHEMA = "minidsv3.predict/1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from minidsv3.cli.model_arguments import (
        memory_argument,
        model_argument,
        precision_arguments,
        prompt_argument,
    )

    prompt_argument(parser, "continue")
    model_argument(parser)
    memory_argument(parser)
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="at most so many new tokens (64)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (0)")
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="draw from the best tokens of this share (1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    parser.add_argument("--speculative", action="store_true", help="let the MTP modules draft")
    parser.add_argument(
        "--cache",
        choices=["float32", "bf16", "fp8"],
        default="float32",
        help="how latents are held (float32)",
    )
    precision_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Continue the prompt."""
    from minidsv3.cli.models import open_prompt
    from minidsv3.cli.terminal import print_json, talk
    from minidsv3.cli.weights import Reading
    from minidsv3.machine import Machine

    if args.seed < 0:
        raise ValueError(f"expected --seed >= 0, got {args.seed}")
    prompt = open_prompt(args, args.tokens)
    model, tokenizer, ids = prompt.model, prompt.tokenizer, prompt.ids
    options: dict[str, Any] = {name: getattr(args, name) for name in ("temperature", "top_p", "seed")}
    machine = options["machine"] = Machine(precision=args.precision, accumulate=args.accumulate)
    options |= {"speculative": args.speculative, "stop_ids": [prompt.eos], "cache": args.cache}
    console, write = talk(), (lambda token: None) if args.json else _writer(prompt)
    with Reading(model, machine, console) as reading:

        def on_token(token: int) -> None:
            reading.token()
            write(token)

        result = model.generate(ids, args.tokens, on_token=on_token, **options)
    shown = [token for token in result.tokens if token != prompt.eos]
    text = tokenizer.decode([token for token in shown if token < tokenizer.vocab_size]) if tokenizer else ""
    drafts = {"drafted": result.drafted, "accepted": result.accepted} if args.speculative else {}
    speed = result.tokens_per_second
    cache = _cache(args.cache, model, [*ids, *result.tokens])
    if args.json:
        said: dict[str, Any] = {
            "schema": SCHEMA,
            "model": str(prompt.folder),
            "prompt": prompt.text,
            "prompt_ids": ids,
            "text": text,
            "ids": result.tokens,
            **drafts,
            "cache": cache,
            "precision": args.precision,
            "accumulate": machine.accumulate,
            "weights": reading.summary(),
            "wall": {"tokens_per_second": speed},
        }
        print_json(said)
        return 0
    print()
    console.print(f"{prompt.folder}: {_pace(len(result.tokens), speed)}, {_drafts(drafts)}")
    reading.print_summary()
    for row in cache["errors"]:
        console.print(_error(row))
    return 0


def _cache(name: str, model: Any, text: list[int]) -> dict[str, Any]:
    """The cache's format and bytes; unless it holds float32, also what the narrow ones change on a text.

    Not of a model that is read as it runs: it would be read once more for each kind of cache.
    """
    from minidsv3.inference import LatentCache, cache_errors

    bytes_per_token = LatentCache(model.config, format=name).bytes_per_token
    errors = [] if name == "float32" or model.mapped else cache_errors(model, text)
    return {"format": name, "bytes_per_token": bytes_per_token, "errors": [row.to_dict() for row in errors]}


def _error(row: dict[str, Any]) -> str:
    return (
        f"cache in {row['format']}: {row['bytes_per_token']:,} bytes a token; against float32 latents are "
        f"{row['latents']:.2%} off, logits {row['logits']:.2%}, "
        f"{row['changed']} of {row['positions']} choices are others"
    )


def _pace(tokens: int, speed: float) -> str:
    """How many, and how fast where there was more than the first, which the prompt's pass makes.

    >>> _pace(1, 0.0), _pace(4, 0.25), _pace(64, 460.2)
    ('1 token', '4 tokens, 0.250 a second', '64 tokens, 460 a second')
    """
    from minidsv3.show.numbers import counted

    rate = f"{speed:.0f}" if speed >= 10 else f"{speed:.3g}" if speed >= 1 else f"{speed:.3f}"
    return counted(tokens, "token") + (f", {rate} a second" if tokens > 1 else "")


def _drafts(drafts: dict[str, int]) -> str:
    return f"drafts: {drafts['drafted']}, accepted: {drafts['accepted']}" if drafts else "without drafts"


def _writer(prompt: "Prompt") -> Callable[[int], None]:
    """Print each token as it comes; in front of the first one, when nothing can be refused, the prompt.

    Without a tokenizer they are numbers; ids that it does not know (a padded vocabulary) are left out.
    """
    from minidsv3.cli.terminal import results
    from minidsv3.tokenizer import StreamDecoder

    results()  # sets how characters that the encoding has not are written
    tokenizer = prompt.tokenizer
    front = [prompt.text or " ".join(map(str, prompt.ids)) if tokenizer is None else prompt.text]
    stream = StreamDecoder(tokenizer) if tokenizer else None

    def write(token: int) -> None:
        print("".join(front), end="")
        front.clear()
        if tokenizer is None or stream is None:
            print(f" {token}", end="", flush=True)
        elif token != prompt.eos and token < tokenizer.vocab_size:
            print(stream.push(token), end="", flush=True)

    return write
