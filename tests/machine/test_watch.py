"""A watch sees every row with its arrays by symbol, and what it returns takes the result's place."""

from typing import Any

import numpy as np
import pytest

from minidsv3.config import ModelConfig
from minidsv3.interpreter import Model
from minidsv3.machine import Event, Machine, catalogue, watched
from minidsv3.machine import primitives as p
from minidsv3.machine.watch import BEHIND, FROM_THE_LOSS, IN_PLACE, called_from

TOKENS = np.array([[1, 2, 3, 4, 5]])
PRECISIONS = ["fp32", "bf16", "fp8"]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.initialise(ModelConfig.preset("nano", dim=32, vocab_size=64), seed=0)


def run(model: Model, machine: Machine, kind: str) -> Any:
    if kind == "loss":
        losses, gradients = model.loss_and_gradients(TOKENS, 0.3, 0.01, machine=machine)
        return gradients.buffer.tobytes(), losses
    return model.generate([1, 2, 3], 3, speculative=True, machine=machine).tokens


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["loss", "decode"])
def test_every_row_is_told_once_and_nothing_changes(model: Model, precision: str, kind: str) -> None:
    told: list[Event] = []
    machine = Machine(precision=precision, watch=told.append)
    watched_result = run(model, machine, kind)
    assert [event.row for event in told] == list(machine.trace)
    assert watched_result == run(model, Machine(precision=precision), kind)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_symbols_and_shapes_fit_the_rows(model: Model, precision: str) -> None:
    def look(event: Event) -> None:
        row, names = event.row, [name for name, _ in event.inputs]
        known = {*event.op.symbols, *(f"d_{symbol}" for symbol in event.op.symbols)}
        assert set(names) <= known | {"r", "sigma", "total", "share", "p"}, (row.op, names)
        if row.direction == "quantise":
            assert not event.outputs
            return
        ((name, result),) = event.outputs
        assert name in known
        assert result.shape == row.shapes[-1], row.op
        if not event.backward:
            assert names == list(event.op.symbols[: len(names)])
            assert [array.shape for _, array in event.inputs] == list(row.shapes[: len(names)]), row.op

    run(model, Machine(precision=precision, watch=look), "loss")


def test_inputs_are_as_they_were_in_front_of_the_op(model: Model) -> None:
    """Also those that a primitive writes over: computing it again from them gives the result."""
    seen = set()

    def look(event: Event) -> None:
        if event.primitive in ("rope", "softmax", "row_softmax_backward", "softmax_backward", "sigmoid"):
            extra = (
                [event.row.shapes[-1][-1] - event.row.shapes[-1][-2]] if event.primitive == "softmax" else []
            )
            again = getattr(p, event.primitive)(*(a.copy() for _, a in event.inputs), *extra)
            assert np.array_equal(again, event.result), event.op.id
            seen.add(event.primitive)

    run(model, Machine(watch=look), "loss")
    assert {"rope", "softmax", "softmax_backward", "sigmoid"} <= seen


@pytest.mark.parametrize("op", ["mla.softmax", "mla.q_rope", "experts.gate_up", "ffn.norm", "gate.top_k"])
def test_a_changed_result_is_what_a_policy_gives(model: Model, op: str) -> None:
    """In place or not, one array or several: the rest is computed from what the watch returned."""

    def other(result: Any) -> Any:
        return result[::-1].copy() if op == "gate.top_k" else result * 2

    def policy(name: str, function: Any) -> Any:
        def changed(*args: Any, at: str = "", **options: Any) -> Any:
            out = function(*args, at=at, **options)
            if at == op:
                whole = out[0] if isinstance(out, tuple) else out
                whole[...] = other(whole)
            return out

        return changed

    def watch(event: Event) -> Any:
        return other(event.result) if event.op.id == op else None

    plain = model.logits(TOKENS)
    by_watch = model.logits(TOKENS, Machine(watch=watch))
    assert np.array_equal(by_watch, model.logits(TOKENS, Machine(policy=policy)))
    assert not np.array_equal(by_watch, plain)


def test_a_result_that_may_not_be_written_to_is_replaced(model: Model) -> None:
    """FP8 tiles are marked read-only; changed ones are rounded again by the product that reads them."""

    def nothing(event: Event) -> Any:
        return np.zeros(()) if event.op.id == "mla.quantise_h" else None

    told: dict[str, Any] = {}

    def look(event: Event) -> Any:
        if event.op.id == "mla.kv_down" and event.row.layer == 0:
            told["c_KV"] = event.result.copy()
        return nothing(event)

    model.logits(TOKENS, Machine(precision="fp8", watch=look))
    assert not told["c_KV"].any()


def test_machines_made_inside_report_and_others_do_not(model: Model) -> None:
    told: list[str] = []
    before = Machine(trace=True)
    with watched(lambda event: told.append(event.op.id)):
        inside, plain = Machine(trace=True), Machine()
        model.logits(TOKENS, before)
        model.logits(TOKENS, plain)
    assert not told
    model.logits(TOKENS, inside)  # from then on
    assert len(told) == len(inside.trace) == len(before.trace)
    assert not Machine().tracing


def test_the_line_of_the_model_is_named(model: Model) -> None:
    lines: dict[str, str] = {}

    def look(event: Event) -> None:
        code = called_from()
        assert f'at="{event.op.id}"' in code.text or "at=" in code.text, event.op.id
        assert f"machine.{event.primitive}(" in code.text, event.op.id
        lines.setdefault(event.op.id, f"{code.file.rpartition('minidsv3/')[2]} {code.function}")

    model.loss_and_gradients(TOKENS, machine=Machine(watch=look))
    assert lines["mla.kv_down"] == "model/mla.py _project"
    assert lines["gate.top_k"] == "model/gate.py group_limited_top_k"
    with pytest.raises(ValueError, match="from within a watch"):
        called_from()


def test_tables_name_primitives_that_exist() -> None:
    for name in (*IN_PLACE, *(f"{name}_backward" for name in (*BEHIND, *FROM_THE_LOSS))):
        assert hasattr(p, name), name
    with_backward = {op.primitive for op in catalogue().values() if hasattr(p, f"{op.primitive}_backward")}
    assert with_backward == {*BEHIND, *FROM_THE_LOSS}
