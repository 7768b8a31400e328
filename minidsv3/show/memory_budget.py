"""The memory budget: what lies in one GPU's memory, part on part, against what the GPU has.

Budgets of the same parts, such as with and without recomputation, are bars below each other on one scale. A
part has the same character in every bar; a line across the bars is where the memory ends, and what is
beyond it does not fit. A bar that is far too long ends in an arrow, the table has its bytes.

Does: draw, tabulate, put into words. Does not: count bytes (`minidsv3.cost.memory`).

    >>> from minidsv3.show.svg import plain_text
    >>> budget = MemoryBudget({"": {"weights": 30 * 10**9, "KV cache": 15 * 10**9}}, capacity=80 * 10**9)
    >>> print(plain_text(budget, width=60, ascii_only=True))
    0 B         20 GB         40 GB         60 GB         80 GB
    +-------------+-------------+-------------+-------------+--
    #####################@@@@@@@@@@@                        |
                                            memory, 80.0 GB ^
    <BLANKLINE>
       part        bytes, share
    ---------------------------
    #  weights   30.0 GB  37.5%
    @  KV cache  15.0 GB  18.8%
       together  45.0 GB  56.2%
       free      35.0 GB  43.8%

Next: minidsv3.show.hardware_table
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.show.axes import ruler, shortened
from minidsv3.show.forms import shown
from minidsv3.show.legend import legend
from minidsv3.show.numbers import size

__all__ = ["MemoryBudget"]

FILLS, PLAIN_FILLS = "█▓▒░╱╳╲·", "#@=-/x\\."
COLOURS = ("cyan", "blue", "magenta", "yellow", "white", "green")  # red is the end of the memory
MOST_COLUMNS = 76  # of a bar
BEYOND = 1.6  # capacities that a scale shows; a longer bar ends in an arrow


@dataclass(frozen=True)
class MemoryBudget:
    """Bytes by part, for each budget by name; one may be named "".  capacity: bytes; memory: whose."""

    budgets: Mapping[str, Mapping[str, int]]
    capacity: int
    memory: str = "memory"

    @property
    def parts(self) -> list[str]:
        """Parts of any budget, as they come, without those that are nothing everywhere."""
        found: dict[str, int] = {}
        for budget in self.budgets.values():
            for part, n in budget.items():
                found[part] = max(found.get(part, 0), n)
        return [part for part, n in found.items() if n]

    def total(self, name: str) -> int:
        """Bytes of one budget."""
        return sum(self.budgets[name].values())

    def free(self, name: str) -> int:
        """Bytes that one budget leaves; below zero if it does not fit."""
        return self.capacity - self.total(name)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._bars(options.max_width, options.ascii_only)
        yield Text()
        rows = self._rows(options.ascii_only)
        colours = [COLOURS[i % len(COLOURS)] for i in range(len(self.parts))]
        yield from legend(rows, colours, options, right=list(rows[0])[2:])
        for name in self.budgets:
            if (free := self.free(name)) < 0:
                yield Text(f"{f'{name}: ' if name else ''}does not fit, {size(-free)} too much", "bold red")
        if any(self.total(name) > self._whole() for name in self.budgets):
            arrow = _arrow(options.ascii_only)
            yield Text(f"{arrow} the bar is longer than there is room: its bytes are in the table", "dim")

    # ---- bars ---------------------------------------------------------------------------------------------

    def _whole(self) -> float:
        """Bytes from one end of the scale to the other."""
        longest = max(map(self.total, self.budgets))
        return min(max(self.capacity * 1.05, longest * 1.02), self.capacity * BEYOND)

    def _bars(self, width: int, plain: bool) -> Iterator[Text]:
        whole = self._whole()
        names = max(map(len, self.budgets))
        gap = names + 2 if names else 0
        columns = max(min(width - gap - 1, MOST_COLUMNS), 8)
        end = round(self.capacity / whole * columns)
        labels, rule = ruler(whole, columns, _written, plain)
        yield Text(" " * gap + labels, "dim", no_wrap=True)
        yield Text(" " * gap + rule, "dim", no_wrap=True)
        for name, budget in self.budgets.items():
            line = Text(f"{name:{gap}}", no_wrap=True, overflow="crop")
            yield line.append_text(self._bar(budget, whole, columns, end, plain))
        edge = f"{self.memory}, {size(self.capacity)} {'^' if plain else '▲'}"
        yield Text(f"{edge:>{gap + end + 1}}", "bold red", no_wrap=True)

    def _bar(self, budget: Mapping[str, int], whole: float, columns: int, end: int, plain: bool) -> Text:
        """Stretches of the parts, and where the memory ends."""
        bar, at = Text(), 0.0
        for i, part in enumerate(self.parts):
            n = budget.get(part, 0)
            first, last = round(at / whole * columns), round((at + n) / whole * columns)
            bar.append(_fill(i, plain) * (last - first), COLOURS[i % len(COLOURS)])
            at += n
        bar.truncate(columns, pad=True)
        if at > whole:
            bar.right_crop()
            bar.append(_arrow(plain), "bold red")
        front, behind = bar[:end], bar[end + 1 :]
        return front.append("|" if plain else "┃", "bold red").append_text(behind)

    # ---- the table ----------------------------------------------------------------------------------------

    def _rows(self, plain: bool) -> list[dict[str, str]]:
        """A row a part; each budget has its bytes and their share of the memory in one column."""
        rows = [{"": _fill(i, plain), "part": part} for i, part in enumerate(self.parts)]
        rows += [{"": "", "part": "together"}, {"": "", "part": "free"}]
        for name, budget in self.budgets.items():
            amounts = [*(budget.get(part, 0) for part in self.parts), self.total(name), self.free(name)]
            shares = [f"{n / self.capacity:.1%}" for n in amounts]
            wide = max(map(len, shares))
            for row, n, share in zip(rows, amounts, shares, strict=True):
                row[name or "bytes, share"] = f"{'-' if n < 0 else ''}{size(abs(n))}  {share:>{wide}}"
        return rows

    def describe(self) -> str:
        """A sentence for each budget and part."""
        said = [f"{self.memory}: {size(self.capacity)}"]
        for name, budget in self.budgets.items():
            parts = ", ".join(f"{part} {size(budget[part])}" for part in self.parts if budget.get(part))
            free = self.free(name)
            rest = f"{size(free)} free" if free >= 0 else f"{size(-free)} too much: it does not fit"
            head = f"{name}: " if name else ""
            said.append(f"{head}{parts}; together {size(self.total(name))}, {rest}")
        return "\n".join(said)


def _fill(i: int, plain: bool) -> str:
    fills = PLAIN_FILLS if plain else FILLS
    return fills[i % len(fills)]


def _arrow(plain: bool) -> str:
    """The end of a bar that goes on."""
    return ">" if plain else "»"


def _written(amount: float) -> str:
    return shortened(size(amount))


def demo() -> MemoryBudget:
    """One GPU that serves V3, by the attention its heads had."""
    from minidsv3.config import ModelConfig
    from minidsv3.cost import kv_bytes_mha, kv_bytes_per_token
    from minidsv3.hardware import load_hardware
    from minidsv3.show.phase_page import priced

    config, hardware, phase = ModelConfig.preset("v3"), load_hardware("h800"), priced("decode")
    tokens = phase.kv_bytes // kv_bytes_per_token(config)
    caches = {"MLA": phase.kv_bytes, "MHA": tokens * kv_bytes_mha(config)}
    budgets = {name: {"weights": phase.weight_bytes, "KV cache": size} for name, size in caches.items()}
    return MemoryBudget(budgets, int(hardware["chip.hbm.capacity"].si), f"memory of the {hardware.name}")


if __name__ == "__main__":
    shown(demo())
