"""The whole model against `transformers`: one folder, the same numbers, forward, backward and decoding."""

import warnings

import numpy as np
import pytest

from minidsv3 import Model
from minidsv3.checkpoint import read_safetensors, write_safetensors
from minidsv3.inference import Decoder
from minidsv3.machine import Machine
from minidsv3.model.block import MoESaved, Options
from minidsv3.model.gate import route
from minidsv3.model.transformer import LossOptions, loss_forward, main_states

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from twins import (  # noqa: E402
    MOONLIGHT,
    PLAIN,
    TOLERANCE,
    V2,
    V2_LITE,
    YARN,
    Pair,
    assert_same_gradients,
    gradients_of,
    make_peer,
    published,
    randomise,
)

# changes of the config, and the range of the router biases: where all biased scores are negative, a masked
# fill with 0 instead of minus infinity would choose experts outside the kept groups
MODELS = {
    "plain": ({}, (-0.1, 0.1)),
    "negative biases": ({}, (-1.6, -0.9)),
    "moonlight": (MOONLIGHT, (-0.1, 0.1)),
    "yarn": ({"rope_parameters": YARN, "max_position_embeddings": 64}, (-0.1, 0.1)),
    "v2": (V2, (0.0, 0.0)),
    "v2-lite": (V2_LITE, (0.0, 0.0)),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory) -> Pair:
    return Pair(*MODELS[request.param], tmp_path_factory.mktemp("model"))


def test_logits(pair):
    ours = pair.ours.logits(pair.tokens[:, :-1])
    assert pair.logits.std() > 0.3  # not degenerate
    assert np.abs(ours - pair.logits).max() < TOLERANCE


def test_hidden_states_of_every_layer(pair):
    """In front of each block, and behind the final norm."""
    with torch.no_grad():
        theirs = pair.theirs(torch.tensor(pair.tokens[:, :-1]), output_hidden_states=True).hidden_states
    p, config = pair.ours.parameters, pair.ours.config
    main = main_states(Machine(), p.weights, pair.tokens[:, :-1], config, Options(), keep=True)
    ours = [*(block.x for block in main.blocks), main.h]
    assert len(ours) == len(theirs) == config.n_layers + 1
    for came, wanted in zip(ours, theirs, strict=True):
        assert np.abs(came - wanted.numpy().reshape(came.shape)).max() < TOLERANCE


@pytest.mark.parametrize("chunk", [3, 20])
def test_cache_contents(pair, chunk):
    """The latent behind its norm, and k_R, which their V3 class writes as two halves."""
    with torch.no_grad():
        theirs = pair.theirs(torch.tensor(pair.tokens[:1, :-1]), use_cache=True).past_key_values
    config, decoder = pair.ours.config, Decoder(Machine(), pair.ours.parameters)
    decoder.prefill(pair.tokens[:1, :-1], chunk)
    for layer in range(config.n_layers):
        ours = decoder.cache.latents(layer)[0, :20]  # [T, d_c + d_R]
        latent, k_R = ours[:, : config.kv_lora_rank], ours[:, config.kv_lora_rank :]
        if type(pair.theirs).__name__.startswith("DeepseekV3"):
            k_R = np.concatenate((k_R[:, ::2], k_R[:, 1::2]), axis=1)
        kept = theirs.layers[layer]
        assert np.abs(latent - kept.keys[0, 0].numpy()).max() < TOLERANCE
        assert np.abs(k_R - kept.values[0, 0].numpy()).max() < TOLERANCE


def test_choices_of_the_whole_model(pair):
    _, saved = loss_forward(Machine(), pair.ours.parameters, pair.tokens, LossOptions())
    ours = [block.ffn.routing for block in saved.main.blocks if isinstance(block.ffn, MoESaved)]
    pair.run(pair.tokens[:, :-1])
    assert len(ours) == len(pair.routed) == 2
    for routing, (_, _, weights, indices) in zip(ours, pair.routed, strict=True):
        _assert_same_routing(routing.indices, routing.weights, indices.numpy(), weights.numpy())
    assert len(np.unique(ours[0].indices)) > 6  # many experts are used


def test_choices_of_the_gate_alone(pair):
    pair.run(pair.tokens[:, :-1])
    for gate, scores, weights, indices in pair.routed:
        bias = gate.e_score_correction_bias.numpy() if pair.ours.config.has_router_bias else None
        routing = route(scores.numpy(), bias, pair.ours.config)
        _assert_same_routing(routing.indices, routing.weights, indices.numpy(), weights.numpy())


def _assert_same_routing(indices, weights, their_indices, their_weights) -> None:
    """The order of a token's experts is free, so each side is sorted by expert."""
    ours, theirs = indices.argsort(1), their_indices.argsort(1)
    np.testing.assert_array_equal(
        np.take_along_axis(indices, ours, 1), np.take_along_axis(their_indices, theirs, 1)
    )
    difference = np.take_along_axis(weights, ours, 1) - np.take_along_axis(their_weights, theirs, 1)
    assert np.abs(difference).max() < TOLERANCE


def test_loss_and_every_gradient(pair):
    losses, ours = pair.ours.loss_and_gradients(pair.tokens)
    pair.theirs.zero_grad()
    tokens = torch.tensor(pair.tokens)
    loss = pair.theirs(tokens, labels=tokens).loss
    loss.backward()
    assert abs(losses["main"] - float(loss.detach())) < TOLERANCE
    assert_same_gradients(ours, published(gradients_of(pair.theirs)))


@pytest.fixture(scope="module")
def greedy(pair) -> tuple[list[int], list[int]]:
    prompt = pair.tokens[:1, :9]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of generation flags that play no part
        came = pair.theirs.generate(
            torch.tensor(prompt),
            attention_mask=torch.ones(1, 9),
            max_new_tokens=32,
            do_sample=False,
            pad_token_id=0,
        )
    return prompt[0].tolist(), came[0, 9:].tolist()


@pytest.mark.parametrize("attention", ["naive", "absorbed"])
def test_greedy_tokens_through_the_cache(pair, greedy, attention):
    prompt, wanted = greedy
    assert list(pair.ours.generate(prompt, 32, attention=attention).tokens) == wanted
    assert len(set(wanted)) > 3  # no loop over one token


def test_greedy_tokens_by_full_recompute(pair, greedy):
    prompt, wanted = greedy
    tokens = list(prompt)
    for _ in range(32):
        tokens.append(int(pair.ours.logits([tokens])[0, -1].argmax()))
    assert tokens[len(prompt) :] == wanted


def test_what_we_save_is_loaded_there(pair, tmp_path):
    pair.ours.save(tmp_path)
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert type(loaded) is type(pair.theirs)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        logits = loaded(torch.tensor(pair.tokens[:, :-1])).logits.numpy()
    assert loaded.dtype == torch.float32
    np.testing.assert_allclose(logits, pair.logits, atol=TOLERANCE, rtol=0)


# ── multi-token prediction ──

DEPTH, LAMBDA = 2, 0.3


def published_mtp(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names of `MtpModel` -> names of layers after the last."""
    names: dict[str, np.ndarray] = {}
    for name, values in tensors.items():
        _, module, rest = name.split(".", 2)
        rest = rest.removeprefix("mtp_block.").replace("post_norm.", "shared_head.norm.", 1)
        names[f"model.layers.{PLAIN['num_hidden_layers'] + int(module)}.{rest}"] = values
    return published(names)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Their main model and two MTP modules, and ours, loaded from one folder with the published names."""
    from transformers.modeling_layers import MtpModel

    folder = tmp_path_factory.mktemp("mtp")
    main = make_peer({"num_nextn_predict_layers": DEPTH}, (-0.1, 0.1))
    mtp = MtpModel(main, DEPTH).eval()
    mtp.set_experts_implementation("eager")
    randomise(mtp.layers, (-0.1, 0.1))
    main.save_pretrained(folder)
    extra = {f"layers.{name}": values.numpy() for name, values in mtp.layers.state_dict().items()}
    file = folder / "model.safetensors"
    write_safetensors(file, {**read_safetensors(file), **published_mtp(extra)})
    return main, mtp, Model.load(folder)


def their_depths(main, mtp, tokens: "torch.Tensor") -> "list[torch.Tensor]":
    """Logits of the main head and of each depth; states are taken and passed on after their norms."""
    state = main.model(tokens, use_cache=False).last_hidden_state  # after model.norm
    logits = [main.lm_head(state)]
    for k in range(1, DEPTH + 1):
        ahead = tokens[:, k:]
        positions = torch.arange(ahead.shape[1])[None]
        state = mtp.forward_layer(k - 1, state[:, :-1], positions, None, input_ids=ahead)
        logits.append(main.lm_head(state))
    return logits


def test_logits_of_every_depth(modules):
    main, mtp, ours = modules
    tokens = np.random.default_rng(0).integers(0, PLAIN["vocab_size"], (2, 20))
    with torch.no_grad():
        theirs = their_depths(main, mtp, torch.tensor(tokens))
    for wanted, came in zip(theirs, [ours.logits(tokens), *ours.mtp_logits(tokens)], strict=True):
        assert came.shape == wanted.shape
        assert np.abs(came - wanted.numpy()).max() < TOLERANCE


def test_loss_and_every_gradient_with_all_depths(modules):
    main, mtp, ours = modules
    tokens = np.random.default_rng(0).integers(0, PLAIN["vocab_size"], (2, 21))
    losses, gradients = ours.loss_and_gradients(tokens, mtp_weight=LAMBDA)
    ids = torch.tensor(tokens)
    main.zero_grad()
    mtp.zero_grad()
    terms = []
    for k, logits in enumerate(their_depths(main, mtp, ids[:, :-1])):
        wanted = ids[:, k + 1 :].reshape(-1)
        summed = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted, reduction="sum")
        terms.append(summed / ids[:, 1:].numel())  # eq. 24 divides T - k terms by T
    total = terms[0] + LAMBDA / DEPTH * sum(terms[1:])
    total.backward()
    assert abs(losses["total"] - float(total.detach())) < TOLERANCE
    of_mtp = {f"layers.{name}": values for name, values in gradients_of(mtp.layers).items()}
    assert_same_gradients(gradients, published(gradients_of(main)) | published_mtp(of_mtp))


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_what_we_save_with_modules_is_loaded_there(modules, tmp_path, weights):
    """Their main model skips the modules, which stand behind its last layer under the published names."""
    main, _, ours = modules
    ours.save(tmp_path, weights=weights)
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager", dtype=torch.float32
    )
    assert not report["missing_keys"]
    behind = PLAIN["num_hidden_layers"]
    assert {layer(name) for name in report["unexpected_keys"]} == {behind, behind + 1}
    tokens = np.random.default_rng(0).integers(0, PLAIN["vocab_size"], (2, 20))
    with torch.no_grad():
        logits, before = loaded(torch.tensor(tokens)).logits, main(torch.tensor(tokens)).logits
    assert np.abs(Model.load(tmp_path).logits(tokens) - logits.numpy()).max() < TOLERANCE
    if weights == "float32":
        assert (logits - before).abs().max() < TOLERANCE


def layer(name: str) -> int:
    return int(name.split(".")[2])
