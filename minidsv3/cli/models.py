"""Which model a command means: a run folder, a model folder, or the newest run below ./runs.

A model of a run, or one that `run` wrote, has a tokenizer.json beside its weights. A published folder has
one too; its text is read and written with that.

Does: find and load. Does not: download anything.

    >>> find_model("no/such/folder")
    Traceback (most recent call last):
    ValueError: expected a run folder or a model folder with config.json, got no/such/folder: no such folder

Next: minidsv3.cli.trace
"""

import argparse
from pathlib import Path

from minidsv3.interpreter import Model
from minidsv3.tokenizer import Tokenizer
from minidsv3.training import newest_run

__all__ = [
    "find_model", "find_tokenizer", "model_argument", "open_model", "precision_arguments", "prompt_ids",
]  # fmt: skip


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


def find_model(path: Path | str | None) -> Path:
    """The folder with config.json and weights; ValueError saying how to make one."""
    if path is None:
        run = newest_run("runs")
        if run is None:
            raise ValueError(
                "expected a trained model, got no finished run below ./runs: make one with `minidsv3 run`, "
                "or name a run or model folder with --model"
            )
        return run / "model"
    path = Path(path)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    if runs := sorted(found.parent.parent for found in path.glob("*/model/config.json")):
        said = ", ".join(map(str, runs))
        raise ValueError(f"expected a run folder or a model folder, got {path}, which holds several: {said}")
    if (path / "run.json").is_file():
        raise ValueError(
            f"expected a finished run, got {path}, which is not: go on with `minidsv3 run --resume {path}`"
        )
    what = "no config.json in it" if path.is_dir() else "no such folder"
    raise ValueError(f"expected a run folder or a model folder with config.json, got {path}: {what}")


def find_tokenizer(folder: Path) -> Path:
    """The tokenizer.json of a run folder or a model folder."""
    for place in (folder, folder.parent):
        if (place / "tokenizer.json").is_file():
            return place / "tokenizer.json"
    raise ValueError(f"expected a tokenizer.json in {folder}, got none")


def open_model(path: Path | None) -> tuple[Model, Tokenizer, Path]:
    """Load model and tokenizer; and where the model was."""
    folder = find_model(path)
    model, tokenizer = Model.load(folder), Tokenizer.load(find_tokenizer(folder))
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"{folder}: expected a tokenizer of at most {model.config.vocab_size} tokens, "
            f"got {tokenizer.vocab_size}"
        )
    return model, tokenizer, folder


def prompt_ids(prompt: str, model: Model, tokenizer: Tokenizer, room: int = 0) -> list[int]:
    """A prompt's ids behind the end-of-sequence token, which stands between documents in training.

    Markers spelled out (`<｜fim▁begin｜>` and the like) become themselves. room: tokens still to come.
    """
    if not prompt:
        raise ValueError("expected a prompt, got an empty text")
    ids = [tokenizer.eos, *tokenizer.encode(prompt, special=True)]
    longest = model.config.max_seq_len - room
    if longest < 1:
        raise ValueError(f"expected at most {model.config.max_seq_len - 1} new tokens, got {room}")
    if len(ids) > longest:
        raise ValueError(f"expected a prompt of at most {longest} tokens, got {len(ids)}")
    return ids
