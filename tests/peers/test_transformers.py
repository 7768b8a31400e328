"""The whole model against `transformers`: one folder, the same numbers, forward, backward and decoding."""

import warnings

import numpy as np
import pytest

from minidsv3 import Model
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
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:  # the norms' gains
                weight.uniform_(0.8, 1.2)
            else:
                weight.normal_(0, 0.3 if "gate.weight" in name else 0.1)
        for name, buffer in model.named_buffers():
            if "correction_bias" in name:
                buffer.uniform_(*biases)
    model.generation_config.eos_token_id = None  # 32 tokens, whatever they are
    return model


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


def their_gradients(pair) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradients of `transformers`, its stacked experts taken apart into the published names."""
    pair.theirs.zero_grad()
    tokens = torch.tensor(pair.tokens)
    loss = pair.theirs(tokens, labels=tokens).loss
    loss.backward()
    gradients: dict[str, np.ndarray] = {}
    for name, weight in pair.theirs.named_parameters():
        gradient = np.zeros(weight.shape, "f") if weight.grad is None else weight.grad.numpy()
        if ".experts." not in name:
            gradients[name] = gradient
            continue
        parts = {"down_proj": gradient}
        if name.endswith("gate_up_proj"):
            parts = dict(zip(("gate_proj", "up_proj"), np.split(gradient, 2, axis=1), strict=True))
        at = name.rpartition(".")[0]
        for part, stacked in parts.items():
            gradients |= {f"{at}.{expert}.{part}.weight": values for expert, values in enumerate(stacked)}
    return float(loss.detach()), gradients


def test_loss_and_every_gradient(pair):
    losses, ours = pair.ours.loss_and_gradients(pair.tokens)
    loss, theirs = their_gradients(pair)
    assert abs(losses["main"] - loss) < TOLERANCE
    biases = {name for name in ours if name.endswith("e_score_correction_bias")}
    assert set(ours) - biases == set(theirs)
    for name, wanted in theirs.items():
        assert np.abs(ours[name] - wanted).max() <= TOLERANCE * np.abs(wanted).max(), name
    assert not any(ours[name].any() for name in biases)  # the choice passes no gradient
    assert sum(bool(wanted.any()) for wanted in theirs.values()) > 0.9 * len(theirs)


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
