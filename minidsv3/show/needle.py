"""Needle in a haystack as a heat map: columns are lengths of the context, rows depths of the needle.

A cell says how many of its needles the model found, as a shade and as a number in per cent. A bar stands
behind the last length that the weights of a map learned from. Maps of one model, before and after, stand
side by side where there is room and below each other where there is none.

Does: draw what others measured. Does not: run a model (`minidsv3.training.retrieval`).

    >>> from minidsv3.show.svg import plain_text
    >>> map = NeedleMap("as trained", 64, [[1.0, 0.5], [0.97, 0.0]])
    >>> print(plain_text(NeedleMaps([64, 256], [0.0, 1.0], 32, 1 / 32, [map]), width=70, ascii_only=True))
    as trained
    depth     64|  256
      0 %  @@100|++ 50
    100 %  @@ 97|    0
    mean   @@ 98|.. 25
    <BLANKLINE>
    in %: how many of the 32 needles of a cell are found; chance 3.12 %
    shades: .. from 10, ++ from 40, ## from 70, @@ from 95 %
    |: behind the longest text that the weights of a map learned from

Next: minidsv3.show.context
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.forms import shown
from minidsv3.show.numbers import counted, percent

__all__ = ["NeedleMap", "NeedleMaps"]

STEPS = (0.1, 0.4, 0.7, 0.95)  # a shade begins at each
SHADES, PLAIN_SHADES = " ░▒▓█", " .+#@"
COLOURS = ("default", "red", "yellow", "cyan", "green")
HEAD, CELL, APART = 7, 6, 3  # columns


@dataclass(frozen=True)
class NeedleMap:
    """One model's map.  accuracy: [depths][lengths], shares of one."""

    name: str
    learned: int  # the longest text that its weights learned from
    accuracy: Sequence[Sequence[float]]

    def means(self) -> list[float]:
        """Over the depths, by length."""
        return [sum(column) / len(column) for column in zip(*self.accuracy, strict=True)]


@dataclass(frozen=True)
class NeedleMaps:
    """Maps over the same lengths, depths and number of needles a cell."""

    lengths: Sequence[int]
    depths: Sequence[float]
    samples: int
    chance: float
    maps: Sequence[NeedleMap]

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """From the plain values of report.json."""
        return cls(**{**table, "maps": [NeedleMap(**entry) for entry in table["maps"]]})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        maps = [entry.__dict__ | {"accuracy": [list(row) for row in entry.accuracy]} for entry in self.maps]
        about = {"lengths": list(self.lengths), "depths": list(self.depths)}
        return about | {"samples": self.samples, "chance": self.chance, "maps": maps}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        each = max(1, (options.max_width - HEAD - 1) // CELL)  # lengths that fit beside each other
        for start in range(0, len(self.lengths), each):
            yield from self._stacked(slice(start, start + each), options)
        yield from self._legend(options)

    def _stacked(self, columns: slice, options: ConsoleOptions) -> RenderResult:
        """As many maps beside each other as fit, the rest below."""
        width = HEAD + CELL * len(self.lengths[columns]) + 1
        beside = max(1, (options.max_width + APART) // (width + APART))
        beside = -(-len(self.maps) // -(-len(self.maps) // beside))  # as evenly as they can be
        for start in range(0, len(self.maps), beside):
            blocks = [
                self._lines(entry, columns, options.ascii_only) for entry in self.maps[start : start + beside]
            ]
            for parts in zip(*blocks, strict=True):
                line = Text(no_wrap=True, overflow="crop")
                for part in parts[:-1]:
                    part.truncate(width, pad=True)
                    line.append_text(part).append(" " * APART)
                yield line.append_text(parts[-1])
            yield Text()

    def _lines(self, entry: NeedleMap, columns: slice, plain: bool) -> list[Text]:
        """Title, lengths, a line for each depth, means."""
        lengths = self.lengths[columns]
        last = max((i for i, length in enumerate(lengths) if length <= entry.learned), default=-1)
        head = Text("depth  ", "dim")
        for i, length in enumerate(lengths):
            head.append(f"{length:>5}", "bold").append(self._bar(i == last, plain), "dim")
        lines = [Text(entry.name, "bold cyan"), head]
        for depth, row in zip([*self.depths, None], [*entry.accuracy, entry.means()], strict=True):
            line = Text(
                "mean   " if depth is None else f"{depth:>4.0%}   ".replace("%", " %", 1)[:HEAD], "dim"
            )
            for i, share in enumerate(row[columns]):
                line.append_text(_cell(share, plain)).append(self._bar(i == last, plain), "dim")
            lines.append(line)
        return lines

    @staticmethod
    def _bar(here: bool, plain: bool) -> str:
        return ("|" if plain else "│") if here else " "

    def _legend(self, options: ConsoleOptions) -> RenderResult:
        shades = PLAIN_SHADES if options.ascii_only else SHADES
        found = f"how many of the {counted(self.samples, 'needle')} of a cell are found"
        yield Text(f"in %: {found}; chance {percent(self.chance)}", "dim")
        steps = Text("shades: ", "dim")
        for i, step in enumerate(STEPS):
            steps.append(2 * shades[i + 1], COLOURS[i + 1]).append(f" from {100 * step:.0f}", "dim")
            steps.append(" %" if i == len(STEPS) - 1 else ", ", "dim")
        yield steps
        bar = self._bar(True, options.ascii_only)
        yield Text(f"{bar}: behind the longest text that the weights of a map learned from", "dim")

    def describe(self) -> str:
        """A sentence for each map and length."""
        said = [f"needles found, mean and worst depth of {len(self.depths)}, {self.samples} needles each"]
        for entry in self.maps:
            said.append(f"{entry.name}, learned from up to {counted(entry.learned, 'token')}:")
            for i, (length, mean) in enumerate(zip(self.lengths, entry.means(), strict=True)):
                shares = [row[i] for row in entry.accuracy]
                worst = min(range(len(shares)), key=lambda row: shares[row])
                at = f"at least {percent(shares[worst])}, at depth {self.depths[worst]:.0%}"
                said.append(f"  {length} tokens: {percent(mean)}; {at}")
        return "\n".join(said)


def _cell(share: float, plain: bool) -> Text:
    """Shade and number, CELL - 1 columns."""
    level = sum(share >= step for step in STEPS)
    shade = (PLAIN_SHADES if plain else SHADES)[level]
    return Text(2 * shade, COLOURS[level]).append(f"{100 * share:3.0f}", COLOURS[level])


def demo() -> NeedleMaps:
    """What a model that learned next to nothing finds."""
    from minidsv3.corpus.needle import THINGS, word_ids
    from minidsv3.show.rehearsal import PLAN, rehearsed
    from minidsv3.training import retrieval

    run, lengths, depths, samples = rehearsed(), [40, 64], [0.0, 0.5, 1.0], 16
    found = retrieval(run.parameters, word_ids(run.tokenizer), lengths, depths, samples)
    drawn = NeedleMap("after a rehearsal", PLAN.seq_len, found.T.tolist())
    return NeedleMaps(lengths, depths, samples, 1 / len(THINGS), [drawn])


if __name__ == "__main__":
    shown(demo())
