"""Time the tokenizer against others on the standard library: training and encoding, side by side.

Arguments: megabytes (5), and the path of a published tokenizer.json to time as well. Peers: Hugging Face's
`tokenizers`; `tiktoken`, where it is installed, with the same ranks and a joined pattern (its ids are not
always right); a textbook trainer, written below, and one in minbpe's style, both on the first 0.2 MB.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, TypeVar

import tokenizers
from tokenizers import pre_tokenizers as pre

from minidsv3.corpus import library_documents
from minidsv3.tokenizer import Tokenizer
from minidsv3.tokenizer.pieces import DEEPSEEK_V3, STAGES, split_pieces
from minidsv3.tokenizer.vocabulary import FIRST_TOKENS

Result = TypeVar("Result")
Word = tuple[bytes, ...]


def timed(work: Callable[[], Result], repeats: int = 2) -> tuple[float, Result]:
    """Return the least time of a few runs, and the result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def peer_train(texts: list[str], size: int) -> tokenizers.Tokenizer:
    """Train the peer with the same splits, alphabet and size."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    splits = [pre.Split(tokenizers.Regex(stage), "isolated") for stage in STAGES]
    model.pre_tokenizer = pre.Sequence([*splits, pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size - 3,  # the three tokens of fill-in-the-middle come last, outside the trainer
        special_tokens=list(FIRST_TOKENS),
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.decoder = tokenizers.decoders.ByteLevel()
    model.train_from_iterator(texts, trainer)
    return model


def textbook_train(texts: list[str], merges: int) -> list[tuple[bytes, bytes]]:
    """Train as textbooks do: words with counts, all pairs counted anew for every merge."""
    counts = Counter(piece for text in texts for piece in split_pieces(text))
    words: dict[Word, int] = {}
    for piece, count in counts.items():
        words[tuple(bytes([byte]) for byte in piece.encode())] = count
    learned = []
    for _ in range(merges):
        pairs = Counter[tuple[bytes, bytes]]()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = max(pairs, key=pairs.__getitem__)
        learned.append(best)
        words = {_joined(word, best): count for word, count in words.items()}
    return learned


def _joined(word: Word, pair: tuple[bytes, bytes]) -> Word:
    joined, at = [], 0
    while at < len(word):
        size = 2 if word[at : at + 2] == pair else 1
        joined.append(b"".join(word[at : at + size]))
        at += size
    return tuple(joined)


def minbpe_train(texts: list[str], merges: int) -> list[tuple[int, int]]:
    """Train in minbpe's style: every piece of the text by itself, none counted once."""
    chunks = [list(piece.encode()) for text in texts for piece in split_pieces(text)]
    learned = []
    for new in range(256, 256 + merges):
        pairs: dict[tuple[int, int], int] = {}
        for chunk in chunks:
            for pair in pairwise(chunk):
                pairs[pair] = pairs.get(pair, 0) + 1
        best = max(pairs, key=pairs.__getitem__)
        learned.append(best)
        chunks = [_replaced(chunk, best, new) for chunk in chunks]
    return learned


def _replaced(chunk: list[int], pair: tuple[int, int], new: int) -> list[int]:
    replaced, at = [], 0
    while at < len(chunk):
        found = at + 1 < len(chunk) and chunk[at] == pair[0] and chunk[at + 1] == pair[1]
        replaced.append(new if found else chunk[at])
        at += 2 if found else 1
    return replaced


def compare_training(texts: list[str]) -> tuple[Tokenizer, Any]:
    """Print training times; return both tokenizers of 8,192 merges."""
    for vocab_size in (4_096 + 262, 8_192 + 262):
        ours, tokenizer = timed(lambda size=vocab_size: Tokenizer.train(texts, size))
        peers, other = timed(lambda size=vocab_size: peer_train(texts, size))
        merges = len(tokenizer.vocabulary.merges)
        print(f"train {merges} merges: {ours:.2f} s, tokenizers {peers:.2f} s, ratio {ours / peers:.2f}")
    few, size = [], 0
    for text in texts:
        if size + len(text) <= 200_000:
            few, size = [*few, text], size + len(text)
    merges = 512
    ours, _ = timed(lambda: Tokenizer.train(few, merges + 262))
    for name, work in (("textbook", textbook_train), ("minbpe's style", minbpe_train)):
        others, _ = timed(lambda work=work: work(few, merges), repeats=1)
        what = f"train {merges} merges on {size / 1e6:.2f} MB"
        print(f"{what}: {ours:.3f} s, {name} {others:.1f} s, ratio {others / ours:.0f}")
    return tokenizer, other


def tiktoken_of(tokenizer: Tokenizer) -> Any:
    """Give tiktoken the same tokens, by rank, and V3's stages as one pattern; None where that cannot be."""
    if find_spec("tiktoken") is None or tokenizer.vocabulary.steps.stages != DEEPSEEK_V3.stages:
        return None
    ranks = {data: token for token, data in enumerate(tokenizer.vocabulary.token_bytes())}
    joined = "|".join(STAGES)
    return import_module("tiktoken").Encoding(
        "same", pat_str=joined, mergeable_ranks=ranks, special_tokens={}
    )


def compare_encoding(texts: list[str], tokenizer: Tokenizer, other: Any, size: float) -> None:
    """Print the speed of encoding and decoding, cold and warm.  size: of the texts, in MB."""
    cold, _ = timed(lambda: [tokenizer.encode(text) for text in texts], repeats=1)
    warm, ids = timed(lambda: [tokenizer.encode(text) for text in texts])
    arrays, _ = timed(lambda: [tokenizer.encode_array(text) for text in texts])
    alone, expected = timed(lambda: [other.encode(text, add_special_tokens=False).ids for text in texts])
    batch, _ = timed(lambda: other.encode_batch(texts, add_special_tokens=False))
    equal = sum(a == b for a, b in zip(ids, expected, strict=True))
    print(f"encode: first {size / cold:.1f} MB/s, warm {size / warm:.1f}, to arrays {size / arrays:.1f}; "
          f"{equal} of {len(texts)} equal")  # fmt: skip
    print(f"  tokenizers: one by one {size / alone:.2f} MB/s, batch {size / batch:.2f}")
    print(f"  ratio to one by one: first {alone / cold:.1f}, warm {alone / warm:.1f}")
    if (third := tiktoken_of(tokenizer)) is not None:
        first, _ = timed(lambda: [third.encode_ordinary(text) for text in texts], repeats=1)
        again, _ = timed(lambda: [third.encode_ordinary(text) for text in texts])
        speeds = f"first {size / first:.1f} MB/s, again {size / again:.1f}"
        print(f"  tiktoken, one thread: {speeds}; ratio {again / warm:.2f}")
    part = texts[: len(texts) // 4]
    ours, _ = timed(lambda: [tokenizer.encode_with_offsets(text) for text in part])
    peers, _ = timed(lambda: [other.encode(text).offsets for text in part])
    print(f"  with offsets: ratio {peers / ours:.2f}")
    ours, _ = timed(lambda: [tokenizer.decode(part) for part in ids])
    peers, _ = timed(lambda: [other.decode(part) for part in ids])
    print(f"decode: {size / ours:.1f} MB/s, tokenizers {size / peers:.1f}, ratio {peers / ours:.1f}")


def main(limit: int, published: str | None) -> None:
    """Print seconds, megabytes per second and ratios."""
    texts = [document.text for document in library_documents(limit)]
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts)} files, {size:.1f} MB; {tokenizers.__version__=}")
    tokenizer, other = compare_training(texts)
    split, _ = timed(lambda: [split_pieces(text) for text in texts])
    print(f"cut into pieces: {size / split:.1f} MB/s")
    compare_encoding(texts, tokenizer, other, size)
    if published is not None:
        ours, tokenizer = timed(lambda: Tokenizer.load(published), repeats=1)
        peers, other = timed(lambda: tokenizers.Tokenizer.from_file(published), repeats=1)
        print(f"{published}: load {ours:.2f} s, tokenizers {peers:.2f} s")
        compare_encoding(texts, tokenizer, other, size)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(float(given[0] if given else 5) * 1e6), given[1] if len(given) > 1 else None)
