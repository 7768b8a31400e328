"""Words about weights that are read as they are used: a line meanwhile, a summary after.

The line stands on stderr, below the text on a terminal; elsewhere a line comes every ten seconds. It says
which layer of the pass is at work, what was read so far and how fast, what is held, and when the pass will
be over if its layers are alike. The summary says what a token took, and, where the model is the first layers
of a preset, what a token of the whole would take at the same speed.

Does: say. Does not: read.

    >>> from minidsv3.model.memory import in_words
    >>> in_words(688_574_839_360)
    '641.29 GiB'

Next: minidsv3.cli.trace
"""

import contextlib
import os
import sys
import threading
from time import perf_counter
from typing import Any

from rich.console import Console

from minidsv3.cli.terminal import draws_in_place
from minidsv3.interpreter import Model
from minidsv3.machine import Machine
from minidsv3.model.memory import in_words, peak_memory
from minidsv3.model.one_token import token_reads, whole_model
from minidsv3.model.weight_cache import Ledger

__all__ = ["Reading"]

IN_PLACE_SECONDS, LINE_SECONDS = 0.2, 10.0
# below the cursor: make a line, remember the place, go there and clear it … back
_DOWN, _BACK = "\x1bD\x1bM\x1b7\x1bD\r\x1b[K", "\x1b8"


def fitting(line: str, room: int) -> str:
    """As many of a line's parts as there is room for, none cut.

    >>> fitting("layer 2 of 61: 3.00 GiB read, 102.14 MiB/s, 1.25 GiB of 2.00 GiB held", 50)
    'layer 2 of 61: 3.00 GiB read, 102.14 MiB/s'
    """
    while len(line) > room and ", " in line:
        line = line.rpartition(", ")[0]
    return line[:room]


def one_place() -> bool:
    """Whether stdout and stderr are the same terminal or file."""
    try:
        return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    except (OSError, ValueError):  # not files at all, or closed
        return False


class Reading:
    """Watches one command's reading; a context, so that the line is gone at its end."""

    def __init__(self, model: Model, machine: Machine, console: Console) -> None:
        self._model, self._machine, self._console = model, machine, console
        self._in_place = draws_in_place(console)
        self._saying = threading.Lock()
        self._layer, self._drawn, self._begun = 0, False, False
        self._start = self._pass = self._said = perf_counter()
        self.passes: list[tuple[float, int, int, int]] = []  # at each token's end, see `token`

    def __enter__(self) -> "Reading":
        if self._model.mapped is not None:
            self._model.mapped.watch(self._on_read)
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._write(f"{_DOWN}{_BACK}")
        if self._model.mapped is not None:
            self._model.mapped.watch(lambda: None)

    def token(self) -> None:
        """A new token is there."""
        mapped, seconds = self._model.mapped, perf_counter() - self._start
        ledger = mapped.ledger if mapped else Ledger(0)
        self._begun = True
        self.passes.append((seconds, ledger.bytes_read, ledger.made_numbers, ledger.asked_numbers))

    # ---- meanwhile ----

    def _on_read(self) -> None:
        if not self._saying.acquire(blocking=False):  # the other thread is at it
            return
        try:
            now, layer = perf_counter(), self._machine.layer
            if layer is not None and layer < self._layer:
                self._pass = now
            self._layer = self._layer if layer is None else layer
            if now - self._said >= (IN_PLACE_SECONDS if self._in_place else LINE_SECONDS):
                self._said = now
                self._say(now)
        finally:
            self._saying.release()

    def _say(self, now: float) -> None:
        line = self._line(now)
        if self._in_place:
            self._drawn = True
            self._write(f"{_DOWN}{fitting(line, self._console.width - 1)}{_BACK}")
        else:
            self._console.print(f"{self._front()}{line}")

    def _line(self, now: float) -> str:
        assert self._model.mapped is not None
        ledger, L = self._model.mapped.ledger, self._model.config.n_layers
        rate = ledger.bytes_read / max(now - self._start, 1e-9)
        held = f"{in_words(ledger.held)} of {in_words(ledger.budget)} held"
        layer = f"layer {self._layer + 1} of {L}" if self._layer < L else f"MTP module {self._layer - L + 1}"
        left = (now - self._pass) / self._layer * (L - self._layer) if 0 < self._layer < L else 0
        ends = f", {left:.0f} s left of this pass" if left else ""
        return f"{layer}: {in_words(ledger.bytes_read)} read, {in_words(rate)}/s, {held}{ends}"

    def _front(self) -> str:
        """What ends the line of text that was begun, where both go to one place."""
        begun, self._begun = self._begun, False
        return "\n" if begun and one_place() else ""

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        with contextlib.suppress(OSError):
            self._console.file.flush()

    # ---- after ----

    def summary(self) -> dict[str, Any]:
        """For JSON: what was read, by a pass over the prompt and by each token after it."""
        mapped, (first, last) = self._model.mapped, (self.passes[0], self.passes[-1])
        after = len(self.passes) - 1  # tokens that decoding made; the first is the prompt's
        seconds, read, made, asked = (b - a for a, b in zip(first, last, strict=True)) if after else first
        each = max(after, 1)
        said: dict[str, Any] = {
            "mapped": mapped is not None,
            "seconds_per_token": seconds / each,
            "bytes_per_token": read // each,
            "prompt": {"seconds": first[0], "bytes_read": first[1]},
            "peak_memory": peak_memory(),
        }
        if mapped is None:
            return said
        rate = made / seconds if 2 * made > asked and seconds > 0 else None  # else it says little of making
        return said | mapped.ledger.to_dict() | {"whole": self._whole(rate)}

    def _whole(self, rate: float | None) -> dict[str, Any] | None:
        """A token of the model that has all layers, by arithmetic.

        rate: numbers made a second here; None if most were in memory.
        """
        found = whole_model(self._model.config)
        if found is None:
            return None
        name, config = found
        reads = token_reads(config)
        return {
            "preset": name,
            "layers": config.n_layers,
            "bytes_per_token": reads.bytes,
            "numbers_per_token": reads.numbers,
            "seconds_per_token": reads.seconds(rate) if rate else None,
            "always_bytes": reads.always_bytes,
            "bytes_in_memory": reads.bytes_in_memory,
        }

    def print_summary(self) -> None:
        """In words; nothing about a model that is in memory."""
        said = self.summary()
        if not said["mapped"]:
            return
        self._console.print(
            f"weights: {in_words(said['bytes_read'])} read, {in_words(said['bytes_per_token'])} and "
            f"{said['seconds_per_token']:.2f} s a token, {said['hit_rate']:.1%} found in memory; at most "
            f"{in_words(said['peak'])} of {in_words(said['budget'])} held, {in_words(said['peak_memory'])} "
            "resident in all"
        )
        if whole := said["whole"]:
            seconds = whole["seconds_per_token"]
            speed = f", {seconds:.0f} s at this speed" if seconds else ""
            self._console.print(
                f"all {whole['layers']} layers ({whole['preset']}): {in_words(whole['bytes_per_token'])} and "
                f"{whole['numbers_per_token'] / 1e9:.1f} thousand million numbers a token{speed}; "
                f"what every token uses takes {in_words(whole['always_bytes'])} of memory"
            )
