"""A model that does not fit its memory is stepped through as any other, and nothing is read in advance."""

from pathlib import Path

import numpy as np
import pytest

from minidsv3.config import ModelConfig
from minidsv3.interpreter import Model
from minidsv3.learn.stepping import Pass, Stepper

IDS = (1, 2, 3)
BUDGET = 200_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mapped") / "model"
    Model.initialise(ModelConfig.preset("nano", dim=64), seed=0).save(path, weights="fp8", block=32)
    return path


def test_the_first_stop_reads_the_rows_looked_up_alone(folder: Path) -> None:
    model = Model.load(folder, memory=BUDGET)
    assert model.mapped is not None
    with Stepper(Pass(model, IDS)) as stepper:
        first = stepper.into()
        assert first is not None
        read = model.mapped.ledger.bytes_read
        assert 0 < read <= 4 * len(IDS) * model.config.dim
        layer = stepper.out()
        assert layer is not None
        assert layer.row.layer == 0
        assert model.mapped.ledger.bytes_read < 2 * read  # no layer's weights yet


def test_values_are_those_of_the_model_in_memory(folder: Path) -> None:
    model = Model.load(folder, memory=BUDGET)
    with Stepper(Pass(model, IDS)) as stepper:
        stop = stepper.run_to("mla.kv_down[layer=1]")
        assert stop is not None
        kept = stepper.values(stop)
        assert [name for name, _ in kept.inputs] == [
            "h"
        ]  # of weights that a cache wants back nothing is held
        assert stop.row.stored[1] == "e4m3 32x32"
        while stepper.into() is not None:
            pass
        assert model.mapped is not None
        assert model.mapped.ledger.peak <= BUDGET
        logits = stepper.result
    assert logits.tobytes() == Model.load(folder, memory=BUDGET).logits(np.array([IDS])).tobytes()


def test_decoding_and_changes_work_too(folder: Path) -> None:
    model = Model.load(folder, memory=BUDGET)
    with Stepper(Pass(model, IDS, "decode", new=2)) as stepper:
        stepper.change("mla.softmax[layer=0] = 0")
        stop = stepper.run_to("mla.absorbed_values[layer=0]")
        assert stop is not None
        assert stop.stage == "token 2"
        assert not stepper.values(stop).result.any()
    with pytest.raises(ValueError, match="expected a model within its memory to train"):
        Pass(model, IDS, "train")
