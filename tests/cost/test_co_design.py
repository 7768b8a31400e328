"""The co-design table: every figure calculated, and those that are known by hand come out."""

import json
from functools import lru_cache

import pytest

from minidsv3.config import ModelConfig
from minidsv3.cost.co_design import SAVINGS, Line, Place, co_design, drafts, node_limit
from minidsv3.cost.deployment import Sourced
from minidsv3.cost.phase_bill import phase_bill
from minidsv3.cost.scenarios import scenario_names
from minidsv3.cost.what_if import Effect
from minidsv3.hardware import load_hardware, with_values

V3, H800 = ModelConfig.preset("v3"), load_hardware("h800")


@lru_cache
def table() -> tuple[Line, ...]:
    return co_design(V3, H800)


def saved(name: str) -> Effect:
    return next(effect for line in table() for effect in line.saves if effect.name == name)


def test_every_saving_has_a_row_and_every_row_a_wish() -> None:
    assert len(table()) >= len(SAVINGS)
    for line in table():
        assert line.saves or line.unpriced, line.method
        assert line.would_save, line.method
        assert line.scenario.name in scenario_names()
        assert "arXiv" in line.source
        for effect in line.saves:
            assert effect.changed, (line.method, effect)


# name, before (without), after (with): what can be checked by hand
KNOWN = [
    ("cache of a token", 2 * 128 * 128 * 61 * 2, 70_272),
    ("parameters a token meets", 671_026_419_200, 37_552_297_472),
    ("copies over the network, against one a pick", 8 * 63 / 64, 3.46),
    ("the limit alone", 5.294678 * 7 / 8, 3.46),
    ("tokens of a request in a step", 1, 1.85),
    ("switches an endpoint", 5_120 / 65_536, 768 / 16_384),
    ("links an endpoint", 2, 1),
    ("median error, K = 4096, uniform", 0.0744, 0.00055),
    ("values changed by turning", 0.99, 0),
]


@pytest.mark.parametrize(("name", "before", "after"), KNOWN, ids=[row[0] for row in KNOWN])
def test_known_savings(name: str, before: float, after: float) -> None:
    assert saved(name).before == pytest.approx(before, rel=0.01)
    assert saved(name).after == pytest.approx(after, rel=0.01)


def test_savings_are_those_of_the_bills() -> None:
    for phase in ("train", "prefill", "decode"):
        bill = phase_bill(V3, H800, phase)
        assert saved(f"{phase}, seconds").before == bill.serial_seconds
        assert saved(f"{phase}, seconds").after == bill.overlapped_seconds
    train = phase_bill(V3, H800, "train")
    assert saved("training, computing").after == train.compute_seconds
    assert saved("training, communicating").after == train.communication_seconds
    assert 0.5 < saved("training, computing").ratio < 1  # twice the peak, but not everything is a product
    assert saved("network, dispatch").ratio == pytest.approx(1.03125 / 2)
    latent = saved("reading the cache, a decoding step")
    assert latent.after == phase_bill(V3, H800, "decode").kv_bytes / 3.35e12 * 4096 / 4097


def test_bandwidth_changes_seconds_alone() -> None:
    """Of the node limit: copies stay, seconds halve."""
    twice = with_values(H800, {"fabric.effective": "80GB/s", "node.nvlink.usable": "320GB/s"})
    slow, fast = node_limit(Place(V3, H800)), node_limit(Place(V3, twice))
    assert slow[:2] == fast[:2]
    assert fast[2].after == pytest.approx(slow[2].after / 2)


def test_inputs_come_with_their_source() -> None:
    with_inputs = [line for line in table() if line.inputs]
    assert with_inputs
    assert all(one.source for line in with_inputs for one in line.inputs.values())
    (effect,) = drafts(Place(V3, H800, {"acceptance": Sourced(0.5, "half", "assumed")}))
    assert effect.after == 1.5
    with pytest.raises(ValueError, match="expected an input 'acceptance'"):
        drafts(Place(V3, H800))


def test_what_a_row_lacks_is_named_with_its_method() -> None:
    with pytest.raises(ValueError, match=r"MLA: one latent a token.*deployment decode: expected at most"):
        co_design(ModelConfig.preset("nano"), H800)
    with pytest.raises(ValueError, match=r"MLA: one latent a token.*an-ai-pc"):
        co_design(V3, load_hardware("an-ai-pc"))


def test_plain_values() -> None:
    rows = json.loads(json.dumps([line.to_dict() for line in table()]))
    assert rows[0]["saves"][0] == {
        "name": "cache of a token",
        "unit": "B",
        "before": 3_997_696,
        "after": 70_272,
        "ratio": 70_272 / 3_997_696,
    }
