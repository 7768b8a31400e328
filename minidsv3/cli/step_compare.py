"""`minidsv3 step --against MACHINE`: the same pass on two machines in lock step, and where they part.

On a terminal `n` goes to the next op that both have, `c` to the next at which they part. Without one the
first parting is printed, how many follow, and how far apart the ends are; with --all every op at which they
part, with --json one object with every op that both have.

Does: run both, print. Does not: align or compare (`minidsv3.learn.stepping.compare`).

Next: minidsv3.cli.tokenize
"""

import argparse
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from minidsv3.cli.keyboard import keys
from minidsv3.cli.models import Prompt
from minidsv3.cli.step_view import put
from minidsv3.cli.terminal import print_json, results
from minidsv3.learn.stepping import Pass
from minidsv3.learn.stepping.compare import Comparison, Pair
from minidsv3.machine import Event
from minidsv3.show.numbers import counted, duration
from minidsv3.show.op_card import OpCard
from minidsv3.show.op_pair import OpPair, apart

__all__ = ["compare"]

SCHEMA = "minidsv3.comparison/1"
KEYS = {"n": "next op", "c": "next parting", "b": "back", "?": "help", "q": "quit"}
SAME = {"space": "n", "right": "n", "enter": "n", "left": "b", "p": "b", "escape": "q"}
HELP = """\
n, space, right arrow   the next op that both machines have
c                       the next op at which they part by more than the tolerance
b, left arrow           the op before
q                       quit"""


def compare(args: argparse.Namespace, prompt: Prompt, work: Pass, keyed: bool) -> int:
    """Run both and say where they part; 0 whether they do or not."""
    if args.changes:
        raise ValueError("expected --set or --against, got both: a comparison changes no values")
    other = work.against(args.against)
    with Comparison(work, other, args.tolerance) as both:
        labels = (_label(work, other), _label(other, work))
        if args.json:
            print_json(_as_json(args, prompt, both, labels))
        elif keyed:
            _play(results(), both, labels, None)
        else:
            _printed(results(), both, labels, args.all)
    return 0


def _label(one: Pass, other: Pass) -> str:
    """A machine by what it has and the other has not."""
    words = [a for a, b in ((one.precision, other.precision), (one.accumulate, other.accumulate)) if a != b]
    words += [one.attention] if one.attention != other.attention else []
    ids = [getattr(work.hardware, "id", str(work.hardware)) for work in (one, other)]
    return " ".join(words + ([ids[0]] if ids[0] != ids[1] else [])) or ids[0]


def card(both: Comparison, pair: Pair, labels: tuple[str, str]) -> OpPair:
    """A pair as a picture."""
    sides = [_side(both, pair, i) for i in (0, 1)]
    words = "their results have other shapes" if pair.parted else "operands put into tiles"
    if pair.difference is not None:
        d = pair.difference
        words = apart(d.numbers, d.differing, d.absolute, d.relative, d.ulp)
    results_ = (sides[0].result, sides[1].result)
    return OpPair((sides[0], sides[1]), labels, results_, words, (pair.only_one, pair.only_other))


def _side(both: Comparison, pair: Pair, i: int) -> OpCard:
    stop, stepper = (pair.one, pair.other)[i], (both.one, both.other)[i]
    kept = stepper.values(stop)
    event = Event(stop.row, stop.op, stop.primitive, stop.primitive.endswith("_backward"), *kept)
    return OpCard(event, stepper.hardware, so_far=stop.so_far, code=stop.code, heading=f"[{stop.index}]")


# ---- without keys -----------------------------------------------------------------------------------------


def _printed(console: Console, both: Comparison, labels: tuple[str, str], every: bool) -> None:
    first = both.first_parting()
    pair, parted = first, 0
    while pair is not None:
        parted += 1
        if parted == 1:
            console.print(f"{labels[0]} and {labels[1]} part first at op {pair.one.index}, {pair.one.stage}")
        if parted == 1 or every:
            put(console, card(both, pair, labels))
            console.print()
        pair = both.next_parting()
    console.print(_summary(both, labels, parted))


def _summary(both: Comparison, labels: tuple[str, str], parted: int) -> str:
    """How many ops part, how far apart the last results are, and both times."""
    ops = counted(len(both.pairs), "op")
    lines = [f"{parted} of {ops} that both have part by more than {both.tolerance:g}"]
    if both.pairs and (last := both.pairs[-1]).difference is not None:
        d = last.difference
        lines.append(
            f"at the end, {last.one.op.id}: {apart(d.numbers, d.differing, d.absolute, d.relative, d.ulp)}"
        )
    for label, stepper in zip(labels, (both.one, both.other), strict=True):
        so_far = duration(stepper.stops[-1].so_far)
        lines.append(f"{label}: {counted(len(stepper.stops), 'op')}, {so_far} on {stepper.hardware.name}")
    return "\n".join(lines)


def _as_json(
    args: argparse.Namespace, prompt: Prompt, both: Comparison, labels: tuple[str, str]
) -> dict[str, Any]:
    first = both.first_parting()
    while both.advance() is not None:
        pass
    said: dict[str, Any] = {"schema": SCHEMA, "model": str(prompt.folder), "ids": prompt.ids}
    said |= {"pass": both.one.work.kind, "machines": list(labels), "tolerance": both.tolerance}
    said["seconds"] = [stepper.stops[-1].so_far for stepper in (both.one, both.other)]
    said["first_parting"] = None if first is None else _pair_dict(first)
    said["parted"] = sum(pair.parted for pair in both.pairs)
    return said | {"pairs": [_pair_dict(pair) for pair in both.pairs]}


def _pair_dict(pair: Pair) -> dict[str, Any]:
    stop = pair.one
    said: dict[str, Any] = {"op": stop.op.id, "stage": stop.stage, "phase": stop.row.phase}
    said |= {"direction": stop.row.direction, "layer": stop.row.layer, "expert": stop.row.expert}
    said |= {"index": [pair.one.index, pair.other.index], "parted": pair.parted}
    said["formats"] = [list(pair.one.row.stored), list(pair.other.row.stored)]
    said["seconds"] = [pair.one.seconds, pair.other.seconds]
    said["only"] = [list(pair.only_one), list(pair.only_other)]
    if pair.difference is None:
        return said | {"difference": None}
    finite = {name: _finite(value) for name, value in pair.difference._asdict().items()}
    return said | {"difference": finite}


def _finite(value: Any) -> Any:
    """A number for JSON, which has no infinity."""
    if isinstance(value, tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value


# ---- with keys --------------------------------------------------------------------------------------------


def _play(
    console: Console, both: Comparison, labels: tuple[str, str], commands: Iterator[str] | None
) -> None:
    """commands: keys, in place of the keyboard's."""
    at = -1
    console.print(f"{labels[0]} against {labels[1]}, tolerance {both.tolerance:g}", style="bold")
    for key in _footed(console, both, commands or keys(console)):
        if (key := SAME.get(key, key)) == "q":
            break
        if key in ("n", "c"):
            found = _onward(both, at, key == "c")
            if found is None:
                console.print(_summary(both, labels, sum(pair.parted for pair in both.pairs)))
                continue
            at = found
        elif key == "b":
            at = max(at - 1, 0)
        elif key != "redraw":
            console.print(HELP if key == "?" else f"no key {key!r}; ? shows them")
            continue
        if at >= 0 and both.pairs:
            put(console, card(both, both.pairs[at], labels))


def _onward(both: Comparison, at: int, parting: bool) -> int | None:
    """The place of the next pair, or of the next that parts."""
    while True:
        at += 1
        if at == len(both.pairs) and both.advance() is None:
            return None
        if both.pairs[at].parted or not parting:
            return at


def _footed(console: Console, both: Comparison, commands: Iterator[str]) -> Iterator[str]:
    while True:
        said = "  ".join(f"{key}:{what}" for key, what in KEYS.items())
        console.print(f"\n[{len(both.pairs)} ops compared]  {said}", style="reverse")
        key = next(commands, None)
        if key is None:
            return
        yield key
