"""Which model a command means (a run folder, a model folder, the newest run below ./runs), and which prompt.

A model of a run has a tokenizer.json beside its weights. A published folder has one too; its text is read
and written with that. What stands in front of a prompt is what stood in front of the texts that the model
learned from: for published models the begin token of their config, for ours (`config.json` has an object
`minidsv3`) the end token, which stands between documents. Ids (`--ids`) are taken as they are, and need no
tokenizer.

Does: find, open, encode. Does not: download anything; read weights, which happens as they are used.

    >>> find_model("no/such/folder")
    Traceback (most recent call last):
    ValueError: expected a run folder or a model folder with config.json, got no/such/folder: no such folder

Next: minidsv3.cli.weights
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from minidsv3.checkpoint import CheckpointError
from minidsv3.cli.terminal import word
from minidsv3.config import ModelConfig
from minidsv3.interpreter import Model
from minidsv3.tokenizer import Tokenizer
from minidsv3.training import newest_run

__all__ = [
    "Prompt",
    "find_model",
    "find_tokenizer",
    "fresh_model",
    "given_ids",
    "is_ours",
    "open_model",
    "open_prompt",
    "prompt_ids",
]

MOST_FRESH = 100_000_000  # parameters of random weights


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
            f"expected a finished run, got {path}, which is not: "
            f"go on with `minidsv3 run --resume {word(path)}`"
        )
    what = "no config.json in it" if path.is_dir() else "a file" if path.exists() else "no such folder"
    raise ValueError(f"expected a run folder or a model folder with config.json, got {path}: {what}")


def find_tokenizer(folder: Path) -> Path:
    """The tokenizer.json of a run folder or a model folder."""
    for place in (folder, folder.parent):
        if (place / "tokenizer.json").is_file():
            return place / "tokenizer.json"
    raise CheckpointError(
        f"expected a tokenizer.json in {folder}, got none: put there the one that was published with the "
        "model, or give token ids with --ids where a command takes them"
    )


def open_model(path: Path | None, memory: int | None = None) -> tuple[Model, Tokenizer, Path]:
    """Open model and tokenizer; and where the model was."""
    folder = find_model(path)
    model, tokenizer = Model.load(folder, memory), Tokenizer.load(find_tokenizer(folder))
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"{folder}: expected a tokenizer of at most {model.config.vocab_size} tokens, "
            f"got {tokenizer.vocab_size}"
        )
    return model, tokenizer, folder


class Prompt(NamedTuple):
    """What a command was asked to run."""

    model: Model
    tokenizer: Tokenizer | None  # None: ids came, and the folder has none
    folder: Path
    text: str  # "" if ids came
    ids: list[int]

    @property
    def eos(self) -> int:
        """The token that ends a text."""
        ours = is_ours(self.model) and self.tokenizer is not None
        return self.tokenizer.eos if ours and self.tokenizer else self.model.config.eos_token_id


def open_prompt(args: argparse.Namespace, room: int = 0) -> Prompt:
    """Open `--model` within `--memory`, and the prompt, text or `--ids`.  room: tokens still to come."""
    if (args.prompt is None) == (args.ids is None):
        raise ValueError(f"expected a prompt or --ids, got {'neither' if args.ids is None else 'both'}")
    if args.ids is None:
        text = sys.stdin.read() if args.prompt == "-" else args.prompt
        model, tokenizer, folder = open_model(args.model, args.memory)
        return Prompt(model, tokenizer, folder, text, prompt_ids(text, model, tokenizer, room))
    folder = find_model(args.model)
    beside = [place for place in (folder, folder.parent) if (place / "tokenizer.json").is_file()]
    known = Tokenizer.load(beside[0] / "tokenizer.json") if beside else None
    model = Model.load(folder, args.memory)
    return Prompt(model, known, folder, "", _check_length(model, given_ids(args.ids, model), room))


def given_ids(text: str, model: Model) -> list[int]:
    """The tokens of `--ids 1,2,3`; ValueError for what is no number, or no token of the model."""
    try:
        ids = [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"expected --ids as whole numbers with commas between, got {text!r}") from None
    model.check_tokens([ids])
    return ids


def fresh_model(preset: str) -> Model:
    """A preset with random weights, of a size that fits anywhere; ValueError for a larger one."""
    config = ModelConfig.preset(preset)
    if (total := config.parameter_counts()["stored"]) > MOST_FRESH:
        raise ValueError(f"expected at most {MOST_FRESH:,} parameters, got {total:,} of {preset}")
    return Model.initialise(config, seed=0)


def is_ours(model: Model) -> bool:
    """Whether a model was written by minidsv3, or made here."""
    return model.folder is None or "minidsv3" in model.folder.config_table


def prompt_ids(prompt: str, model: Model, tokenizer: Tokenizer, room: int = 0) -> list[int]:
    """A prompt's ids behind the token that stands in front of a text: begin, or in our models end.

    Markers spelled out (`<｜fim▁begin｜>` and the like) become themselves. room: tokens still to come.
    """
    if not prompt:
        raise ValueError("expected a prompt, got an empty text")
    front = tokenizer.eos if is_ours(model) else model.config.bos_token_id
    return _check_length(model, [front, *tokenizer.encode(prompt, special=True)], room)


def _check_length(model: Model, ids: list[int], room: int) -> list[int]:
    longest = model.config.max_seq_len - room
    if longest < 1:
        raise ValueError(f"expected at most {model.config.max_seq_len - 1} new tokens, got {room}")
    if len(ids) > longest:
        raise ValueError(f"expected a prompt of at most {longest} tokens, got {len(ids)}")
    return ids
