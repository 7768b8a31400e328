"""A phase's bill as a page: what one GPU computes and sends, by op, part, precision; roofline; totals.

Where a deployment was profiled, the bill's lower bounds stand beside the measured times. Two further tables
say what a change makes of a bill, and where each number of it is from.

Does: lay out a `PhaseBill`. Does not: price, draw the roofline (`minidsv3.show.roofline`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.cost import phase_bill
    >>> from minidsv3.hardware import load_hardware
    >>> from minidsv3.show.svg import plain_text
    >>> v3 = phase_bill(ModelConfig.preset("v3"), load_hardware("h800"), "train", "DeepSeek-V3")
    >>> print(plain_text(profile_table(v3), width=70))
                   the bill  measured  of it
    ----------------------------------------
    compute         65.9 ms    118 ms    56%
    communication   61.5 ms    114 ms    54%
    pair            65.9 ms    129 ms    51%

Next: minidsv3.show.anatomy
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from minidsv3.cost import Bill, PhaseBill
from minidsv3.cost.deployment import Deployment, deployment_names, load_deployment
from minidsv3.cost.explained import Explained
from minidsv3.cost.phase_bill import against_profile
from minidsv3.cost.what_if import Effect, effects
from minidsv3.show.forms import shown
from minidsv3.show.numbers import count, counted, duration, flops, size
from minidsv3.show.roofline import Roofline
from minidsv3.show.tables import BillTable, RollUp, plain_table
from minidsv3.show.what_if_table import EffectTable, visible

__all__ = ["bill_effects", "changes_table", "explained_table", "phase_page", "profile_table"]

HEAD = "bold cyan"
ROLL_UPS = ("part", "phase", "precision")


def phase_page(
    phase: PhaseBill, rows: int = 15, layers: bool = False, pictures: bool = True
) -> RenderableType:
    """The whole page.  rows: ops to list  layers: a line for each layer too  pictures: or words for them."""
    d = phase.deployment
    page: list[RenderableType] = [
        Text(f"{phase.model}, {d.phase}, on {phase.bill.hardware_name}", HEAD),
        Text(layout(d)),
        Text(summary(phase)),
        Text("\nops, the longest first", HEAD),
        BillTable(phase.bill, rows=rows),
    ]
    for by in (*ROLL_UPS, *(("layer",) if layers else ())):
        page += [Text(f"\nby {by}", HEAD), RollUp(phase.bill, by, bars=pictures)]
    roofline = Roofline(phase.bill, phase.rates)
    page += [Text("\nroofline", HEAD), roofline if pictures else Text(roofline.describe())]
    if against_profile(phase):
        page += [Text(f"\n{profile_title(phase)}", HEAD), profile_table(phase), Text(REMARK, "dim")]
    page += [Text("\ntotals", HEAD), totals_table(phase), Text(f"\npriced as: {phase.bill.rule}", "dim")]
    return Group(*page)


def layout(d: Deployment) -> str:
    """What a deployment is; of one that was changed its name and what is otherwise than in the data."""
    if d.name not in deployment_names():
        return d.title or d.name
    shipped = load_deployment(d.name)
    values = ((name, getattr(d, name), getattr(shipped, name)) for name in d.sources)
    changed = [f"{name} {_word(now)} instead of {_word(was)}" for name, now, was in values if now != was]
    return f"as {d.name}, but {', '.join(changed)}" if changed else d.title


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


REMARK = (
    "a lower bound for kernels cut like these: each at its peak or at full memory bandwidth, nothing\n"
    "waited for; real ones reach a part of that, and computing and sending get in each other's way"
)


def summary(phase: PhaseBill) -> str:
    """What a reader wants first, in three lines."""
    d = phase.deployment
    tokens = f"one GPU, {counted(phase.tokens, 'token')}"
    if d.pipeline > 1:
        shared = f"which {d.pipeline} GPUs of a pipeline share"
        tokens = f"{counted(phase.tokens, 'token')} through all layers, {shared}"
    computing, sending = duration(phase.compute_seconds), duration(phase.communication_seconds)
    how = "overlapped" if d.overlap else "one after the other"
    return (
        f"{tokens}\n"
        f"{computing} computing, {sending} communicating, "
        f"{how} {duration(phase.seconds)}, bound by {phase.bound}\n"
        f"at most {count(round(phase.tokens_per_second))} tokens a second and GPU"
        f"{_too_large(phase)}"
    )


def held(phase: PhaseBill) -> tuple[int, float | None]:
    """Bytes of weights and cache that one GPU holds, and its memory, if the hardware says how much."""
    values = phase.rates.hardware.values
    capacity = values["chip.hbm.capacity"].si if "chip.hbm.capacity" in values else None
    return phase.weight_bytes + phase.kv_bytes, capacity


def _too_large(phase: PhaseBill) -> str:
    """A line where one GPU cannot hold what it is priced for."""
    needed, capacity = held(phase)
    if capacity is None or needed <= capacity:
        return ""
    return f"\ndoes not fit: {size(needed)} of weights and cache, {size(capacity)} of memory; priced as if"


def profile_title(phase: PhaseBill) -> str:
    """What was measured, and who says so."""
    layers = phase.deployment.profile["layers"].value
    source = phase.deployment.profile["layers"].source.partition(",")[0]
    return f"beside the published profile: one forward and one backward of {layers} MoE layers ({source})"


def profile_table(phase: PhaseBill) -> Table:
    """The bill's lower bounds beside the measured times."""
    table = plain_table()
    for name in ("", "the bill", "measured", "of it"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for line in against_profile(phase):
        table.add_row(line.name, duration(line.seconds), duration(line.measured), f"{line.share:.0%}")
    return table


def totals_table(phase: PhaseBill) -> Table:
    """Sums, a line each."""
    total, d = phase.bill.total, phase.deployment
    said = {
        "products": flops(total.matrix_flops),
        "other arithmetic": flops(total.vector_flops),
        "device memory": f"{size(total.memory_bytes)} moved",
        "network": f"{size(total.bytes.get('network', 0))} sent",
        "NVLink": f"{size(total.bytes.get('nvlink', 0))} sent",
        "weights": f"{size(phase.weight_bytes)} on the GPU"
        + (", without the second copy" if d.pipeline > 1 else ""),
        "KV cache": f"{size(phase.kv_bytes)}, {count(phase.bill.kv_bytes_per_token or 0)} B a token",
        "memory": _filled(phase),
        "computing": duration(phase.compute_seconds),
        "communicating": duration(phase.communication_seconds),
        "as deployed": f"{duration(phase.seconds)} (one after the other {duration(phase.serial_seconds)})",
        "a GPU": f"at most {count(round(phase.tokens_per_second))} tokens/s",
    }
    if phase.dollars is not None:
        said["rent"] = f"at least ${phase.dollars:.3g} a million tokens"
    if not phase.kv_bytes:
        del said["KV cache"], said["memory"]  # of training more is held: show memory
    table = Table.grid(padding=(0, 2))
    for name, value in said.items():
        table.add_row(Text(name, "dim", no_wrap=True), Text(value, overflow="fold"))
    return table


# ---- before and after -------------------------------------------------------------------------------------


def bill_effects(before: Bill, after: Bill) -> tuple[Effect, ...]:
    """Two bills of the same steps: seconds, FLOPs, bytes, seconds of each part."""
    return effects(dict(_said(before)), dict(_said(after)))


def _said(bill: Bill) -> Iterator[tuple[str, tuple[float, str]]]:
    yield "seconds", (bill.total.seconds, "s")
    yield "matrix FLOPs", (bill.total.matrix_flops, "FLOP")
    yield "vector FLOPs", (bill.total.vector_flops, "FLOP")
    for kind, moved in bill.total.bytes.items():
        yield f"{kind} bytes", (moved, "B")
    for total in bill.by_part:
        yield f"seconds of {total.name}", (total.seconds, "s")


def changes_table(found: Iterable[Effect]) -> RenderableType:
    """What changed, a line each; what did not, in one."""
    every = list(found)
    changed = [effect for effect in every if visible(effect)]
    same = "; ".join(effect.name for effect in every if not visible(effect))
    left = Text(f"as before: {same}", "dim") if changed else Text("nothing changes", "dim")
    return Group(*([EffectTable(changed)] if changed else []), *([left] if same or not changed else []))


def _filled(phase: PhaseBill) -> str:
    needed, capacity = held(phase)
    of = f" of {size(capacity)}, {needed / capacity:.0%}" if capacity else ""
    return f"{size(needed)} of weights and cache{of}"


# ---- sources ----------------------------------------------------------------------------------------------


def explained_table(rows: Iterable[Explained]) -> RenderableType:
    """A line for each number or rule: what, how much, how sure, who says so."""
    every = list(rows)
    said = [
        Text(f"{one.name} = {one.value}\n").append(f"  {one.status}: {one.source}", "dim") for one in every
    ]
    kinds = dict.fromkeys(one.kind for one in every)
    page: list[RenderableType] = []
    for kind in kinds:
        page.append(Text(kind, "bold"))
        page += [text for one, text in zip(every, said, strict=True) if one.kind == kind]
    return Group(*page)


def demo() -> RenderableType:
    """V3's decoding on an H800."""
    return phase_page(priced("decode"))


@lru_cache
def priced(phase: str) -> PhaseBill:
    """V3 on an H800, deployed as DeepSeek does: what demos draw.  phase: train, prefill, decode."""
    from minidsv3.config import ModelConfig
    from minidsv3.cost import phase_bill
    from minidsv3.cost.deployment import default_deployment
    from minidsv3.hardware import load_hardware

    return phase_bill(ModelConfig.preset("v3"), load_hardware("h800"), default_deployment(phase), "V3")


if __name__ == "__main__":
    shown(demo())
