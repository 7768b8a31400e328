"""Training runs: identities between time, tokens and GPUs; the schedule's counts against its eight steps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.cost.training_run import (
    achieved_flops,
    dollars,
    dualpipe_actions,
    dualpipe_bubble,
    gpu_seconds,
    hfu,
    input_backward_seconds,
    load_run,
    mfu,
    mfu_of_run,
    micro_batches,
    run_names,
    step_seconds,
    tokens_per_second,
    tokens_per_step,
    wall_seconds,
)

positive = st.floats(1e-3, 1e12)
ACTIONS = ("forward", "backward", "input", "weights", "pairs")


@settings(max_examples=40, deadline=None)
@given(positive, positive, positive, positive, positive)
def test_a_run_at_a_steady_pace(flops: float, tokens: float, speed: float, gpus: float, peak: float) -> None:
    """What is achieved on the way is achieved over the whole run, however it is cut."""
    spent = gpu_seconds(tokens, speed, gpus)
    assert mfu_of_run(flops, tokens, spent, peak) == pytest.approx(mfu(flops, speed, gpus, peak))
    assert mfu(flops, speed, gpus, peak) * peak == pytest.approx(achieved_flops(flops, speed, gpus))
    assert wall_seconds(spent, gpus) == pytest.approx(step_seconds(tokens, speed))
    assert tokens_per_second(tokens, wall_seconds(spent, gpus)) == pytest.approx(speed)


@settings(max_examples=40, deadline=None)
@given(positive, positive, positive)
def test_recomputing_counts_for_the_hardware_alone(flops: float, more: float, speed: float) -> None:
    useful, busy = mfu(flops, speed, 8, 1e15), hfu(flops, more, speed, 8, 1e15)
    assert busy >= useful
    assert busy == pytest.approx(useful * (flops + more) / flops)
    assert hfu(flops, 0, speed, 8, 1e15) == useful


def test_v3s_run() -> None:
    run = load_run("v3")
    tokens = tokens_per_step(int(run["sequences"].si), int(run["length"].si))
    assert tokens == 62_914_560
    assert step_seconds(tokens, run["speed"].si) == pytest.approx(19.926, abs=5e-4)
    assert dollars(run["everything"].si, 2 / 3600) == pytest.approx(5.576e6)
    assert wall_seconds(run["pretraining"].si, run["gpus"].si) / 86400 == pytest.approx(54.2, abs=0.05)
    assert micro_batches(run["sequences"].si, run["gpus"].si / 16) == 120
    assert "arXiv 2505.09343, Table 4" in run.source


def test_runs_are_made_of_published_figures() -> None:
    assert run_names() == ["v3", "llama-3.1-405b"]
    for name in run_names():
        run = load_run(name)
        assert {"gpus", "tokens", "length", "everything"} <= set(run.values)
        assert all(figure.source for figure in run.values.values())
    with pytest.raises(ValueError, match=r"expected a training run, got 'v2': known: v3, llama-3\.1-405b"):
        load_run("v2")
    with pytest.raises(ValueError, match=r"training_runs\.toml: v3: expected a number, got 'gpu'"):
        load_run("v3")["gpu"]


# ---- DualPipe ---------------------------------------------------------------------------------------------

schedules = st.integers(1, 8).flatmap(
    lambda half: st.tuples(st.just(2 * half), st.integers(2 * half, 5 * half).map(lambda n: 2 * n))
)


def eight_steps(ranks: int, micro_batches: int, rank: int) -> list[str]:
    """What a rank does, action by action: F, B (whole), I (for inputs), W, FB (a pair)."""
    half, M, h = ranks // 2, micro_batches // 2, min(rank, ranks - 1 - rank)
    done: list[str] = ["F"] * (2 * (half - h - 1))  # 1
    done += ["F", "F"] * (h + 1)  # 2
    done += ["I", "W", "F"] * (half - h - 1)  # 3
    for i in range(M - ranks + h + 1):  # 4
        done += ["F", "B", "FB"] if i == 0 and h == half - 1 else ["FB", "FB"]
    done += ["B", "FB"] * (half - h - 1)  # 5
    inputs_only = False
    for i in range(h + 1):  # 6: the switch to inputs alone falls in element (h + 1) // 2
        inputs_only |= i == (h + 1) // 2 and h % 2 == 1
        done.append("I" if inputs_only else "B")
        inputs_only |= i == (h + 1) // 2 and h % 2 == 0
        done.append("I" if inputs_only else "B")
    done += ["W", "I"] * (half - h - 1)  # 7
    return done + ["W"] * (h + 1)  # 8


@settings(max_examples=60, deadline=None)
@given(schedules)
def test_actions_are_those_of_the_schedule(sizes: tuple[int, int]) -> None:
    ranks, count = sizes
    for rank in range(ranks):
        done = eight_steps(ranks, count, rank)
        found = {action: dualpipe_actions(ranks, count, rank, action) for action in ACTIONS}
        assert found == {
            "forward": done.count("F"),
            "backward": done.count("B") + done.count("I"),
            "input": done.count("I"),
            "weights": done.count("W"),
            "pairs": done.count("FB"),
        }
        assert found["forward"] + found["pairs"] == found["backward"] + found["pairs"] == count
        assert found["input"] == found["weights"]


def test_the_bubble_of_the_report() -> None:
    """V3's 16 ranks, in units of a forward: F&B = F + B, B = 2 F, W = F."""
    assert dualpipe_bubble(16, pair=3, backward=2, weights=1) == 14
    assert dualpipe_bubble(2, pair=3, backward=2, weights=1) == 0


def test_backwards_for_inputs_are_what_remains() -> None:
    whole, inputs, one, weight = 8, 15, 0.075, 0.032
    spent = whole * (one + weight) + inputs * one
    assert input_backward_seconds(spent, weight, whole + inputs, inputs) == pytest.approx(one)


def test_unknown_actions_are_named() -> None:
    with pytest.raises(ValueError, match="expected an action, got 'forwards': did you mean 'forward'"):
        dualpipe_actions(4, 8, 0, "forwards")
