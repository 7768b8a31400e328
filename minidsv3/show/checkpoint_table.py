"""A checkpoint as a table of its parts, beside what its config says; its tensors as a list; what is wrong.

Numbers stand with all their digits, since the point of counting a checkpoint is that it comes out exactly.
Where columns do not fit beside each other they stand below each other, nothing cut.

Does: lay out an `Inspection`, a conversion's and a synthetic folder's figures. Does not: look into files.

    >>> from minidsv3.show.svg import plain_text
    >>> row = {"name": "lm_head.weight", "dtype": "BF16", "shape": [8, 4], "bytes": 64, "files": ["a", "b"]}
    >>> print(plain_text(TensorList([row]), width=60))
    lm_head.weight  BF16  8x4  64 B  a and 1 more
    1 tensor, 64 B

Next: minidsv3.show.absorption
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.checkpoint.inspect import Finding, Inspection, PartRow
from minidsv3.config import ModelConfig
from minidsv3.show.forms import shown
from minidsv3.show.numbers import count, counted, shape, size
from minidsv3.show.tables import facts_table, in_parts

__all__ = ["CheckpointPage", "FactsPage", "TensorList", "beside", "model_words"]

RIGHT = ("tensors", "numbers", "bytes", "by config", "published")
FEW = 5  # findings of a kind that are shown unless all are asked for
LAYOUTS = {
    "hugging-face": "Hugging Face's layout",
    "official": "DeepSeek's own layout",
    "file": "one safetensors file",
}


@dataclass(frozen=True)
class CheckpointPage:
    """What `checkpoint show` says.  every: list all findings."""

    found: Inspection
    every: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(str(self.found.path), "bold cyan")
        yield facts_table(self.facts())
        yield Text()
        yield from in_parts(self.rows(), options, RIGHT)
        yield Text()
        for note in self.found.notes:
            yield Text(f"note: {note}")
        yield Text(self.verdict(), "bold green" if self.found.ok else "bold red")
        for line in self.lines():
            yield Text(line)

    def facts(self) -> dict[str, str]:
        """What kind of folder, and of which model."""
        found, totals = self.found, self.found.totals
        facts = {"layout": LAYOUTS[found.layout]}
        if found.layout == "official":
            facts["layout"] += f", {counted(found.ranks, 'rank')}"
        facts["files"] = f"{counted(totals['files'], 'file')}, {count(totals['file_bytes'])} bytes"
        facts["tensors"] = f"{count(totals['tensors'])}, {count(totals['bytes'])} bytes"
        if found.config:
            facts |= model_words(found.config)
        if isinstance(found.quantisation, Mapping):
            side = shape(found.quantisation["weight_block_size"])
            facts["quantisation"] = f"{found.quantisation.get('fmt', 'e4m3')}, a scale for each {side} block"
        return facts

    def rows(self) -> list[dict[str, str]]:
        """The table: parts, then the main model and all of it."""
        rows = [_cells(row) for row in self.found.parts]
        totals, config = self.found.totals, self.found.config
        expected = config.parameter_counts()["total"] if config else None
        blank = {"bytes": "", "formats": ""}
        main = {"part": "main model", "tensors": "", "numbers": count(totals["main"])} | blank
        whole = {"part": "all", "tensors": count(totals["tensors"]), "numbers": count(totals["elements"])}
        whole |= {"bytes": size(totals["bytes"]), "formats": "", "by config": self._whole_verdict()}
        return [*rows, main | {"by config": _verdict(totals["main"], expected)}, whole]

    def _whole_verdict(self) -> str:
        """Of all numbers, where the folder is of the published kind: the config's blocks, and copies."""
        found, config = self.found, self.found.config
        if config is None or not isinstance(found.quantisation, Mapping):
            return ""
        published = found.quantisation["weight_block_size"] == [config.fp8_block] * 2
        copies = sum(row.tensors for row in found.parts if row.part == "MTP copies")
        if not published or copies != 2 * config.n_mtp_layers:
            return ""
        return _verdict(found.totals["elements"], config.parameter_counts()["checkpoint"])

    def verdict(self) -> str:
        """One sentence."""
        found = self.found
        looked = "all numbers read" if found.verified else "numbers not read (--verify reads them)"
        if not found.ok:
            kinds = dict.fromkeys(finding.kind for finding in found.findings)
            each = (f"{sum(one.kind == kind for one in found.findings):,} {kind}" for kind in kinds)
            return f"{counted(len(found.findings), 'finding')}: {', '.join(each)}; {looked}"
        if found.config is None:
            return f"nothing wrong in it; {looked}"
        return f"names, shapes, formats and scales are what the config says; {looked}"

    def lines(self) -> list[str]:
        """The findings, the first few of each kind."""
        said: list[str] = []
        for kind in dict.fromkeys(finding.kind for finding in self.found.findings):
            of_kind = [finding for finding in self.found.findings if finding.kind == kind]
            shown = of_kind if self.every else of_kind[:FEW]
            said += [f"{kind}: {_told(finding)}" for finding in shown]
            if len(of_kind) > len(shown):
                said.append(f"{kind}: and {len(of_kind) - len(shown):,} more (--all)")
        return said

    def describe(self) -> str:
        """The page in words."""
        facts = "; ".join(f"{name} {value}" for name, value in self.facts().items())
        rows = ["; ".join(f"{name} {cell}" for name, cell in row.items() if cell) for row in self.rows()]
        notes = [f"note: {note}" for note in self.found.notes]
        return "\n".join([str(self.found.path), facts, *rows, *notes, self.verdict(), *self.lines()])


def _cells(row: PartRow) -> dict[str, str]:
    return {
        "part": row.part,
        "tensors": count(row.tensors),
        "numbers": count(row.elements),
        "bytes": size(row.bytes),
        "formats": ", ".join(row.dtypes),
        "by config": _verdict(row.elements, row.expected),
    }


def _verdict(got: int, expected: int | None) -> str:
    if expected is None:
        return ""
    return "equal" if got == expected else f"{got - expected:+,}"


def _told(finding: Finding) -> str:
    where = f"  ({finding.file})" if finding.file else ""
    return f"{finding.tensor}: expected {finding.expected}, got {finding.got}{where}"


def model_words(config: ModelConfig) -> dict[str, str]:
    """A config in four lines."""
    dense = f"{config.n_layers} ({config.n_dense_layers} dense), width {config.dim}"
    mtp = f", {counted(config.n_mtp_layers, 'MTP module')}" if config.n_mtp_layers else ""
    latents = f"latents of {config.q_lora_rank} for q and {config.kv_lora_rank} for kv"
    if not config.q_lora_rank:
        latents = f"a latent of {config.kv_lora_rank} for kv, none for q"
    experts = f"{config.n_routed_experts} routed ({config.n_activated_experts} active), "
    return {
        "layers": dense + mtp,
        "attention": f"{config.n_heads} heads, {latents}",
        "experts": experts + f"{config.n_shared_experts} shared, width {config.moe_inter_dim}",
        "vocabulary": count(config.vocab_size),
    }


@dataclass(frozen=True)
class TensorList:
    """Tensors, a line each where it fits."""

    rows: Sequence[Mapping[str, Any]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = [_tensor_cells(row) for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        if sum(widths) + 2 * len(widths) <= options.max_width:
            lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
        else:  # the name on a line of its own
            lines = [f"{row[0]}\n    {', '.join(row[1:])}" for row in cells]
        total = size(sum(row["bytes"] for row in self.rows))
        yield Text("\n".join([*lines, f"{counted(len(self.rows), 'tensor')}, {total}"]))

    def describe(self) -> str:
        """The list in words."""
        return "\n".join(", ".join(_tensor_cells(row)) for row in self.rows)


def _tensor_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    first, more = row["files"][0], len(row["files"]) - 1
    place = f"{first} and {more} more" if more else first
    return row["name"], row["dtype"], shape(row["shape"]), size(row["bytes"]), place


@dataclass(frozen=True)
class FactsPage:
    """A title, facts, and figures beside others.  beside: rows of equal keys, the first a name."""

    title: str
    facts: Mapping[str, str]
    figures: Sequence[Mapping[str, str]] = ()
    notes: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, "bold cyan")
        yield facts_table(self.facts)
        if self.figures:
            yield Text()
            yield from in_parts(self.figures, options, (*RIGHT, "written"))
        for note in self.notes:
            yield Text(f"note: {note}")

    def describe(self) -> str:
        """The page in words."""
        facts = [f"{name}: {value}" for name, value in self.facts.items()]
        figures = ["; ".join(f"{name} {cell}" for name, cell in row.items()) for row in self.figures]
        return "\n".join([self.title, *facts, *figures, *(f"note: {note}" for note in self.notes)])


def beside(written: Mapping[str, int], published: Mapping[str, Any]) -> list[dict[str, str]]:
    """Counts beside published ones of the same name, with the verdict.

    >>> beside({"files": 163, "tensors": 91990}, {"files": 163, "tensors": 91991})[1]["verdict"]
    '-1'
    """
    return [
        {
            "figure": name,
            "written": count(value),
            "published": count(published[name]),
            "verdict": _verdict(value, published[name]),
        }
        for name, value in written.items()
        if name in published
    ]


def demo() -> CheckpointPage:
    """A small model that was just written to a folder that is gone again."""
    import tempfile
    from dataclasses import replace
    from pathlib import Path

    from minidsv3.checkpoint.inspect import inspect_checkpoint
    from minidsv3.show.rehearsal import rehearsed

    with tempfile.TemporaryDirectory() as folder:
        rehearsed().model.save(folder)
        return CheckpointPage(replace(inspect_checkpoint(Path(folder)), path=Path("a model")))


if __name__ == "__main__":
    shown(demo())
