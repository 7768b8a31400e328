"""The debugger's engine: what it shows is what a plain run computes, back and forth, changed or not."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidsv3.config import ModelConfig
from minidsv3.cost import bill
from minidsv3.interpreter import Model
from minidsv3.learn.selector import parse, pick
from minidsv3.learn.stepping import KINDS, Edit, Pass, Stepper, result_axes
from minidsv3.learn.stepping.runner import Runner
from minidsv3.machine import Machine
from minidsv3.machine.parallel import blas_threads

IDS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.initialise(
        ModelConfig.preset("nano", dim=32, vocab_size=64, n_layers=3, moe_inter_dim=16), seed=0
    )


def plain(model: Model, machine: Machine | None = None) -> Any:
    with blas_threads(1):
        return model.logits(np.array([IDS]), machine)


def walk(stepper: Stepper) -> int:
    while stepper.into() is not None:
        pass
    return len(stepper.stops)


# ---- against a plain run ----


def test_values_are_bit_for_bit_those_of_a_plain_run(model: Model) -> None:
    machine = Machine(trace=True, keep="*")
    logits = plain(model, machine)
    with Stepper(Pass(model, IDS)) as stepper:
        assert walk(stepper) == len(machine.trace)
        for stop, row in zip(stepper.stops, machine.trace, strict=True):
            assert (stop.op.id, stop.row.layer, stop.row.expert) == (row.op, row.layer, row.expert)
            assert stepper.values(stop).result.tobytes() == row.value.tobytes(), row.op
        assert stepper.result.tobytes() == logits.tobytes()
        assert stepper.stops[-1].so_far == pytest.approx(bill(machine.trace, stepper.hardware).total.seconds)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "fp8"])
def test_every_kind_of_pass_ends_as_it_does_unwatched(model: Model, kind: str, precision: str) -> None:
    work = Pass(model, IDS, kind, precision=precision, new=3)
    with Stepper(work) as stepper:
        walk(stepper)
        one, stages = stepper.result, {stop.stage for stop in stepper.stops}
        phases = {stop.row.phase for stop in stepper.stops}
    with blas_threads(1):
        other = work.run()
    if kind == "forward":
        assert one.tobytes() == other.tobytes()
    elif kind == "backward":
        assert one == other
    elif kind == "train":
        assert (one.losses, one.gradient_norm) == (other.losses, other.gradient_norm)
        assert phases == {"forward", "backward", "update"}
    else:
        assert one.sequences == other.sequences
        assert {"prompt", "token 2" if kind == "decode" else "token 2, verifying"} <= stages


def test_a_training_step_leaves_the_model_alone(model: Model) -> None:
    before = model.parameters.buffer.copy()
    with Stepper(Pass(model, IDS, "train")) as stepper:
        stepper.run_to("update.adamw")
        stop = stepper.stop
        assert stop is not None
        kept = stepper.values(stop)
        assert not np.array_equal(dict(kept.inputs)["w"], kept.result)  # as it was, and as it is
        walk(stepper)
    assert np.array_equal(model.parameters.buffer, before)


def test_drafts_and_their_verification_are_told(model: Model) -> None:
    with Stepper(Pass(model, IDS, "speculative", new=5)) as stepper:
        walk(stepper)
        result, notes = stepper.result, [stop for stop in stepper.stops if stop.note]
    drafting = [stop for stop in notes if stop.stage.endswith("drafting")]
    verifying = [stop for stop in notes if stop.stage.endswith("verifying")]
    assert len(drafting) == result.drafted
    accepted = sum(int(stop.note.partition("accepted ")[2].split()[0]) for stop in verifying)
    assert accepted == result.accepted
    last = [int(stop.note.rpartition("then token ")[2]) for stop in verifying]
    assert last[-1] == result.tokens[-1]


# ---- moving ----


def test_the_first_stop_costs_one_op(model: Model) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        stop = stepper.into()
        assert stop is not None
        assert (stop.op.id, len(stepper.stops)) == ("embed.tokens", 1)


def test_over_and_out_go_by_part(model: Model) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        stepper.run_to("mla.kv_down[layer=1]")
        over = stepper.over_part()
        assert over is not None
        assert (over.op.id, over.row.layer) == ("attn.residual", 1)
        out = stepper.out()
        assert out is not None
        assert (out.op.id, out.row.layer) == ("attn.norm", 2)
        again = stepper.out()
        assert again is not None
        assert (again.op.id, again.row.layer) == ("final.norm", None)


def test_breaks_stop_everything_on_the_way(model: Model) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        stepper.break_on("gate.top_k")
        stepper.break_on("mla.softmax[layer=2]")
        found = []
        while (stop := stepper.go_on()) is not None:
            found.append((stop.op.id, stop.row.layer))
        moe = [layer for layer in range(3) if layer >= model.config.n_dense_layers]
        assert sorted(found) == sorted([*(("gate.top_k", layer) for layer in moe), ("mla.softmax", 2)])
        stepper.go(0)
        assert stepper.out() is not None  # the breaks hold in what has run, too
        with pytest.raises(ValueError, match=r"did you mean 'gate.top_k'"):
            stepper.break_on("gate.topk")


@settings(max_examples=15)
@given(moves=st.lists(st.sampled_from(["into", "over_part", "out", "back", "go", "go_on"]), max_size=30))
def test_any_walk_shows_the_same_ops(model: Model, moves: list[str]) -> None:
    """Forward and back as one likes: a stop's values are always those of a straight walk."""
    want = reference(model)
    with Stepper(Pass(model, IDS), memory=20_000) as stepper:  # so little that values are let go of
        stepper.break_on("head.logits")
        for i, move in enumerate(moves):
            if move == "go":
                stepper.go(7 * i % len(want))
            else:
                getattr(stepper, move)()
            stop = stepper.stop
            if stop is not None:
                assert (stop.op.id, stepper.values(stop).result.tobytes()) == want[stop.index]
    assert threading.active_count() == 1


_walked: list[tuple[str, bytes]] = []


def reference(model: Model) -> list[tuple[str, bytes]]:
    if not _walked:
        machine = Machine(trace=True, keep="*")
        plain(model, machine)
        _walked.extend((row.op, row.value.tobytes()) for row in machine.trace if row.value is not None)
    return _walked


def test_back_and_forth_is_where_it_was(model: Model) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        here = stepper.run_to("mla.softmax[layer=1]")
        assert here is not None
        for _ in range(4):
            stepper.back()
        for _ in range(4):
            stepper.into()
        assert stepper.stop == here
        assert len(stepper.stops) == here.index + 1  # nothing ran for it
        stepper.go(0)
        assert stepper.back() is None
        assert stepper.into() == stepper.stops[0]
        with pytest.raises(ValueError, match=r"expected an op 0 \.\. "):
            stepper.go(10_000)


def test_values_let_go_of_come_back_as_they_were(model: Model) -> None:
    with Stepper(Pass(model, IDS), memory=10_000) as stepper:
        stepper.change("mla.softmax[layer=0,head=0] = 0.5")
        early = stepper.run_to("mla.values[layer=0]")
        assert early is not None
        before = stepper.values(early).result.copy()
        walk(stepper)
        assert not stepper.held(early)
        assert np.array_equal(stepper.values(early).result, before)  # the change too was made again
        assert stepper._values.held <= 10_000 or len(stepper._values._kept) == 1


# ---- changing ----


def policy_of(op: str, layer: int, change: Callable[[Any], Any]) -> Any:
    """A machine whose policy changes one op's result, the way that has no debugger."""
    machine: list[Machine] = []

    def policy(name: str, function: Any) -> Any:
        def changed(*args: Any, at: str = "", **options: Any) -> Any:
            out = function(*args, at=at, **options)
            if at == op and machine[0].layer == layer:
                part = out[0] if isinstance(out, tuple) else out
                part[...] = change(part.copy())
            return out

        return changed

    machine.append(Machine(policy=policy))
    return machine[0]


def zero_head(p: Any) -> Any:
    p[0] = 0
    return p


@pytest.mark.parametrize("after", [0, 20])
def test_a_change_is_a_run_with_a_policy_that_makes_it(model: Model, after: int) -> None:
    """At the front, and later ops having run already."""
    want = plain(model, policy_of("mla.softmax", 1, zero_head))
    with Stepper(Pass(model, IDS)) as stepper:
        stop = stepper.run_to("mla.softmax[layer=1]")
        for _ in range(after):
            stepper.into()
        changed = stepper.change("mla.softmax[layer=1,head=0] = 0")
        assert changed is not None
        assert stop is not None
        assert (changed.index, changed.changed) == (stop.index, True)
        assert not stepper.values(changed).result[0].any()
        walk(stepper)
        assert stepper.result.tobytes() == want.tobytes()
        stepper.undo()
        walk(stepper)
        assert stepper.result.tobytes() == plain(model).tobytes()


def test_an_expression_knows_the_value_and_the_operands(model: Model) -> None:
    want = plain(model, policy_of("ffn.norm", 0, lambda y: y * 2 + 1))
    with Stepper(Pass(model, IDS)) as stepper:
        stepper.change("ffn.norm[layer=0] = 2 * x + np.ones_like(h)")  # no such op has run: all to come
        walk(stepper)
        assert stepper.result.tobytes() == want.tobytes()


def test_two_changes_hold_together_and_the_later_one_goes_first(model: Model) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        stepper.run_to("mla.softmax[layer=0]")
        stepper.change("mla.softmax[head=0] = 0")
        stepper.run_to("ffn.residual[layer=0]")
        stepper.change("ffn.residual = x + 1")
        walk(stepper)
        both = stepper.result
        assert [str(edit) for edit in stepper.edits] == ["mla.softmax[head=0] = 0", "ffn.residual = x + 1"]
        undone = stepper.undo()
        assert undone is not None
        assert undone.expression == "x + 1"
        walk(stepper)
        assert stepper.result.tobytes() == plain(model, policy_of("mla.softmax", 0, zero_head)).tobytes()
        assert both.tobytes() != stepper.result.tobytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mla.softmax", r"expected OP\[head=1\] = expression"),
        ("mla.sofmax = 0", "did you mean 'mla.softmax'"),
        ("mla.softmax[head=9] = 0", r"expected head 0 .. 3, got 9"),
        ("mla.softmax[gruop=1] = 0", "expected a word for an axis"),
        ("mla.softmax[head=0] = np.ones(3)", r"expected mla.softmax\[head=0\] \(5, 5\), got float64 \(3,\)"),
        ("mla.softmax = y", "NameError"),
        ("mla.softmax = 1 +", "SyntaxError"),
        ("mla.softmax[head=zero] = 1", "expected a number or a stretch"),
    ],
)
def test_a_change_that_does_not_fit_changes_nothing(model: Model, text: str, message: str) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        stepper.run_to("mla.softmax[layer=0]")
        with pytest.raises(ValueError, match=message):
            stepper.change(text)
        assert not stepper.edits
        walk(stepper)
        assert stepper.result.tobytes() == plain(model).tobytes()


def test_a_change_that_does_not_fit_when_its_op_comes_is_dropped(model: Model) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        here = stepper.run_to("mla.kv_down[layer=1]")
        stepper.change("gate.sigmoid[token=5] = 0")  # for every one to come
        with pytest.raises(ValueError, match=r"expected token 0 .. 4, got 5"):
            stepper.go_on()
        assert not stepper.edits
        assert (stepper.stop and stepper.stop.index) == (here and here.index)
        walk(stepper)
        assert stepper.result.tobytes() == plain(model).tobytes()


def test_gradients_can_be_changed_too(model: Model) -> None:
    """One row of a backward at a time: the gradient of the input, not that of the weight."""
    with Stepper(Pass(model, IDS, "backward")) as stepper:
        stop = stepper.run_to("experts.down")
        while stop is not None and stop.row.direction != "dgrad":
            stop = stepper.run_to("experts.down")
        changed = stepper.change("experts.down = 0")
        assert (changed, stop is not None) == (stepper.stop, True)
        assert changed is not None
        assert not stepper.values(changed).result.any()
        beside = stepper.into()
        assert beside is not None
        assert (beside.op.id, beside.row.direction) == ("experts.down", "wgrad")
        assert stepper.values(beside).result.any()


# ---- the thread ----


def test_closing_ends_the_thread_wherever_it_is(model: Model) -> None:
    for move in (lambda s: None, Stepper.into, lambda s: s.run_to("mla.softmax"), Stepper.go_on):
        with Stepper(Pass(model, IDS)) as stepper:
            move(stepper)
        assert threading.active_count() == 1


def test_what_a_pass_raises_is_raised_where_it_is_stepped() -> None:
    def work(watch: Any) -> None:
        raise ValueError("expected this")

    with Runner(work) as runner:
        with pytest.raises(ValueError, match="expected this"):
            runner.resume(lambda event: True)
        assert runner.over
        assert not runner.resume(lambda event: True)


def test_an_interrupt_stops_at_an_op_and_the_pass_goes_on(model: Model) -> None:
    """Ctrl-C while ops run: the debugger stands at an op, and nothing is lost."""
    with Stepper(Pass(model, IDS)) as stepper:
        acquire, calls = stepper._runner._stood.acquire, []

        def interrupted() -> bool:
            calls.append(1)
            if len(calls) == 1:
                raise KeyboardInterrupt
            return acquire()

        stepper._runner._stood.acquire = interrupted  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            stepper.go_on()
        assert stepper.stop is not None
        walk(stepper)
        assert stepper.result.tobytes() == plain(model).tobytes()


# ---- selectors and passes ----


@given(
    st.dictionaries(st.sampled_from(["layer", "head", "token", "expert"]), st.integers(-3, 9)),
    st.sampled_from(["mla.softmax", "gate.*", "c_KV"]),
)
def test_a_selector_reads_back(at: dict[str, int], name: str) -> None:
    inside = ",".join(f"{word}={n}" for word, n in at.items())
    text = f"{name}[{inside}]" if inside else name
    assert str(parse(text)) == text
    assert (parse(text).name, parse(text).at) == (name, at)


def test_picking_is_indexing() -> None:
    x = np.arange(60).reshape(3, 4, 5)
    axes = ("H", "T", "S")
    assert np.array_equal(pick(x, axes, parse("x[head=1,token=-1]").at).value, x[1, -1])
    assert np.array_equal(pick(x, axes, parse("x[token=1:3,key=2]").at).value, x[:, 1:3, 2])
    assert pick(x, axes, parse("x[layer=4,H=2]").at).axes == ("T", "S")
    for wrong in ("", "[head=1]", "x[head]", "x[head=]", "x[head=1", "x[1]"):
        with pytest.raises(ValueError, match="expected"):
            parse(wrong)
    with pytest.raises(ValueError, match=r"expected token 0 .. 3, got 4"):
        pick(x, axes, {"token": 4})


def test_edits_read() -> None:
    edit = Edit.read(" mla.softmax[head=1, token=2] = x == x ")
    assert (str(edit.target), edit.expression) == ("mla.softmax[head=1,token=2]", "x == x")


def test_passes_refuse_what_does_not_fit(model: Model) -> None:
    with pytest.raises(ValueError, match="did you mean 'forward'"):
        Pass(model, IDS, "forwards")
    with pytest.raises(ValueError, match="expected decoding steps"):
        Pass(model, IDS).against("naive")


# ---- hostile changes, stretches, rows of experts ----


def test_a_change_that_the_ops_behind_cannot_run_with_is_taken_back(model: Model) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        stepper.run_to("gate.sigmoid")
        stepper.change("gate.sigmoid = x + 0")
        stepper.change("experts.dispatch = 1 // 0 if x.size else x")
        here = stepper.cursor
        with pytest.raises(ValueError, match="ZeroDivisionError"):
            stepper.go_on()
        assert stepper.cursor == here
        assert len(stepper.edits) == 1
        walk(stepper)
        assert stepper.result.tobytes() == plain(model).tobytes()


@pytest.mark.parametrize("chosen", [-1, 16])
def test_no_expert_is_chosen_that_there_is_not(model: Model, chosen: int) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        stepper.change(f"gate.top_k = {chosen}")
        with pytest.raises(ValueError, match=f"expected gate.top_k from 0 to 15, got {chosen}"):
            walk(stepper)
        assert not stepper.edits
        walk(stepper)
        assert stepper.result.tobytes() == plain(model).tobytes()


def test_what_fails_behind_a_change_is_said_and_the_pass_stands(model: Model) -> None:
    class Broken(Pass):
        def run(self, watch: Any = None, say: Any = lambda _: None) -> Any:
            def strict(event: Any) -> Any:
                new = watch(event)
                if new is not None and not np.asarray(new).any():
                    raise IndexError("nothing there")
                return new

            return super().run(strict, say)

    with Stepper(Broken(model, IDS)) as stepper:
        stepper.into()
        first = stepper.cursor
        stepper.change("mla.softmax[layer=1] = 0")
        with pytest.raises(ValueError, match="the pass cannot go on: IndexError: nothing there"):
            stepper.go_on()
        assert stepper.cursor == first
        assert not stepper.edits
        walk(stepper)
        assert stepper.result.tobytes() == plain(model).tobytes()


def test_leaving_is_no_value(model: Model) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        stepper.change("mla.softmax = exit()")
        with pytest.raises(ValueError, match="SystemExit"):
            stepper.go_on()


@pytest.mark.parametrize(("op", "directions"), [("mla.softmax", {"fprop"}), ("d_mla.softmax", {"dgrad"})])
def test_a_change_to_come_is_of_results_or_of_gradients(model: Model, op: str, directions: set[str]) -> None:
    with Stepper(Pass(model, IDS, "backward")) as stepper:
        stepper.change(f"{op}[layer=1] = x * 2")
        walk(stepper)
        assert {stop.row.direction for stop in stepper.stops if stop.changed} == directions


def test_breaks_take_stretches_of_layers_and_refuse_what_says_nothing(model: Model) -> None:
    assert parse("mla.*[layer=1:3]").at["layer"] == slice(1, 3)
    with Stepper(Pass(model, IDS)) as stepper:
        stepper.break_on("mla.softmax[layer=1:3]")
        stops = list(iter(stepper.go_on, None))
        assert [stop.row.layer for stop in stops] == [1, 2]
        for wrong in ("mla.softmax[foo=1]", "mla.softmax[head=1]", "mla.softmax[layer=-1]"):
            with pytest.raises(ValueError, match="of an op to stop at"):
                stepper.break_on(wrong)


def test_rows_of_an_expert_are_no_tokens(model: Model) -> None:
    with Stepper(Pass(model, IDS)) as stepper:
        walk(stepper)
        axes = {stop.op.id: result_axes(stop) for stop in stepper.stops}
    assert axes["experts.gate_up"][0] == axes["experts.swiglu"][0] == axes["experts.scale"][0] == "P"
    assert axes["experts.combine"][0] == axes["shared.swiglu"][0] == "N"
