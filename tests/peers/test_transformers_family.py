"""YaRN in all its forms, published sizes, and routers, against the classes of `transformers`; and where they
are wrong, who is right.
"""

import numpy as np
import pytest

from minidsv3.checkpoint import to_hugging_face
from minidsv3.config import ModelConfig
from minidsv3.inference import Decoder
from minidsv3.machine import Machine
from minidsv3.model.gate import route
from minidsv3.model.rope import rotations

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from twins import (  # noqa: E402
    MOONLIGHT,
    TOLERANCE,
    V2,
    V2_LITE,
    YARN,
    Pair,
    assert_same_gradients,
    gradients_of,
    make_peer,
    published,
)

LONG = {"max_position_embeddings": 64}
BARE = {name: value for name, value in YARN.items() if not name.startswith(("mscale", "beta"))}
YARNS = {
    "factor 40 of 4 positions": YARN | {"factor": 40.0, "original_max_position_embeddings": 4},
    "factor 2.5": YARN | {"factor": 2.5},
    "factor 1": YARN | {"factor": 1.0},
    "theta 50000": YARN | {"rope_theta": 50000.0},
    "other betas": YARN | {"beta_fast": 4, "beta_slow": 0.25},
    "mscale above mscale_all_dim": YARN | {"mscale": 1.0, "mscale_all_dim": 0.3},
    "mscale below mscale_all_dim": YARN | {"mscale": 0.4, "mscale_all_dim": 2.0},
    "mscale alone": YARN | {"mscale": 0.7, "mscale_all_dim": 0.0},
    "mscale_all_dim alone": YARN | {"mscale": 0.0, "mscale_all_dim": 0.7},
    "nothing but factor and length": BARE,
    "attention_factor": YARN | {"attention_factor": 1.3},
    "not truncated": YARN | {"truncate": False},
}
FAMILY = {"v3": {}, "moonlight": MOONLIGHT, "v2": V2, "v2-lite": V2_LITE}


@pytest.fixture(scope="module", params=YARNS)
def yarn(request, tmp_path_factory) -> Pair:
    folder = tmp_path_factory.mktemp("yarn")
    return Pair(LONG | {"rope_parameters": YARNS[request.param]}, (-0.1, 0.1), folder)


def test_yarn_gives_their_logits_cached_keys_and_rotations(yarn):
    """Rotations as they have them, cos and sin scaled; logits; the cached k_R, theirs in two halves."""
    tokens, config = yarn.tokens[:1, :-1], yarn.ours.config
    assert np.abs(yarn.ours.logits(yarn.tokens[:, :-1]) - yarn.logits).max() < TOLERANCE
    with torch.no_grad():
        theirs = yarn.theirs(torch.tensor(tokens), use_cache=True).past_key_values.layers
        cos, sin = yarn.theirs.model.rotary_emb(torch.zeros(1), torch.arange(20)[None])
    ours = rotations(20, config.qk_rope_head_dim, config.rope_theta, config.rope_scaling, np.complex128)
    np.testing.assert_allclose(ours, (cos + 1j * sin)[0, :, : ours.shape[1]].numpy(), atol=2e-6)
    assert yarn.theirs.model.layers[0].self_attn.scaling == pytest.approx(config.softmax_scale, rel=1e-12)
    decoder = Decoder(Machine(), yarn.ours.parameters)
    decoder.prefill(tokens, 7)
    for layer, kept in enumerate(theirs):
        k_R = decoder.cache.latents(layer)[0, :20, config.kv_lora_rank :]
        halves = np.concatenate((k_R[:, ::2], k_R[:, 1::2]), axis=1)
        assert np.abs(halves - kept.values[0, 0].numpy()).max() < TOLERANCE


def test_yarn_gives_their_gradients(yarn):
    _, ours = yarn.ours.loss_and_gradients(yarn.tokens)
    yarn.theirs.zero_grad()
    tokens = torch.tensor(yarn.tokens)
    yarn.theirs(tokens, labels=tokens).loss.backward()
    assert_same_gradients(ours, published(gradients_of(yarn.theirs)))


def test_a_yarn_that_we_save_is_theirs(yarn, tmp_path):
    yarn.ours.save(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    with torch.no_grad():
        logits = loaded(torch.tensor(yarn.tokens[:, :-1])).logits.numpy()
    np.testing.assert_allclose(logits, yarn.logits, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", FAMILY)
def test_published_sizes_make_their_model(name):
    """Without memory for the weights: the class, the parameters it counts, the scale of its softmax."""
    config = ModelConfig.preset(name)
    table = to_hugging_face(config)
    theirs = transformers.AutoConfig.for_model(**table)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(theirs)
    assert [type(model).__name__] == table["architectures"]
    counted = sum(weight.numel() for weight in model.parameters())
    assert counted == config.parameter_counts()["trainable"]  # they count the biases as buffers
    assert model.model.layers[0].self_attn.scaling == pytest.approx(config.softmax_scale, rel=1e-12)
    assert model.model.rotary_emb.attention_scaling == 1


@pytest.mark.parametrize("name", ["v2", "v2-lite"])
def test_their_v2_never_renormalises(name):
    """Wrong of them where a config says norm_topk_prob: the code published with V2 divides by the sum, and so
    do we. No published V2 says it, and we write none that does.
    """
    model = make_peer(FAMILY[name] | {"norm_topk_prob": True, "routed_scaling_factor": 1.0}, (0, 0))
    gate = model.model.layers[1].mlp.gate
    with torch.no_grad():
        logits, weights, indices = gate(
            torch.tensor(np.random.default_rng(0).normal(size=(9, 32)), dtype=torch.float32)
        )
    assert float(weights.sum(1).max()) < 0.99  # shares of all experts, not of the chosen
    fields = {
        "n_routed_experts": 16, "n_activated_experts": 4, "n_expert_groups": 4, "n_limited_groups": 2,
        "route_scale": 1.0, "norm_topk_prob": True, "topk_method": gate.topk_method,
    }  # fmt: skip
    config = ModelConfig.preset("v2", **fields)
    ours = route(logits.numpy(), None, config)
    for row in range(9):
        chosen = dict(zip(indices[row].tolist(), weights[row].tolist(), strict=True))
        total = sum(chosen.values())
        wanted = {expert: weight / total for expert, weight in chosen.items()}
        came = dict(zip(ours.indices[row].tolist(), ours.weights[row].tolist(), strict=True))
        assert came == pytest.approx(wanted, abs=TOLERANCE)
    assert to_hugging_face(config)["model_type"] == "deepseek_v3"


def test_their_v3_never_reads_score_and_method():
    """It computes sigmoid and noaux_tc whatever the fields say; we compute what they say."""
    said = {"scoring_func": "softmax", "topk_method": "greedy"}
    plain, other = make_peer({}, (-0.1, 0.1)), make_peer(said, (-0.1, 0.1))
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(plain(tokens).logits, other(tokens).logits)
