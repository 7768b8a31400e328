"""Pictures of values: golden forms, the right picture for each kind, numbers that are those of the model."""

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pictures import WIDTHS, check_ascii, check_golden, check_svg

from minidsv3.config import ModelConfig
from minidsv3.cost import Bill, bill
from minidsv3.hardware import load_hardware
from minidsv3.interpreter import Model
from minidsv3.machine import Machine, Trace, look_up
from minidsv3.model.gate import route
from minidsv3.show import plain_text
from minidsv3.show.attention_map import STEPS, AttentionMap
from minidsv3.show.cells import Scale, cut, entropy, largest
from minidsv3.show.expert_load import ExpertLoad, balanced
from minidsv3.show.forms import in_form
from minidsv3.show.heat_map import Axis, HeatMap
from minidsv3.show.op_timeline import OpTimeline
from minidsv3.show.router_card import RouterCard, router_card
from minidsv3.show.tensor_difference import TensorDifference
from minidsv3.show.top_tokens import TopTokens
from minidsv3.show.value import Ids, Scalar, picture_of
from minidsv3.show.vector_strip import VectorStrip

GOLDEN = Path(__file__).parent / "golden"
TOKENS = ["def", " add", "(", "a", ",", " b", "):", "\n"]


def waves(*shape: int) -> np.ndarray[Any, Any]:
    """Numbers between -1 and 1 that look like something."""
    return np.round(np.sin(np.arange(np.prod(shape)) * 0.7).reshape(shape), 3)


def probabilities(heads: int, queries: int, keys: int) -> np.ndarray[Any, Any]:
    """Causal attention, sharper from head to head.  [H, T, S]"""
    a = 2 * waves(heads, queries, keys) * np.arange(1, heads + 1)[:, None, None]
    seen = np.arange(keys) <= np.arange(queries)[:, None] + keys - queries
    e = np.where(seen, np.exp(a), 0.0)
    return np.asarray(e / e.sum(axis=2, keepdims=True))


@lru_cache
def traced() -> Trace:
    """Every value of a nano model's loss on a few tokens."""
    machine = Machine(trace=True, keep="*")
    model = Model.initialise(ModelConfig.preset("nano"), seed=0)
    model.loss_and_gradients([list(range(40, 53))], mtp_weight=0.3, balance_weight=0.1, machine=machine)
    return machine.trace


@lru_cache
def priced() -> Bill:
    return bill(traced(), load_hardware("h800"))


@lru_cache
def pictures() -> dict[str, Any]:
    v3, nano = ModelConfig.preset("v3"), ModelConfig.preset("nano")
    rng = np.random.default_rng(3)
    z, bias = rng.normal(size=256), 0.05 * rng.normal(size=256)
    many, few = rng.normal(size=(512, 256)) + 0.3 * rng.normal(size=256), rng.normal(size=(64, 16))
    mine = waves(6, 9).astype(np.float32)
    expected = mine.copy()
    expected[4, 7] += 0.25
    small = HeatMap(waves(8, 6) / 1000, "c_KV", Axis("token", TOKENS), Axis("d_c"))
    return {
        "heat_numbers": small,
        "heat_map": HeatMap(waves(30, 150) * np.arange(30)[:, None], "W_DKV", Axis("row"), Axis("D")),
        "heat_shares": HeatMap(np.abs(waves(9, 40)), "s", Axis("token", TOKENS), Axis("expert")),
        "vector_strip": VectorStrip(waves(128), "h", "D"),
        "top_tokens": TopTokens(3 * waves(40), tokens=TOKENS),
        "attention_head": AttentionMap(probabilities(2, 8, 8), TOKENS, head=1, title="layer 0"),
        "attention_heads": AttentionMap(probabilities(4, 12, 20)),
        "router_v3": router_card(z, bias, v3, "V3"),
        "router_nano": router_card(z[:16], bias[:16], nano),
        "load_v3": balanced(many, v3, 20, 256, 0.01, title="V3's router"),
        "load_nano": balanced(few, nano, 60, 64, 0.01),
        "op_timeline": OpTimeline(priced(), "nano"),
        "tensor_difference": TensorDifference(mine, expected, "softmax"),
        "tensor_shapes": TensorDifference(mine, mine[:, :-1]),
        "value_ids": picture_of("top_k", np.arange(12).reshape(3, 4), axes=("N", "K")),
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", pictures())
def test_golden(name: str, width: int) -> None:
    check_golden(GOLDEN, name, pictures()[name], width)


@pytest.mark.parametrize("name", pictures())
def test_ascii_svg_and_words(name: str) -> None:
    picture = pictures()[name]
    for width in (40, *WIDTHS):
        check_ascii(picture, width)
    check_svg(picture)
    words = picture.describe()
    assert len(words) > 20
    assert not set(words) & set("│╱▁█…")
    coloured, without = in_form(picture, "colour"), in_form(picture, "no colour")
    assert ("\x1b" in coloured) == (name != "tensor_shapes")  # which is words alone
    assert "\x1b" not in without


# ---- which picture ----------------------------------------------------------------------------------------


def test_every_op_of_a_training_step_has_its_picture() -> None:
    kinds: dict[str, str] = {}
    for row in traced():
        if row.value is None or row.op in kinds:
            continue
        op = look_up(row.op)
        axes = tuple(op.signature.result)
        picture = picture_of(row.op, row.value, op=row.op, symbol=op.symbols[-1], axes=axes)
        assert max(map(len, in_form(picture, "ascii", 60).split("\n"))) <= 60
        assert row.op in picture.describe() or row.op in in_form(picture, "colour", 80)
        kinds[row.op] = type(picture).__name__
    assert len(kinds) > 40
    special = {op: kind for op, kind in kinds.items() if kind != "HeatMap"}
    assert special == {
        "mla.softmax": "AttentionMap",
        "gate.sigmoid": "RouterCard",
        "gate.groups": "Ids",
        "gate.top_k": "Ids",
        "balance.loss": "Scalar",
        "head.logits": "TopTokens",
        "head.mtp_logits": "TopTokens",
        "loss.main": "VectorStrip",
        "loss.mtp": "VectorStrip",
    }


def test_places_are_picked_and_named() -> None:
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    picture = picture_of("q", x, axes=("B", "T", "H", "R"), at={"head": 2, "token": 1})
    assert isinstance(picture, HeatMap)
    assert picture.title == "q, token 1, head 2"
    np.testing.assert_array_equal(picture.matrix, x[:, 1, 2])
    one = picture_of("q", x, axes=("B", "T", "H", "R"), at={"B": 1, "T": 2, "H": 3})
    assert isinstance(one, VectorStrip)
    np.testing.assert_array_equal(one.vector, x[1, 2, 3])
    with pytest.raises(ValueError, match=r"expected head 0 \.\. 3, got 4"):
        picture_of("q", x, axes=("B", "T", "H", "R"), at={"head": 4})
    with pytest.raises(ValueError, match="an array of numbers, got <U1"):
        picture_of("q", np.array(["a"]))
    assert isinstance(picture_of("L", 2.5), Scalar)
    assert isinstance(picture_of("t", [1, 2]), Ids)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["float32", "float64", "int64", "bool", "complex64", "uint8"]).flatmap(
        lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=20))
    ),
    st.sampled_from([40, 60, 80, 120]),
)
def test_any_array_has_a_picture(array: np.ndarray[Any, Any], width: int) -> None:
    with np.errstate(all="ignore"):  # squares of the largest floats
        picture = picture_of("x", array)
        for text in (plain_text(picture, width, ascii_only=True), in_form(picture, "16 colours", width)):
            assert "x" in text
        assert max(map(len, plain_text(picture, width).split("\n"))) <= width
        assert picture.describe()


@pytest.mark.parametrize(
    ("op", "shape"), [("mla.softmax", (2, 3, 3)), ("gate.sigmoid", (3, 64)), ("head.logits", (3, 40))]
)
def test_what_is_no_number_stops_no_picture(op: str, shape: tuple[int, ...]) -> None:
    for lost in (np.nan, np.inf, -np.inf):
        for values in (
            np.full(shape, lost),
            np.where(np.arange(np.prod(shape)) % 2, 0.25, lost).reshape(shape),
        ):
            with np.errstate(all="ignore"):
                picture = picture_of("x", values, op=op)
                assert len(plain_text(picture, 60)) > 20
                assert picture.describe()


# ---- what they say ----------------------------------------------------------------------------------------


@given(arrays("float64", array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(-5, 5)))
@settings(max_examples=40, deadline=None)
def test_pooling_keeps_the_largest(values: np.ndarray[Any, Any]) -> None:
    cells = largest(values, 3, 4)
    assert cells.shape == (min(3, values.shape[0]), min(4, values.shape[1]))
    for i, (a, b) in enumerate(cut(values.shape[0], len(cells))):
        for j, (c, d) in enumerate(cut(values.shape[1], cells.shape[1])):
            assert abs(cells[i, j]) == np.abs(values[a:b, c:d]).max()
            assert cells[i, j] in values[a:b, c:d]


def test_characters_grow_with_the_value_and_colours_with_them() -> None:
    scale = Scale.of([0.0, 9.0])
    assert "".join(scale.glyph(v) for v in range(10)) == ".123456789"
    signed = Scale.of([-4.0, 4.0])
    assert "".join(signed.glyph(v) for v in range(-4, 5)) == "dcba.ABCD"
    assert [scale.glyph(v) for v in (np.nan, np.inf)] == ["?", "!"]


def test_a_small_matrix_is_printed_in_full() -> None:
    text = plain_text(HeatMap(waves(16, 16)), 80)
    assert text.count("\n") == 2 * 17  # two parts, heads with each, and the title
    assert "a cell" not in text
    for value in waves(16, 16).ravel():
        assert (f"{value:.2f}" if value else " 0 ") in text


def test_tall_maps_take_half_blocks_where_colour_is_seen() -> None:
    picture = HeatMap(waves(48, 40))
    assert in_form(picture, "colour").count("▀") == 24 * 40
    assert "▀" not in in_form(picture, "no colour")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 6))
def test_the_mask_hides_what_is_to_come(queries: int, before: int) -> None:
    picture = AttentionMap(probabilities(1, queries, queries + before))
    assert plain_text(picture, 80, ascii_only=True).count("/") == queries * (queries - 1) // 2 + 1  # legend
    uniform = AttentionMap(np.tril(np.ones((1, queries, queries))) / np.arange(1, queries + 1)[:, None])
    np.testing.assert_allclose(uniform.entropies(0), np.log2(np.arange(1, queries + 1)), atol=1e-12)


def test_attention_is_what_the_model_computed() -> None:
    p = traced().value("mla.softmax", layer=1)
    picture = AttentionMap(p, head=2)
    for t, bits in enumerate(picture.entropies(2)):
        row = p[2, t, : t + 1].astype(np.float64)
        assert bits == pytest.approx(float(-(row * np.log2(row)).sum()))
    assert list(STEPS) == sorted(STEPS)
    with pytest.raises(ValueError, match=r"a head 0 \.\. 3, got 4"):
        AttentionMap(p, head=4)
    with pytest.raises(ValueError, match=r"\[H, T, S\], got \(2, 2\)"):
        AttentionMap(np.eye(2))
    assert entropy([0.5, 0.5, 0.0]) == 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["nano", "v3", "v2", "v2-lite", "moonlight"]))
def test_the_card_says_what_the_router_did(seed: int, preset: str) -> None:
    config, rng = ModelConfig.preset(preset), np.random.default_rng(seed)
    z = rng.normal(size=config.n_routed_experts).astype(np.float32)
    bias = (0.1 * rng.normal(size=len(z))).astype(np.float32) if config.has_router_bias else None
    card, routing = router_card(z, bias, config), route(z[None], bias, config)
    assert list(card.chosen) == routing.indices[0].tolist()
    np.testing.assert_allclose(card.weights, routing.weights[0])
    size = len(z) // card.groups
    if card.kept is not None:
        assert {e // size for e in card.chosen} <= set(card.kept)
        assert set(card.kept) == set(np.argsort(-card.sums)[: config.n_limited_groups].tolist())
    text = plain_text(card, 80)
    for e in card.chosen:
        assert f"{card.s[e]:.4f}" in text
    without = route(z[None], None, config).indices[0]
    assert ("the same choice" in text) == (bias is not None and set(without) == set(card.chosen))


def test_scores_alone_make_a_card() -> None:
    card = RouterCard([0.1, 0.9, 0.5, 0.3])
    assert card.describe() == "router: 4 experts; highest: 1 with 0.9, 2 with 0.5, 3 with 0.3, 0 with 0.1"


def test_loads_follow_the_bias() -> None:
    rng, config = np.random.default_rng(0), ModelConfig.preset("nano")
    z = rng.normal(size=(512, 16)) + rng.normal(size=16)
    load = balanced(z, config, 150, 512, 0.01)
    assert load.max_violation[0] > 1
    assert load.max_violation[-20:].mean() < 0.4
    assert (np.asarray(load.loads).sum(axis=1) == 512 * config.n_activated_experts).all()
    assert load.bias is not None
    steps = np.diff(np.vstack([np.zeros(16), np.asarray(load.bias)]), axis=0)
    shares = np.sign(1 - load.share)
    np.testing.assert_allclose(steps, 0.01 * shares, atol=1e-6)
    told = ExpertLoad([[4, 0], [2, 2]]).describe()
    assert "MaxVio 1.00 at step 1, 0.00 at step 2" in told


def test_the_timeline_ends_where_the_bill_does() -> None:
    picture = OpTimeline(priced())
    assert picture.seconds == pytest.approx(priced().total.seconds)
    assert all(a <= b for a, b in pairwise(picture.ends))
    assert picture.parts[0] == "embedding"
    lines = plain_text(picture, 120).splitlines()
    total = next(line for line in lines if line.startswith("FLOPs"))
    assert total.endswith("MFLOP")
    assert any(line.startswith("phase") and "backward" in line for line in lines)


CELLS = arrays(
    "float32", array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.floats(-4, 4, width=32)
)


@settings(max_examples=40, deadline=None)
@given(CELLS, st.data())
def test_the_worst_cell_has_the_star(expected: np.ndarray[Any, Any], data: st.DataObject) -> None:
    place = tuple(data.draw(st.integers(0, n - 1)) for n in expected.shape)
    mine = expected.copy()
    mine[place] += data.draw(st.sampled_from([1.5, -2.0, np.nan, np.inf]))
    picture = TensorDifference(mine, expected)
    assert picture.worst == place
    for width in WIDTHS:
        lines = plain_text(picture, width, ascii_only=True).splitlines()
        assert len(lines) <= 20
        starred = [line for line in lines if line.endswith(" *") or " * " in line[2:]]
        assert [line.split()[0] for line in starred] == ["yours", "difference"]
    assert f"at {list(place)}" in picture.describe()


def test_what_is_the_same_has_no_star() -> None:
    x = np.array([1.0, np.nan, np.inf])
    picture = TensorDifference(x, x.copy())
    assert picture.worst is None
    assert "no cell differs" in picture.describe()
    assert "*" not in plain_text(picture, 80)
    near = TensorDifference(x[:1], x[:1] + 1e-6, tolerance=1e-5)
    assert near.worst is None


def test_shapes_and_formats_come_first() -> None:
    x = np.zeros((2, 3), np.float32)
    assert "axis 1: 3 in place of 2" in TensorDifference(x, x[:, :2]).describe()
    assert "2 axes in place of 1" in TensorDifference(x, x[0]).describe()
    assert "formats differ: yours float32, expected float64" in TensorDifference(x, x.astype("f8")).describe()


@pytest.mark.filterwarnings("error")
def test_the_smallest_and_the_largest_numbers_are_written() -> None:
    assert "4.94" in plain_text(HeatMap(np.full((2, 2), 5e-324), "m"), width=60)
    assert "rms 1e+308" in plain_text(VectorStrip(np.array([1e308, -1e308] * 20), "v"), width=60)
    assert plain_text(AttentionMap(np.full((1, 4, 4), 1e308)), width=60)


def test_nothing_to_draw_is_refused_in_words() -> None:
    for empty in (np.zeros((0, 2, 2)), np.zeros((1, 0, 2))):
        with pytest.raises(ValueError, match=r"expected attention probabilities \[H, T, S\]"):
            AttentionMap(empty)
    for loads, groups in ((np.zeros((0, 4)), 1), (np.ones((3, 30)), 4)):
        with pytest.raises(ValueError, match=r"expected loads \[steps, E\]"):
            ExpertLoad(loads, groups=groups)
