"""Needles in haystacks: documents in which a fact stands once, and which ask for it at the end.

A haystack is a few plain sentences, round and round. A needle, put anywhere between two words of it, is a
name and the word that belongs to it, said twice, which teaches a small model to look one word back:
`Ke ma Ke ma`. A question, `? Ke`, has one right answer, `ma`. Every word is one token of a tokenizer that
learned from such text, so that lengths and depths are exact to the token.

A document to learn from has several needles, and asks again and again, anywhere, for one of those told so
far: where the answer stands says nothing, only the name does, and a small model learns that in minutes. A
document to test asks once, at its end, for a needle at a given depth, from 0, the beginning, to 1, the last
place in front of the question, with others as distractors. All words and numbers are ours.

>>> stack = haystack(28, 0.5, np.random.default_rng(0), distractors=1)
>>> spoken(stack.words)
' Te ta Te ta is cold the road is long Fe fa Fe fa all birds fly south the stars come out the grass . ? Fe'
>>> WORDS[stack.answer], stack.at
('fa', 11)
>>> spoken(document(32, np.random.default_rng(1)))
' De ba De ba ? De ba is Se wa Se wa ? De ba long Xe va Xe va all ? De ba ? Xe va . ? De ba'

Next: minidsv3.corpus.batches
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..tokenizer import Tokenizer
from .fill_in_the_middle import Tokens

__all__ = ["WORDS", "Haystack", "document", "documents", "haystack", "shortest", "spoken", "word_ids"]

SENTENCES = (
    "the grass is green", "the sky is blue", "the sun is warm", "here we go", "there and back again",
    "the wind is cold", "the road is long", "all birds fly south", "the stars come out",
)  # fmt: skip
CONSONANTS = "bdfgklmnprstvwxz"
NAMES = tuple(f"{c.upper()}e" for c in CONSONANTS)
THINGS = tuple(f"{c}a" for c in CONSONANTS)
END, STOP, ASK = 0, 1, 2  # numbers of the end-of-sequence token, the full stop and the question mark
PLAIN = tuple(sorted({word for sentence in SENTENCES for word in sentence.split()}))
WORDS = ("", ".", "?", *PLAIN, *NAMES, *THINGS)
"""Every word by its number; number 0 is the end-of-sequence token, which begins a document."""
FIRST_NAME, FIRST_THING = WORDS.index(NAMES[0]), WORDS.index(THINGS[0])
NEEDLE, QUESTION = 4, 3  # words: `Ke ma Ke ma`, `? Ke ma`
MOST_NEEDLES = 6  # of a document to learn from

Words = NDArray[np.int64]


class Haystack(NamedTuple):
    """A document to be asked: everything up to where the answer belongs."""

    words: Words  # [L]
    answer: int  # the right next word
    at: int  # where the needle begins


def shortest(distractors: int) -> int:
    """The length in which a needle at any depth leaves room for so many others."""
    return 4 + 2 * NEEDLE * (1 + distractors)


def haystack(length: int, depth: float, rng: np.random.Generator, distractors: int = 3) -> Haystack:
    """A document of `length` tokens with one needle that is asked for, at a depth from 0 to 1.

    distractors: needles of other names and other things, anywhere else.
    """
    if not 0 <= depth <= 1 or not 0 <= distractors < len(NAMES) or length < shortest(distractors):
        raise ValueError(
            f"expected a depth from 0 to 1, 0 to {len(NAMES) - 1} distractors and, with {distractors}, "
            f"a length of at least {shortest(distractors)}, got {depth}, {distractors} and {length}"
        )
    body = np.full(length - 4, -1)  # between the end-of-sequence token and `. ? Ke`
    names = FIRST_NAME + rng.permutation(len(NAMES))[: 1 + distractors]
    things = FIRST_THING + rng.permutation(len(THINGS))[: 1 + distractors]
    at = round(depth * (len(body) - NEEDLE))
    places = [*range(0, at - NEEDLE + 1, NEEDLE), *range(at + NEEDLE, len(body) - NEEDLE + 1, NEEDLE)]
    chosen = [at, *rng.permutation(places)[:distractors].tolist()]
    for place, name, thing in zip(chosen, names, things, strict=True):
        body[place : place + NEEDLE] = name, thing, name, thing
    words = np.array([END, *_filled(body, rng), STOP, ASK, names[0]])  # [L]
    return Haystack(words, int(things[0]), 1 + at)


def document(length: int, rng: np.random.Generator, needles: int | None = None) -> Words:
    """A document to learn from: needles, and questions for those told so far, among sentences.  -> [L]

    The first is a needle, the last, behind a full stop, a question.
    needles: how many; 1 to 6, drawn, if not given.
    """
    most = min(len(NAMES), (length - 2 - QUESTION) // NEEDLE)
    count = int(rng.integers(min(most, MOST_NEEDLES))) + 1 if needles is None and most > 0 else needles or 0
    if not 1 <= count <= most:
        raise ValueError(f"expected 1 to {max(most, 0)} needles in {length} tokens, got {count}")
    room = (length - 2 - NEEDLE * count) // QUESTION  # questions at most
    questions = 1 + int(rng.uniform(0, 1) * (room - 1))
    names = FIRST_NAME + rng.permutation(len(NAMES))[:count]
    things = FIRST_THING + rng.integers(0, len(THINGS), count)
    told = np.zeros(count + questions, bool)  # of needles and questions in their order: which are needles
    told[0] = True
    told[1 + rng.permutation(count + questions - 2)[: count - 1]] = True
    known = np.cumsum(told)
    about = np.where(told, known - 1, (rng.uniform(size=len(told)) * known).astype(int))
    widths = np.where(told, NEEDLE, QUESTION)
    words = np.full(length, -1)
    words[0], words[-1 - QUESTION] = END, STOP
    free = length - 2 - int(widths.sum())  # places for sentences
    places = 1 + np.cumsum(widths) - widths + np.sort(rng.integers(0, free + 1, len(told)))
    places[-1] = length - QUESTION
    for place, needle, name, thing in zip(places, told, names[about], things[about], strict=True):
        said = (name, thing, name, thing) if needle else (ASK, name, thing)
        words[place : place + len(said)] = said
    return _filled(words, rng)


def documents(count: int, length: int, rng: np.random.Generator) -> Words:
    """Documents to learn from.  -> [count, length]"""
    return np.stack([document(length, rng) for _ in range(count)])


def _filled(body: Words, rng: np.random.Generator) -> Words:
    """Sentences, from any word on, in every place that is still free, -1.  The same array."""
    free = np.flatnonzero(body < 0)
    body[free] = _ROUND[(int(rng.integers(len(_ROUND))) + np.arange(len(free))) % len(_ROUND)]
    return body


_ROUND = np.array([WORDS.index(word) for sentence in SENTENCES for word in sentence.split()])


def spoken(words: Words) -> str:
    """The text, a space in front of each word; the end-of-sequence token is not part of it."""
    return "".join(f" {WORDS[word]}" for word in words if word != END)


def word_ids(tokenizer: Tokenizer) -> Tokens:
    """The token of every word; ValueError if a word is not one token.  -> [words]"""
    spelled = [tokenizer.encode(f" {word}") for word in WORDS[1:]]
    for word, ids in zip(WORDS[1:], spelled, strict=True):
        if len(ids) != 1:
            raise ValueError(
                f"expected a tokenizer that learned from needles, one token a word, got {len(ids)} for "
                f"' {word}': `minidsv3 run --preset needle` makes one"
            )
    return np.array([tokenizer.eos, *(ids[0] for ids in spelled)], np.int32)
