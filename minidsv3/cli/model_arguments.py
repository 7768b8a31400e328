"""The options of every command that takes a model: which, within what memory, how it computes, the prompt.

They stand apart from what opens a model, so that `--help` imports nothing that takes time.

Does: declare options. Does not: open what they name (`minidsv3.cli.models`).

    >>> parser = argparse.ArgumentParser()
    >>> memory_argument(parser)
    >>> parser.parse_args(["--memory", "8GiB"]).memory
    8589934592

Next: minidsv3.cli.models
"""

import argparse
from pathlib import Path

__all__ = ["memory_argument", "model_argument", "precision_arguments", "prompt_argument"]


def model_argument(parser: argparse.ArgumentParser, default: str = "the newest of ./runs") -> None:
    """The option that names a model.  default: what stands in for it, in words."""
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help=f"a run folder or a model folder ({default})"
    )


def precision_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say how a machine computes."""
    parser.add_argument(
        "--precision",
        default="fp32",
        metavar="NAME",
        help="fp32, bf16, fp8, a variant such as fp8-logfmt10, or a .toml file (fp32)",
    )
    parser.add_argument(
        "--accumulate",
        default="ideal",
        metavar="HOW",
        help="sums of FP8 products: ideal (float32), promoted (every 128 terms), hardware (bit by bit, slow)",
    )


def memory_argument(parser: argparse.ArgumentParser) -> None:
    """The option that says how much memory weights may take."""

    def size(text: str) -> int:
        from minidsv3.model.memory import memory_bytes

        try:
            return memory_bytes(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    parser.add_argument(
        "--memory",
        type=size,
        metavar="SIZE",
        help="for weights, such as 8GiB, 800MB or bytes (half of what is available); a model that needs more "
        "in float32 is read piece by piece as it runs",
    )


def prompt_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """The prompt as text, or as ids."""
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help=f"text to {what}; - reads it from stdin")
    parser.add_argument("--ids", metavar="1,2,3", help="token ids in place of PROMPT; needs no tokenizer")
