"""MLA over a cache, both ways: keys and values unfolded for every cached token, or the query folded instead.

Every array is drawn to one scale: a column is so many numbers of a row, a line so many rows. What is cached
has a frame; it is the same in both. FLOPs and bytes of each step are those of the op catalogue in BF16, as
the bill counts them (eqs. 2, 4, 5, 10).

    naive      [k_C; v_C] = [W_UK; W_UV] c_KV    a = q^T k                      o = sum p v_C
    absorbed   q~ = W_UK^T q_C                   a = [q~; q_R]^T [c_KV; k_R]    o = W_UV sum p c_KV

Does: lay out, count, draw; run both on a small model. Does not: projections in front and W_O, alike in both.

    >>> from minidsv3.config import ModelConfig
    >>> picture = Absorption.of(ModelConfig.preset("v3"), cached=4096)
    >>> [f"{path.matrix_flops / 1e9:.2f} GFLOP, {path.bytes / 1e6:.0f} MB" for path in picture.paths]
    ['137.77 GFLOP, 647 MB', '1.17 GFLOP, 48 MB']
    >>> picture.break_even()
    164

Next: minidsv3.show.mtp_lanes
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.config import ModelConfig
from minidsv3.interpreter import Model
from minidsv3.machine import Machine, load_precision, look_up
from minidsv3.machine.trace import Row, forward_row
from minidsv3.model.mla import mla_absorbed_decode, mla_naive_decode
from minidsv3.model.rope import rotations_for
from minidsv3.show.forms import INKS, shown
from minidsv3.show.numbers import count, flops, percent, size

__all__ = ["Absorption", "Array", "Path", "Stage"]

SIDE_BY_SIDE, APART = 100, 4  # columns from which on; between the two
LINES = 5  # of the array with most rows
FRAME, UNFOLDED, OTHER = INKS[0], INKS[1], "dim"
ACROSS, UP = "▏▎▍▌▋▊▉█", "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Array:
    """A matrix that is read or made.  rows, columns: of numbers."""

    symbol: str
    rows: int
    columns: int
    kind: str = "made"  # or "cached", "unfolded"

    @property
    def bytes(self) -> int:
        """In BF16."""
        return 2 * self.rows * self.columns


@dataclass(frozen=True)
class Stage:
    """Ops, and the array they end in."""

    ops: tuple[str, ...]
    equations: tuple[str, ...]
    matrix_flops: int
    bytes: int
    array: Array


@dataclass(frozen=True)
class Path:
    """One way from cache and query to the heads' outputs."""

    name: str
    says: str
    stages: tuple[Stage, ...]

    @property
    def matrix_flops(self) -> int:
        """Of all stages."""
        return sum(stage.matrix_flops for stage in self.stages)

    @property
    def bytes(self) -> int:
        """Moved by all stages."""
        return sum(stage.bytes for stage in self.stages)


@dataclass(frozen=True)
class Absorption:
    """Both ways.  difference: largest of the outputs computed both ways, and the largest output; or None."""

    config: ModelConfig
    cached: int  # tokens
    new: int  # tokens that attend over them
    paths: tuple[Path, Path]
    difference: tuple[float, float] | None = None

    @classmethod
    def of(cls, config: ModelConfig, cached: int, new: int = 1, computed: bool = False) -> Self:
        """Count it.  cached: tokens seen, the new ones among them  computed: run both too, on random weights.

        ValueError for no tokens, or more new ones than are seen.
        """
        if not 1 <= new <= cached:
            raise ValueError(f"expected 1 <= new tokens <= cached tokens, got {new} and {cached}")
        paths = (_naive(config, cached, new), _absorbed(config, cached, new))
        return cls(config, cached, new, paths, _difference(config, cached, new) if computed else None)

    @property
    def cache(self) -> Array:
        """What is kept of every token."""
        return Array(
            "[c_KV; k_R]", self.cached, self.config.kv_lora_rank + self.config.qk_rope_head_dim, "cached"
        )

    def break_even(self) -> int | None:
        """New tokens at once from which on the naive way has fewer FLOPs; None if never."""
        c = self.config
        # what unfolding a token costs, and what a pair of query and key costs more where nothing is unfolded
        unfolding = c.kv_lora_rank * (c.qk_nope_head_dim + c.v_head_dim) * self.cached
        folding = c.kv_lora_rank * (c.qk_nope_head_dim + c.v_head_dim)
        more = (2 * c.kv_lora_rank - c.qk_nope_head_dim - c.v_head_dim) * self.cached + folding
        return int(unfolding // more) + 1 if more > 0 else None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, plain = options.max_width, options.ascii_only
        beside = width >= SIDE_BY_SIDE
        each = (width - APART) // 2 if beside else min(width, SIDE_BY_SIDE)
        frame = _Frame(self, each, plain)
        yield Text(f"{self.title}\n", "bold")
        left, right = (list(frame.panel(path)) for path in self.paths)
        if beside:
            yield from _beside(left, right, each + APART)
        else:
            yield from (*left, Text(), *right)
        yield Text(f"\n{frame.scale}", "dim")
        yield from (Text(remark, "dim") for remark in self.remarks())

    @property
    def title(self) -> str:
        """What is drawn."""
        new = "one new token" if self.new == 1 else f"{count(self.new)} new tokens"
        return f"{new} over {count(self.cached)} cached, {self.config.n_heads} heads, one layer"

    def remarks(self) -> Iterator[str]:
        """What the two come to."""
        naive, absorbed = self.paths
        less = [
            (f"{a / b:.3g}x fewer" if a >= b else f"{b / a:.3g}x more") + f" {what}"
            for a, b, what in (
                (naive.matrix_flops, absorbed.matrix_flops, "FLOPs"),
                (naive.bytes, absorbed.bytes, "bytes"),
            )
        ]
        yield f"absorbed: {', '.join(less)}; cached either way: {size(self.cache.bytes)} in BF16"
        if (first := self.break_even()) and first <= self.cached:
            yield f"from {count(first)} new tokens at once on, as in prefill, naive has fewer FLOPs"
        if self.difference:
            apart, largest = self.difference
            said = f"outputs differ by {percent(apart / largest)} of the largest"
            yield f"computed both ways in float32, random weights: {said}"

    def describe(self) -> str:
        """A line for each stage."""
        said = [self.title, f"cached: {_named(self.cache)}, {size(self.cache.bytes)}"]
        for path in self.paths:
            said.append(f"{path.name}: {path.says}")
            said += [f"{path.name}, {_told(stage)}" for stage in path.stages]
            said.append(f"{path.name}, in all: {flops(path.matrix_flops)}, {size(path.bytes)} moved")
        return "\n".join([*said, *self.remarks()])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        paths = {
            path.name: asdict(path) | {"matrix_flops": path.matrix_flops, "bytes": path.bytes}
            for path in self.paths
        }
        table = {"cached": self.cached, "new": self.new, "cache": asdict(self.cache), "paths": paths}
        apart, largest = self.difference or (None, None)
        return table | {
            "break_even_new_tokens": self.break_even(),
            "largest_difference": apart,
            "largest_output": largest,
        }


def _beside(left: list[Text], right: list[Text], width: int) -> Iterator[Text]:
    """Two panels' lines, the last ones level.  width: of the left one and what stands between."""
    tall = max(len(left), len(right))
    for lines in (left, right):
        lines[-1:-1] = [Text()] * (tall - len(lines))
    for one, other in zip(left, right, strict=True):
        yield Text(no_wrap=True).append_text(one).append(" " * (width - len(one))).append_text(other)


def _named(array: Array) -> str:
    return f"{array.symbol} {count(array.rows)} x {count(array.columns)}"


def _told(stage: Stage) -> str:
    work = f"{flops(stage.matrix_flops)}, {size(stage.bytes)} moved"
    return f"{' and '.join(stage.ops)}: {_named(stage.array)}, {work}"


# ---- counting ---------------------------------------------------------------------------------------------


def _row(op: str, *shapes: tuple[int, ...]) -> Row:
    """An op's row in BF16.  shapes: operands, then result."""
    return forward_row(load_precision("bf16"), 1, look_up(op), shapes, ["float32"] * len(shapes))


def _stage(array: Array, *rows: Row) -> Stage:
    equations = dict.fromkeys(eq for row in rows for eq in look_up(row.op).equations)
    work = sum(row.matrix_flops for row in rows), sum(row.total_bytes for row in rows)
    return Stage(tuple(row.op for row in rows), tuple(equations), *work, array)


def _naive(c: ModelConfig, S: int, T: int) -> Path:
    H, E, V = c.n_heads, c.qk_head_dim, c.v_head_dim
    C, U = c.kv_lora_rank, c.n_heads * (c.qk_nope_head_dim + c.v_head_dim)
    stages = (
        _stage(Array("[k_C; v_C]", S, U, "unfolded"), _row("mla.cached_kv_up", (S, C), (U, C), (S, U))),
        _stage(
            Array("p", H * T, S),
            _row("mla.scores", (H, T, E), (H, E, S), (H, T, S)),
            _row("mla.softmax", (H, T, S), (H, T, S)),
        ),
        _stage(Array("o", H * T, V), _row("mla.values", (H, T, S), (H, S, V), (H, T, V))),
    )
    return Path("naive", "unfold keys and values of all tokens", stages)


def _absorbed(c: ModelConfig, S: int, T: int) -> Path:
    H, E, V, C = c.n_heads, c.qk_nope_head_dim, c.v_head_dim, c.kv_lora_rank
    A = C + c.qk_rope_head_dim
    stages = (
        _stage(Array("[q~; q_R]", H * T, A), _row("mla.absorb_q", (H, T, E), (H, E, C), (H, T, C))),
        _stage(
            Array("p", H * T, S),
            _row("mla.absorbed_scores", (H * T, A), (A, S), (H * T, S)),
            _row("mla.softmax", (H, T, S), (H, T, S)),
        ),
        _stage(Array("o~", H * T, C), _row("mla.absorbed_values", (H * T, S), (S, C), (H * T, C))),
        _stage(Array("o", H * T, V), _row("mla.absorb_v", (H, T, C), (H, C, V), (H, T, V))),
    )
    return Path("absorbed", "fold the query, read the cache itself", stages)


def _difference(config: ModelConfig, S: int, T: int) -> tuple[float, float]:
    """Layer 0 on random weights and inputs, both ways.  ->  largest difference, largest output."""
    w = Model.initialise(config).parameters.weights.layers[0].attention
    rng = np.random.default_rng(0)
    h = rng.standard_normal((T, config.dim), np.float32)  # [T, D]
    turn = rotations_for(config, length=S)[S - T : S]  # [T, d_R / 2]
    seen = rng.standard_normal((1, S, config.kv_lora_rank + config.qk_rope_head_dim), np.float32)
    machine, scale = Machine(), config.softmax_scale
    u, v = (
        attend(machine, h, w, turn, scale, seen.copy(), S - T)
        for attend in (mla_naive_decode, mla_absorbed_decode)
    )
    return float(np.abs(u - v).max()), float(np.abs(u).max())


# ---- drawing ----------------------------------------------------------------------------------------------


class _Frame:
    """Both panels' scale.  width: columns of a panel."""

    def __init__(self, picture: Absorption, width: int, plain: bool) -> None:
        self.cache, self.width, self.plain = picture.cache, width, plain
        arrays = [self.cache, *(stage.array for path in picture.paths for stage in path.stages)]
        self.column = max(array.columns for array in arrays) / (width - 4)
        self.line = max(array.rows for array in arrays) / LINES

    @property
    def scale(self) -> str:
        """In words."""
        frame = "#" if self.plain else "┃"
        each = f"a column is {self.column:,.3g} numbers, a line {self.line:,.3g} rows"
        return f"to scale: {each}; {frame} is cached"

    def panel(self, path: Path) -> Iterator[Text]:
        """One way, from top to bottom."""
        yield Text().append(path.name, "bold cyan").append(f"  {path.says}")
        yield from self._framed()
        for stage in path.stages:
            yield from self._step(stage)
        yield Text()
        yield self._line("in all", f"{flops(path.matrix_flops):>11}  {size(path.bytes):>8}", "bold")

    def _line(self, left: str, right: str, style: str = "") -> Text:
        """A line, its end flush right."""
        room = max(self.width - len(right) - 1, 0)
        return Text(f"{left[:room]:{room}} {right}", style, no_wrap=True, overflow="crop")

    def _framed(self) -> Iterator[Text]:
        """The cache in its frame."""
        side, across, corners = ("#", "#", "####") if self.plain else ("┃", "━", "┏┓┗┛")
        yield Text(corners[0] + across * (self.width - 2) + corners[1], FRAME)
        told, held = f"{_named(self.cache)}, cached", size(self.cache.bytes)
        inside = [f"{told:{self.width - 4 - len(held)}}{held}", *self._block(self.cache)]
        for i, row in enumerate(inside):
            line = Text(no_wrap=True).append(f"{side} ", FRAME)
            line.append(f"{row:{self.width - 4}}", "bold" if i == 0 else FRAME)
            yield line.append(f" {side}", FRAME)
        yield Text(corners[2] + across * (self.width - 2) + corners[3], FRAME)

    def _step(self, stage: Stage) -> Iterator[Text]:
        arrow = "v" if self.plain else "↓"
        work = f"{flops(stage.matrix_flops):>11}  {size(stage.bytes):>8}"
        for i, op in enumerate(stage.ops):
            yield self._line(f"  {arrow} {op}", "" if i else work, "cyan")
        yield self._line(f"  {_named(stage.array)}", f"eq. {', '.join(stage.equations)}", "bold")
        style = UNFOLDED if stage.array.kind == "unfolded" else OTHER
        yield from (Text(f"  {row}", style, no_wrap=True) for row in self._block(stage.array))

    def _block(self, array: Array) -> list[str]:
        """The array to scale: whole cells, and in its last column or its only line parts of one."""
        lines, columns = array.rows / self.line, array.columns / self.column
        if self.plain:
            return [self._plain_row(lines, columns)] * max(1, round(lines))
        shade = "▒" if array.kind == "unfolded" else "█"
        if lines < 1 and columns < 1:
            return ["▖"]
        if lines < 1:
            return [UP[max(round(8 * lines), 1) - 1] * max(1, round(columns))]
        whole, part = divmod(round(8 * columns), 8)
        row = shade * int(whole) + (ACROSS[part - 1] if part and array.kind != "unfolded" else "")
        return [row or ACROSS[0]] * max(1, round(lines))

    def _plain_row(self, lines: float, columns: float) -> str:
        """A row in ASCII: thin ones are _ and |."""
        if lines < 1:
            return "_" * round(columns) or "."
        return "=" * round(columns) or "|"


def demo() -> Absorption:
    """A nano model, computed both ways too."""
    return Absorption.of(ModelConfig.preset("nano"), cached=512, computed=True)


if __name__ == "__main__":
    shown(demo())
