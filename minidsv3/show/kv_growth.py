"""How the cache of one sequence grows with its length, by model and by kind of attention.

Both axes are logarithmic: every cache is a straight line of the same slope, and how far two lines are apart
is the ratio of their bytes a token. The level line is a GPU's memory; right of where a line meets it, one
sequence alone does not fit.

Does: draw, tabulate, put into words. Does not: count a model's bytes (`minidsv3.cost.per_token`).

    >>> growth = KVGrowth({"MLA": 70_272, "MHA": 3_997_696}, [4096, 131_072], capacity=84_943_110_144)
    >>> growth.rows(width=80)[1]  # doctest: +ELLIPSIS
    {'': 'B', 'cache of': 'MHA', 'B a token': '3,997,696', 'ratio': '56.89', ...}

Next: minidsv3.show.memory_budget
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from minidsv3.show.axes import Chart, LogScale, shortened
from minidsv3.show.forms import shown
from minidsv3.show.legend import legend, width_of, without
from minidsv3.show.numbers import count, size

__all__ = ["KVGrowth", "tokens"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "white")  # red is the memory
MOST_COLUMNS = 100  # of the picture
ROWS_A_DECADE = 4
ALONE = "of the cache alone, no weights beside it; the model may read fewer"


@dataclass(frozen=True)
class KVGrowth:
    """Bytes a token by model, the first one being what the others are compared with.

    lengths: tokens, growing, of the table; the picture begins at the first. capacity: bytes; memory: whose.
    """

    models: Mapping[str, int]
    lengths: Sequence[int]
    capacity: int
    memory: str = "memory"

    def fits(self, name: str) -> int:
        """Tokens of a model whose cache fills the memory."""
        return self.capacity // self.models[name]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("bytes of one sequence's cache", "dim")
        yield from self._picture(options)
        yield Text()
        yield from self._table(options)
        first = next(iter(self.models))
        yield Text(f"ratio: of bytes a token, to {first}; K is 1024 tokens, kB 1000 bytes", "dim")
        yield Text(f"tokens fit: {ALONE}", "dim")

    def _picture(self, options: ConsoleOptions) -> Iterator[Text]:
        across, up = self._scales()
        columns = max(min(options.max_width, MOST_COLUMNS) - 20, 16)
        rows = min(max(round(ROWS_A_DECADE * up.length), 8), 20)
        chart = Chart(across, up, columns, rows, options.ascii_only)
        chart.line([(across.low, self.capacity), (across.high, self.capacity)], "bold red")
        for i, each in enumerate(self.models.values()):
            ends = [(length, length * each) for length in (across.low, across.high)]
            chart.line(ends, COLOURS[i % len(COLOURS)])
        for i, each in enumerate(self.models.values()):
            self._letter(chart, i, each)
        ticks = [float(4**power) for power in range(16) if across.low <= 4**power <= across.high]
        margin = [(float(self.capacity), size(self.capacity), "bold red")]
        yield from chart.drawn(_tick, tokens, columns=ticks, margin=margin)
        arrow = "-->" if options.ascii_only else "→"
        yield Text(f"        tokens {arrow}   level line: {self.memory}, {size(self.capacity)}", "dim")

    def _letter(self, chart: Chart, i: int, each: int) -> None:
        """A line's letter, wherever it comes to a third of its height and has room."""
        style = f"bold {COLOURS[i % len(COLOURS)]}"
        for column in range(1 + 2 * i, chart.columns, 18):
            length = chart.across.low * (chart.across.high / chart.across.low) ** (
                column / (chart.columns - 1)
            )
            if chart.up.share(length * each) <= 1:
                chart.mark(length, length * each, LETTERS[i % len(LETTERS)], style, exactly=True)

    def _scales(self) -> tuple[LogScale, LogScale]:
        """From the first length to where the smallest cache fills the memory."""
        low, least = self.lengths[0], min(self.models.values())
        high = max(self.lengths[-1], 1.5 * self.capacity / least)
        return LogScale(low, high), LogScale(low * least, 2 * self.capacity)

    def rows(self, width: int) -> list[dict[str, str]]:
        """A row a model, in so many columns of the screen; the shortest lengths are left out first."""
        first = next(iter(self.models.values()))
        rows = [
            {"": LETTERS[i % len(LETTERS)], "cache of": name, "B a token": count(each)}
            | {"ratio": f"{each / first:.2f}"}
            | {f"at {tokens(length)}": size(length * each) for length in self.lengths}
            | {"tokens fit": count(self.fits(name))}
            for i, (name, each) in enumerate(self.models.items())
        ]
        for length in self.lengths:
            if width_of(rows) > width:
                rows = [without(row, f"at {tokens(length)}") for row in rows]
        return rows

    def _table(self, options: ConsoleOptions) -> Iterator[RenderableType]:
        rows = self.rows(options.max_width)
        right = [name for name in rows[0] if name not in ("", "cache of")]
        colours = [f"bold {COLOURS[i % len(COLOURS)]}" for i in range(len(rows))]
        yield from legend(rows, colours, options, right)

    def describe(self) -> str:
        """A sentence for each model."""
        first = next(iter(self.models))
        said = [f"cache of one sequence against {self.memory}, {size(self.capacity)}"]
        for name, each in self.models.items():
            at = ", ".join(f"{size(length * each)} at {tokens(length)}" for length in self.lengths)
            ratio = "" if name == first else f", {each / self.models[first]:.2f} times {first}"
            said.append(
                f"{name}: {count(each)} bytes a token{ratio}; {at}; {count(self.fits(name))} tokens fit"
            )
        return "\n".join([*said, f"tokens that fit: {ALONE}"])


def _tick(value: float) -> str:
    return shortened(size(value))


def tokens(length: float) -> str:
    """A number of tokens, K of 1024 and M of 1024 K where these come out even.

    >>> tokens(4096), tokens(2**20), tokens(5000)
    ('4K', '1M', '5,000')
    """
    whole = round(length)
    for unit, name in ((2**20, "M"), (2**10, "K")):
        if whole and whole % unit == 0:
            return f"{whole // unit}{name}"
    return count(whole)


def demo() -> KVGrowth:
    """V3's cache beside what its heads would need without MLA."""
    from minidsv3.config import ModelConfig
    from minidsv3.cost import kv_bytes_mha, kv_bytes_mqa, kv_bytes_per_token
    from minidsv3.hardware import load_hardware

    config, hardware = ModelConfig.preset("v3"), load_hardware("h800")
    models = {"MLA": kv_bytes_per_token(config), "MQA": kv_bytes_mqa(config), "MHA": kv_bytes_mha(config)}
    capacity = int(hardware["chip.hbm.capacity"].si)
    return KVGrowth(models, [1024, 4096, 32_768], capacity, f"memory of the {hardware.name}")


if __name__ == "__main__":
    shown(demo())
