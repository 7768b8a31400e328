r"""Read a regular expression of a tokenizer.json and write it for Python's `re`, or refuse it.

The patterns are written for Oniguruma, which `re` resembles but is not: `re` has no `\p{L}`, its `\s` counts
four control characters more, its `$` means another place. So a pattern is read into a small tree, in which
every class is the set of its code points, and the tree is written anew with explicit classes. `compiled`
takes the alphabet of the text into account: a class over ASCII alone is short and quick.

Understood: characters and escapes, classes with ranges and properties, `\s \d \h` and their opposites,
groups, alternatives, `(?i:…)` over ASCII letters, look-around of fixed length, atomic groups, `^ $ \A \z`,
greedy, lazy and possessive repeats. Refused by name: everything else (back references, named groups,
`\w`, `\b`, class intersections, …), since half-understood is misread.

A file comes from outside, so a pattern must not run away either. A repeat repeats one character or class,
never a group, and its continuation is known to be cheap; what is left takes time with the length of the
text, at worst with the square of its longest run. `(a+)+$` is refused, and so is `a*a*b`.

>>> compiled(r"\p{N}{1,3}| ?\p{L}+", 128).findall("ab 1234 c")
['ab', '123', '4', ' c']
>>> read_pattern("(a+)+$")
Traceback (most recent call last):
ValueError: expected a repeat of one character or class, got a repeated group before '$' (character 5)

Next: minidsv3.tokenizer.stages
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import NamedTuple

from .classes import CODE_POINTS, CodePoints, complement, members, overlap, ranges, shorthand, union

LONGEST_PATTERN = 4096  # characters; the longest published one has some 900
_DEEPEST = 16
_MOST_REPEATS = 1000
_MOST_WAYS = 256
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b"}
_FOLDS_OF_TWO = ("ss", "ff", "fi", "fl", "st")  # ß and the ligatures match these when case is ignored
_BESIDES = {"s": "\u017f", "k": "\u212a"}  # long s and the Kelvin sign fold to ASCII letters


@dataclass(frozen=True)
class One:
    """One character out of a set."""

    members: CodePoints


@dataclass(frozen=True)
class Repeat:
    """A node `least` to `most` times; manner: "" greedy, "?" lazy, "+" possessive."""

    node: "Node"
    least: int
    most: int | None
    manner: str


@dataclass(frozen=True)
class Chain:
    """Nodes one after the other."""

    nodes: "tuple[Node, ...]"


@dataclass(frozen=True)
class Either:
    """The first alternative that matches."""

    options: "tuple[Node, ...]"


@dataclass(frozen=True)
class Look:
    """A condition on what comes next or before; opening: `(?=`, `(?!`, `(?<=` or `(?<!`."""

    opening: str
    node: "Node"


@dataclass(frozen=True)
class Atomic:
    """A group that is not entered again."""

    node: "Node"


@dataclass(frozen=True)
class Edge:
    """A place between characters, as `re` writes it."""

    written: str


Node = One | Repeat | Chain | Either | Look | Atomic | Edge

_EDGES = {"^": r"(?:\A|(?<=\n)(?!\Z))", "$": r"(?![^\n])"}  # of lines, not of the text
_ESCAPED_EDGES = {"A": r"\A", "z": r"\Z"}
_OPENINGS = ("?<=", "?<!", "?=", "?!", "?>", "?:", "?i:")


@lru_cache(maxsize=64)
def compiled(pattern: str, size: int) -> re.Pattern[str]:
    """Compile a pattern for texts over the first `size` code points; the whole match is group 1."""
    return re.compile(f"({written(read_pattern(pattern), size)})")


@lru_cache(maxsize=64)
def read_pattern(pattern: str) -> Node:
    """Read a pattern; a ValueError names the construct that is not understood, and its place."""
    if not 0 < len(pattern) <= LONGEST_PATTERN:
        raise ValueError(f"expected a pattern of 1 to {LONGEST_PATTERN} characters, got {len(pattern)}")
    node = _Reader(pattern).whole()
    _check_cost(node)
    if _least_width(node) == 0:
        raise ValueError(
            "expected a pattern that matches at least one character, got one that may match none"
        )
    return _from_the_left_of_a_run(node)


class _Reader:
    """A recursive descent over the pattern."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at, self.depth, self.folding = pattern, 0, 0, False

    def whole(self) -> Node:
        node = self.alternatives()
        if self.at < len(self.pattern):
            raise self.refusal("the end", "an unopened )")
        return node

    def refusal(self, wanted: str, got: str) -> ValueError:
        rest = self.pattern[self.at : self.at + 20]
        where = f"before {rest!r} (character {self.at})" if rest else "at the end of the pattern"
        return ValueError(f"expected {wanted}, got {got} {where}")

    def ahead(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def take(self, text: str) -> bool:
        found = self.ahead(text)
        self.at += len(text) * found
        return found

    def next(self) -> str:
        if self.at >= len(self.pattern):
            raise self.refusal("a character", "nothing")
        self.at += 1
        return self.pattern[self.at - 1]

    def alternatives(self) -> Node:
        options = [self.chain()]
        while self.take("|"):
            options.append(self.chain())
        return options[0] if len(options) == 1 else Either(tuple(options))

    def chain(self) -> Node:
        nodes, letters = list[Node](), ""
        while self.at < len(self.pattern) and not self.ahead("|") and not self.ahead(")"):
            begin = self.at
            node = self.atom()
            letters = letters + self.pattern[begin].lower() if self.folding and isinstance(node, One) else ""
            if letters.endswith(_FOLDS_OF_TWO):
                raise self.refusal("letters whose case folds singly", f"{letters[-2:]!r} in (?i:…)")
            nodes.append(self.repeated(node))
        return nodes[0] if len(nodes) == 1 else Chain(tuple(nodes))

    def repeated(self, node: Node) -> Node:
        bounds = self.bounds()
        if bounds is None:
            return node
        least, most, braces = bounds
        manner = "?" if self.take("?") else "+" if self.take("+") else ""
        if braces and (manner == "+" or (manner and least == most)):
            raise self.refusal("a repeat", f"{{…}}{manner}, which engines read differently,")
        if self.bounds() is not None:
            raise self.refusal("one repeat", "a repeat of a repeat")
        if isinstance(node, Look | Edge):
            raise self.refusal("a repeat of one character or class", "a repeated condition")
        if most != 1 and not isinstance(node, One):
            raise self.refusal("a repeat of one character or class", "a repeated group")
        return Repeat(node, least, most, manner)

    def bounds(self) -> tuple[int, int | None, bool] | None:
        for sign, least, most in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self.take(sign):
                return least, most, False
        if not self.take("{"):
            return None
        found = re.compile(r"([0-9]{0,4})(,?)([0-9]{0,4})\}").match(self.pattern, self.at)
        if found is None or not (found[1] or found[3]):
            raise self.refusal("a repeat such as {1,3}", "{")
        self.at = found.end()
        low = int(found[1] or 0)
        high = int(found[3]) if found[3] else None if found[2] else low
        if low > _MOST_REPEATS or (high is not None and not max(low, 1) <= high <= _MOST_REPEATS):
            raise self.refusal(f"a repeat of at most {_MOST_REPEATS}", found[0])
        return low, high, True

    def atom(self) -> Node:
        if self.take("("):
            return self.group()
        if self.ahead("[") or self.ahead("."):
            return self.one()
        character = self.pattern[self.at]
        if character in _EDGES:
            self.at += 1
            return Edge(_EDGES[character])
        if character == "\\" and self.pattern[self.at + 1 : self.at + 2] in _ESCAPED_EDGES:
            self.at += 2
            return Edge(_ESCAPED_EDGES[self.pattern[self.at - 1]])
        if character in "*+?{":
            raise self.refusal("something to repeat", f"{character}")
        return self.one()

    def group(self) -> Node:
        opening = next((opening for opening in _OPENINGS if self.take(opening)), "")
        if not opening and (self.ahead("?") or self.ahead("*")):
            raise self.refusal(
                "(…), (?:…), (?i:…), (?>…) or a look-around", f"({self.pattern[self.at : self.at + 2]}"
            )
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.refusal(f"groups at most {_DEEPEST} deep", "a deeper one")
        outside, self.folding = self.folding, self.folding or opening == "?i:"
        node = self.alternatives()
        if not self.take(")"):
            raise self.refusal(")", "none")
        self.depth, self.folding = self.depth - 1, outside
        if opening in ("", "?:", "?i:"):
            return Chain((node,))  # a chain of its own: a repeat after it repeats a group
        if opening == "?>":
            return Atomic(node)
        if _least_width(node) != _most_width(node):
            raise self.refusal("a look-around of fixed length", "one that varies")
        return Look(f"({opening}", node)

    def one(self) -> One:
        if self.take("."):
            return One(complement(_single("\n")))
        if self.take("["):
            return One(self.bracketed())
        found, _ = self.member()
        return One(found)

    def bracketed(self) -> CodePoints:
        negated = self.take("^")
        parts = list[CodePoints]()
        if self.ahead("]"):
            raise self.refusal("a class with members", "[]")
        while not self.take("]"):
            for construct in ("[", "&&"):
                if self.ahead(construct):
                    raise self.refusal("characters, ranges and properties in a class", construct)
            parts.append(self.member_or_range())
        found = union(*parts)
        return complement(found) if negated else found

    def member_or_range(self) -> CodePoints:
        found, first = self.member()
        if not self.ahead("-") or self.pattern[self.at + 1 : self.at + 2] in ("]", ""):
            return found
        self.at += 1
        _, last = self.member()
        if first is None or last is None or last < first:
            raise self.refusal("a range of two characters, the lower first", "another")
        if self.folding:
            raise self.refusal("letters in (?i:…)", "a range")
        return ((first, last + 1),)

    def member(self) -> tuple[CodePoints, int | None]:
        """Read a character, or a set: the set, and the code where it is one character."""
        character = self.next()
        if character == "\\":
            character = self.next()
            if character in "pP":
                return self.unfolded(self.property(negated=character == "P")), None
            if character.lower() in "sdh":
                found = shorthand(character.lower())
                return self.unfolded(found if character.islower() else complement(found)), None
            character = self.escaped(character)
        return self.character(character), ord(character)

    def unfolded(self, found: CodePoints) -> CodePoints:
        if self.folding:
            raise self.refusal("ASCII characters in (?i:…)", "a set")
        return found

    def character(self, character: str) -> CodePoints:
        if not self.folding:
            return _single(character)
        if not character.isascii():
            raise self.refusal("ASCII characters in (?i:…)", repr(character))
        low = character.lower()
        return union(*map(_single, low + low.upper() + _BESIDES.get(low, "")))

    def escaped(self, character: str) -> str:
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character in "xu":
            shape = r"\{([0-9a-fA-F]{1,8})\}|([0-9a-fA-F]{2})" if character == "x" else r"([0-9a-fA-F]{4})"
            found = re.compile(shape).match(self.pattern, self.at)
            if found and (code := int(found[found.lastindex or 0], 16)) < CODE_POINTS:
                if character == "x" and found[0][0] != "{" and code > 0x7F:
                    raise self.refusal(r"\x up to 7F, or \x{…}", "a byte that is no character")
                self.at = found.end()
                return chr(code)
        elif not character.isalnum() and character.isascii() and character not in "'`<>":
            return character
        raise self.refusal("an escape that is known here", f"\\{character}")

    def property(self, negated: bool) -> CodePoints:
        found = re.compile(r"\{(\^?)([^{}^]{1,60})\}").match(self.pattern, self.at)
        if found is None:
            raise self.refusal(r"\p{…}", r"\p")
        try:
            matching = members(found[2])
        except ValueError as error:
            raise self.refusal(*str(error).removeprefix("expected ").split(", got ", 1)) from None
        self.at = found.end()
        return complement(matching) if negated != bool(found[1]) else matching


def _single(character: str) -> CodePoints:
    return ((ord(character), ord(character) + 1),)


def written(node: Node, size: int) -> str:
    """Write a tree for `re`, for texts over the first `size` code points."""
    match node:
        case One(found):
            listed = ranges(found, size)
            return f"[{listed}]" if listed else "(?!)"
        case Repeat(inner, least, most, manner):
            bounds = f"{{{least},{'' if most is None else most}}}"
            return f"(?:{written(inner, size)}){bounds}{manner}"
        case Chain(nodes):
            return "(?:" + "".join(written(inner, size) for inner in nodes) + ")"
        case Either(options):
            return "(?:" + "|".join(written(option, size) for option in options) + ")"
        case Look(opening, inner):
            return f"{opening}{written(inner, size)})"
        case Atomic(inner):
            return f"(?>{written(inner, size)})"
        case Edge(text):
            return text


def _least_width(node: Node) -> int:
    return _width(node, min, lambda repeat: repeat.least)


def _most_width(node: Node) -> int:
    return _width(node, max, lambda repeat: 1 << 20 if repeat.most is None else repeat.most)


def _width(node: Node, choose: Callable[[Iterable[int]], int], times: Callable[[Repeat], int]) -> int:
    match node:
        case One():
            return 1
        case Repeat(inner):
            return times(node) * _width(inner, choose, times)
        case Chain(nodes):
            return sum(_width(inner, choose, times) for inner in nodes)
        case Either(options):
            return choose([_width(option, choose, times) for option in options])
        case Atomic(inner):
            return _width(inner, choose, times)
        case Look() | Edge():
            return 0


class _Rest(NamedTuple):
    """What follows a node, as far as it bears on the cost of giving characters back."""

    first: tuple[CodePoints, ...]  # characters with which it may go on
    always: bool  # it matches everywhere, so nothing before it is ever given back
    linear: bool  # it may read a whole run before it fails


_NOTHING = _Rest((), always=True, linear=False)
_EVERYTHING: CodePoints = ((0, CODE_POINTS),)


def _check_cost(node: Node) -> None:
    """Refuse a pattern that may try too many ways of matching one run of characters."""
    for option in node.options if isinstance(node, Either) else (node,):
        if (ways := _ways(option)) > _MOST_WAYS:
            raise ValueError(f"expected at most {_MOST_WAYS} ways through one alternative, got {ways}")
    _followed(node, _NOTHING)


def _ways(node: Node) -> int:
    match node:
        case Repeat(inner, least, most):
            return (1 if most is None else most - least + 1) * _ways(inner)
        case Chain(nodes):
            return reduce(lambda ways, inner: min(ways * _ways(inner), 1 << 40), nodes, 1)
        case Either(options):
            return sum(map(_ways, options))
        case Look(_, inner) | Atomic(inner):
            return _ways(inner)
        case One() | Edge():
            return 1


def _followed(node: Node, rest: _Rest) -> _Rest:
    """Describe the node with what follows it."""
    match node:
        case One(found):
            return _Rest((found,), always=False, linear=rest.linear)
        case Repeat(One(found), least, None, manner):
            costly = manner != "+" and not rest.always and rest.linear
            if costly and any(overlap(found, follower) for follower in rest.first):
                raise ValueError(
                    "expected repeats that give back little, got one over characters that may also go on "
                    "behind it, with another repeat there"
                )
            first = (found, *rest.first) if least == 0 else (found,)
            return _Rest(first, least == 0 and rest.always, not rest.always)
        case Repeat(inner, least):
            taken = _followed(inner, rest)
            return _joined(taken, rest) if least == 0 else taken
        case Chain(nodes):
            return reduce(lambda after, inner: _followed(inner, after), reversed(nodes), rest)
        case Either(options):
            return reduce(_joined, (_followed(option, rest) for option in options))
        case Atomic(inner):
            inside = _followed(inner, _NOTHING)
            return _Rest((_EVERYTHING,), False, inside.linear or rest.linear)
        case Look() | Edge():
            return _Rest((_EVERYTHING,), False, rest.linear)


def _joined(one: _Rest, other: _Rest) -> _Rest:
    return _Rest(one.first + other.first, one.always or other.always, one.linear or other.linear)


def _from_the_left_of_a_run(node: Node) -> Node:
    """Let `\\s+$` begin at the left end of a run only: the leftmost match does, and it saves the square.

    Were there a match from within a run, there would be one from its left with the same end; and a match
    that ends within a run, being greedy, leaves no other in the rest of it.
    """
    match node:
        case Chain((Repeat(One(found), 1, None, ""), Look() | Edge())):
            return Chain((Look("(?<!", One(found)), *node.nodes))
    return node
