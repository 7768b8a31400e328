"""V3's true widths from a synthetic folder: memory within the budget and a gibibyte, right numbers."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidsv3 import Machine, Model, ModelConfig
from minidsv3.checkpoint import decode_blocks, open_folder
from minidsv3.checkpoint.synthesise import synthesise
from minidsv3.model.one_token import token_reads

GIB = 1 << 30
IDS = [0, 671, 6]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense layer, a MoE layer and the MTP module; most experts are holes, 5.3 GB on the disk."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    config = ModelConfig.preset("v3", n_layers=2, n_dense_layers=1)
    synthesise(folder, config, "fp8", fill="always", mtp_copies=False)
    yield folder
    for path in folder.iterdir():
        path.unlink()


def predict(folder: Path, *options: str) -> dict:
    """In a process of its own, whose peak is its own."""
    command = [sys.executable, "-m", "minidsv3", "predict", "--ids", ",".join(map(str, IDS)), "--json"]
    done = subprocess.run(
        [*command, "--model", str(folder), *options],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_peak_memory_is_the_budget_and_a_gibibyte_at_most(wide: Path) -> None:
    """A token through a dense layer, a MoE layer and the head; drafts through the MTP module too."""
    said = {memory: predict(wide, "--tokens", "2", "--memory", memory) for memory in ("512MiB", "2GiB")}
    said["bf16"] = predict(wide, "--tokens", "2", "--memory", "1GiB", "--precision", "bf16")
    said["drafts"] = predict(wide, "--tokens", "3", "--memory", "1GiB", "--speculative")
    for one in said.values():
        weights = one["weights"]
        assert weights["mapped"]
        assert weights["peak"] <= weights["budget"]
        assert weights["peak_memory"] <= weights["budget"] + GIB
    assert said["512MiB"]["ids"] == said["2GiB"]["ids"] == said["drafts"]["ids"][:2]
    # behind the prompt one token is read: dense layer, MoE layer with 8 of 256 experts, head
    config = open_folder(wide).config
    assert said["512MiB"]["weights"]["bytes_per_token"] == token_reads(config).bytes
    whole = said["2GiB"]["weights"]["whole"]
    v3 = ModelConfig.preset("v3")
    assert whole["layers"] == v3.n_layers
    assert whole["numbers_per_token"] == v3.parameter_counts()["active_without_embedding"] + v3.dim


@pytest.mark.slow
def test_an_expert_and_the_head_by_hand(wide: Path) -> None:
    """One expert, dequantised here in one go, and some of the head's rows, against the mapped model's."""
    model = Model.load(wide, memory="256MiB")
    tensors, rng = open_folder(wide).tensors, np.random.default_rng(0)
    u = rng.normal(size=(1, 7168)).astype(np.float32)
    machine = Machine()
    machine.follow(128, in_blocks=True)
    ffn = model.parameters.weights.layers[1].ffn
    both = machine.linear(u, ffn.W_gate_up[3])

    def by_hand(name: str) -> np.ndarray:
        weight = tensors[f"model.layers.1.mlp.experts.3.{name}_proj.weight"]
        return decode_blocks(np.array(weight.raw()), weight.scale.read(), (128, 128))

    gate, up = (u.astype(np.float64) @ by_hand(name).T.astype(np.float64) for name in ("gate", "up"))
    np.testing.assert_allclose(both, np.concatenate((gate, up), axis=1), rtol=1e-4, atol=1e-4)
    a = (gate / (1 + np.exp(-gate)) * up).astype(np.float32)
    down = machine.linear(a, ffn.W_down[3])
    np.testing.assert_allclose(down, a @ by_hand("down").T, rtol=1e-4, atol=1e-4 * float(np.abs(down).max()))

    logits = machine.linear(u, model.parameters.weights.head)
    head = tensors["lm_head.weight"]
    for first in (0, 64_000, 129_000):
        rows = head.read(slice(first, first + 280))
        np.testing.assert_allclose(logits[:, first : first + 280], u @ rows.T, rtol=1e-3, atol=1e-4)
    ids = np.array([5, 129_279, 5])
    assert np.array_equal(
        model.parameters.weights.embedding[ids], tensors["model.embed_tokens.weight"].read()[ids]
    )
    assert math.isfinite(float(np.abs(logits).sum()))
    assert model.parameters.ledger.peak <= 256 << 20
