"""A context extension: what longer text is worth to a model before, with YaRN alone, and after each phase.

Rows are stretches of positions in windows of the new length, columns models; the bits per byte of held-out
text. The numbers come as the plain values of report.json, the curve as rows of metrics.jsonl.

Does: lay out. Does not: measure anything.

    >>> from minidsv3.show.svg import plain_text
    >>> found = {"as trained": [2.0, 3.5], "YaRN, untrained": [2.1, 2.5]}
    >>> table = PositionTable([0, 64, 128], found, {"as trained": 2.75, "YaRN, untrained": 2.3})
    >>> print(plain_text(table, width=60, ascii_only=True))
    positions  as trained  YaRN, untrained
    --------------------------------------
    0-64            2.000            2.100
    64-128          3.500            2.500
    all             2.750            2.300

Next: minidsv3.show.comparison
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from minidsv3.show.curve import Curve
from minidsv3.show.dashboard import loss_series
from minidsv3.show.forms import shown
from minidsv3.show.needle import NeedleMaps
from minidsv3.show.numbers import count, counted, duration
from minidsv3.show.tables import facts_table, plain_table

__all__ = ["PositionTable", "context_page", "context_picture"]

FIRST = 11  # columns of the stretches


@dataclass(frozen=True)
class PositionTable:
    """Bits per byte by position.  edges: [n + 1]; bits: n for each model; overall: of all positions."""

    edges: Sequence[int]
    bits: Mapping[str, Sequence[float]]
    overall: Mapping[str, float]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = list(self.bits)
        fit = max(1, (options.max_width - FIRST) // (max(map(len, names)) + 2))
        each = -(-len(names) // -(-len(names) // fit))  # as evenly as they can be
        for start in range(0, len(names), each):
            if start:
                yield Text()
            yield self._table(names[start : start + each])

    def _table(self, names: Sequence[str]) -> Table:
        table = plain_table()
        table.add_column("positions", no_wrap=True)
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        for i, (first, last) in enumerate(pairwise(self.edges)):
            table.add_row(f"{first}-{last}", *(f"{self.bits[name][i]:.3f}" for name in names))
        table.add_row("all", *(f"{self.overall[name]:.3f}" for name in names))
        return table

    def describe(self) -> str:
        """A sentence for each model."""
        ends = f"positions up to {self.edges[1]}", f"from {self.edges[-2]} on"
        return "\n".join(
            f"{name}: {bits[0]:.3f} bits a byte at {ends[0]}, {bits[-1]:.3f} {ends[1]}, "
            f"{self.overall[name]:.3f} in all"
            for name, bits in self.bits.items()
        )


def context_page(report: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> RenderableType:
    """Everything.  rows: of all phases."""
    curve = [_heading("training loss, all phases"), Curve(loss_series(rows), unit="nats a token")]
    wall = report["wall"]
    times = {"time": f"training {duration(wall['train'])}, measuring {duration(wall['measure'])}"}
    return Group(context_picture(report), *curve, Text(), facts_table(times))


def context_picture(report: Mapping[str, Any]) -> RenderableType:
    """Facts, bits per byte by position, heat maps."""
    found = report["positions"]
    parts: list[RenderableType] = [
        facts_table(_facts(report)),
        _heading("held-out text at the new length, bits per byte by position"),
        PositionTable(found["edges"], found["bits_per_byte"], found["overall"]),
    ]
    if report["needle"]:
        parts += [_heading("needle in a haystack"), NeedleMaps.from_dict(report["needle"])]
    return Group(*parts)


def _heading(text: str) -> RenderableType:
    return Text(f"\n{text}", "bold cyan")


def _facts(report: Mapping[str, Any]) -> dict[str, str]:
    recipe, scale = report["recipe"], report["softmax_scale"]
    trained = report["trained_seq_len"]
    facts = {
        "extended": f"{report['extended']} (preset {report['preset']}, seed {report['seed']})",
        "text": report["source"],
        "context": f"{count(trained)} -> {counted(recipe['phases'][-1]['seq_len'], 'token')}",
        "YaRN": f"s = {recipe['factor']:g}, alpha = {recipe['beta_slow']:g}, beta = {recipe['beta_fast']:g}; "
        f"softmax scale {scale['before']:.4f} -> {scale['after']:.4f}",
    }
    for i, phase in enumerate(report["phases"]):
        losses = f"{phase['first_losses']['main']:.3f} -> {phase['last_losses']['main']:.3f}"
        facts[f"phase {i + 1}"] = (
            f"{counted(phase['steps'], 'step')} of {phase['batch_sequences']} x {phase['seq_len']} tokens "
            f"at rate {phase['learning_rate']:g}, main loss {losses}"
        )
    return facts


def demo() -> PositionTable:
    """Bits per byte by position before and after a rehearsal, in windows of the trained length."""
    from minidsv3.interpreter import Model
    from minidsv3.show.rehearsal import CONFIG, PLAN, rehearsed
    from minidsv3.training import bits_by_position, token_sizes

    run, T = rehearsed(), PLAN.seq_len
    sizes = token_sizes(run.tokenizer, CONFIG.vocab_size)
    models = {"untrained": Model.initialise(CONFIG).parameters, "rehearsed": run.parameters}
    found = {
        name: bits_by_position(parameters, run.held_out, sizes, T, T // 4)
        for name, parameters in models.items()
    }
    bits = {name: one.bits_per_byte for name, one in found.items()}
    return PositionTable(found["rehearsed"].edges, bits, {name: one.overall for name, one in found.items()})


if __name__ == "__main__":
    shown(demo())
