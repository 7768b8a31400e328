"""Tiny random models of `transformers` and what compares them with ours: names, margins of the routing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidsv3 import Model
from minidsv3.config import ModelConfig

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
V2 = {
    "model_type": "deepseek_v2",
    "n_shared_experts": 2,
    "topk_method": "group_limited_greedy",
    "norm_topk_prob": False,
    "routed_scaling_factor": 16.0,
    "rope_parameters": YARN,
    "max_position_embeddings": 64,
}
V2_LITE = V2 | {
    "n_shared_experts": 1,
    "topk_method": "greedy",
    "q_lora_rank": None,
    "n_group": None,
    "topk_group": None,
    "routed_scaling_factor": 1.0,
    "rope_parameters": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707},
}


def make_peer(changes: dict[str, Any], biases: tuple[float, float]) -> "transformers.PreTrainedModel":
    """A tiny random model whose logits and routing are not degenerate."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    fields = PLAIN | changes
    v2 = fields.pop("model_type", "deepseek_v3") == "deepseek_v2"
    if v2:
        fields.pop("num_nextn_predict_layers")
    config = (transformers.DeepseekV2Config if v2 else transformers.DeepseekV3Config)(
        **fields, attn_implementation="eager"
    )
    made = transformers.DeepseekV2ForCausalLM if v2 else transformers.DeepseekV3ForCausalLM
    model = made(config).eval()
    model.set_experts_implementation("eager")
    randomise(model, biases)
    model.generation_config.eos_token_id = None  # 32 tokens, whatever they are
    return model


def randomise(module: "torch.nn.Module", biases: tuple[float, float]) -> None:
    """Gains around one, matrices that do not saturate, biases from a range."""
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
    """Every tensor's gradient, relative to its largest."""
    biases = {name for name in ours if name.endswith("e_score_correction_bias")}
    assert set(ours) - biases == set(theirs)
    for name, wanted in theirs.items():
        assert np.abs(ours[name] - wanted).max() <= TOLERANCE * np.abs(wanted).max(), name
    assert not any(ours[name].any() for name in biases)  # the choice passes no gradient
    assert sum(bool(wanted.any()) for wanted in theirs.values()) > 0.9 * len(theirs)


class Pair:
    """Their model, ours loaded from its folder, tokens whose routing is not close to a tie."""

    def __init__(self, changes: dict[str, Any], biases: tuple[float, float], folder: Path) -> None:
        self.theirs = make_peer(changes, biases)
        self.theirs.save_pretrained(folder)
        self.ours = Model.load(folder)
        gates = [module for path, module in self.theirs.named_modules() if path.endswith("mlp.gate")]
        self.routed: list[tuple] = []
        for gate in gates:
            gate.register_forward_hook(lambda gate, given, came: self.routed.append((gate, *came)))
        self.tokens = self._tokens_with_margin()

    def _tokens_with_margin(self) -> np.ndarray:
        enough = 1e-4 if self.ours.config.score_func == "sigmoid" else 1e-5  # of scores that sum to one
        for seed in range(200):
            tokens = np.random.default_rng(seed).integers(0, PLAIN["vocab_size"], (2, 21))
            self.logits = self.run(tokens[:, :-1])
            if min(margin(gate, scores, self.ours.config) for gate, scores, *_ in self.routed) > enough:
                return tokens
        raise AssertionError("no tokens whose routing has a margin")

    def run(self, tokens: np.ndarray) -> np.ndarray:
        """Their logits; `.routed` has what their gates did."""
        self.routed.clear()
        with torch.no_grad():
            return self.theirs(torch.tensor(tokens)).logits.numpy()


def margin(gate, logits: "torch.Tensor", config: ModelConfig) -> float:
    """How far the closest choice, of groups or of experts, is from falling out otherwise."""
    groups, kept, k = config.n_expert_groups, config.n_limited_groups, config.n_activated_experts
    choice = logits.sigmoid() if config.score_func == "sigmoid" else logits.softmax(-1)
    if config.topk_method == "noaux_tc":
        choice = choice + gate.e_score_correction_bias
    gaps = []
    if config.limits_groups:
        by_group = choice.reshape(len(choice), groups, -1)
        counted = 2 if config.topk_method == "noaux_tc" else 1
        best = by_group.topk(counted, -1).values.sum(-1).sort(-1, descending=True)
        gaps.append(best.values[:, kept - 1] - best.values[:, kept])
        chosen = best.indices[:, :kept, None].expand(-1, -1, by_group.shape[-1])
        choice = torch.gather(by_group, 1, chosen).reshape(len(choice), -1)
    inside = choice.sort(-1, descending=True).values
    if k < inside.shape[1]:
        gaps.append(inside[:, k - 1] - inside[:, k])
    return min(float(gap.min()) for gap in gaps)
