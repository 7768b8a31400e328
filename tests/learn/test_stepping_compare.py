"""Two machines in lock step: known partings, how far, and none where there is none."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minidsv3.config import ModelConfig
from minidsv3.interpreter import Model
from minidsv3.learn.stepping import Pass
from minidsv3.learn.stepping.compare import Comparison, difference

IDS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def model() -> Model:
    small = ModelConfig.preset("nano", dim=32, vocab_size=64, n_layers=2, moe_inter_dim=16)
    return Model.initialise(small, seed=0)


def compared(one: Pass, words: str, tolerance: float = 0.0) -> Comparison:
    with Comparison(one, one.against(words), tolerance) as both:
        both.first_parting()
        while both.advance() is not None:
            pass
        assert threading.active_count() == 1  # both passes are over
        return both


def test_a_machine_does_not_part_from_itself(model: Model) -> None:
    for kind in ("forward", "backward", "speculative"):
        both = compared(Pass(model, IDS, kind, precision="fp8"), "fp8")
        assert len(both.pairs) == len(both.one.stops)
        assert not any(pair.parted for pair in both.pairs)
        assert all(not (pair.only_one or pair.only_other) for pair in both.pairs)


def test_float32_parts_from_bf16_at_the_first_rounding(model: Model) -> None:
    both = compared(Pass(model, IDS), "bf16")
    first = both.first_parting()
    assert first is both.pairs[0]
    assert first.one.op.id == "embed.tokens"
    assert first.difference is not None
    assert 0 < first.difference.relative <= 2**-9  # half a unit of 8 significand bits
    assert first.difference.ulp <= 2**15


def test_fp8_has_passes_of_its_own_and_parts_with_the_tolerance(model: Model) -> None:
    both = compared(Pass(model, IDS), "fp8", tolerance=0.02)
    alone = {op for pair in both.pairs for op in pair.only_other}
    assert {"mla.quantise_h", "mla.quantise_o", "experts.quantise_u"} <= alone
    assert not any(pair.only_one for pair in both.pairs if pair.one.row.expert is None)
    first = both.first_parting()
    assert first is not None
    assert first.difference is not None
    assert first.difference.relative > 0.02  # a product of E4M3 numbers, no copy in BF16
    assert first.one.op.id.startswith("mla.")
    before = both.pairs[: both.pairs.index(first)]
    assert all(pair.difference.relative <= 0.02 for pair in before if pair.difference)


def test_naive_and_absorbed_attention_differ_in_rounding_alone(model: Model) -> None:
    """The prompt is the same way for both; in a decode step they go different ways to the same output."""
    work = Pass(model, IDS, "decode", attention="naive", new=3)
    both = compared(work, "absorbed")
    first = both.first_parting()
    assert first is not None
    assert (first.one.stage, first.one.row.layer) == ("token 2", 0)
    assert first.one.op.id in ("mla.softmax", "mla.out")
    assert first.difference is not None
    assert first.difference.relative < 1e-5
    alone = {(pair.only_one, pair.only_other) for pair in both.pairs if pair.only_one}
    assert (("mla.cached_kv_up", "mla.scores"), ("mla.absorb_q", "mla.absorbed_scores")) in alone
    assert not any(pair.parted for pair in compared(work, "absorbed", tolerance=1e-4).pairs)


def test_tensor_cores_part_where_they_add_differently(model: Model) -> None:
    """H800 and B200 accumulate otherwise, bit by bit; in ideal sums only their times differ."""
    work = Pass(model, IDS, precision="fp8", accumulate="hardware")
    first = compared(work, "b200").first_parting()
    assert first is not None
    assert first.one.op.primitive == "linear"
    assert first.difference is not None
    assert first.difference.relative < 0.01
    ideal = compared(Pass(model, IDS, precision="fp8"), "b200")
    assert not any(pair.parted for pair in ideal.pairs)
    assert ideal.one.stops[-1].so_far > ideal.other.stops[-1].so_far


def test_several_words_are_one_machine(model: Model) -> None:
    work = Pass(model, IDS).against("fp8+hardware+b200")
    assert (work.precision, work.accumulate, work.hardware.id) == ("fp8", "hardware", "b200")  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="did you mean 'fp8'"):
        Pass(model, IDS).against("fp9")


@given(arrays(np.float32, 6, elements=st.floats(-4, 4, width=32)), st.integers(0, 5), st.integers(1, 3))
def test_a_difference_is_found_where_it_is(x: np.ndarray, at: int, steps: int) -> None:
    y = x.copy()
    for _ in range(steps):
        y[at] = np.nextafter(y[at], np.float32(8))
    found = difference(x, y)
    assert (found.numbers, found.differing, found.at) == (6, 1, (at,))
    assert found.of == (x[at], y[at])
    assert found.absolute == abs(float(x[at]) - float(y[at]))
    assert 0 < found.ulp <= 2 * steps
    assert difference(x, x).differing == 0


def test_what_is_not_finite_differs_by_infinity_unless_alike() -> None:
    a = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    assert difference(a, a).absolute == 0
    assert difference(a, np.array([np.nan, np.inf, np.inf, 1.0], np.float32)).absolute == np.inf
    assert difference(a, np.array([0, np.inf, -np.inf, 1.0], np.float32)).at == (0,)
    empty = np.empty((0, 3), np.float32)
    assert difference(empty, empty).numbers == 0


def test_no_number_is_no_tolerance() -> None:
    work = Pass(Model.initialise(ModelConfig.preset("nano"), seed=0), (1, 2))
    with pytest.raises(ValueError, match="expected a tolerance >= 0, got nan"):
        Comparison(work, work, float("nan"))
