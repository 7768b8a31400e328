"""The pages of `checkpoint`, in every form that a picture has."""

from pathlib import Path

import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg
from rich.console import RenderableType

from minidsv3.checkpoint.inspect import Finding, Inspection
from minidsv3.checkpoint.official import Parted
from minidsv3.checkpoint.safetensors import Coded, SafetensorsFile, write_safetensors
from minidsv3.checkpoint.stored import stored_tensors
from minidsv3.config import ModelConfig
from minidsv3.show.checkpoint_table import CheckpointPage, FactsPage, TensorList, beside

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RenderableType]:
    """A folder with findings, its tensors, and figures beside published ones."""
    import numpy as np

    path = tmp_path_factory.mktemp("one") / "model.safetensors"
    tensors = {
        "model.embed_tokens.weight": Coded(np.zeros((8, 4), np.uint16), "BF16"),
        "model.layers.0.self_attn.o_proj.weight": Coded(np.zeros((4, 4), np.uint8), "F8_E4M3"),
        "model.layers.0.self_attn.o_proj.weight_scale_inv": np.ones((1, 1), np.float32),
    }
    write_safetensors(path, tensors)
    held = {name: Parted(name, (tensor,)) for name, tensor in stored_tensors(SafetensorsFile(path)).items()}
    config = ModelConfig.preset("nano", vocab_size=8, n_layers=1, n_mtp_layers=0)
    findings = [Finding("missing", f"t{i}", "[4]", "none", "folder") for i in range(7)]
    quantisation = {"fmt": "e4m3", "weight_block_size": [32, 32]}
    found = Inspection(
        Path("folder"), "hugging-face", config, {"model.safetensors": 500}, held, quantisation, 1,
        ["a note"], findings,
    )  # fmt: skip
    figures = beside({"tensors": 3, "files": 1}, {"tensors": 3, "files": 2})
    return {
        "checkpoint": CheckpointPage(found),
        "checkpoint_tensors": TensorList(found.listed()),
        "checkpoint_figures": FactsPage("left in folder", {"files": "1"}, figures, ["a note"]),
    }


NAMES = ["checkpoint", "checkpoint_tensors", "checkpoint_figures"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, width: int, pages: dict[str, RenderableType]) -> None:
    check_golden(GOLDEN, name, pages[name], width)
    check_ascii(pages[name], width)


@pytest.mark.parametrize("name", NAMES)
def test_svg(name: str, pages: dict[str, RenderableType]) -> None:
    check_svg(pages[name])


@pytest.mark.parametrize("name", NAMES)
def test_words(name: str, pages: dict[str, RenderableType]) -> None:
    said = pages[name].describe()  # type: ignore[union-attr]
    assert "----" not in said
    assert len(said) > 40
