"""`minidsv3 show needle`: needle in a haystack, length by depth, of a model that learned to retrieve.

The model is that of `--model`, else the newest run below ./runs. Of a run that was extended the maps of all
its models are shown: as trained, with YaRN alone, after each phase. What the run measured at its end is
taken from its report.json if nothing else is asked for.

Does: find the models, measure, hand over. Does not: train (`minidsv3 run --preset needle`, then `--extend`).

    >>> grid("0,0.5,1", float, "--depths", 0, 1)
    [0.0, 0.5, 1.0]

Next: minidsv3.cli.kept_values
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    from minidsv3.model.parameters import Parameters
    from minidsv3.show.needle import NeedleMaps
    from minidsv3.tokenizer import Tokenizer

__all__ = ["SUBJECTS", "grid"]

MOST_CELLS, MOST_SAMPLES, LONGEST = 400, 1000, 16_384
Number = TypeVar("Number", int, float)


def grid(text: str, kind: type[Number], name: str, least: float, most: float) -> list[Number]:
    """Numbers between commas, growing, from `least` to `most`."""
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        values = []
    rising = all(before < after for before, after in pairwise(values))
    if not values or not rising or not least <= values[0] <= values[-1] <= most:
        raise ValueError(
            f"expected {name} growing numbers from {least:,} to {most:,}, as A,B,C, got {text!r}"
        )
    return values


def _arguments(parser: argparse.ArgumentParser) -> None:
    from minidsv3.cli.model_arguments import model_argument

    model_argument(parser)
    parser.add_argument(
        "--lengths", metavar="A,B,C", help="tokens of the haystacks (half the trained length to the longest)"
    )
    parser.add_argument("--depths", metavar="A,B,C", help="from 0, the beginning, to 1 (0,0.25,0.5,0.75,1)")
    parser.add_argument("--samples", type=int, metavar="N", help="needles a cell (32)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the haystacks (0)")


def _needle(args: argparse.Namespace) -> int:
    from minidsv3.cli.models import find_model

    folder = find_model(args.model)
    maps = _reported(args, folder) or _measured(args, folder)
    table = {"model": str(folder)} | maps.to_dict()
    return present(args, "needle", maps, table)


def _reported(args: argparse.Namespace, folder: Path) -> "NeedleMaps | None":
    """What the run measured itself, if that is what is asked for."""
    from minidsv3.show.needle import NeedleMaps

    asked = (args.lengths, args.depths, args.samples, args.seed or None)
    file = folder.parent / "report.json"
    if any(value is not None for value in asked) or not file.is_file():
        return None
    table = json.loads(file.read_text(encoding="utf-8")).get("needle")
    return NeedleMaps.from_dict(table) if table else None


def _measured(args: argparse.Namespace, folder: Path) -> "NeedleMaps":
    """Every model of the run on the haystacks asked for."""
    from minidsv3.cli.needles import Haystacks, needle_lengths, needle_maps
    from minidsv3.cli.terminal import talk
    from minidsv3.corpus.needle import shortest
    from minidsv3.training.retrieval import DISTRACTORS

    trained, longest, tokenizer, models = _models(folder)
    asked = Haystacks(needle_lengths(trained, longest), seed=args.seed)
    if args.lengths is not None:
        asked = replace(asked, lengths=grid(args.lengths, int, "--lengths", shortest(DISTRACTORS), LONGEST))
    if args.depths is not None:
        asked = replace(asked, depths=grid(args.depths, float, "--depths", 0, 1))
    if args.samples is not None:
        asked = replace(asked, samples=args.samples)
    if not 1 <= asked.samples <= MOST_SAMPLES or args.seed < 0:
        given = f"{asked.samples} and {args.seed}"
        raise ValueError(f"expected --samples from 1 to {MOST_SAMPLES} and --seed >= 0, got {given}")
    if (cells := len(asked.lengths) * len(asked.depths)) > MOST_CELLS:
        raise ValueError(f"expected at most {MOST_CELLS} cells, lengths x depths, got {cells}")
    return needle_maps(models, tokenizer, asked, talk())


def _models(folder: Path) -> "tuple[int, int, Tokenizer, Iterator[tuple[str, int, Parameters]]]":
    """Trained length, longest length, tokenizer, and (name, length learned from, weights) of each model."""
    from minidsv3.cli.models import find_tokenizer
    from minidsv3.cli.needles import BEYOND
    from minidsv3.cli.run_extending import reopen_extension, the_extension
    from minidsv3.interpreter import Model
    from minidsv3.tokenizer import Tokenizer
    from minidsv3.training import RunFolder

    tokenizer = Tokenizer.load(find_tokenizer(folder))
    if (whole := the_extension(folder.parent)) == folder.parent:
        extension = reopen_extension(whole)
        models = zip(extension.names, extension.learned, extension.models(), strict=True)
        return extension.seq_len, extension.recipe.phases[-1].seq_len, tokenizer, models
    parameters = Model.load(folder).parameters
    learned = parameters.config.max_seq_len
    if (folder.parent / "run.json").is_file():
        learned = RunFolder.open(folder.parent).plan.seq_len
    return learned, BEYOND * learned, tokenizer, iter([("as trained", learned, parameters)])


SUBJECTS = {
    "needle": Subject(
        "Needle in a haystack: how often it is found, by length and depth, before and after an extension.",
        [
            "minidsv3 show needle     # the newest run; `minidsv3 run --preset needle` makes one",
            "minidsv3 show needle --model runs/needle-0-extended-0     # `run --extend runs/needle-0`",
            "minidsv3 show needle --model runs/needle-0 --lengths 64,128,256 --samples 100 --json",
        ],
        _arguments,
        _needle,
    )
}
