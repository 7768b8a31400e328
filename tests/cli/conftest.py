from pathlib import Path

import pytest

TINY = [
    "dim=32",
    "inter_dim=48",
    "moe_inter_dim=16",
    "n_layers=2",
    "q_lora_rank=16",
    "kv_lora_rank=16",
    "qk_nope_head_dim=8",
    "qk_rope_head_dim=8",
    "v_head_dim=8",
    "vocab_size=320",
    "seq_len=32",
    "batch_sequences=2",
    "ramp_start_sequences=1",
    "checkpoint_every=2",
]
"""Fields of a model and a plan that train in no time."""


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few short files to learn from."""
    folder = tmp_path_factory.mktemp("text")
    for i in range(4):
        lines = [f"def scale_{i}_{j}(x):\n    return x * {j} + {i}\n\n" for j in range(40)]
        (folder / f"module_{i}.py").write_text("".join(lines))
    return folder


@pytest.fixture
def tiny_run(text_folder: Path) -> list[str]:
    """Arguments of a run that takes a second; --out and --steps are the test's."""
    return ["run", "--text", str(text_folder), "--set", *TINY]


@pytest.fixture(scope="session")
def finished_run(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is done."""
    from minidsv3.cli import main

    folder = tmp_path_factory.mktemp("finished") / "run"
    assert (
        main(["run", "--text", str(text_folder), "--set", *TINY, "--steps", "4", "--out", str(folder)]) == 0
    )
    return folder
