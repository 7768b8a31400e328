"""Absorption, MTP lanes, merges, fill-in-the-middle, rotation: golden renderings, and that they are true."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import WIDTHS, check_ascii, check_golden, check_svg

from minidsv3.config import ModelConfig
from minidsv3.corpus.fill_in_the_middle import Psm, fim_ids
from minidsv3.cost.closed_form import decode_absorbed_work, decode_naive_work
from minidsv3.inference import generate
from minidsv3.interpreter import Model
from minidsv3.machine import Machine
from minidsv3.model.rope import rotations_for
from minidsv3.show import absorption, fim_spans, merge_theatre, mtp_lanes, plain_text, rotation
from minidsv3.show.absorption import Absorption
from minidsv3.show.fim_spans import FimSpans
from minidsv3.show.merge_theatre import MergeTheatre
from minidsv3.show.mtp_lanes import Draft, Lanes, Step, speculate
from minidsv3.show.rotation import DISTANCES, PLACES, Rotation
from minidsv3.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent / "golden"
TEXT = b" the sky is blue."


def lanes() -> Lanes:
    """A run made up, so that no golden file hangs on a BLAS."""
    drafts = ((1, 3, "A"), (2, 4, "R"), (2, 2, "-"))
    steps = (
        Step(4, (), (1,)),
        Step(5, tuple(Draft(*draft) for draft in drafts), (3, 5)),
        Step(7, (Draft(1, 2, "A"), Draft(2, 6, "A")), (2, 6, 9)),
        Step(10, (), (4,)),
    )
    words = [
        b" the",
        b" sky",
        b" is",
        b" blue",
        b"\n",
        "図".encode()[:2],
        b" a very long one",
        b".",
        b" x",
        b"!",
    ]
    return Lanes((7, 7, 7, 7), steps, 2, lambda token: words[token], True)


@lru_cache
def pictures() -> dict[str, object]:
    return {
        "absorption": Absorption.of(ModelConfig.preset("v3"), 4096),
        "absorption_many": Absorption.of(ModelConfig.preset("nano"), 512, new=128),
        "mtp_lanes": lanes(),
        "merge_theatre": merge_theatre.demo(),
        "fim_spans": fim_spans.demo(),
        "rotation": Rotation.of(ModelConfig.preset("moonlight"), "Moonlight"),
        "rotation_yarn": rotation.demo(),
    }


NAMES = [
    "absorption",
    "absorption_many",
    "mtp_lanes",
    "merge_theatre",
    "fim_spans",
    "rotation",
    "rotation_yarn",
]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, width: int) -> None:
    check_golden(GOLDEN, name, pictures()[name], width)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [40, *WIDTHS])
@pytest.mark.parametrize("name", NAMES)
def test_ascii_form(name: str, width: int) -> None:
    check_ascii(pictures()[name], width)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_svg(name: str) -> None:
    check_svg(pictures()[name])  # type: ignore[arg-type]


# ---- absorption -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["naive", "absorbed"])
def test_work_is_that_of_the_trace(attention: str) -> None:
    """Matrix FLOPs of one layer, op by op, as a model decodes one token behind 31."""
    model, machine = (
        Model.initialise(ModelConfig.preset("nano", n_layers=1, n_mtp_layers=0)),
        Machine(trace=True),
    )
    generate(model, list(range(31)), 2, attention=attention, machine=machine)
    path = Absorption.of(model.config, 32).paths[attention == "absorbed"]
    for stage in path.stages:
        rows = [row for op in stage.ops for row in machine.trace.select(op)]
        decoded = [row for row in rows if row.sizes.get("S", 32) == 32]  # prefill sees 31
        assert sum(row.matrix_flops for row in decoded) == stage.matrix_flops, stage.ops


@pytest.mark.parametrize("name", ["nano", "v2-lite", "v3"])
def test_what_differs_is_what_the_closed_forms_say(name: str) -> None:
    config = ModelConfig.preset(name)
    naive, absorbed = Absorption.of(config, 1024).paths
    works = (work(config, 1, 1023) for work in (decode_naive_work, decode_absorbed_work))
    more, less = (sum(part.matrix_flops for part in work.values()) for work in works)
    assert (naive.matrix_flops - absorbed.matrix_flops) * config.n_layers == more - less


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3000), st.sampled_from(["nano", "v2-lite", "v3", "moonlight"]))
def test_naive_has_fewer_flops_from_the_break_even_on(cached: int, name: str) -> None:
    config = ModelConfig.preset(name)
    first = Absorption.of(config, cached).break_even()
    assert first is not None
    for new in {min(first, cached), max(1, min(first - 1, cached))}:
        naive, absorbed = Absorption.of(config, cached, new).paths
        assert (naive.matrix_flops < absorbed.matrix_flops) == (new >= first)


def test_both_ways_give_the_same_to_rounding() -> None:
    apart, largest = absorption.demo().difference or (1.0, 1.0)
    assert 0 < apart < 1e-5 * largest
    with pytest.raises(ValueError, match="1 <= new tokens <= cached tokens, got 3 and 2"):
        Absorption.of(ModelConfig.preset("nano"), 2, 3)


def test_arrays_are_drawn_to_scale() -> None:
    """57 times as many numbers a token: 56 columns against one."""
    text = plain_text(Absorption.of(ModelConfig.preset("v3"), 4096), 60, ascii_only=True)
    assert text.count("=" * 56) == absorption.LINES
    assert text.count("# =  ") == 2 * absorption.LINES


# ---- multi-token prediction -------------------------------------------------------------------------------


@pytest.mark.parametrize(("drafts", "temperature"), [(None, 0.0), (3, 0.0), (2, 0.8)])
def test_lanes_are_the_generation(drafts: int | None, temperature: float) -> None:
    model = Model.initialise(ModelConfig.preset("nano", n_layers=2, n_mtp_layers=2), seed=3)
    asked = {"drafts": drafts, "temperature": temperature}
    found = speculate(model, [5, 6, 7], 12, **asked)  # type: ignore[arg-type]
    result = generate(model, [5, 6, 7], 12, speculative=True, **asked)  # type: ignore[arg-type]
    assert found.tokens == result.tokens
    assert found.drafted == result.drafted
    verdicts = [draft.verdict for step in found.steps for draft in step.drafts]
    assert verdicts.count("A") == result.accepted
    assert found.same is (True if temperature == 0 else None)


def test_every_verdict_is_in_its_lane() -> None:
    text = plain_text(lanes(), 120, ascii_only=True)
    module = {line.split()[1]: line for line in text.splitlines() if line.startswith("module ")}
    assert [module[n].count(f"|{verdict} ") for n in "12" for verdict in "AR-"] == [2, 0, 0, 1, 1, 0]
    assert "again 3" in text
    assert "7 tokens in 4 passes of the main model: 1.75 a pass" in text
    assert (
        "pass 2, position 5: module 1 drafts _blue, accepted; module 2 drafts \\n, rejected"
        in lanes().describe()
    )


@pytest.mark.slow  # 2 s: eighty steps of training
def test_a_rehearsed_model_has_drafts_accepted_and_rejected() -> None:
    shown = plain_text(mtp_lanes.demo(), 80)
    assert "|A " in shown.replace("│", "|")
    assert "|R " in shown.replace("│", "|")


# ---- tokens -----------------------------------------------------------------------------------------------


def test_acts_are_the_merges_of_the_trainer() -> None:
    text = "low low lower newest newest widest"
    theatre = MergeTheatre.learned(text, 10)
    tokenizer = Tokenizer.train([text], merge_theatre.BARE + 10)
    spell = tokenizer.token_bytes
    assert [merge.pair for merge in theatre.merges] == [
        (spell(a), spell(b)) for a, b in tokenizer.vocabulary.merges
    ]
    assert all(merge.times >= times for merge in theatre.merges for _, _, times in merge.others)


@settings(max_examples=40, deadline=None)
@given(st.text(st.sampled_from("abc de1図é\n"), min_size=1, max_size=24))
def test_pieces_end_in_the_tokenizers_ids(text: str) -> None:
    theatre = MergeTheatre.learned("abc abc de de 図図 é é 11", 12, text)
    tokenizer = Tokenizer.train(["abc abc de de 図図 é é 11"], merge_theatre.BARE + 12)
    assert [token for piece in theatre.pieces for token in piece.ids] == tokenizer.encode(text)
    for piece in theatre.pieces:
        assert all(b"".join(stage) == piece.text.encode() for stage in piece.stages)
        assert [len(stage) for stage in piece.stages] == list(
            range(len(piece.stages[0]), len(piece.stages[-1]) - 1, -1)
        )


def test_long_texts_say_what_they_leave_out() -> None:
    text = plain_text(MergeTheatre.learned("ab " * 30, 1, "ab " * 30), 60)
    assert "and 25 more pieces" in text


# ---- fill-in-the-middle -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.text(st.sampled_from("ab \n図"), max_size=12)] * 3), st.integers(20, 120))
def test_the_stripe_is_to_scale_and_whole(parts: tuple[str, str, str], width: int) -> None:
    tokenizer = Tokenizer.train(["ab ab"], 270)
    spans = FimSpans.cut(Psm(*parts), tokenizer)
    assert spans.length == len(fim_ids(Psm(*parts), tokenizer))
    turned, whole = spans.stripe(width, turned=True), sum(spans.tokens)
    assert turned.count("^") == 4
    if whole:
        assert len(turned) == width
        for letter, tokens in zip("PSM", spans.tokens, strict=True):
            assert abs(turned.count(letter) - tokens * (width - 4) / whole) <= 2
    assert plain_text(spans, 60)


def test_the_order_is_the_models() -> None:
    stripe = fim_spans.demo().stripe(80, turned=True)
    assert [letter for i, letter in enumerate(stripe) if i == 0 or stripe[i - 1] != letter] == list("^P^S^M^")


# ---- rotation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nano", "v3", "moonlight", "v2-lite"])
def test_angles_are_those_of_the_model(name: str) -> None:
    config = ModelConfig.preset(name)
    turns, table = Rotation.of(config), rotations_for(config, np.complex128, 64)
    for pair in turns.pairs():
        angle = np.degrees(np.angle(table[9, pair])) % 360
        assert turns.degrees(pair, 9) == pytest.approx(angle, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 500), st.integers(-200, 200), st.integers(0, 9))
def test_scores_see_only_the_distance(n: int, distance: int, seed: int) -> None:
    turns = Rotation.of(ModelConfig.preset("v3"), seed=seed)
    assert turns.score(n + distance, n) == pytest.approx(turns.score(distance, 0), abs=1e-12)


def test_the_ramp_is_between_its_ends() -> None:
    turns = rotation.demo()
    assert turns.ends == (10, 23)
    assert not turns.slowed()[:11].any()
    assert turns.slowed()[23:] == pytest.approx(np.ones(9))
    assert np.all(np.diff(turns.slowed()[10:24]) > 0)
    assert Rotation.of(ModelConfig.preset("moonlight")).ends is None
    table = turns.to_dict()["scores_by_distance"]
    assert {distance: len(row) for distance, row in table.items()} == {str(d): len(PLACES) for d in DISTANCES}


def test_the_narrowest_terminal_crashes_no_picture() -> None:
    text = plain_text(absorption.demo(), width=20)
    assert max(map(len, text.splitlines())) <= 20
