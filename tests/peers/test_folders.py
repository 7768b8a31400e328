"""Folders that we write, loaded by `transformers`: the same logits, in all three formats of weights."""

import json

import numpy as np
import pytest
from checkpoint.oracle import by_oracle

from minidsv3 import Model, ModelConfig, TrainConfig
from minidsv3.checkpoint import open_folder, write_folder
from minidsv3.checkpoint.quantisation_config import weight_block
from minidsv3.training.trainer import Trainer

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")  # without which transformers takes no FP8

TOLERANCE = 2e-5
TINY = ModelConfig(
    vocab_size=97,
    dim=32,
    inter_dim=48,
    moe_inter_dim=16,
    n_layers=3,
    n_dense_layers=1,
    n_heads=4,
    n_routed_experts=8,
    n_shared_experts=1,
    n_activated_experts=3,
    n_expert_groups=2,
    n_limited_groups=1,
    route_scale=2.5,
    q_lora_rank=24,
    kv_lora_rank=16,
    qk_nope_head_dim=12,
    qk_rope_head_dim=8,
    v_head_dim=10,
    max_seq_len=64,
    n_mtp_layers=1,
    initializer_range=0.1,
    fp8_block=8,
)


def tiny(**changes) -> Model:
    model = Model.initialise(ModelConfig.from_dict(TINY.to_dict() | changes), seed=0)
    draw = np.random.default_rng(0)
    for view in model.parameters.values():
        if view.ndim == 1:
            view[...] += draw.uniform(-0.2, 0.2, view.shape)  # gains and biases that are not all alike
    return model


def trained_nano() -> Model:
    """What `minidsv3 run` keeps, after a few steps."""
    config = ModelConfig.preset("nano")
    plan = TrainConfig.preset("nano", steps=4, seq_len=32, batch_sequences=4, ramp_start_sequences=4)
    stream = np.random.default_rng(0).integers(0, config.vocab_size, 5000).astype(np.int32)
    trainer = Trainer(config, plan, stream)
    for _ in range(plan.steps):
        trainer.step()
    return Model(config, trainer.parameters)


def theirs(folder, weights: str) -> "transformers.PreTrainedModel":
    """Their model in float32.

    FP8 needs `dequantize=True` on a CPU and, as that passes over the dtype asked for where a weight is not
    FP8 (5.23), `float()`, which changes no number.
    """
    fp8 = {"quantization_config": transformers.FineGrainedFP8Config(dequantize=True)}
    loaded, report = transformers.DeepseekV3ForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        output_loading_info=True,
        attn_implementation="eager",
        **(fp8 if weights == "fp8" else {}),
    )
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    layers = {int(name.split(".")[2]) for name in report["unexpected_keys"]}
    assert layers <= {loaded.config.num_hidden_layers}  # the MTP module, which it has no place for
    loaded.set_experts_implementation("eager")
    return loaded.float().eval()


def their_logits(folder, weights: str, tokens: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return theirs(folder, weights)(torch.tensor(tokens)).logits.numpy()


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {"tiny": tiny(), "nano": trained_nano()}


def assert_same_logits(folder, model: Model, weights: str) -> None:
    tokens = np.random.default_rng(1).integers(0, model.config.vocab_size, (2, 20))
    ours = Model.load(folder).logits(tokens)
    assert ours.std() > 0.1
    assert np.abs(their_logits(folder, weights, tokens) - ours).max() < TOLERANCE
    moved = np.abs(ours - model.logits(tokens)).max()
    assert (moved == 0) == (weights == "float32")  # the narrower formats were really written


@pytest.mark.parametrize("name", ["tiny", "nano"])
@pytest.mark.parametrize("weights", ["float32", "bfloat16", "fp8"])
def test_a_folder_gives_the_same_logits_there(tmp_path, models, name, weights):
    models[name].save(tmp_path, weights=weights)
    assert_same_logits(tmp_path, models[name], weights)


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "fp8"])
def test_a_folder_of_many_files_gives_the_same_logits_there(tmp_path, models, weights):
    model = models["tiny"]
    write_folder(tmp_path, model.config, dict(model.parameters), weights, mtp_copies=True, shard_bytes=20_000)
    assert len(open_folder(tmp_path).files) > 5
    assert_same_logits(tmp_path, model, weights)


def test_what_transformers_says_of_its_fp8_is_read():
    said = transformers.FineGrainedFP8Config(weight_block_size=(64, 32)).to_dict()
    assert weight_block(json.loads(json.dumps(said)), "config.json") == (64, 32)


# ---- edge blocks that are not whole: what transformers gets wrong, and this package right ------------------


def assert_ours_are_exact(folder) -> None:
    for tensor in open_folder(folder).tensors.values():
        if tensor.dtype == "F8_E4M3":
            wanted = by_oracle(tensor.raw(), tensor.scale.read(), tensor.block)
            np.testing.assert_array_equal(tensor.read().view(np.uint32), wanted)


def test_sizes_like_576_in_blocks_of_128_are_refused_there(tmp_path):
    model = tiny()
    assert model.parameters["model.layers.0.self_attn.o_proj.weight"].shape == (32, 40)  # 3 blocks of 16
    model.save(tmp_path, weights="fp8", block=16)
    assert_ours_are_exact(tmp_path)
    with pytest.raises(RuntimeError, match="issues during automatic conversion"):
        theirs(tmp_path, "fp8")


def test_sizes_that_divide_by_chance_are_misread_there(tmp_path):
    """24 rows in blocks of 16 have two scales, which transformers takes for 12 rows each."""
    model = tiny(v_head_dim=12)
    model.save(tmp_path, weights="fp8", block=16)
    assert_ours_are_exact(tmp_path)
    name = "model.layers.0.self_attn.q_a_proj.weight"
    ours = open_folder(tmp_path).tensors[name].read()
    came = theirs(tmp_path, "fp8").get_parameter(name).detach().numpy()
    np.testing.assert_array_equal(came[:12], ours[:12])
    assert np.abs(came[12:16] - ours[12:16]).max() > 0.01 * np.abs(ours).max()
    np.testing.assert_array_equal(came[16:], ours[16:])
