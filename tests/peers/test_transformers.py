"""The whole model against `transformers`: one folder, the same numbers, forward, backward and decoding."""

import warnings

import numpy as np
import pytest

from minidsv3 import Model
from minidsv3.checkpoint import read_safetensors, write_safetensors
from minidsv3.machine import Machine
from minidsv3.model.block import MoESaved
from minidsv3.model.gate import route
from minidsv3.model.transformer import LossOptions, loss_forward

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 2e-5
PLAIN = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "first_k_dense_replace": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "n_group": 4,
    "topk_group": 2,
    "routed_scaling_factor": 2.5,
    "max_position_embeddings": 128,
    "num_nextn_predict_layers": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1}
YARN |= {"mscale": 1.0, "mscale_all_dim": 1.0, "rope_type": "yarn", "rope_theta": 10000.0}
MOONLIGHT = {
    "q_lora_rank": None,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 2.446,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
}
# changes of the config, and the range of the router biases: where all biased scores are negative, a masked
# fill with 0 instead of minus infinity would choose experts outside the kept groups
MODELS = {
    "plain": ({}, (-0.1, 0.1)),
    "negative biases": ({}, (-1.6, -0.9)),
    "moonlight": (MOONLIGHT, (-0.1, 0.1)),
    "yarn": ({"rope_parameters": YARN, "max_position_embeddings": 64}, (-0.1, 0.1)),
}


def make_peer(changes: dict[str, object], biases: tuple[float, float]) -> "transformers.PreTrainedModel":
    """A tiny random model whose logits and routing are not degenerate."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.DeepseekV3Config(**PLAIN | changes, attn_implementation="eager")
    model = transformers.DeepseekV3ForCausalLM(config).eval()
    model.set_experts_implementation("eager")
    randomise(model, biases)
    model.generation_config.eos_token_id = None  # 32 tokens, whatever they are
    return model


def randomise(module: "torch.nn.Module", biases: tuple[float, float]) -> None:
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim == 1:  # the norms' gains
                weight.uniform_(0.8, 1.2)
            else:
                weight.normal_(0, 0.3 if "gate.weight" in name else 0.1)
        for name, buffer in module.named_buffers():
            if "correction_bias" in name:
                buffer.uniform_(*biases)


def published(stacked: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Take the stacked experts of `transformers` apart into the published names."""
    tensors: dict[str, np.ndarray] = {}
    for name, values in stacked.items():
        if ".experts." not in name:
            tensors[name] = values
            continue
        parts = {"down_proj": values}
        if name.endswith("gate_up_proj"):
            parts = dict(zip(("gate_proj", "up_proj"), np.split(values, 2, axis=1), strict=True))
        at = name.rpartition(".")[0]
        for part, of_all in parts.items():
            tensors |= {f"{at}.{expert}.{part}.weight": of_one for expert, of_one in enumerate(of_all)}
    return tensors


def gradients_of(module: "torch.nn.Module") -> dict[str, np.ndarray]:
    """Gradients by the module's own names; zero where nothing arrived, as for an expert without tokens."""
    return {
        name: np.zeros(weight.shape, "f") if weight.grad is None else weight.grad.numpy()
        for name, weight in module.named_parameters()
    }


def assert_same_gradients(ours, theirs: dict[str, np.ndarray]) -> None:
    biases = {name for name in ours if name.endswith("e_score_correction_bias")}
    assert set(ours) - biases == set(theirs)
    for name, wanted in theirs.items():
        assert np.abs(ours[name] - wanted).max() <= TOLERANCE * np.abs(wanted).max(), name
    assert not any(ours[name].any() for name in biases)  # the choice passes no gradient
    assert sum(bool(wanted.any()) for wanted in theirs.values()) > 0.9 * len(theirs)


class Pair:
    """Their model, ours loaded from its folder, tokens whose routing is not close to a tie."""

    def __init__(self, name: str, folder) -> None:
        self.theirs = make_peer(*MODELS[name])
        self.theirs.save_pretrained(folder)
        self.ours = Model.load(folder)
        gates = [module for path, module in self.theirs.named_modules() if path.endswith("mlp.gate")]
        self.routed = []
        for gate in gates:
            gate.register_forward_hook(lambda gate, given, came: self.routed.append((gate, *came)))
        self.tokens = self._tokens_with_margin()

    def _tokens_with_margin(self) -> np.ndarray:
        for seed in range(100):
            tokens = np.random.default_rng(seed).integers(0, PLAIN["vocab_size"], (2, 21))
            self.logits = self.run(tokens[:, :-1])
            if min(margin(gate, scores, self.ours.config) for gate, scores, *_ in self.routed) > 1e-4:
                return tokens
        raise AssertionError("no tokens whose routing has a margin")

    def run(self, tokens: np.ndarray) -> np.ndarray:
        self.routed.clear()
        with torch.no_grad():
            return self.theirs(torch.tensor(tokens)).logits.numpy()


def margin(gate, scores, config) -> float:
    """How far the closest choice, of groups or of experts, is from falling out otherwise."""
    groups, kept, k = config.n_expert_groups, config.n_limited_groups, config.n_activated_experts
    choice = scores.sigmoid() + gate.e_score_correction_bias
    by_group = choice.reshape(len(choice), groups, -1)
    best = by_group.topk(2, -1).values.sum(-1).sort(-1, descending=True)
    gaps = [best.values[:, kept - 1] - best.values[:, kept]] if kept < groups else []
    chosen = torch.gather(by_group, 1, best.indices[:, :kept, None].expand(-1, -1, by_group.shape[-1]))
    inside = chosen.reshape(len(choice), -1).sort(-1, descending=True).values
    gaps.append(inside[:, k - 1] - inside[:, k])
    return min(float(gap.min()) for gap in gaps)


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp("model"))


def test_logits(pair):
    ours = pair.ours.logits(pair.tokens[:, :-1])
    assert pair.logits.std() > 0.3  # not degenerate
    assert np.abs(ours - pair.logits).max() < TOLERANCE


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
        routing = route(scores.numpy(), gate.e_score_correction_bias.numpy(), pair.ours.config)
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
    loaded, report = transformers.DeepseekV3ForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
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
