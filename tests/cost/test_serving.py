"""Serving in closed form, against the papers' digits and arithmetic written out another way."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidsv3.config import ModelConfig
from minidsv3.cost.per_token import kv_bytes_per_token
from minidsv3.cost.serving import (
    bytes_per_value,
    cache_bytes,
    decode_weight_bytes,
    expert_parallel_step,
    fleet_cost,
    margin,
    memory_bound_speed,
    nodes_for,
    parameters_met,
    rate_for,
    requests_in_flight,
    revenue,
    routed_parameters_met,
    seconds_to_read,
    speculative_speedup,
    speed_in_turn,
    tpot,
)
from minidsv3.hardware import load_hardware

V3 = ModelConfig.preset("v3")
H800 = load_hardware("h800")
PAPER = {
    "tokens": 32,
    "experts": 9,
    "width": 7000,
    "dispatch_bytes": 1,
    "combine_bytes": 2,
    "bandwidth": 50e9,
}
rates = st.floats(1e-3, 1e12)


# ---- the bound on the time of a token ---------------------------------------------------------------------


def test_the_step_counts_every_byte_once() -> None:
    """One loop over tokens, experts and directions."""
    sent = sum(7000 * size for _ in range(32) for _ in range(9) for size in (1, 2))
    assert expert_parallel_step(**PAPER) == pytest.approx(sent / 50e9, rel=1e-15)
    assert f"{expert_parallel_step(**PAPER) * 1e6:.2f}" == "120.96"
    assert f"{expert_parallel_step(**PAPER | {'bandwidth': 900e9}) * 1e6:.2f}" == "6.72"


@pytest.mark.parametrize(
    ("change", "milliseconds"),
    [
        ({}, "14.76"),
        ({"bandwidth": 900e9}, "0.82"),
        ({"width": 7168}, "15.11"),
        ({"bandwidth": 40e9}, "18.45"),
        ({"layers": 58}, "14.03"),
        ({"combine_bytes": 1}, "9.84"),
        ({"combine_bytes": bytes_per_value(10, 4, 128)}, "11.22"),
        ({"dispatch_bytes": 2}, "19.68"),
        ({"dispatch_bytes": bytes_per_value(8, 4, 128)}, "14.91"),
        ({"bandwidth": 900e9, "tokens": 32 * 256 / 72}, "2.91"),
        ({"latency": 4 * 3.7e-6}, "15.66"),
    ],
)
def test_the_bound_and_its_variants(change: dict[str, float], milliseconds: str) -> None:
    assert f"{tpot(**{'layers': 61} | PAPER | change) * 1e3:.2f}" == milliseconds


def test_tokens_a_second_are_printed_cut() -> None:
    assert int(1 / tpot(layers=61, **PAPER)) == 67 != round(1 / tpot(layers=61, **PAPER))
    assert int(1 / tpot(layers=61, **PAPER | {"bandwidth": 900e9, "tokens": 32 * 256 / 72})) == 343


def test_latency_is_what_the_bound_leaves_out() -> None:
    """4 transfers a layer: 0.90 ms on InfiniBand, 1.37 ms on RoCE."""
    for fabric, milliseconds in (("ib", "0.90"), ("roce", "1.37")):
        wait = 4 * H800[f"fabric.latency.{fabric}.cross_leaf"].si
        added = tpot(layers=61, latency=wait, **PAPER) - tpot(layers=61, **PAPER)
        assert f"{added * 1e3:.2f}" == milliseconds


@given(st.floats(1, 4), rates)
def test_a_faster_link_never_takes_longer(faster: float, bandwidth: float) -> None:
    link = PAPER | {"bandwidth": bandwidth}
    assert tpot(layers=61, **link | {"bandwidth": bandwidth * faster}) <= tpot(layers=61, **link)


def test_bytes_per_value() -> None:
    assert bytes_per_value(16) == 2
    assert Fraction(bytes_per_value(10, 4, 128)) == Fraction(10, 8) + Fraction(4, 128)
    assert f"{bytes_per_value(8, 4, 128):.3f}" == "1.031"


# ---- drafts -----------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.integers(0, 6))
def test_speed_of_drafts_is_the_expected_run_of_accepted_ones(p: float, drafts: int) -> None:
    """Chance by chance: exactly i accepted, then one more token that the model itself gives."""
    exactly = [p**i * (1 - p) for i in range(drafts)] + [p**drafts]
    expected = sum((i + 1) * chance for i, chance in enumerate(exactly))
    assert speculative_speedup(p, drafts) == pytest.approx(expected)


def test_speed_of_one_draft() -> None:
    assert [speculative_speedup(p) for p in (0.8, 0.85, 0.9)] == pytest.approx([1.8, 1.85, 1.9])
    assert speculative_speedup(0.85, draft_cost=0.5) == pytest.approx(1.85 / 1.5)
    assert speculative_speedup(1.0, drafts=3) == 4
    with pytest.raises(ValueError, match=r"expected an acceptance in 0 \.\. 1, got 1\.2"):
        speculative_speedup(1.2)


# ---- memory -----------------------------------------------------------------------------------------------


def test_one_request_bound_by_memory() -> None:
    assert memory_bound_speed(20e9, 0.5, 200e9) == pytest.approx(20)
    assert memory_bound_speed(20e9, 0.5, 200e9, cache=10e9) == pytest.approx(10)
    assert 1 / memory_bound_speed(3e9, 2, 7e9) == pytest.approx(seconds_to_read([3e9, 3e9], 7e9))


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=4))
def test_in_turn_times_add_up(speeds: list[float]) -> None:
    assert 1 / speed_in_turn(speeds) == pytest.approx(sum(1 / speed for speed in speeds))
    assert speed_in_turn(speeds) <= min(speeds) * (1 + 1e-12)


def test_parameters_that_a_token_meets() -> None:
    expert = 3 * V3.dim * V3.moe_inter_dim
    assert routed_parameters_met(V3) == 58 * 8 * expert
    idle = 58 * (256 - 8) * expert
    assert parameters_met(V3) == V3.parameter_counts()["total"] - idle - V3.vocab_size * V3.dim


# ---- a day of service -------------------------------------------------------------------------------------

DAY = 86400


def test_the_day_closes() -> None:
    """Tokens over rates give the published mean of 226.75 nodes, within what three digits leave open."""
    prefill, decode = nodes_for(608e9, 73.7e3, DAY), nodes_for(168e9, 14.8e3, DAY)
    assert (f"{prefill:.1f}", f"{decode:.1f}") == ("95.5", "131.4")
    assert prefill + decode == pytest.approx(226.75, abs=0.5)
    assert fleet_cost(226.75, 8, 2 / 3600, DAY) == pytest.approx(226.75 * 8 * 24 * 2) == pytest.approx(87_072)


def test_income_and_margin() -> None:
    income = revenue([342e9, 266e9, 168e9], [0.14e-6, 0.55e-6, 2.19e-6])
    assert income == pytest.approx(47_880 + 146_300 + 367_920) == pytest.approx(562_100)
    assert round(100 * margin(562_027, 87_072)) == 545
    assert margin(87_072, 87_072) == 0


@given(rates, st.floats(0.1, 1e4), st.floats(1, 1e6))
def test_nodes_and_rates_turn_round(tokens: float, nodes: float, seconds: float) -> None:
    assert nodes_for(tokens, rate_for(tokens, nodes, seconds), seconds) == pytest.approx(nodes)


@given(rates, st.floats(0.1, 1e3))
def test_margin_turns_round(income: float, nodes: float) -> None:
    """From margin, nodes and price back to the income."""
    cost = fleet_cost(nodes, 8, 2 / 3600, DAY)
    assert (1 + margin(income, cost)) * cost == pytest.approx(income, rel=1e-9, abs=1e-9 * cost)


def test_what_a_decoding_gpu_holds() -> None:
    requests = requests_in_flight(14.8e3, 8, 21)
    cache = cache_bytes(requests, 4989, kv_bytes_per_token(V3))
    weights = decode_weight_bytes(V3, routed_experts=2, shared_experts=1)
    around = 2 * V3.vocab_size * V3.dim * 2
    assert round(requests) == 88
    assert [f"{n / 1e9:.1f}" for n in (cache, weights, around)] == ["30.9", "20.3", "3.7"]
    assert cache + weights + around < H800["chip.hbm.capacity"].si
    seconds = seconds_to_read([cache, weights, around], H800["chip.hbm.bandwidth"].si)
    assert f"{seconds * 1e3:.1f} ms" == "16.4 ms"
    assert seconds < 1 / 21


def test_weights_of_a_decoding_gpu_are_a_sum_over_tensors() -> None:
    """Matrices of attention and FFNs, without routers; of the routed experts those numbered 0 and 1."""

    def held(name: str) -> bool:
        if ".experts." in name:
            return name.split(".experts.")[1].split(".")[0] in ("0", "1")
        return ".self_attn." in name or (".mlp." in name and ".gate." not in name)

    mini = ModelConfig.preset("mini")
    sizes = [math.prod(shape) for name, shape in mini.tensor_shapes().items() if held(name)]
    norms = mini.n_layers * (mini.q_lora_rank + mini.kv_lora_rank)
    counted = decode_weight_bytes(mini, routed_experts=2, shared_experts=1, weight_bytes=2)
    assert counted == 2 * (sum(sizes) - norms)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tpot(layers=1, **PAPER | {"bandwidth": 0}), "expected bandwidth above 0, got 0"),
        (lambda: bytes_per_value(8, 4, 0), "expected tile above 0, got 0"),
        (lambda: nodes_for(1, 0, 1), "expected rate above 0, got 0"),
        (lambda: rate_for(1, -1, 1), "expected nodes above 0, got -1"),
        (lambda: margin(1, 0), "expected cost above 0, got 0"),
        (lambda: requests_in_flight(1, 8, 0), "expected speed above 0, got 0"),
        (lambda: revenue([1, 2], [1]), "expected a price for each kind of token, got 2 and 1"),
    ],
)
def test_what_cannot_be_divided_by_is_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
