"""V3's plan, number by number, and the properties of any plan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.config import TrainConfig
from minidsv3.training.schedule import Schedule

TRILLION = 1e12


@pytest.fixture(scope="module")
def v3() -> Schedule:
    return Schedule(TrainConfig.v3())


def step_at(plan: Schedule, tokens: float) -> int:
    """The first step that starts after so many tokens."""
    return int(np.searchsorted(plan.consumed * plan.config.seq_len, tokens))


def test_v3_sees_14_8_trillion_tokens(v3: Schedule) -> None:
    assert v3.total_sequences * 4096 == pytest.approx(14.8 * TRILLION, rel=1e-3)


def test_v3_grows_its_batch_over_469_billion_tokens(v3: Schedule) -> None:
    assert (v3.sequences[0], v3.sequences[-1]) == (3072, 15360)
    full = int(np.argmax(v3.sequences == 15360))
    assert v3.consumed[full] * 4096 == pytest.approx(469e9, rel=1e-3)
    assert (np.diff(v3.sequences) >= 0).all()


def test_v3_learning_rate_at_its_bends(v3: Schedule) -> None:
    rate = v3.learning_rate
    assert rate(0) == pytest.approx(2.2e-4 / 2000)
    assert rate(999) == pytest.approx(1.1e-4)
    assert rate(1999) == rate(2000) == 2.2e-4
    assert rate(step_at(v3, 9.99 * TRILLION)) == 2.2e-4
    assert rate(step_at(v3, 10.01 * TRILLION)) == pytest.approx(2.2e-4, rel=1e-4)
    assert rate(step_at(v3, 12.15 * TRILLION)) == pytest.approx((2.2e-4 + 2.2e-5) / 2, rel=1e-3)
    assert rate(step_at(v3, 14.2999 * TRILLION)) == pytest.approx(2.2e-5, rel=1e-3)
    assert rate(step_at(v3, 14.301 * TRILLION)) == 2.2e-5
    assert rate(step_at(v3, 14.632 * TRILLION)) == 2.2e-5
    assert rate(step_at(v3, 14.634 * TRILLION)) == 7.3e-6
    assert rate(v3.config.steps - 1) == 7.3e-6


def test_v3_last_stretches_are_333_and_167_billion_tokens(v3: Schedule) -> None:
    flat, last = (
        int(np.argmax([v3.learning_rate(i) <= rate for i in range(200_000, v3.config.steps)])) + 200_000
        for rate in (2.2e-5, 7.3e-6)
    )
    assert (v3.consumed[last] - v3.consumed[flat]) * 4096 == pytest.approx(333e9, rel=2e-3)
    assert (v3.total_sequences - v3.consumed[last]) * 4096 == pytest.approx(167e9, rel=2e-3)


def test_v3_turns_the_bias_and_the_mtp_weight_down(v3: Schedule) -> None:
    assert v3.bias_speed(0) == v3.bias_speed(step_at(v3, 14.299 * TRILLION)) == 0.001
    assert v3.bias_speed(step_at(v3, 14.301 * TRILLION)) == 0
    assert v3.mtp_weight(0) == v3.mtp_weight(step_at(v3, 9.999 * TRILLION)) == 0.3
    assert v3.mtp_weight(step_at(v3, 10.001 * TRILLION)) == 0.1


def test_v3_recipe_is_the_reports() -> None:
    plan = TrainConfig.v3()
    assert (plan.beta1, plan.beta2, plan.weight_decay, plan.clip_norm) == (0.9, 0.95, 0.1, 1.0)
    assert (plan.balance_weight, plan.fim_rate, plan.seq_len) == (0.0001, 0.1, 4096)


@settings(max_examples=50)
@given(st.integers(1, 60), st.integers(0, 30), st.integers(1, 20), st.integers(1, 20), st.integers(0, 10))
def test_any_plan_stays_within_its_bounds(steps: int, ramp: int, first: int, last: int, warmup: int) -> None:
    plan = Schedule(
        TrainConfig(
            steps=steps,
            ramp_steps=ramp,
            ramp_start_sequences=first,
            batch_sequences=last,
            warmup_steps=warmup,
        )
    )
    assert len(plan.sequences) == steps
    assert plan.sequences.min() >= min(first, last)
    assert plan.sequences.max() <= max(first, last)
    assert plan.consumed[0] == 0
    assert plan.consumed[-1] + plan.sequences[-1] == plan.total_sequences
    rates = [plan.learning_rate(i) for i in range(steps)]
    assert all(0 < rate <= plan.config.learning_rate * (1 + 1e-12) for rate in rates)
    assert all(a >= b for a, b in zip(rates[warmup:], rates[warmup + 1 :], strict=False))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "expected steps >= 1, got 0"),
        ("steps", 1.5, "expected steps to be a whole number >= 0, got 1.5"),
        ("cosine_until", 2.0, "expected cosine_until between 0 and 1, got 2.0"),
        ("mtp_divisor", "T+k", "expected mtp_divisor one of"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict({field: value})
