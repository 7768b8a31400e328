"""From text to what a trainer eats: documents split by file, a tokenizer, a packed stream, held-out ids.

Without paths the text is the standard library of the running Python, a fiftieth of its files held out. A
single file of the user's has its last tenth held out, cut at a line's end. At most `HELD_OUT_BYTES` are
kept of what is held out, and at most `TOKENIZER_BYTES` of the rest teach the tokenizer: the run's seed
draws which.

Only a few times as much text is tokenised as the plan consumes, documents drawn by the seed; a short text
is tokenised whole and repeats in epochs. A text with few different pairs gives a smaller vocabulary than
asked for; the model then has exactly the tokenizer's.

A plan with `synthetic` reads nothing: needles in haystacks are made, each document as long as a sequence,
as many as the plan has sequences.

Does: read, split, tokenise, pack. Does not: train, write files (`run_folder`).

    >>> from minidsv3.corpus import Document
    >>> split = split_text([Document("a.py", "x = 1\\n" * 100)], seed=0)
    >>> len(split.training[0].text), len(split.held_out[0].text), split.note
    (540, 60, 'one file: its last tenth is held out')

Next: minidsv3.training.run_folder
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import TrainConfig
from minidsv3.corpus import Document, library_documents, pack, read_documents, split_documents
from minidsv3.corpus.needle import documents, spoken, word_ids
from minidsv3.tokenizer import Tokenizer
from minidsv3.training.schedule import Schedule

__all__ = [
    "Prepared", "SplitText", "made_text", "plan_for_steps", "prepare", "read_text", "split_text",
    "train_tokenizer",
]  # fmt: skip

HELD_OUT_SHARE = 0.02  # of the files
HELD_OUT_BYTES = 220_000
TOKENIZER_BYTES = 4_000_000
SAMPLES, MADE_HELD_OUT = 400, 64  # made documents that teach the tokenizer, and that are held out
SURPLUS = 3.0  # times the planned tokens: windows of many documents teach more than all windows of few


@dataclass(frozen=True)
class SplitText:
    """Documents to learn from, in the order in which the seed draws them, and documents held out."""

    training: list[Document]
    held_out: list[Document]
    source: str  # where the text came from, in words
    note: str = ""  # what was special about the split

    @property
    def training_bytes(self) -> int:
        """Bytes of everything there is to learn from."""
        return sum(document.byte_count for document in self.training)

    @property
    def held_out_bytes(self) -> int:
        """Bytes of what is held out."""
        return sum(document.byte_count for document in self.held_out)


@dataclass(frozen=True)
class Prepared:
    """What a trainer and an evaluation need."""

    stream: NDArray[np.int32]  # [S] packed training tokens
    held_out: list[NDArray[np.int32]]  # each document's ids behind one end-of-sequence token
    held_out_names: list[str]
    documents: int  # how many the stream holds


def read_text(paths: Sequence[str | os.PathLike[str]] | None, seed: int) -> SplitText:
    """Read the standard library, or files and folders, and split by file."""
    if not paths:
        return split_text(library_documents(), seed, "the standard library of the running Python")
    return split_text(read_documents(paths), seed, ", ".join(str(path) for path in paths))


def made_text(plan: TrainConfig) -> SplitText:
    """Needles in haystacks, as text: those held out, and some like those that `prepare` makes."""
    drawn = {
        "held out": _made(plan, MADE_HELD_OUT, 4),
        "sample": _made(plan, SAMPLES, 5),
    }
    held_out, sample = (
        [Document(f"{name} {i}", spoken(words)) for i, words in enumerate(rows)]
        for name, rows in drawn.items()
    )
    note = f"documents of {plan.seq_len} tokens, one a sequence; the tokenizer learns from {SAMPLES}"
    return SplitText(sample, held_out, "needles in haystacks, made for the run", note)


def _made(plan: TrainConfig, count: int, purpose: int) -> NDArray[np.int64]:
    """Word numbers of documents as long as a sequence.  -> [count, T]"""
    return documents(count, plan.seq_len, np.random.default_rng((plan.seed, purpose)))


def split_text(documents: Sequence[Document], seed: int, source: str = "documents") -> SplitText:
    """Split by file, or a single file by its length; documents to learn from come in the seed's order."""
    documents = [document for document in documents if document.text.strip()]
    if not documents:
        raise ValueError(f"expected text to learn from, got nothing but white space in {source}")
    note = ""
    if len({document.name for document in documents}) == 1:
        training, held_out = _split_file(Document(documents[0].name, "".join(d.text for d in documents)))
        note = "one file: its last tenth is held out"
    else:
        training, held_out = _split_files(documents)
    order = np.random.default_rng((seed, 2)).permutation(len(training))
    return SplitText([training[i] for i in order], _first_bytes(held_out, HELD_OUT_BYTES), source, note)


def _split_files(documents: Sequence[Document]) -> tuple[list[Document], list[Document]]:
    """Hold out a share of the files, a larger one where that is less than a hundredth of the bytes."""
    whole = sum(document.byte_count for document in documents)
    for share in (HELD_OUT_SHARE, 0.05, 0.1, 0.2, 0.4):
        training, held_out = split_documents(documents, share, seed=0)
        if 100 * sum(document.byte_count for document in held_out) >= whole:
            break
    return training, held_out


def _split_file(document: Document) -> tuple[list[Document], list[Document]]:
    """The last tenth of a file, from the start of a line on if there is one, is held out."""
    text = document.text
    cut = len(text) - len(text) // 10
    line = text.find("\n", cut - 1) + 1
    cut = line if 0 < line < len(text) else cut
    if not 0 < cut < len(text):
        raise ValueError(f"expected a text long enough to hold a tenth of it out, got {len(text)} characters")
    return [Document(document.name, text[:cut])], [Document(f"{document.name} (end)", text[cut:])]


def _first_bytes(documents: Sequence[Document], limit: int) -> list[Document]:
    """Documents up to a number of bytes in all; the one that would go over it is cut, the rest left out."""
    kept: list[Document] = []
    for document in documents:
        room = limit - sum(other.byte_count for other in kept)
        if document.byte_count <= room:
            kept.append(document)
        elif not kept:  # cut between characters
            text = document.text.encode()[:room].decode(errors="ignore")
            return [Document(document.name, text)]
    return kept


def train_tokenizer(split: SplitText, vocab_size: int) -> Tokenizer:
    """Learn a tokenizer from the first few megabytes of the documents to learn from."""
    texts, size = list[str](), 0
    for document in split.training:
        texts.append(document.text[: TOKENIZER_BYTES - size])
        size += len(texts[-1])
        if size >= TOKENIZER_BYTES:
            break
    return Tokenizer.train(texts, vocab_size)


def prepare(split: SplitText, tokenizer: Tokenizer, plan: TrainConfig) -> Prepared:
    """Tokenise and pack as much as the plan consumes, or make it."""
    if plan.synthetic:
        return _prepare_made(tokenizer, plan)
    wanted = int(SURPLUS * Schedule(plan).total_sequences * plan.seq_len) + plan.seq_len + 1
    chosen, tokens = list[Document](), 0
    for document in split.training:
        if tokens >= wanted:
            break
        chosen.append(document)
        tokens += len(tokenizer.encode(document.text)) + 1
    stream = pack(chosen, tokenizer, np.random.default_rng((plan.seed, 3)), plan.fim_rate, plan.split_rate)
    eos = np.array([tokenizer.eos], np.int32)  # [1]
    held_out = [np.concatenate([eos, tokenizer.encode_array(d.text)]) for d in split.held_out]
    return Prepared(stream, held_out, [document.name for document in split.held_out], len(chosen))


def _prepare_made(tokenizer: Tokenizer, plan: TrainConfig) -> Prepared:
    """One document a sequence, so that no window crosses from one into another."""
    ids, count = word_ids(tokenizer), Schedule(plan).total_sequences
    rows = ids[_made(plan, count, 3)]  # [N, T]
    held_out = list(ids[_made(plan, MADE_HELD_OUT, 4)])
    names = [f"held out {i}" for i in range(MADE_HELD_OUT)]
    return Prepared(np.append(rows, np.int32(tokenizer.eos)), held_out, names, count)


def plan_for_steps(plan: TrainConfig, steps: int) -> TrainConfig:
    """The same plan in another number of steps: warm-up and batch ramp keep their share of the run."""
    if steps < 1:
        raise ValueError(f"expected steps >= 1, got {steps}")

    def part(old: int) -> int:
        return max(1, round(old * steps / plan.steps)) if old else 0

    return replace(plan, steps=steps, warmup_steps=part(plan.warmup_steps), ramp_steps=part(plan.ramp_steps))
