"""Published figures recomputed: each beside what its own inputs give, with a verdict.

An input of an entry is a number, or says where to find one:

    "model:v3"  "model:v3:n_layers"  "dense:qwen2.5-72b"  "run:v3"  "run:v3:tokens"     whole, or one field
    "hardware:h800"  "hardware:h800:chip.peak.bf16"                             a machine, or one rate of it
    "figure:ID"  "computed:ID"                a published value, or what another entry's calculation gives

all in base units. Verdicts: "equal" (what the printed digits stand for), "contradicts" (as the entry says),
"differs" (an entry whose kind its own arithmetic does not bear out), "constant", "measured", "corrected".

Does: resolve inputs with their sources, call the calculation, judge. Does not: draw (`minidsv3.show`).

    >>> found = recompute(figures()["kv.v3"])
    >>> found.computed, found.verdict
    (70272, 'equal')

Next: minidsv3.cluster
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from minidsv3.config import ModelConfig, near, published_figures
from minidsv3.cost.figures import Figure, figures, printed_places
from minidsv3.hardware import Hardware, load_hardware

__all__ = ["VERDICTS", "Figure", "Input", "Recomputed", "calculator", "choose", "figures", "recompute"]

VERDICTS = {
    "equal": "comes out as printed",
    "contradicts": "does not follow from its own inputs",
    "differs": "does not come out, against what its entry says",
    "constant": "taken as given",
    "measured": "measured, taken as given",
    "corrected": "a claim in words, corrected",
}


@dataclass(frozen=True)
class Input:
    """One input of a calculation.  value: what the calculation is given, a number or a config."""

    name: str
    given: str  # as the entry says it
    value: Any
    unit: str  # of a number in base units, "" for a plain one
    source: str
    status: str
    parts: tuple["Input", ...] = ()  # of a list


@dataclass(frozen=True)
class Recomputed:
    """A figure with what comes out.  computed: in base units, None where nothing is computed."""

    figure: Figure
    computed: float | None
    inputs: tuple[Input, ...]
    says: str  # the calculation in one sentence
    verdict: str

    @property
    def sourced(self) -> tuple[Input, ...]:
        """Every input that has a source of its own: those of a list one by one."""
        return tuple(leaf for one in self.inputs for leaf in one.parts or (one,))

    @property
    def text(self) -> str:
        """The computed number in the figure's unit, two digits more than printed; "" if there is none."""
        return "" if self.computed is None else _text(self.figure, self.computed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        f = self.figure
        fields = ("id", "title", "kind", "source", "printed", "value", "style", "tolerance", "ours")
        said = {name: getattr(f, name) for name in fields}
        said |= {"unit": f.unit.name if f.unit else None, "calculation": f.calculation or None}
        said |= {name: getattr(f, name) or None for name in ("formula", "why", "says", "correct")}
        said["computed"] = None if self.computed is None else f.in_unit(self.computed)
        said["inputs"] = [
            {name: getattr(one, name) for name in ("name", "given", "unit", "source", "status")}
            | {"value": one.value if isinstance(one.value, int | float | str) else None}  # or a whole config
            for one in self.sourced
        ]
        return said | {"verdict": self.verdict}


def choose(names: list[str], kind: str | None = None) -> list[Figure]:
    """Figures by id, by first parts of ids, or by a word of id, title or digits; all if none is named.

    What begins ids is looked for nowhere else. ValueError for a name that is found nowhere.
    """
    found = []
    for name in names or [""]:
        fits = _by_id(name) or _by_word(name)
        if not fits:
            expected = "a figure, the first part of some, or a word of a title"
            raise ValueError(f"expected {expected}, got {name!r}: {_near_id(name)}")
        found += [figure for figure in fits if kind in (None, figure.kind)]
    return list({figure.id: figure for figure in found}.values())


def _by_id(name: str) -> list[Figure]:
    return [f for f in figures().values() if not name or f.id == name or f.id.startswith(f"{name}.")]


def _by_word(word: str) -> list[Figure]:
    """Figures that have it anywhere in id, title or printed digits, in large letters or small."""
    small = word.lower()
    return [f for f in figures().values() if small in f"{f.id}\n{f.title}\n{f.printed}".lower()]


def _near_id(name: str) -> str:
    known = list(dict.fromkeys([figure.group for figure in figures().values()]))
    guess = difflib.get_close_matches(name, [*known, *figures()], n=3, cutoff=0.4)
    return (f"did you mean {', '.join(guess)}? " if guess else "") + f"groups: {', '.join(known)}"


def recompute(figure: Figure) -> Recomputed:
    """Call a figure's calculation on its inputs, and judge; ValueError naming the entry if one is missing."""
    if not figure.calculation:
        verdict = "corrected" if figure.kind == "contradicts" else figure.kind
        return Recomputed(figure, None, (), "", verdict)
    try:
        function = calculator(figure.calculation)
        inputs = tuple(_input(name, given) for name, given in figure.inputs.items())
        computed = function(**{one.name: one.value for one in inputs})
    except (ValueError, TypeError) as error:
        raise ValueError(f"published.toml: {figure.id}: {error}") from None
    says = (function.__doc__ or "").strip().splitlines()[0]
    return Recomputed(figure, computed, inputs, says, _verdict(figure, computed))


def _verdict(figure: Figure, computed: float) -> str:
    expected = figure.kind != "contradicts"
    if figure.holds(computed) is not expected:
        return "differs"
    return "equal" if expected else "contradicts"


def calculator(name: str) -> Callable[..., float]:
    """A public function of this room by "module.function"; ValueError if there is none."""
    module, _, function = name.partition(".")
    try:
        found = import_module(f"minidsv3.cost.{module}")
    except ModuleNotFoundError:
        raise ValueError(f"expected a module of minidsv3.cost, got {module!r}") from None
    if function not in found.__all__:
        raise ValueError(
            f"expected a function of {module}, got {function!r}: {near(function, found.__all__)}"
        )
    calculation: Callable[..., float] = getattr(found, function)
    return calculation


# ---- inputs -----------------------------------------------------------------------------------------------


def _input(name: str, given: Any) -> Input:
    """An entry's input with where it comes from."""
    if isinstance(given, list):
        parts = tuple(_input(f"{name}[{i}]", one) for i, one in enumerate(given))
        return Input(name, "a list", [part.value for part in parts], "", "", "", parts)
    kind, _, rest = str(given).partition(":")
    if not isinstance(given, str) or kind not in _FINDERS:
        return Input(name, str(given), given, "", "the entry's formula", "constant")
    target, _, path = rest.partition(":")
    value, unit, source, status = _FINDERS[kind](target, path)
    return Input(name, given, value, unit, source, status)


Found = tuple[Any, str, str, str]  # value, unit, source, status


def _field(whole: Any, path: str) -> Any:
    if not path:
        return whole
    if not hasattr(whole, path):
        raise ValueError(
            f"expected a field of {type(whole).__name__}, got {path!r}: {near(path, [*vars(whole)])}"
        )
    return getattr(whole, path)


def _model(name: str, path: str) -> Found:
    return _field(_preset(name), path), "", _source_of(name), "report"


@lru_cache
def _preset(name: str) -> ModelConfig:
    """A model preset, its parameters counted once."""
    return ModelConfig.preset(name)


@lru_cache
def _source_of(name: str) -> str:
    return str(published_figures(name).get("source", f"data/models/{name}.toml, ours"))


def _dense(name: str, path: str) -> Found:
    from minidsv3.cost.dense import load_dense

    config = load_dense(name)
    return _field(config, path), "", config.source, "report"


def _run(name: str, path: str) -> Found:
    from minidsv3.cost.training_run import load_run

    run = load_run(name)
    return _figure(run[path].id, "") if path else (run, "", run.source, "report")


@lru_cache
def _machine(name: str) -> Hardware:
    return load_hardware(name)


def _hardware(name: str, path: str) -> Found:
    machine = _machine(name)
    if not path:
        return machine, "", f"data/hardware/{name}.toml, each value with its own", "see there"
    value = machine[path]
    return value.si, value.dimension, value.source, value.status


def _figure(name: str, path: str) -> Found:
    figure = figures()[name]
    return figure.si, _base(figure), f"printed {figure.printed}, {figure.source}", figure.kind


def _computed(name: str, path: str) -> Found:
    found = recompute(figures()[name])
    if found.computed is None:
        raise ValueError(f"expected a figure with a calculation, got {name!r}")
    return found.computed, _base(found.figure), f"as recomputed for {name}", "computed"


def _base(figure: Figure) -> str:
    return figure.unit.base if figure.unit else ""


_FINDERS: Mapping[str, Callable[[str, str], Found]] = {
    "model": _model,
    "dense": _dense,
    "run": _run,
    "hardware": _hardware,
    "figure": _figure,
    "computed": _computed,
}


# ---- words ------------------------------------------------------------------------------------------------


def _text(figure: Figure, computed: float) -> str:
    places = printed_places(figure.printed, figure.value or 0) or 0
    return f"{figure.in_unit(computed):,.{places + 2}f}".rstrip("0").rstrip(".")
