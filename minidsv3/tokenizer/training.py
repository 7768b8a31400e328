"""Learn the merges: join the pair of neighbouring tokens seen most often, again and again.

Pieces repeat, so each different piece is kept once with its count. At each step the pair with the highest
count becomes a token; of several, the one with the smaller pair of ids (the rule of Hugging Face's
`tokenizers`; minbpe takes the pair seen first). Pairs are counted where they overlap, so `aaa` holds `aa`
twice, and merged from the left. A token that comes about twice, from different pairs, keeps its first id
and adds only a merge.

`learn_by_recounting` is the specification: it counts everything anew at each step. `learn` finds the same
merges and corrects only the counts of pieces that held the merged pair. There is no minimum count.

>>> tokens, merges = learn_by_recounting({"aaab": 2, "ab": 3}, ("a", "b"), size=4)
>>> tokens, merges
(['a', 'b', 'ab', 'aa'], [(0, 1), (0, 0)])
>>> learn({"aaab": 2, "ab": 3}, ("a", "b"), size=4) == (tokens, merges)
True

Next: minidsv3.tokenizer.merging
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from operator import add

Pair = tuple[int, int]


def learn_by_recounting(
    pieces: Mapping[str, int], alphabet: Sequence[str], size: int
) -> tuple[list[str], list[Pair]]:
    """Learn merges until there are `size` tokens or no pair is left: the specification.

    pieces: how often each piece occurs, written in the alphabet; alphabet: the tokens to begin with.
    Returns all tokens by id, and the merges in order.
    """
    tokens, merges = list(alphabet), list[Pair]()
    ids = {token: index for index, token in enumerate(tokens)}
    words = [([ids[character] for character in piece], count) for piece, count in pieces.items()]
    while len(tokens) < size:
        counts = Counter[Pair]()
        for word, count in words:
            for pair in pairwise(word):
                counts[pair] += count
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        new = _token_id(tokens, ids, best)
        merges.append(best)
        words = [(replace_pair(word, best, new), count) for word, count in words]
    return tokens, merges


def learn(pieces: Mapping[str, int], alphabet: Sequence[str], size: int) -> tuple[list[str], list[Pair]]:
    """Learn the merges of `learn_by_recounting`, correcting counts in place of recounting."""
    tokens, merges = list(alphabet), list[Pair]()
    ids = {token: index for index, token in enumerate(tokens)}
    words = ["".join(chr(ids[character]) for character in piece) for piece in pieces]
    table = _PairTable(words, list(pieces.values()))
    while len(tokens) < size and (best := table.best()) is not None:
        pair = (ord(best[0]), ord(best[1]))
        table.merge(best, chr(_token_id(tokens, ids, pair)))
        merges.append(pair)
    return tokens, merges


def _token_id(tokens: list[str], ids: dict[str, int], pair: Pair) -> int:
    """Return the id of the joined token, appending it if it is new."""
    joined = tokens[pair[0]] + tokens[pair[1]]
    if joined not in ids:
        ids[joined] = len(tokens)
        tokens.append(joined)
    return ids[joined]


def replace_pair(word: Sequence[int], pair: Pair, new: int) -> list[int]:
    """Replace the pair by the new token, from the left."""
    replaced, at = list[int](), 0
    while at < len(word):
        if word[at] == pair[0] and at + 1 < len(word) and word[at + 1] == pair[1]:
            replaced.append(new)
            at += 2
        else:
            replaced.append(word[at])
            at += 1
    return replaced


class _PairTable:
    """The counts of all pairs, kept true while words are merged.

    A word is a string with one character for each token, its code point the id; a pair is two of them. So a
    merge is `str.replace`, which works from the left, and pairs compare as their ids do.
    """

    def __init__(self, words: list[str], weights: list[int]) -> None:
        self.words, self.weights = words, weights
        self.counts: dict[str, int] = defaultdict(int)
        self.where: dict[str, set[int]] = defaultdict(set)  # words that hold the pair, or once held it
        for index, word in enumerate(words):
            for pair in map(add, word, word[1:]):
                self.counts[pair] += weights[index]
                self.where[pair].add(index)
        self.heap = [
            (-count, pair) for pair, count in self.counts.items()
        ]  # least first: highest count, least ids
        heapify(self.heap)

    def best(self) -> str | None:
        """Return the pair to merge next, or None when all words are single tokens."""
        while self.heap:
            count, pair = heappop(self.heap)
            actual = self.counts.get(pair, 0)
            if actual == -count:
                return pair
            # entries are not corrected when counts fall, only here, when one comes to the top
            if 0 < actual < -count:
                heappush(self.heap, (-actual, pair))
        return None

    def merge(self, pair: str, new: str) -> None:
        """Replace the pair by the new token in every word and correct the counts of its neighbours."""
        changes: dict[str, int] = defaultdict(int)
        for index in self.where.pop(pair):
            self._merge_word(index, pair, new, changes)
        for changed, difference in changes.items():
            if difference:
                count = self.counts[changed] = self.counts[changed] + difference
                if difference > 0:
                    heappush(self.heap, (-count, changed))
                elif count == 0:
                    del self.counts[changed]

    def _merge_word(self, index: int, pair: str, new: str, changes: dict[str, int]) -> None:
        """Merge the pair in one word; only the pairs at its seams change, however long it is."""
        weight, where, first, second = self.weights[index], self.where, pair[0], pair[1]
        parts = self.words[index].split(pair)  # between any two parts lies one occurrence
        self.words[index] = new.join(parts)
        changes[pair] -= weight * (len(parts) - 1)
        for number, (before, after) in enumerate(pairwise(parts)):
            if before or number:  # on the left stands a part, or, where that is empty, the occurrence before
                left, joined = (before[-1], before[-1] + new) if before else (second, new + new)
                changes[left + first] -= weight
                changes[joined] += weight
                where[joined].add(index)
            if after:
                changes[second + after[0]] -= weight
                changes[new + after[0]] += weight
                where[new + after[0]].add(index)
