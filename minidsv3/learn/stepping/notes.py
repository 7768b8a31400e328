"""What an op came to, in a few words: the token that logits choose, a loss, drafts and which were accepted.

Does: read it off the result and the stops before. Does not: spell tokens (a tokenizer does, for the command).

    >>> from minidsv3.machine import Machine
    >>> events = []
    >>> h, W = np.eye(2, dtype="f"), np.array([[0, 1], [2, 0], [1, 3]], "f")
    >>> _ = Machine(watch=events.append).linear(h, W, at="head.logits")
    >>> chosen(events[0])
    (1, 2)

Next: minidsv3.learn.stepping.edits
"""

from collections.abc import Sequence

import numpy as np

from minidsv3.learn.stepping.history import Stop
from minidsv3.machine import Event

__all__ = ["chosen", "note_of"]


def chosen(event: Event) -> tuple[int, ...]:
    """The token that each row of an output head's logits is highest at; none of another op."""
    if event.backward or event.op.part not in ("head", "mtp") or not event.op.id.endswith("logits"):
        return ()
    return tuple(int(token) for token in np.argmax(event.result, axis=-1))


def note_of(stops: Sequence[Stop], stop: Stop, event: Event) -> str:
    """In words; "" where there is nothing to say.  stops: those before."""
    if event.op.id.startswith("loss.") and not event.backward:
        return f"{float(np.mean(event.result)):.4f} nats a token"
    if not stop.tokens:
        return ""
    if stop.stage.endswith("drafting"):
        return f"drafts token {stop.tokens[-1]}"
    if stop.stage.endswith("verifying"):
        return _verified(_drafts(stops), stop.tokens)
    return f"highest at token {stop.tokens[-1]}"


def _drafts(stops: Sequence[Stop]) -> list[int]:
    """What was drafted since the main model last ran."""
    found: list[int] = []
    for stop in reversed(stops):
        if stop.op.id == "head.logits":
            break
        found += stop.tokens[-1:]
    return found[::-1]


def _verified(drafts: Sequence[int], rows: Sequence[int]) -> str:
    """Greedy: a draft is accepted if the main model chooses it too, and all before it were."""
    accepted = 0
    while accepted < len(drafts) and drafts[accepted] == rows[accepted]:
        accepted += 1
    said = f"drafted {' '.join(map(str, drafts))}, " if drafts else ""
    return f"{said}accepted {accepted} of {len(drafts)}, then token {rows[accepted]}"
