"""A model read piece by piece: the resident model's numbers, within a budget that forces evictions."""

import copy
import pickle
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import configs, parameters_of, rngs

from minidsv3 import Machine, Model, ModelConfig
from minidsv3.checkpoint import CheckpointError, open_folder, write_folder
from minidsv3.machine import RowBlocks
from minidsv3.machine.primitives import FEW
from minidsv3.model import mapped as mapped_file
from minidsv3.model.mapped import MappedParameters, stored_bytes
from minidsv3.model.memory import in_words, memory_bytes
from minidsv3.model.one_token import published_layout, token_reads, whole_model
from minidsv3.model.weight_cache import WeightCache

SETTINGS = settings(max_examples=12)
LAYOUTS = st.sampled_from(["float32", "bfloat16", "fp8"])
MACHINES = {
    "fp32": lambda: Machine(),
    "bf16": lambda: Machine(precision="bf16"),
    "fp8": lambda: Machine(precision="fp8"),
    "promoted": lambda: Machine(precision="fp8", accumulate="promoted"),
    "odd block": lambda: Machine(precision="fp8", block=5),
    "float64": lambda: Machine(dtype="float64"),
}


# the BLAS takes rows of W by four or eight: where blocks start at such rows, sums are the same bit for bit
EVEN = {"moe_inter_dim": 16, "inter_dim": 24, "fp8_block": 8, "n_mtp_layers": 1}
SHARES = st.floats(0.001, 0.9)


def both(
    config: ModelConfig, rng: np.random.Generator, weights: str, budget: float, folder: str
) -> list[Model]:
    """The same folder, resident and mapped.  budget: bytes, or below 1 a share of the model's."""
    parameters = parameters_of(config, rng, "float32")
    budget = int(budget) if budget >= 1 else max(int(budget * parameters.buffer.nbytes), 1)
    write_folder(folder, config, parameters, weights=weights)
    models = [Model.load(folder, memory="1GiB"), Model.load(folder, memory=budget)]
    assert models[0].mapped is None
    assert models[1].mapped is not None
    return models


# ---- the same numbers --------------------------------------------------------------------------------------


@SETTINGS
@pytest.mark.parametrize("machine", MACHINES)
@given(
    config=configs(**EVEN), rng=rngs, weights=LAYOUTS, budget=SHARES, tokens=st.integers(2, FEW)
)  # fmt: skip
def test_few_tokens_give_the_resident_models_bits(machine, config, rng, weights, budget, tokens):
    """One row at a time is multiplied by matrix-vector products: each row of W is summed by itself."""
    ids = rng.integers(0, config.vocab_size, (1, tokens))
    with tempfile.TemporaryDirectory() as folder:
        resident, mapped = both(config, rng, weights, budget, folder)
        expected = [resident.logits(ids, MACHINES[machine]()), *resident.mtp_logits(ids, MACHINES[machine]())]
        got = [mapped.logits(ids, MACHINES[machine]()), *mapped.mtp_logits(ids, MACHINES[machine]())]
        for a, b in zip(expected, got, strict=True):
            assert np.array_equal(a, b)


@SETTINGS
@given(configs(n_mtp_layers=1, fp8_block=3), rngs, LAYOUTS, SHARES)
def test_whole_sequences_give_the_resident_models_numbers(config, rng, weights, budget):
    """Not its bits: many rows are one matrix product, whose sums the BLAS orders by the sizes."""
    ids = rng.integers(0, config.vocab_size, (3, 20))
    with tempfile.TemporaryDirectory() as folder:
        resident, mapped = both(config, rng, weights, budget, folder)
        machine = Machine(dtype="float64")
        a, b = (model.logits(ids, machine) for model in (resident, mapped))
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        states = zip(resident.hidden_states(ids, machine), mapped.hidden_states(ids, machine), strict=True)
        assert all(np.allclose(x, y, rtol=1e-9, atol=1e-9) for x, y in states)


@SETTINGS
@given(
    configs(**EVEN), rngs, LAYOUTS, SHARES,
    st.sampled_from(
        [
            {}, {"attention": "naive"}, {"speculative": True}, {"cache": "bf16"},
            {"temperature": 0.7, "seed": 3}, {"speculative": True, "drafts": 3},
        ]
    ), st.sampled_from(["fp32", "bf16", "fp8"]),
)  # fmt: skip
def test_generation_is_the_same(config, rng, weights, budget, options, precision):
    prompt = rng.integers(0, config.vocab_size, (1, 5))
    with tempfile.TemporaryDirectory() as folder:
        resident, mapped = both(config, rng, weights, budget, folder)
        texts = [
            model.generate(prompt, 8, machine=Machine(precision=precision), **options)
            for model in (resident, mapped)
        ]
        assert texts[0].tokens == texts[1].tokens
        assert (texts[0].drafted, texts[0].accepted) == (texts[1].drafted, texts[1].accepted)


def test_states_begin_with_the_embedding_and_end_in_front_of_the_head():
    model = Model.initialise(ModelConfig.preset("nano"), seed=1)
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    states = model.hidden_states(ids)
    assert [state.shape for state in states] == [(2, 3, 128)] * (model.config.n_layers + 1)
    assert np.array_equal(states[0], model.parameters["model.embed_tokens.weight"][ids])
    head = model.parameters["lm_head.weight"]
    np.testing.assert_allclose(states[-1] @ head.T, model.logits(ids), rtol=1e-4, atol=1e-5)


def test_a_batch_of_prompts(tmp_path):
    rng = np.random.default_rng(0)
    resident, mapped = both(ModelConfig.preset("nano"), rng, "fp8", 1_000_000, str(tmp_path))
    prompts = rng.integers(0, 2048, (3, 4))
    assert resident.generate(prompts, 5).sequences == mapped.generate(prompts, 5).sequences


@SETTINGS
@given(configs(n_mtp_layers=1, fp8_block=3), rngs, LAYOUTS, st.sampled_from(["fp32", "fp8"]))
def test_a_trace_has_the_same_rows(config, rng, weights, precision):
    """But of copies that no product asked for: the resident model copies all experts, if it narrows them."""
    ids = rng.integers(0, config.vocab_size, (1, 6))
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for model in both(config, rng, weights, 0.2, folder):
            machine = Machine(precision=precision, trace=True)
            model.mtp_logits(ids, machine)
            rows.append([row for row in machine.trace if "copy" not in row.op])
        for a, b in zip(*rows, strict=True):
            assert (a.op, a.layer, a.expert, a.shapes) == (b.op, b.layer, b.expert, b.shapes)
            assert (a.matrix_flops, a.vector_flops) == (b.matrix_flops, b.vector_flops)
            if precision == "fp8" or weights == "float32":
                assert (a.bytes, a.stored) == (b.bytes, b.stored)


def test_a_trace_has_weights_as_the_files_have_them(tmp_path):
    _, model = both(ModelConfig.preset("nano"), np.random.default_rng(0), "fp8", 100_000, str(tmp_path))
    machine = Machine(trace=True)
    model.logits(np.array([[1, 2]]), machine)
    row, head = machine.trace.select("mla.out")[0], machine.trace.select("head.logits")[0]
    assert row.stored == ("float32", "e4m3 16x16", "float32")
    assert row.bytes["weight"] == 128 * 128 + 4 * 8 * 8
    assert head.stored[1] == "bf16"


def test_a_machine_goes_back_to_resident_weights(tmp_path):
    rng = np.random.default_rng(0)
    resident, mapped = both(ModelConfig.preset("nano"), rng, "bfloat16", 100_000, str(tmp_path))
    for precision in ("fp32", "fp8"):
        machine = Machine(precision=precision)
        first = resident.generate([1, 2, 3], 4, machine=machine).tokens
        assert mapped.generate([1, 2, 3], 4, machine=machine).tokens == first
        assert resident.generate([1, 2, 3], 4, machine=machine).tokens == first


# ---- in memory, or not -------------------------------------------------------------------------------------


def test_loading_reads_nothing_and_a_small_model_is_read_at_first_use(tmp_path, monkeypatch):
    config = ModelConfig.preset("nano")
    Model.initialise(config, seed=0).save(tmp_path, weights="fp8")
    read: list[str] = []
    own = mapped_file._Source.fill
    monkeypatch.setattr(mapped_file._Source, "fill", lambda *a: (read.append(a[1]), own(*a))[1])
    model = Model.load(tmp_path)
    assert "3,496,304 parameters" in repr(model)
    assert not read
    parameters = model.parameters
    assert sorted(read) == sorted(config.tensor_shapes())
    assert model.parameters is parameters
    parameters.buffer *= 2
    assert np.array_equal(
        model.parameters["lm_head.weight"], 2 * Model.load(tmp_path).parameters["lm_head.weight"]
    )


def test_gradients_of_a_model_that_does_not_fit_are_refused(tmp_path):
    _, model = both(ModelConfig.preset("nano"), np.random.default_rng(0), "fp8", 200 << 10, str(tmp_path))
    said = "within the memory for gradients, got one of 13.34 MiB in float32 and a budget of 200.00 KiB"
    with pytest.raises(ValueError, match=said):
        model.loss_and_gradients(np.arange(9).reshape(1, 9))
    with pytest.raises(ValueError, match="one array of all parameters"):
        model.parameters.buffer  # noqa: B018


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "fp8"])
def test_saving_goes_tensor_by_tensor(tmp_path, weights):
    resident, model = both(
        ModelConfig.preset("nano"), np.random.default_rng(0), "bfloat16", 9999, str(tmp_path / "a")
    )
    model.save(tmp_path / "b", weights=weights)
    resident.save(tmp_path / "c", weights=weights)
    assert model.parameters.ledger.peak == 0
    names = sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all((tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes() for name in names)


def test_reading_by_name(tmp_path):
    config = ModelConfig.preset("nano")
    resident, model = both(config, np.random.default_rng(0), "fp8", 9999, str(tmp_path))
    own = model.parameters
    assert list(own) == list(config.tensor_shapes())
    assert np.array_equal(own["lm_head.weight"], resident.parameters["lm_head.weight"])
    wide = own.astype("float64")
    assert wide["model.norm.weight"].dtype == np.float64
    assert own.astype("float32") is own
    assert wide.ledger is own.ledger


def test_weights_by_symbol_are_the_resident_ones(tmp_path):
    config = ModelConfig.preset("nano")
    resident, model = both(config, np.random.default_rng(0), "fp8", 50_000, str(tmp_path))

    def compare(a, b, skipped=()):
        for name, value in a._asdict().items():
            other = getattr(b, name)
            if hasattr(value, "_asdict"):
                compare(value, other)
            elif name == "layers" or name == "mtp":
                assert len(value) == len(other)
                for x, y in zip(value, other, strict=True):
                    compare(x, y)
            elif value is not None and value.ndim == 3 and name in ("W_gate_up", "W_down"):
                assert other.shape == value.shape
                assert all(np.array_equal(value[e], np.asarray(other[e])) for e in range(len(value)))
            elif value is not None:
                assert other.shape == value.shape
                assert np.array_equal(value, np.asarray(other))

    compare(resident.parameters.weights, model.parameters.weights)
    attention = model.parameters.weights.layers[-1].attention
    assert np.array_equal(attention.W_QR, resident.parameters.weights.layers[-1].attention.W_QR)
    with pytest.raises(IndexError):
        model.parameters.weights.layers[config.n_layers]


def test_what_was_read_is_counted(tmp_path):
    config = ModelConfig.preset("nano", n_mtp_layers=0)
    _, model = both(config, np.random.default_rng(0), "fp8", 4_000_000, str(tmp_path))
    own = model.parameters
    list(map(own.__getitem__, own))
    tensors = open_folder(tmp_path).tensors
    assert own.ledger.bytes_read == sum(tensor.stored_bytes for tensor in tensors.values())
    tensor = tensors["model.layers.0.mlp.gate_proj.weight"]
    assert stored_bytes(tensor, 0, tensor.shape[0]) == tensor.stored_bytes
    assert (tensor.block, stored_bytes(tensor, 0, 1), stored_bytes(tensor, 15, 17)) == (
        (16, 16), 128 + 4 * 8, 2 * (128 + 4 * 8)
    )  # fmt: skip
    before = own.ledger.bytes_read
    model.generate([3], 1)
    reads = token_reads(config, lambda name, shape: tensors[name].stored_bytes)
    assert own.ledger.bytes_read - before == reads.bytes
    scaled = ModelConfig.preset("nano", n_mtp_layers=0, fp8_block=16)
    assert published_layout(scaled)(tensor.name, tensor.shape) == tensor.stored_bytes


# ---- experts -----------------------------------------------------------------------------------------------


def test_only_chosen_experts_are_read(tmp_path):
    config = ModelConfig.preset("nano")
    _, model = both(config, np.random.default_rng(0), "fp8", 12_000_000, str(tmp_path))
    machine = Machine(trace=True, keep="gate.top_k")
    model.logits(np.array([[5]]), machine)
    rows = machine.trace.select("gate.top_k")
    chosen = {(row.layer, int(e)) for row in rows for e in row.value.ravel()}
    keys = {key[0] for key in model.parameters.cache.keys()}  # noqa: SIM118
    read = {(int(name.split(".")[2]), int(name.split(".")[5])) for name in keys if ".experts." in name}
    assert read == chosen


# ---- the cache ---------------------------------------------------------------------------------------------


@SETTINGS
@given(configs(n_mtp_layers=1, fp8_block=2), rngs, SHARES)
def test_what_is_held_stays_within_the_budget_or_is_one_piece(config, rng, budget):
    with tempfile.TemporaryDirectory() as folder:
        _, model = both(config, rng, "fp8", budget, folder)
        model.mtp_logits(rng.integers(0, config.vocab_size, (2, 6)))
        ledger, largest = model.parameters.ledger, max(4 * a.size for a in model.parameters.values())
        assert ledger.held <= ledger.peak <= max(ledger.budget, largest)
        assert ledger.misses - ledger.evictions == ledger.units == len(model.parameters.cache.keys())


@SETTINGS
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 6))
def test_the_least_recently_used_piece_goes(asked, fitting):
    cache, expected, misses = WeightCache(8 * fitting), [], 0
    for key in asked:
        misses += key not in expected
        expected = [*(other for other in expected if other != key), key][-fitting:]
        with cache.lend(key, (2,), "f4", lambda rows, key=key: rows.fill(key)) as rows:
            assert rows.tolist() == [key, key]
        assert cache.keys() == expected
    assert (cache.ledger.misses, cache.ledger.hits) == (misses, len(asked) - misses)
    assert cache.ledger.held == 8 * len(expected)


def test_memory_is_given_up_before_it_is_taken_and_passed_on(monkeypatch):
    taken: list[int] = []
    cache = WeightCache(100)
    empty = np.empty

    def counted(size, dtype):
        assert cache.ledger.held + size <= max(100, size)
        taken.append(size)
        return empty(size, dtype)

    monkeypatch.setattr("minidsv3.model.weight_cache.np.empty", counted)
    for key, size in [("a", 10), ("b", 10), ("c", 10), ("d", 5), ("e", 20)]:
        with cache.lend(key, (size,), "f4", lambda rows: rows.fill(1)):
            pass
    assert taken == [40, 40, 20, 80]  # c moved into a's memory
    with cache.lend("f", (50,), "f4", lambda rows: rows.fill(1)) as rows:  # larger than the budget: alone
        assert rows.size == 50
        assert cache.keys() == ["f"]


def test_what_is_held_is_never_reused():
    cache = WeightCache(16)
    kept = cache.hold("a", (4,), "f4", lambda rows: rows.fill(7))
    with cache.lend("b", (4,), "f4", lambda rows: rows.fill(1)):
        assert kept.tolist() == [7] * 4
    assert cache.keys() == ["b"]


def test_a_piece_that_fails_is_not_there():
    cache = WeightCache(64)

    def fail(rows):
        raise CheckpointError("no")

    for _ in range(2):
        with pytest.raises(CheckpointError), cache.lend("a", (4,), "f4", fail):
            pass
    assert cache.ledger.held == cache.ledger.units == 0
    with cache.lend("a", (4,), "f4", lambda rows: rows.fill(1)) as rows:
        assert rows.sum() == 4
    cache.clear()
    assert cache.keys() == []


def test_many_threads_get_right_numbers_from_a_small_cache():
    cache, made, lock = WeightCache(3 * 80), {}, threading.Lock()

    def fill(key, rows):
        with lock:
            made[key] = made.get(key, 0) + 1
        rows.fill(key)

    def work(seed):
        for key in np.random.default_rng(seed).integers(0, 8, 200).tolist():
            with cache.lend(key, (20,), "f4", lambda rows, key=key: fill(key, rows)) as rows:
                assert rows.tolist() == [key] * 20
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    assert cache.ledger.peak <= 240
    assert sum(made.values()) == cache.ledger.misses


def test_two_users_of_one_model_at_once(tmp_path):
    resident, model = both(
        ModelConfig.preset("nano"), np.random.default_rng(0), "fp8", 300_000, str(tmp_path)
    )
    expected = [resident.logits(np.array([[i]]), Machine()) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: model.logits(np.array([[i]]), Machine()), range(4)))
    assert all(np.array_equal(a, b) for a, b in zip(expected, got, strict=True))


def test_a_bad_scale_stops_both_threads(tmp_path):
    """Whichever thread meets it, the caller hears of it."""
    both(ModelConfig.preset("nano"), np.random.default_rng(0), "fp8", 40_000, str(tmp_path))
    scale = open_folder(tmp_path).tensors["model.layers.1.self_attn.o_proj.weight"].scale
    raw = bytearray(scale.path.read_bytes())
    raw[scale.offset + scale.nbytes - 4 : scale.offset + scale.nbytes] = np.float32(np.nan).tobytes()
    scale.path.write_bytes(raw)
    model = Model.load(tmp_path, memory=40_000)  # what was opened before is refused whole
    for _ in range(3):
        with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.o_proj"):
            model.logits(np.array([[1]]))


# ---- blocks ------------------------------------------------------------------------------------------------


def test_blocks_cover_a_matrix_and_start_at_multiples_inside_its_parts(tmp_path):
    config = ModelConfig.preset("nano", moe_inter_dim=80, fp8_block=32)
    parameters = parameters_of(config, np.random.default_rng(0), "float32")
    write_folder(tmp_path, config, parameters, weights="fp8", block=32)
    own = MappedParameters(config, open_folder(tmp_path).tensors, budget=8 * 20_000)
    matrix = own.weights.layers[1].ffn.W_gate_up[3]
    assert isinstance(matrix, RowBlocks)
    assert [(s.start, s.stop) for s in matrix.spans] == [
        (0, 32),
        (32, 64),
        (64, 80),
        (80, 112),
        (112, 144),
        (144, 160),
    ]
    assert matrix.format == ("e4m3", (32, 32))
    with pytest.raises(ValueError, match="expected rows of 128 numbers"):
        matrix.reshape(-1, 64)
    assert np.array_equal(
        matrix.each(lambda rows: 2 * rows).each(lambda rows: rows + 1).whole(), 2 * matrix.whole() + 1
    )
    stack = own.weights.layers[1].ffn.W_down
    assert (len(stack), stack.shape) == (16, (16, 128, 80))
    with pytest.raises(IndexError, match=r"expected an expert 0 \.\. 15, got 16"):
        stack[16]


# ---- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [("8GiB", 8 << 30), ("1.5 kb", 1500), ("12b", 12), ("7", 7), ("2TIB", 2 << 40), ("800MB", 800_000_000)],
)
def test_sizes_in_words(text, count):
    assert memory_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["", "GiB", "8Gi", "-1GB", "8 G iB", "1e3", "8iB", "0", "0.1b", "8GiBs", "9" * 400, True, None]
)
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="expected memory"):
        memory_bytes(text)


@given(st.integers(1, 2**50))
def test_words_read_back(count):
    assert abs(memory_bytes(in_words(count).removesuffix(" bytes").strip()) - count) <= 0.006 * count


def test_the_whole_of_a_few_layers_is_a_preset():
    few = ModelConfig.preset("v3", n_layers=2, n_dense_layers=1)
    assert whole_model(few) == ("v3", ModelConfig.preset("v3"))
    assert whole_model(ModelConfig.preset("v3")) is None
    assert whole_model(ModelConfig.preset("nano", dim=12)) is None


SMALL = ModelConfig.preset(
    "nano",
    vocab_size=60,
    n_layers=2,
    n_routed_experts=4,
    n_activated_experts=2,
    n_expert_groups=1,
    n_limited_groups=1,
)


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "fp8"])
def test_a_model_that_fits_is_saved_over_the_folder_it_came_from(tmp_path: Path, weights: str) -> None:
    Model.initialise(SMALL, seed=0).save(tmp_path / "m")
    Model.load(tmp_path / "m").save(tmp_path / "other", weights=weights)
    model = Model.load(tmp_path / "m")
    model.save(tmp_path / "m", weights=weights)
    for name, array in Model.load(tmp_path / "m").parameters.items():
        np.testing.assert_array_equal(array, Model.load(tmp_path / "other").parameters[name])
    with pytest.raises(ValueError, match="expected another folder"):
        Model.load(tmp_path / "m", memory=1000).save(tmp_path / "m", weights=weights)


def test_a_model_whose_folder_was_overwritten_is_refused(tmp_path: Path) -> None:
    """Not read: its numbers would be partly or wholly another model's."""
    Model.initialise(SMALL, seed=0).save(tmp_path)
    models = [Model.load(tmp_path), Model.load(tmp_path, memory=1000)]
    Model.initialise(SMALL, seed=1).save(tmp_path)
    for model in models:
        with pytest.raises(CheckpointError, match="as when opened"):
            model.logits(np.array([[1, 2, 3]]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_a_model_of_its_own(tmp_path: Path, copied: Callable[[Model], Model]) -> None:
    Model.initialise(SMALL, seed=0).save(tmp_path, weights="bfloat16")
    model, tokens = Model.load(tmp_path), np.array([[1, 2, 3]])
    assert model.folder is not None
    model.folder.tensors["model.norm.weight"].raw()
    other, before = copied(model), model.logits(tokens)
    np.testing.assert_array_equal(other.logits(tokens), before)
    other.parameters["lm_head.weight"][...] = 0
    assert not other.logits(tokens).any()
    assert not other.parameters.span("lm_head.weight", "lm_head.weight").any()
    np.testing.assert_array_equal(model.logits(tokens), before)
    with pytest.raises(TypeError, match="within its memory"):
        copied(Model.load(tmp_path, memory=1000))


def test_a_text_takes_no_room_for_what_the_config_would_allow() -> None:
    model = Model.initialise(replace(SMALL, max_seq_len=10**12), seed=0)
    plain = Model.initialise(SMALL, seed=0)
    for options in ({}, {"attention": "naive"}, {"speculative": True}):
        assert (
            model.generate([1, 2, 3], 5, **options).tokens == plain.generate([1, 2, 3], 5, **options).tokens
        )
