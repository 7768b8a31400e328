"""A trace: a row for everything that ran, shapes checked, values kept where asked; nothing untraced."""

import math
from typing import Any

import numpy as np
import pytest

from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.interpreter import Model
from minidsv3.machine import Machine, Trace, catalogue, look_up
from minidsv3.machine import primitives as p
from minidsv3.machine.catalogue import primitives as counted
from minidsv3.model.comparators import GQAWeights, gqa_backward, gqa_forward
from minidsv3.model.rope import rotations
from minidsv3.training.trainer import Trainer

TOKENS = np.arange(24).reshape(2, 12)
# catalogue op -> why no traced run of the presets emits it
NOT_EMITTED: dict[str, str] = {}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.initialise(ModelConfig.preset("nano", dim=32, vocab_size=64), seed=0)


@pytest.fixture(scope="module")
def trained(model: Model) -> Trace:
    machine = Machine(trace=True)
    model.loss_and_gradients(TOKENS, 0.3, 0.01, machine=machine)
    return machine.trace


def update() -> Trace:
    machine = Machine(trace=True)
    config = ModelConfig.preset("nano", dim=16, n_layers=1, vocab_size=32)
    stream = np.arange(200, dtype=np.int32) % 32
    Trainer(config, TrainConfig(steps=1, seq_len=8, batch_sequences=2), stream).step(machine)
    return machine.trace


def decoded(model: Model, **options: Any) -> Trace:
    machine = Machine(trace=True)
    model.generate([1, 2, 3], 6, machine=machine, **options)
    return machine.trace


def compared() -> Trace:
    """Grouped-query attention, which no model here uses, forward and backward."""
    machine, rng = Machine(trace=True), np.random.default_rng(0)
    shapes = [(4, 2, 8), (2, 2, 8), (2, 2, 8), (8, 8)]
    w = GQAWeights(*(rng.normal(size=shape).astype("f") for shape in shapes))
    u, saved = gqa_forward(
        machine, rng.normal(size=(6, 8)).astype("f"), w, rotations(3, 2, 100.0), 0.7, batch=2
    )
    gqa_backward(machine, u, saved)
    return machine.trace


def test_every_op_of_the_catalogue_is_emitted(model: Model, trained: Trace) -> None:
    eight = Machine(precision="fp8", trace=True)
    model.loss_and_gradients(TOKENS, 0.3, 0.01, machine=eight)
    rows = [
        *trained,
        *eight.trace,
        *update(),
        *compared(),
        *decoded(model, attention="naive"),
        *decoded(model, speculative=True),
    ]
    lite = ModelConfig.preset(
        "nano", q_lora_rank=0, vocab_size=64, score_func="softmax", topk_method="greedy"
    )
    machine = Machine(trace=True)
    Model.initialise(lite, seed=0).logits(TOKENS, machine)
    emitted = {row.op for row in [*rows, *machine.trace]}
    assert set(catalogue()) - emitted == set(NOT_EMITTED)
    assert {e for op in emitted for e in look_up(op).equations} >= {str(n) for n in range(1, 26)}


def test_softmax_scores_stay_in_float32_where_products_are_fp8() -> None:
    """As the sigmoid of V3's gate, which the report keeps in higher precision."""
    config = ModelConfig.preset("nano", n_layers=2, n_mtp_layers=0, vocab_size=64, score_func="softmax")
    machine = Machine(precision="fp8", trace=True)
    Model.initialise(config, seed=0).loss_and_gradients(TOKENS, machine=machine)
    forward, backward = machine.trace.select("gate.softmax")
    assert (forward.formats, backward.formats) == (("fp32",) * 2, ("fp32",) * 3)
    assert (forward.phase, backward.phase, backward.direction) == ("forward", "backward", "dgrad")
    assert not machine.trace.select("gate.sigmoid")


def test_every_differentiable_op_of_a_training_step_has_its_backward_rows(trained: Trace) -> None:
    forward = [row for row in trained if row.phase == "forward"]
    for op in {row.op for row in forward}:
        expected = [back.direction for back in counted()[look_up(op).primitive].backward]
        times = sum(row.op == op for row in forward)
        rows = [row for row in trained if row.op == op and row.phase == "backward"]
        assert [row.direction for row in rows] == expected * times, op


def test_backward_matrix_work_is_twice_the_forward(trained: Trace) -> None:
    forward, backward = trained.select(phase="forward"), trained.select(phase="backward")
    assert backward.matrix_flops == 2 * forward.matrix_flops
    assert trained.matrix_flops == 3 * forward.matrix_flops


def test_rows_say_what_the_signature_counts(trained: Trace) -> None:
    for row in trained.select(phase="forward"):
        op = look_up(row.op)
        assert len(row.shapes) == len(row.formats) == len(op.signature.operands) + 1
        for axes, shape in zip((*op.signature.operands, op.signature.result), row.shapes, strict=True):
            assert tuple(row.sizes[axis] for axis in axes) == shape
        if counted()[op.primitive].matrix:
            axes = {axis for operand in op.signature.operands for axis in operand}
            assert row.matrix_flops == 2 * math.prod(row.sizes[axis] for axis in axes)


def test_rows_know_layer_and_expert(model: Model, trained: Trace) -> None:
    layers = {row.layer for row in trained.select("mla.out")}
    assert layers == set(range(model.config.n_layers + 1))  # the MTP module is one more
    assert {row.layer for row in trained.select("head.logits")} == {None}
    experts = [row.expert for row in trained.select("experts.down", phase="forward", layer=1)]
    assert experts == sorted(set(experts))
    assert {row.expert for row in trained.select("mla.*")} == {None}


def test_values_are_kept_where_asked_and_only_there(model: Model) -> None:
    machine = Machine(trace=True, keep=["mla.out", "head.*"])
    logits = model.logits(TOKENS, machine)
    np.testing.assert_array_equal(machine.trace.value("head.logits").reshape(logits.shape), logits)
    assert machine.trace.value("mla.out", layer=2).shape == (24, 32)
    kept = {row.op for row in machine.trace if row.value is not None}
    assert kept == {"mla.out", "head.logits"}
    with pytest.raises(ValueError, match=r"expected a kept value of 'mla\.kv_down'; trace with keep="):
        machine.trace.value("mla.kv_down")


def test_a_kept_value_does_not_change_behind_ones_back(model: Model) -> None:
    """Softmax and cross-entropy write in place; a trace keeps what was there then."""
    machine = Machine(trace=True, keep="*")
    model.loss_and_gradients(TOKENS, 0.3, 0.01, machine=machine)
    np.testing.assert_allclose(machine.trace.value("mla.softmax").sum(axis=-1), 1, rtol=1e-5)
    logits = machine.trace.value("head.logits").copy()
    assert abs(logits.sum(axis=1) - 1).max() > 1e-3


@pytest.mark.parametrize(
    ("h", "W", "message"),
    [
        ((5, 64), (8, 63), r"expected W_O \[D, I=64\], got \(8, 63\)"),
        ((64,), (8, 64), r"expected o \[N, I\], got \(64,\)"),
    ],
)
def test_a_tracing_machine_names_the_symbol_that_does_not_fit(h: Any, W: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Machine(trace=True).linear(np.zeros(h, "f"), np.zeros(W, "f"), at="mla.out")


def test_a_machine_that_does_not_trace_runs_the_bare_functions() -> None:
    machine = Machine()
    assert not machine.tracing
    for name in p.PRIMITIVES:
        for full in (name, f"{name}_backward"):
            if hasattr(p, full):
                assert getattr(machine, full) is getattr(p, full), full
    with pytest.raises(ValueError, match=r"expected a tracing machine; make it with Machine\(trace=True\)"):
        _ = machine.trace


def test_tracing_changes_no_bit(model: Model) -> None:
    losses, gradients = model.loss_and_gradients(TOKENS, 0.3, 0.01, machine=Machine())
    traced, others = model.loss_and_gradients(TOKENS, 0.3, 0.01, machine=Machine(trace=True, keep="*"))
    assert losses == traced
    np.testing.assert_array_equal(gradients.buffer, others.buffer)


def test_tracing_one_machine_leaves_others_alone() -> None:
    Machine(trace=True)
    assert Machine().linear is p.linear


def test_a_policy_wraps_every_primitive_and_is_traced() -> None:
    seen = []

    def policy(name: str, function: Any) -> Any:
        def wrapped(*args: Any, **options: Any) -> Any:
            seen.append(name)
            return function(*args, **options)

        return wrapped

    machine = Machine(policy=policy, trace=True)
    machine.linear(np.ones((1, 2), "f"), np.ones((3, 2), "f"), at="mla.out")
    machine.linear_backward(np.ones((1, 3), "f"), np.ones((1, 2), "f"), np.ones((3, 2), "f"), at="mla.out")
    assert seen == ["linear", "linear_backward"]
    assert [row.direction for row in machine.trace] == ["fprop", "dgrad", "wgrad"]


def test_rows_go_into_json(trained: Trace) -> None:
    import json

    for row in trained:
        json.dumps(row.to_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp7"}, "expected a precision, got 'fp7'"),
        ({"dtype": "int8"}, "expected dtype 'float32' or"),
    ],
)
def test_unknown_arithmetic_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Machine(**options)  # type: ignore[arg-type]
