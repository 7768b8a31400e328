"""Heat maps of needles in haystacks, as the commands make them: which lengths, which models, how far it is.

Lengths go up in doublings from half the trained one, or from that where the half is too short. A model is
asked beyond the length that its config allows: what happens there is the question.

Does: measure models one after the other, show progress. Does not: draw (`minidsv3.show.needle`).

    >>> needle_lengths(128, 1024)
    [64, 128, 256, 512, 1024]
    >>> needle_lengths(64, 512)
    [64, 128, 256, 512]

Next: minidsv3.cli.run_results
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.progress import Progress

from minidsv3.cli.terminal import draws_in_place
from minidsv3.corpus.needle import THINGS, shortest, word_ids
from minidsv3.model.parameters import Parameters
from minidsv3.show.needle import NeedleMap, NeedleMaps
from minidsv3.show.numbers import duration
from minidsv3.tokenizer import Tokenizer
from minidsv3.training import retrieval
from minidsv3.training.extension import under
from minidsv3.training.retrieval import DISTRACTORS

__all__ = ["BEYOND", "Haystacks", "counting", "needle_lengths", "needle_maps"]

BEYOND = 8  # times the trained length, for a model that is not extended


@dataclass(frozen=True)
class Haystacks:
    """What models are asked."""

    lengths: Sequence[int]
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    samples: int = 32
    seed: int = 0


def needle_lengths(trained: int, longest: int) -> list[int]:
    """Half the trained length, that, twice that, … and the longest; none too short for a haystack."""
    least = shortest(DISTRACTORS)
    lengths = [trained // 2 if trained // 2 >= least else max(trained, least)]
    while 2 * lengths[-1] < longest:
        lengths.append(2 * lengths[-1])
    return [*lengths, longest] if longest > lengths[-1] else lengths


def needle_maps(
    models: Iterable[tuple[str, int, Parameters]], tokenizer: Tokenizer, asked: Haystacks, talk: Console
) -> NeedleMaps:
    """The heat map of each model.  models: name, the longest text it learned from, weights."""
    ids, maps = word_ids(tokenizer), []
    total = len(asked.lengths) * len(asked.depths) * asked.samples
    for name, learned, parameters in models:
        config = parameters.config
        roomy = under(parameters, replace(config, max_seq_len=max(asked.lengths[-1], config.max_seq_len)))
        with counting(f"needles, {name}", total, talk) as tell:
            found = retrieval(
                roomy, ids, asked.lengths, asked.depths, asked.samples, seed=asked.seed, progress=tell
            )
        maps.append(NeedleMap(name, learned, found.T.tolist()))
    return NeedleMaps(list(asked.lengths), list(asked.depths), asked.samples, 1 / len(THINGS), maps)


@contextlib.contextmanager
def counting(what: str, total: int | None, talk: Console) -> Iterator[Callable[[int], None]]:
    """Tell how far something is: a bar in place, and a line at the end."""
    start = time.perf_counter()
    if draws_in_place(talk):
        with Progress(console=talk, transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.advance(task, done)
    else:
        yield lambda done: None
    talk.print(f"{what}: {duration(time.perf_counter() - start)}")
