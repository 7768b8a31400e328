"""What a machine of a precision computes, against the recipe written out with the formats themselves."""

import gc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.cost import bill
from minidsv3.hardware import load_hardware
from minidsv3.interpreter import Model
from minidsv3.machine import Machine, Trace, catalogue
from minidsv3.machine.primitives import plan_dispatch
from minidsv3.machine.rounding import _round_in_place
from minidsv3.model.experts import DENSE, ffn_backward, ffn_forward
from minidsv3.model.parameters import FFNWeights
from minidsv3.numerics import BF16, E4M3, E5M2, E5M6, LogFMT, quantize
from minidsv3.training import Trainer

Array = NDArray[Any]
B = 32
TOKENS = np.arange(34).reshape(2, 17) * 7 % 64


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.initialise(ModelConfig.preset("nano", dim=64, n_layers=2, vocab_size=64), seed=0)


def draw(*shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng((seed, *shape))
    return (rng.normal(size=shape) * np.exp(rng.normal(size=(shape[0], 1)))).astype("f")


def eight(x: Array, block: tuple[int, int], scale: str = "float32", fmt: Any = E4M3) -> Array:
    return quantize(x, block, fmt, scale=scale).dequantize()


# ---- one product ----------------------------------------------------------------------------------------


def test_fprop_dgrad_wgrad_are_the_recipe_written_out() -> None:
    x, W, d_y = draw(40, 96), draw(72, 96), BF16.round(draw(40, 72))
    machine = Machine(precision="fp8", block=B)
    y = machine.linear(x, W, at="mla.kv_up")
    x8, W8 = eight(x, (1, B)), eight(W, (B, B))
    np.testing.assert_array_equal(y, BF16.round(x8 @ W8.T))
    d_x, d_W = machine.linear_backward(d_y, x, W, at="mla.kv_up")
    np.testing.assert_array_equal(d_x, BF16.round(eight(d_y, (1, B)) @ W8))
    np.testing.assert_array_equal(d_W, eight(d_y, (B, 1)).T @ eight(x8, (B, 1)))
    assert not np.array_equal(d_W, d_y.T @ x)


def test_gradients_of_a_variant() -> None:
    x, W, d_y = draw(40, 96), draw(72, 96), draw(40, 72)
    d_x, _ = Machine(precision="fp8-e5m2-gradients", block=B).linear_backward(d_y, x, W, at="mla.kv_up")
    np.testing.assert_array_equal(d_x, BF16.round(eight(d_y, (1, B), fmt=E5M2) @ eight(W, (B, B))))
    d_x, _d_W = Machine(precision="fp8-block-gradients", block=B).linear_backward(d_y, x, W, at="mla.kv_up")
    np.testing.assert_array_equal(d_x, BF16.round(eight(d_y, (B, B)) @ eight(W, (B, B))))
    tensor = Machine(precision="fp8-per-tensor").linear(x, W, at="mla.kv_up")
    np.testing.assert_array_equal(tensor, BF16.round(eight(x, x.shape) @ eight(W, W.shape).T))


def test_gate_and_up_have_blocks_of_their_own() -> None:
    x, W = draw(10, 64), draw(2 * 40, 64)  # 40 rows each, no multiple of 32
    y = Machine(precision="fp8", block=B).linear(x, W, at="dense.gate_up")
    parts = [eight(half, (B, B)) for half in (W[:40], W[40:])]
    np.testing.assert_array_equal(y, BF16.round(eight(x, (1, B)) @ np.concatenate(parts).T))


def test_products_kept_higher() -> None:
    x, W = draw(20, 64), draw(30, 64)
    machine = Machine(precision="fp8", block=B)
    np.testing.assert_array_equal(machine.linear(x, W, at="gate.logits"), x @ W.T)
    np.testing.assert_array_equal(machine.linear(x, W, at="head.logits"), BF16.round(x) @ BF16.round(W).T)
    joined = machine.linear(x, W, at="mtp.join")
    np.testing.assert_array_equal(joined, BF16.round(BF16.round(x) @ BF16.round(W).T))
    np.testing.assert_array_equal(joined, Machine(precision="bf16").linear(x, W, at="mla.kv_up"))


@pytest.mark.parametrize("rows", [1, 3, 8, 40])
def test_a_row_does_not_depend_on_its_company(rows: int) -> None:
    x, W = draw(40, 96), draw(72, 96)
    machine = Machine(precision="fp8", block=B)
    few = machine.linear(x[:rows], W, at="mla.kv_up")
    if rows <= 8:
        np.testing.assert_array_equal(few[:1], machine.linear(x[:1], W, at="mla.kv_up"))


@pytest.mark.parametrize("turned", [False, True])
def test_rounding_in_place_is_the_formats_own(turned: bool) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, (300, 400), dtype=np.uint32)
    bits[0, :8] = (
        0x7FFFFFFF,
        0xFFFFFFFF,
        0x7F800001,
        0x7F800000,
        0x80000000,
        0x00008000,
        0x00018000,
        0x7F7FFFFF,
    )
    for x in (bits.view(np.float32), bits[:2, :9].view(np.float32), np.float32([[1.00390625, np.nan]])):
        expected = BF16.round(x)
        ours = x.copy()
        view = ours.T if turned else ours
        assert _round_in_place(view) is view
        np.testing.assert_array_equal(ours, expected)
        assert (np.signbit(ours) == np.signbit(expected)).all()


# ---- arrays that are rounded once -------------------------------------------------------------------------


def test_what_is_quantised_is_read_only_and_not_rounded_again() -> None:
    x, W = draw(40, 96), draw(72, 96)
    machine = Machine(precision="fp8", block=B)
    tiles = machine.quantise(x, at="mla.quantise_h")
    np.testing.assert_array_equal(tiles, eight(x, (1, B)))
    assert machine.quantise(tiles, at="mla.quantise_h") is tiles
    np.testing.assert_array_equal(
        machine.linear(tiles, W, at="mla.kv_up"), machine.linear(x, W, at="mla.kv_up")
    )
    np.testing.assert_array_equal(
        machine.linear(tiles[8:20], W, at="mla.kv_up"), machine.linear(x[8:20], W, at="mla.kv_up")
    )
    with pytest.raises(ValueError, match="read-only"):
        tiles[0, 0] = 1
    other = Machine(precision="fp8", block=B)  # another machine has not seen it
    assert other.quantise(tiles, at="mla.quantise_h") is not tiles


def test_columns_of_tiles_are_not_taken_for_tiles() -> None:
    machine = Machine(precision="fp8", block=B)
    tiles = machine.quantise(draw(40, 96), at="mla.quantise_h")
    part = np.ascontiguousarray(tiles[:, 5:69])
    W = draw(72, 64)
    np.testing.assert_array_equal(
        machine.linear(tiles[:, 5:69], W, at="mla.kv_up"), machine.linear(part, W, at="mla.kv_up")
    )


def test_marks_go_with_their_arrays() -> None:
    machine = Machine(precision="fp8", block=B)
    rounding = machine.quantise.func.__self__  # type: ignore[attr-defined]
    for seed in range(20):
        machine.quantise(draw(8, 32, seed=seed), at="mla.quantise_h")
    gc.collect()
    assert len(rounding._marks) == 0


def test_input_arrays_are_never_written_to(model: Model) -> None:
    before = model.parameters.buffer.copy()
    for precision in ("bf16", "fp8"):
        model.loss_and_gradients(TOKENS, 0.3, 0.01, machine=Machine(precision=precision))
        np.testing.assert_array_equal(model.parameters.buffer, before)


# ---- what waits for the backward, what travels ------------------------------------------------------------


def test_the_input_of_the_last_product_waits_in_e5m6() -> None:
    o, machine = draw(40, 96), Machine(precision="fp8", block=B)
    kept = machine.keep(o, at="mla.keep_o")
    np.testing.assert_array_equal(kept, eight(o, (1, B), "power-of-two", E5M6))
    W, d_u = draw(72, 96), draw(40, 72)
    _, d_W = machine.linear_backward(d_u, kept, W, at="mla.out")
    turned = eight(kept, (B, 1), "power-of-two")
    np.testing.assert_array_equal(d_W, eight(d_u, (B, 1)).T @ turned)


def test_swiglu_is_computed_again_from_what_was_kept() -> None:
    w, u, d_y = FFNWeights(draw(2 * 64, 96) / 50, draw(96, 64)), draw(40, 96), draw(40, 96, seed=1)
    machine = Machine(precision="fp8", block=B, trace=True)
    _, saved = ffn_forward(machine, u, w, DENSE)
    assert saved.activation is None
    both = machine.linear(u, w.W_gate_up, at="dense.gate_up")
    np.testing.assert_array_equal(saved.both, eight(both, (1, B)))
    start = len(machine.trace)
    _, d_w = ffn_backward(machine, d_y, saved)
    again = [row for row in machine.trace[start:] if row.direction == "fprop"]
    assert [(row.op, row.phase) for row in again] == [
        ("dense.swiglu", "backward"),
        ("dense.quantise_a", "backward"),
    ]
    gate, up = saved.both[:, :64], saved.both[:, 64:]
    with np.errstate(over="ignore"):
        a = BF16.round(gate / (1 + np.exp(-gate)) * up)
    expected = eight(d_y, (B, 1)).T @ eight(eight(a, (1, B)), (B, 1))
    np.testing.assert_allclose(d_w.W_down, expected, rtol=1e-2, atol=1e-2 * np.abs(expected).max())
    assert ffn_forward(Machine(), u, w, DENSE)[1].activation is not None


def test_dispatch_travels_in_fp8_and_combine_in_bf16_or_logfmt() -> None:
    plan = plan_dispatch(np.array([[0, 1], [1, 2], [0, 2], [2, 1]]), 3)
    x, y = draw(4, 96), BF16.round(draw(8, 96))
    machine = Machine(precision="fp8", block=B)
    copies = machine.dispatch(x, plan, at="experts.dispatch")
    np.testing.assert_array_equal(copies, eight(x, (1, B), "power-of-two")[plan.token])
    d_y = machine.combine_backward(x, plan, at="experts.combine")
    np.testing.assert_array_equal(d_y, copies)
    plain = machine.combine(y, plan, at="experts.combine")
    np.testing.assert_array_equal(plain, BF16.round(y[plan.place[:, 0]] + y[plan.place[:, 1]]))
    logfmt = Machine(precision="fp8-logfmt8").combine(y, plan, at="experts.combine")
    coded = LogFMT(bits=8).round(y)
    np.testing.assert_array_equal(logfmt, BF16.round(coded[plan.place[:, 0]] + coded[plan.place[:, 1]]))
    assert not np.array_equal(logfmt, plain)


# ---- the whole model --------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_every_result_is_in_its_format(model: Model, precision: str) -> None:
    machine = Machine(precision=precision, trace=True, keep="*")
    model.loss_and_gradients(TOKENS, 0.3, 0.01, machine=machine)
    rounded = [row for row in machine.trace if row.value is not None and row.formats[-1] == "bf16"]
    assert len({row.op for row in rounded}) > 20
    for row in rounded:
        assert row.value is not None
        values = row.value.view(np.float32) if row.value.dtype.kind == "c" else row.value
        np.testing.assert_array_equal(values, BF16.round(values), err_msg=row.op)


def test_an_fp8_step_names_the_format_of_every_linear(model: Model) -> None:
    machine = Machine(precision="fp8", trace=True)
    model.loss_and_gradients(TOKENS, 0.3, 0.01, machine=machine)
    linears = [row for row in machine.trace if "linear" in catalogue()[row.op].primitive]
    for row in linears:
        name, way = row.op.split(".")[0], row.direction
        if name == "gate":
            assert row.formats[:2] == ("fp32", "fp32")
        elif name in ("head", "mtp"):
            assert row.formats[:2] == ("bf16", "bf16")
        elif way in ("fprop", "dgrad"):
            assert row.stored[:2] == ("e4m3 1x32", "e4m3 32x32"), row.op
        elif way == "wgrad":
            assert row.stored == ("e4m3 32x1", "e4m3 32x1", "fp32"), row.op
        else:
            assert way == "quantise"
    assert {row.direction for row in linears} == {"fprop", "dgrad", "wgrad", "quantise"}


def test_fp8_rows_are_priced_at_the_fp8_peak_and_their_own_bytes() -> None:
    machine = Machine(precision="fp8", trace=True)
    x, W = draw(256, 512), draw(384, 512)
    machine.linear(x, W, at="mla.kv_down")
    row = machine.trace[0]
    assert row.bytes == {
        "activation": 256 * 512 + 4 * 256 * 4 + 2 * 256 * 384,
        "weight": 384 * 512 + 4 * 3 * 4,
    }
    large = Trace([_times(row, 10**6)])
    h800 = load_hardware("h800")
    assert bill(large, h800).total.seconds == large.matrix_flops / h800["chip.peak.fp8"].si
    half = Machine(precision="bf16", trace=True)
    half.linear(x, W, at="mla.kv_down")
    larger = Trace([_times(half.trace[0], 10**6)])
    assert bill(larger, h800).total.seconds == larger.matrix_flops / h800["chip.peak.bf16"].si


def _times(row: Any, factor: int) -> Any:
    """The row with so much more arithmetic that it is bound by it."""
    from dataclasses import replace

    return replace(row, matrix_flops=row.matrix_flops * factor)


def test_fp8_without_an_fp8_peak_cannot_be_priced() -> None:
    from minidsv3.hardware import read_hardware

    source = {"source": "x", "status": "assumed"}
    table = {
        "name": "no fp8",
        "chip": {
            "peak": {
                "bf16": {"value": 1, "unit": "TFLOPS", **source},
                "fp32": {"value": 1, "unit": "TFLOPS", **source},
            },
            "hbm": {"bandwidth": {"value": 1, "unit": "TB/s", **source}},
        },
    }  # fmt: skip
    machine = Machine(precision="fp8", trace=True)
    machine.linear(draw(4, 32), draw(8, 32), at="mla.kv_down")
    with pytest.raises(ValueError, match=r"expected a chip.peak.fp8 to price 'mla.kv_down'"):
        bill(machine.trace, read_hardware(table))


def test_losses_of_the_precisions_are_near(model: Model) -> None:
    losses = {
        name: model.loss_and_gradients(TOKENS, 0.3, 0.01, machine=Machine(precision=name))
        for name in ("fp32", "bf16", "fp8")
    }
    exact, gradients = losses["fp32"]
    size = float(np.linalg.norm(gradients.buffer))
    for name, near in (("bf16", 0.1), ("fp8", 0.4)):
        loss, rounded = losses[name]
        assert loss["main"] != exact["main"]
        assert abs(loss["main"] / exact["main"] - 1) < 1e-2
        assert 0 < float(np.linalg.norm(rounded.buffer - gradients.buffer)) < near * size, name


def test_the_block_follows_the_config(model: Model) -> None:
    machine = Machine(precision="fp8")
    assert machine.fp8_block == 128
    model.logits(TOKENS, machine)
    assert machine.fp8_block == model.config.fp8_block == 32
    fixed = Machine(precision="fp8", block=16)
    model.logits(TOKENS, fixed)
    assert fixed.fp8_block == 16


@pytest.mark.parametrize("accumulate", ["promoted", "hardware"])
def test_a_training_step_through_codes_and_scales(accumulate: str) -> None:
    config = ModelConfig.preset(
        "nano", dim=64, n_layers=2, vocab_size=64, inter_dim=64, moe_inter_dim=32, n_routed_experts=4,
        n_expert_groups=2, n_limited_groups=1, n_activated_experts=2,
    )  # fmt: skip
    stream = np.arange(400, dtype=np.int32) * 7 % 64
    reports, gradients = {}, {}
    for how in ("ideal", accumulate):
        plan = TrainConfig(steps=1, seq_len=16, batch_sequences=2, precision="fp8", accumulate=how)
        trainer = Trainer(config, plan, stream)
        reports[how], gradients[how] = trainer.step(), trainer.gradients.buffer.copy()
    ideal, summed = gradients["ideal"], gradients[accumulate]
    assert not np.array_equal(ideal, summed)
    apart = float(np.linalg.norm(ideal - summed) / np.linalg.norm(ideal))
    assert 0 < apart < 0.05, apart
    assert abs(reports["ideal"].losses["total"] / reports[accumulate].losses["total"] - 1) < 1e-3


def test_hardware_sums_lie_below_ideal_ones_of_positive_operands() -> None:
    x, W = np.abs(draw(16, 128)), np.abs(draw(24, 128))
    machines = (Machine(precision="fp8", accumulate=how) for how in ("ideal", "promoted", "hardware"))
    ideal, promoted, hardware = (machine.linear(x, W, at="mla.out") for machine in machines)
    assert (hardware <= ideal).all()
    assert (hardware < ideal).any()
    assert np.abs(promoted / ideal - 1).max() < 2**-8


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_moments_are_bf16_and_master_weights_are_not(precision: str) -> None:
    config = ModelConfig.preset("nano", dim=32, n_layers=1, vocab_size=32)
    plan = TrainConfig(steps=2, seq_len=8, batch_sequences=2, warmup_steps=1, precision=precision)
    trainer = Trainer(config, plan, np.arange(200, dtype=np.int32) % 32)
    trainer.step()
    trainer.step()
    for moments in (trainer.optimizer.m.buffer, trainer.optimizer.v.buffer):
        np.testing.assert_array_equal(moments, BF16.round(moments))
    for exact in (trainer.parameters.buffer, trainer.gradients.buffer):
        assert not np.array_equal(exact, BF16.round(exact))


def test_a_resumed_fp8_run_is_the_same_run(tmp_path: Any) -> None:
    config = ModelConfig.preset("nano", dim=32, n_layers=2, vocab_size=32)
    plan = TrainConfig(steps=4, seq_len=8, batch_sequences=2, warmup_steps=1, precision="fp8")
    stream = np.arange(200, dtype=np.int32) % 32
    whole = Trainer(config, plan, stream)
    for _ in range(2):
        whole.step()
    whole.save(tmp_path / "step-000002")
    resumed = Trainer.load(tmp_path / "step-000002", config, plan, stream)
    for trainer in (whole, resumed):
        trainer.step()
        trainer.step()
    np.testing.assert_array_equal(whole.parameters.buffer, resumed.parameters.buffer)


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_generation_in_a_precision(model: Model, precision: str) -> None:
    """Drafts change no token, and narrow copies of weights that are made once change no bit."""
    plain = model.generate([1, 2, 3], 12, machine=Machine(precision=precision))
    drafted = model.generate([1, 2, 3], 12, machine=Machine(precision=precision), speculative=True)
    assert plain.tokens == drafted.tokens
    machine = Machine(precision=precision)
    W = model.parameters.weights.layers[0].attention.W_O
    x = draw(1, W.shape[1])
    with machine.frozen_weights():
        once, twice = (machine.linear(x, W, at="mla.out") for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    changed = W + np.float32(0.01)
    after = machine.linear(x, changed, at="mla.out")
    np.testing.assert_array_equal(after, Machine(precision=precision).linear(x, changed, at="mla.out"))
    np.testing.assert_array_equal(once, machine.linear(x, W, at="mla.out"))
