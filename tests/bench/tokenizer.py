"""Time the tokenizer against Hugging Face's `tokenizers` on the standard library (argument: megabytes)."""

import sys
import time
from collections.abc import Callable
from itertools import accumulate
from typing import TypeVar

import tokenizers
from tokenizers import pre_tokenizers as pre

from minidsv3.corpus import library_documents
from minidsv3.tokenizer import Tokenizer
from minidsv3.tokenizer.pieces import STAGES, split_pieces
from minidsv3.tokenizer.vocabulary import FIRST_TOKENS

Result = TypeVar("Result")


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


def main(limit: int) -> None:
    """Print seconds, megabytes per second and ratios."""
    texts = [document.text for document in library_documents(limit)]
    size = list(accumulate(len(text.encode()) for text in texts))[-1] / 1e6
    print(f"{len(texts)} files, {size:.1f} MB; {tokenizers.__version__=}")
    for vocab_size in (4096, 8192):
        ours, tokenizer = timed(lambda size=vocab_size: Tokenizer.train(texts, size))
        peers, other = timed(lambda size=vocab_size: peer_train(texts, size))
        print(f"train to {vocab_size}: {ours:.2f} s, peer {peers:.2f} s, ratio {ours / peers:.2f}")
    split, _ = timed(lambda: [split_pieces(text) for text in texts])
    print(f"cut into pieces: {size / split:.1f} MB/s")
    cold, _ = timed(lambda: [tokenizer.encode(text) for text in texts], repeats=1)
    warm, ids = timed(lambda: [tokenizer.encode(text) for text in texts])
    arrays, _ = timed(lambda: [tokenizer.encode_array(text) for text in texts])
    alone, expected = timed(lambda: [other.encode(text).ids for text in texts])
    batch, _ = timed(lambda: other.encode_batch(texts))
    assert ids == expected
    print(f"encode: first {size / cold:.1f} MB/s, warm {size / warm:.1f}, to arrays {size / arrays:.1f}")
    print(f"  peer: one by one {size / alone:.2f} MB/s, batch {size / batch:.2f}")
    print(f"  ratio to one by one: first {alone / cold:.1f}, warm {alone / warm:.1f}")
    ours, _ = timed(lambda: [tokenizer.decode(part) for part in ids])
    peers, _ = timed(lambda: [other.decode(part) for part in ids])
    print(f"decode: {size / ours:.1f} MB/s, peer {size / peers:.1f}, ratio {peers / ours:.1f}")


if __name__ == "__main__":
    main(int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 5_000_000)
