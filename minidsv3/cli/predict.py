"""`minidsv3 predict`: a prompt in, its continuation out.

The text goes to stdout as it is decoded, prompt included; how many tokens, how fast, and how many MTP
drafts were accepted goes to stderr. Decoding runs over the latent cache with absorbed MLA. With `--cache fp8`
or `bf16` the cache holds packed latents, and the text that came is run again over each kind of cache, to say
what the rounding changed.

Does: find a model, decode, print. Does not: train one (`minidsv3 run`).

Next: minidsv3.cli.models
"""

import argparse
import sys
from typing import Any

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Continue a prompt with a trained model."
EXAMPLES = [
    'minidsv3 predict "def main("',
    'minidsv3 predict "import os" --model runs/nano-0 --tokens 100 --temperature 0.8 --top-p 0.9',
    'minidsv3 predict "class " --speculative --json',
    'minidsv3 predict "def main(" --precision fp8 --cache fp8',
]
SCHEMA = "minidsv3.predict/1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from minidsv3.cli.models import model_argument, precision_arguments

    parser.add_argument("prompt", metavar="PROMPT", help="text to continue; - reads it from stdin")
    model_argument(parser)
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
    from minidsv3.cli.models import open_model, prompt_ids
    from minidsv3.cli.terminal import print_json, talk
    from minidsv3.machine import Machine

    if args.seed < 0:
        raise ValueError(f"expected --seed >= 0, got {args.seed}")
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    model, tokenizer, folder = open_model(args.model)
    ids = prompt_ids(prompt, model, tokenizer, args.tokens)
    options: dict[str, Any] = {name: getattr(args, name) for name in ("temperature", "top_p", "seed")}
    options["machine"] = Machine(precision=args.precision, accumulate=args.accumulate)
    options |= {"speculative": args.speculative, "stop_ids": [tokenizer.eos], "cache": args.cache}
    console = talk()
    if not args.json:
        options["on_token"] = _writer(prompt, tokenizer)
    result = model.generate(ids, args.tokens, **options)
    text = tokenizer.decode([token for token in result.tokens if token != tokenizer.eos])
    drafts = {"drafted": result.drafted, "accepted": result.accepted} if args.speculative else {}
    speed = result.tokens_per_second
    cache = _cache(args.cache, model, [*ids, *result.tokens])
    if args.json:
        said = {"schema": SCHEMA, "model": str(folder), "prompt": prompt, "prompt_ids": ids, "text": text}
        said |= {
            "ids": result.tokens,
            **drafts,
            "cache": cache,
            "precision": args.precision,
            "accumulate": options["machine"].accumulate,
            "wall": {"tokens_per_second": speed},
        }
        print_json(said)
        return 0
    print()
    console.print(f"{folder}: {len(result.tokens)} tokens, {speed:.0f} a second, " + _drafts(drafts))
    for row in cache["errors"]:
        console.print(_error(row))
    return 0


def _cache(name: str, model: Any, text: list[int]) -> dict[str, Any]:
    """The cache's format and bytes; unless it holds float32, also what the narrow ones change on a text."""
    from minidsv3.inference import LatentCache, cache_errors

    bytes_per_token = LatentCache(model.config, format=name).bytes_per_token
    errors = [] if name == "float32" else cache_errors(model, text)
    return {"format": name, "bytes_per_token": bytes_per_token, "errors": [row.to_dict() for row in errors]}


def _error(row: dict[str, Any]) -> str:
    return (
        f"cache in {row['format']}: {row['bytes_per_token']:,} bytes a token; against float32 latents are "
        f"{row['latents']:.2%} off, logits {row['logits']:.2%}, "
        f"{row['changed']} of {row['positions']} choices are others"
    )


def _drafts(drafts: dict[str, int]) -> str:
    return f"drafts: {drafts['drafted']}, accepted: {drafts['accepted']}" if drafts else "without drafts"


def _writer(prompt: str, tokenizer: Any) -> Any:
    """Print each token as it comes; in front of the first one, when nothing can be refused, the prompt."""
    from minidsv3.cli.terminal import results
    from minidsv3.tokenizer import StreamDecoder

    results()  # sets how characters that the encoding has not are written
    stream, front = StreamDecoder(tokenizer), [prompt]

    def write(token: int) -> None:
        print("".join(front), end="")
        front.clear()
        print("" if token == tokenizer.eos else stream.push(token), end="", flush=True)

    return write
