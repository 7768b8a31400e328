"""Speculative decoding as lanes: what each MTP module drafted, position by position, and what was kept.

Above, the chain: module k takes the state of the one below and the token k places on; all share the main
model's embedding and output head (eqs. 21-25). Below, a column a position: the text; which pass of the main
model it came from; the tokens that model chose itself; the drafts of each module, the verdict before them.

    A  accepted: the main model agrees    R  rejected    -  behind a rejected one, not looked at

Does: decode, keeping every draft; draw. Does not: decide (`minidsv3.inference.speculative`).

    >>> from minidsv3.config import ModelConfig
    >>> from minidsv3.interpreter import Model
    >>> model = Model.initialise(ModelConfig.preset("nano"))
    >>> lanes = speculate(model, [5, 6, 7], 8)
    >>> len(lanes.tokens), lanes.same, sum(len(step.drafts) for step in lanes.steps) == lanes.drafted
    (8, True, True)

Next: minidsv3.show.merge_theatre
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from minidsv3.inference.decode import Decoder
from minidsv3.inference.generation import generate
from minidsv3.inference.sampling import Sampler
from minidsv3.inference.speculative import Drafter, verify
from minidsv3.interpreter import Model
from minidsv3.machine import Machine
from minidsv3.show.chips import visible
from minidsv3.show.forms import INKS, shown
from minidsv3.show.numbers import counted

__all__ = ["Draft", "Lanes", "Step", "speculate"]

HEAD, MOST, LEAST = 10, 9, 5  # columns of a lane's name; of a token at most, at least
STYLES = {"A": INKS[2], "R": INKS[5], "-": "dim"}
CHUNK = 256  # tokens of the prompt in memory at once
LINK = 18  # columns from module to module in the chain


class Draft(NamedTuple):
    """A token that a module proposed."""

    module: int  # from 1; the last one drafts again where more are asked for
    token: int
    verdict: str  # A accepted, R rejected, - not looked at


class Step(NamedTuple):
    """One pass of the main model."""

    first: int  # position of the first token it brought
    drafts: tuple[Draft, ...]
    tokens: tuple[int, ...]  # accepted drafts, then the model's own


@dataclass(frozen=True)
class Lanes:
    """A text as it came.  same: whether greedy decoding without drafts gives it too; None if not greedy."""

    prompt: tuple[int, ...]
    steps: tuple[Step, ...]
    modules: int
    spell: Callable[[int], bytes]
    same: bool | None = None

    @property
    def tokens(self) -> list[int]:
        """The new ones."""
        return [token for step in self.steps for token in step.tokens]

    @property
    def drafted(self) -> int:
        """Drafts in all."""
        return sum(len(step.drafts) for step in self.steps)

    def accepted(self, number: int) -> tuple[int, int]:
        """Of the drafts that came `number`-th in their step: how many were accepted, how many looked at."""
        found = [step.drafts[number - 1].verdict for step in self.steps if len(step.drafts) >= number]
        return found.count("A"), len(found) - found.count("-")

    @property
    def deepest(self) -> int:
        """Drafts of the longest step."""
        return max(len(step.drafts) for step in self.steps)

    def lane(self, number: int) -> str:
        """Who makes a step's `number`-th draft."""
        return f"module {number}" if number <= self.modules else f"again {number}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain = options.ascii_only
        yield from _chain(self.modules, plain, options.max_width)
        yield Text()
        wide = self._token_width(plain)
        each = max(1, (options.max_width - HEAD) // (wide + 4))
        last = self.steps[-1].first + len(self.steps[-1].tokens)
        for start in range(self.steps[0].first, last, each):
            yield from self._band(start, min(start + each, last), wide, plain)
            yield Text()
        yield from (Text(line, "dim") for line in self.remarks())

    def _token_width(self, plain: bool) -> int:
        every = [*self.tokens, *(draft.token for step in self.steps for draft in step.drafts)]
        return max(LEAST, min(MOST, max(len(visible(self.spell(token), plain)) for token in every)))

    def _cells(self) -> tuple[dict[int, tuple[int, int, bool]], dict[tuple[int, int], Draft]]:
        """Position -> pass, token, whether the main model's own; (draft number, position) -> draft."""
        text, drafts = {}, {}
        for i, step in enumerate(self.steps):
            for j, token in enumerate(step.tokens):
                text[step.first + j] = (i + 1, token, j == len(step.tokens) - 1)
            for j, draft in enumerate(step.drafts):
                drafts[j + 1, step.first + j] = draft
        return text, drafts

    def _band(self, start: int, stop: int, wide: int, plain: bool) -> Iterator[Text]:
        """The lanes of positions start .. stop."""
        text, drafts = self._cells()

        def lane(name: str, cell: Callable[[int], tuple[str, str]]) -> Text:
            line = Text(no_wrap=True).append(f"{name:{HEAD}}", "dim")
            for position in range(start, stop):
                line.append("|" if plain else "│", "dim")
                line.append(f"{cell(position)[0]:{wide + 2}} ", cell(position)[1])
            line.rstrip()
            return line

        def token(number: int) -> str:
            return _cut(visible(self.spell(number), plain), wide)

        def drafted(number: int, position: int) -> tuple[str, str]:
            draft = drafts.get((number, position))
            return (f"{draft.verdict} {token(draft.token)}", STYLES[draft.verdict]) if draft else ("", "")

        yield lane("position", lambda p: (str(p), "dim"))
        yield lane("text", lambda p: (f"  {token(text[p][1])}", "bold"))
        yield lane("pass", lambda p: (f"  {text[p][0]}", "dim"))
        yield lane("main", lambda p: (f"  {token(text[p][1])}" if text[p][2] else "", "cyan"))
        for number in range(1, self.deepest + 1):
            yield lane(self.lane(number), lambda p, number=number: drafted(number, p))  # type: ignore[misc]

    def remarks(self) -> Iterator[str]:
        """What the marks mean, and what the drafts brought."""
        yield "A accepted, R rejected, - behind a rejected one: not looked at"
        passes = "one pass" if len(self.steps) == 1 else f"{len(self.steps)} passes"
        each = f"{len(self.tokens) / len(self.steps):.2f} a pass"
        yield f"{counted(len(self.tokens), 'token')} in {passes} of the main model: {each}"
        for number in range(1, self.deepest + 1):
            right, seen = self.accepted(number)
            share = f", {right / seen:.0%}" if seen else ""
            yield f"{self.lane(number)}: {right} accepted of {counted(seen, 'draft')} looked at{share}"
        if self.same is not None:
            yield "the same text as without drafts" if self.same else "NOT the text that comes without drafts"

    def describe(self) -> str:
        """A line for each pass."""
        said = [f"chain: main model, {counted(self.modules, 'module')}; one embedding, one output head"]
        for i, step in enumerate(self.steps):
            told = [
                f"{self.lane(j + 1)} drafts {self._said(draft.token)}, {WORDS[draft.verdict]}"
                for j, draft in enumerate(step.drafts)
            ]
            told.append(f"main model writes {self._said(step.tokens[-1])}")
            said.append(f"pass {i + 1}, position {step.first}: {'; '.join(told)}")
        return "\n".join([*said, *list(self.remarks())[1:]])

    def _said(self, token: int) -> str:
        return visible(self.spell(token), plain=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        steps = [_plain(step) for step in self.steps]
        rates = {
            self.lane(number): dict(zip(("accepted", "looked_at"), self.accepted(number), strict=True))
            for number in range(1, self.deepest + 1)
        }
        table: dict[str, Any] = {"prompt": list(self.prompt), "tokens": self.tokens, "passes": steps}
        return table | {"modules": self.modules, "acceptance": rates, "same_without_drafts": self.same}


WORDS = {"A": "accepted", "R": "rejected", "-": "not looked at"}


def _plain(step: Step) -> dict[str, Any]:
    drafts = [draft._asdict() | {"verdict": WORDS[draft.verdict]} for draft in step.drafts]
    return {"first": step.first, "drafts": drafts, "tokens": list(step.tokens)}


def _cut(text: str, width: int) -> str:
    """The text, cut to a width."""
    return text if len(text) <= width else text[: width - 2] + ".."


def _chain(modules: int, plain: bool, width: int) -> Iterator[Text]:
    """Main model and modules, tokens in and tokens out; the first ones where there is no room for all."""
    down, dash = ("v", "-") if plain else ("↓", "─")
    drawn = min(modules, max(1, width // LINK - 1))
    names = ["main model", *(f"module {k}" for k in range(1, drawn + 1))]
    rest = f"  and {counted(modules - drawn, 'more')[:-1]}" if modules > drawn else ""

    def row(cells: Sequence[str], style: str, end: str = "") -> Text:
        return Text("".join(f"{cell:{LINK}}" for cell in cells).rstrip() + end, style, no_wrap=True)

    ahead = [f"t_i{f'+{k}' if k else ''}" for k in range(drawn + 2)]
    yield row([f"  Emb({t})" for t in ahead[:-1]], "dim")
    yield row([f"    {down}"] * len(names), "dim")
    linked = [f"{name} ".ljust(LINK - 2, dash) + "> " for name in names[:-1]] + names[-1:]
    yield row(linked, "bold", rest)
    yield row([f"    {down}"] * len(names), "dim")
    yield row([f"  head: {t}" for t in ahead[1:]], "dim")


# ---- the run ----------------------------------------------------------------------------------------------


def speculate(
    model: Model,
    prompt: Sequence[int],
    new: int,
    spell: Callable[[int], bytes] = lambda token: str(token).encode(),
    drafts: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> Lanes:
    """Decode with drafts, as `minidsv3.inference.generate` does, and keep them all.

    new: tokens  spell: bytes of a token  drafts: of a pass, one for each module if not given
    """
    asked: dict[str, Any] = {"temperature": temperature, "seed": seed, "drafts": drafts}
    result = generate(model, prompt, new, speculative=True, **asked)  # refuses what does not fit
    steps = tuple(_steps(model, prompt, new, drafts or model.config.n_mtp_layers, temperature, seed))
    lanes = Lanes(tuple(prompt), steps, model.config.n_mtp_layers, spell)
    assert lanes.tokens == result.tokens
    same = None if temperature else generate(model, prompt, new).tokens == lanes.tokens
    return Lanes(lanes.prompt, steps, lanes.modules, spell, same)


def _steps(
    model: Model, prompt: Sequence[int], new: int, count: int, temperature: float, seed: int
) -> Iterator[Step]:
    """Every pass of the main model: draft, verify, keep what is right."""
    machine, known = Machine(), list(prompt)
    sampler = Sampler(temperature, 1.0, np.random.default_rng(seed))
    decoder = Decoder(machine, model.parameters)
    drafter, end = Drafter(decoder), len(prompt) + new
    with np.errstate(over="ignore"):
        logits = decoder.prefill(np.array([prompt]), CHUNK, lambda h: drafter.catch_up(known, h))  # [1, V]
        known.append(sampler.choose(logits[0]))
        yield Step(len(prompt), (), (known[-1],))
        while len(known) < end:
            first = len(known)
            tokens, q = drafter.draft(known, min(count, end - first - 1), sampler)
            logits, states = decoder.step(np.array([[known[-1], *tokens]]))  # [1, n + 1, V], [n + 1, D]
            right, own = verify(logits[0], tokens, q, sampler)
            decoder.cache.truncate(first + right)
            drafter.keep(right, first, states[: right + 1])
            known += [*tokens[:right], own]
            verdicts = "A" * right + "R" + "-" * len(tokens)
            numbered = zip(tokens, verdicts, strict=False)
            made = (Draft(min(j + 1, len(drafter.modules)), *d) for j, d in enumerate(numbered))
            yield Step(first, tuple(made), tuple(known[first:]))


def demo() -> Lanes:
    """What a model of two modules writes after eighty steps of training."""
    from minidsv3.show.rehearsal import LEARNING_STEPS, rehearsed

    run = rehearsed(steps=LEARNING_STEPS)
    prompt = run.tokenizer.encode("the grass is green")
    return speculate(run.model, prompt, 16, run.tokenizer.token_bytes)


if __name__ == "__main__":
    shown(demo())
