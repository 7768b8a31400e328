"""`minidsv3 show absorption`, `mtp`, `merges`, `fim` and `rope`: ideas of the model, on its own numbers.

Where a trained model would help and none is there, a small one learns for a second and says so.

Does: read options, open models and tokenizers, hand over. Does not: compute or draw.

    >>> from minidsv3.cli import main as minidsv3
    >>> minidsv3(["show", "absorption", "--cached", "0"])
    2
    >>> minidsv3(["show", "rope", "--model", "v4"])
    2

Next: minidsv3.cli.show_needle
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    from minidsv3.interpreter import Model
    from minidsv3.tokenizer import Tokenizer

__all__ = ["SUBJECTS"]

LONGEST, MOST_COMPUTED = 2**30, 20_000_000  # tokens; parameters of a model, and numbers of a cache, to run
MOST_NEW, MOST_MERGES, MOST_TEXT = 200, 64, 20_000
WORDS = "low low low lower lower newest newest newest newest widest widest 図, 図, 図, 図"
CORPUS_FILE, CORPUS_CHARACTERS = "bisect.py", 700


# ---- absorption -------------------------------------------------------------------------------------------


def _absorption_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="v3", metavar="NAME", help="a preset, a model folder, or a config.json (v3)"
    )
    parser.add_argument("--cached", type=int, default=4096, metavar="S", help="tokens attended over (4096)")
    parser.add_argument("--new", type=int, default=1, metavar="T", help="new ones among them (1)")


def _absorption(args: argparse.Namespace) -> int:
    from minidsv3.cli.bill_phase import named_config
    from minidsv3.show.absorption import Absorption

    if not 1 <= args.new <= args.cached <= LONGEST:
        said = f"expected 1 <= --new <= --cached <= {LONGEST:,}"
        raise ValueError(f"{said}, got {args.new} and {args.cached}")
    config, label, _ = named_config(args.model)
    unfolded = args.cached * config.n_heads * (config.qk_nope_head_dim + config.v_head_dim)
    small = max(config.parameter_counts()["stored"], args.new * unfolded) <= MOST_COMPUTED
    fits = args.cached <= config.max_seq_len
    picture = Absorption.of(config, args.cached, args.new, computed=small and fits)
    return present(args, f"absorption {label}", picture, {"model": label} | picture.to_dict())


# ---- multi-token prediction -------------------------------------------------------------------------------


def _mtp_arguments(parser: argparse.ArgumentParser) -> None:
    from minidsv3.cli.model_arguments import model_argument

    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="text to continue")
    model_argument(parser, "the newest of ./runs; a small one that learns for a second")
    parser.add_argument("--new", type=int, default=16, metavar="N", help="tokens to write (16)")
    parser.add_argument("--drafts", type=int, metavar="N", help="of a pass (one for each module)")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (0)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (0)")


def _mtp(args: argparse.Namespace) -> int:
    from minidsv3.show.mtp_lanes import speculate

    if not 1 <= args.new <= MOST_NEW:
        raise ValueError(f"expected --new from 1 to {MOST_NEW}, got {args.new}")
    model, tokenizer, where, default = _speculating(args.model)
    prompt = args.prompt or default
    ids = tokenizer.encode(prompt)
    spell = tokenizer.token_bytes
    lanes = speculate(model, ids, args.new, spell, args.drafts, args.temperature, args.seed)
    return present(args, "mtp", lanes, {"model": where, "text": prompt} | lanes.to_dict())


def _speculating(path: Path | None) -> "tuple[Model, Tokenizer, str, str]":
    """A model, its tokenizer, which it is, and what it can continue."""
    from minidsv3.cli.models import open_model
    from minidsv3.cli.terminal import talk
    from minidsv3.training import newest_run

    if path is not None or newest_run("runs") is not None:
        model, tokenizer, folder = open_model(path)
        return model, tokenizer, str(folder), "def "
    from minidsv3.show.rehearsal import LEARNING_STEPS, rehearsed

    said = f"a small model after {LEARNING_STEPS} steps of training"
    talk().print(f"no run below ./runs: {said}; `minidsv3 run` makes a better one")
    run = rehearsed(steps=LEARNING_STEPS)
    return run.model, run.tokenizer, said, "the grass is green"


# ---- tokens -----------------------------------------------------------------------------------------------


def _tokenizer_argument(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE|DIR",
        help=f"a tokenizer.json, or a folder with one ({default})",
    )


def _merges_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text", nargs="?", metavar="TEXT", help="to cut into tokens (a word, and one beyond ASCII)"
    )
    parser.add_argument("--learn", metavar="TEXT", help="to learn merges from (a few words)")
    parser.add_argument("--merges", type=int, default=8, metavar="N", help="to learn (8)")
    _tokenizer_argument(parser, "none: merges are learned")


def _merges(args: argparse.Namespace) -> int:
    from minidsv3.show.merge_theatre import MergeTheatre
    from minidsv3.tokenizer import Tokenizer

    if args.tokenizer and args.learn is not None:
        raise ValueError("expected --learn or --tokenizer, got both")
    if not 0 <= args.merges <= MOST_MERGES:
        raise ValueError(f"expected --merges from 0 to {MOST_MERGES}, got {args.merges}")
    text = _text(args.text, "lowest 図表")
    if args.tokenizer:
        theatre = MergeTheatre.of(Tokenizer.load(args.tokenizer), text)
    else:
        theatre = MergeTheatre.learned(_text(args.learn, WORDS), args.merges, text)
    return present(args, "merges", theatre, theatre.to_dict())


def _text(given: str | None, default: str) -> str:
    """A text that is neither empty nor too long to be looked at."""
    text = default if given is None else given
    if not 1 <= len(text) <= MOST_TEXT:
        raise ValueError(f"expected a text of 1 to {MOST_TEXT:,} characters, got {len(text):,}")
    return text


def _fim_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text", nargs="?", metavar="TEXT", help=f"a document (the beginning of Python's {CORPUS_FILE})"
    )
    parser.add_argument("--file", type=Path, metavar="FILE", help="the document, in place of TEXT")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the two cuts (0)")
    _tokenizer_argument(parser, "one that learns from the document")


def _fim(args: argparse.Namespace) -> int:
    from minidsv3.show.fim_spans import FimSpans
    from minidsv3.tokenizer import Tokenizer

    if args.seed < 0:
        raise ValueError(f"expected --seed >= 0, got {args.seed}")
    text = _document(args)
    tokenizer = Tokenizer.load(args.tokenizer) if args.tokenizer else Tokenizer.train([text], vocab_size=512)
    spans = FimSpans.of(text, tokenizer, args.seed)
    return present(args, "fim", spans, {"seed": args.seed} | spans.to_dict())


def _document(args: argparse.Namespace) -> str:
    from minidsv3.corpus.documents import python_library_files, read_documents

    if args.text is not None and args.file is not None:
        raise ValueError("expected TEXT or --file, got both")
    if args.text is not None:
        return _text(args.text, "")
    if args.file is not None:
        return _text(read_documents([args.file])[0].text[:MOST_TEXT], "")
    found = [path for path in python_library_files() if path.name == CORPUS_FILE]
    return read_documents(found[:1])[0].text[:CORPUS_CHARACTERS]


# ---- rope -------------------------------------------------------------------------------------------------


def _rope_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="v3", metavar="NAME", help="a preset, a model folder, or a config.json (v3)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of query and key (0)")


def _rope(args: argparse.Namespace) -> int:
    from minidsv3.cli.bill_phase import named_config
    from minidsv3.show.rotation import Rotation

    if args.seed < 0:
        raise ValueError(f"expected --seed >= 0, got {args.seed}")
    config, label, _ = named_config(args.model)
    picture = Rotation.of(config, label, args.seed)
    return present(args, f"rope {label}", picture, {"model": label} | picture.to_dict())


SUBJECTS = {
    "absorption": Subject(
        "Attention over MLA's cache both ways: unfolding keys and values, or folding the query.",
        [
            "minidsv3 show absorption",
            "minidsv3 show absorption --model nano --cached 512    # and computed, both ways",
            "minidsv3 show absorption --cached 4096 --new 1024     # many at once, as in prefill",
            "minidsv3 show absorption --model v2-lite --svg absorption.svg",
        ],
        _absorption_arguments,
        _absorption,
    ),
    "mtp": Subject(
        "Multi-token prediction at work: what each module drafts, what the main model keeps.",
        [
            "minidsv3 show mtp",
            'minidsv3 show mtp "def main(" --model runs/nano-0 --drafts 3',
            "minidsv3 show mtp --temperature 0.5 --new 24 --json",
        ],
        _mtp_arguments,
        _mtp,
    ),
    "merges": Subject(
        "Byte pair encoding: pairs counted, merged, one after the other; and how a text is cut then.",
        [
            "minidsv3 show merges",
            'minidsv3 show merges slowest --learn "slow slower low lowest" --merges 6',
            'minidsv3 show merges "naïve 図" --tokenizer runs/nano-0/tokenizer.json',
        ],
        _merges_arguments,
        _merges,
    ),
    "fim": Subject(
        "Fill-in-the-middle: a document cut in three, and the order in which the model sees it.",
        [
            "minidsv3 show fim",
            'minidsv3 show fim "def area(r): return 3.14 * r * r" --seed 4',
            "minidsv3 show fim --file setup.py --tokenizer runs/nano-0/tokenizer.json",
        ],
        _fim_arguments,
        _fim,
    ),
    "rope": Subject(
        "Rotary positions: pairs that turn, scores that see only the distance, YaRN's ramp.",
        [
            "minidsv3 show rope",
            "minidsv3 show rope --model nano --seed 3",
            "minidsv3 show rope --model moonlight --json",
        ],
        _rope_arguments,
        _rope,
    ),
}
