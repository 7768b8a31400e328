"""Apply the merges to one piece: the merge learned first goes first, wherever it stands.

A piece begins as its bytes. Of all neighbouring pairs that are merges, the one of lowest rank is joined,
the leftmost if it stands more than once, until no pair is a merge. This is not the longest match: what was
learned early wins.

`merge_step_by_step` is the specification; it looks at all pairs at every step, which for the short pieces
of real text is also the fastest way. `merge` hands pieces over 24 tokens to a heap of ranks over a linked
list: a text may be one piece of a million letters, and the specification needs time with the square of it.

>>> ranks = {(1, 2): (0, 9), (2, 3): (1, 8), (9, 3): (2, 10)}  # pair -> its rank, its token
>>> merge_step_by_step([1, 2, 3, 2, 3], ranks)
[10, 8]
>>> merge([1, 2, 3, 2, 3], ranks) == merge_with_heap([1, 2, 3, 2, 3], ranks) == [10, 8]
True

Next: minidsv3.tokenizer.vocabulary
"""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from .training import Pair

Ranks = Mapping[Pair, tuple[int, int]]  # pair -> (rank, token)
_SHORT = 24  # tokens; above this the heap is quicker
_NEVER = (1 << 62, -1)


def merge_step_by_step(piece: Sequence[int], ranks: Ranks) -> list[int]:
    """Merge the tokens of one piece: the specification."""
    ids = list(piece)
    while len(ids) > 1:
        candidates = [ranks.get(pair, _NEVER) for pair in pairwise(ids)]
        best = min(candidates)
        if best is _NEVER:
            break
        at = candidates.index(best)  # the leftmost
        ids[at : at + 2] = [best[1]]
    return ids


def merge(piece: Sequence[int], ranks: Ranks) -> list[int]:
    """Merge the tokens of one piece, by the way that is quicker for its length."""
    return merge_step_by_step(piece, ranks) if len(piece) <= _SHORT else merge_with_heap(piece, ranks)


def merge_with_heap(piece: Sequence[int], ranks: Ranks) -> list[int]:
    """Merge the tokens of one piece in time n log n; equal to `merge_step_by_step`."""
    ids: list[int] = list(piece)
    end = len(ids)
    after = list(range(1, end + 1))  # a list linked both ways: a token keeps the position of its first part
    before = list(range(-1, end - 1))
    heap = [(ranks[pair], at) for at, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapify(heap)
    while heap:
        (rank, token), left = heappop(heap)
        right = after[left]
        # a neighbour may have been merged since: then the pair that stands here is another one, or none
        if right >= end or ranks.get((ids[left], ids[right])) != (rank, token):
            continue
        ids[left], ids[right] = token, -1  # -1: no longer a token; it is in no pair of `ranks`
        after[left] = following = after[right]
        if following < end:
            before[following] = left
        for first, second in ((before[left], left), (left, following)):
            if first >= 0 and second < end and (ids[first], ids[second]) in ranks:
                heappush(heap, (ranks[ids[first], ids[second]], first))
    return [token for token in ids if token >= 0]
