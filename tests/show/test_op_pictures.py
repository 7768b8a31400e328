"""Cards of ops: golden forms, and numbers that are those of the trace and its bill."""

from pathlib import Path

import numpy as np
import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg
from rich.console import RenderableType

from minidsv3.config import ModelConfig
from minidsv3.cost import bill
from minidsv3.hardware import load_hardware
from minidsv3.interpreter import Model
from minidsv3.learn.stepping.compare import difference
from minidsv3.machine import Event, Machine
from minidsv3.machine.watch import CodeLine
from minidsv3.show import plain_text
from minidsv3.show.numbers import duration
from minidsv3.show.op_card import OpCard, meaning, operands_of
from minidsv3.show.op_pair import OpPair, apart
from minidsv3.show.value import picture_of

GOLDEN = Path(__file__).parent / "golden"
CODE = CodeLine(
    "/somewhere/minidsv3/model/mla.py", 99, 'c_KV = machine.linear(h, w.W_DKV, at="mla.kv_down")', "_project"
)


def event(precision: str = "fp32") -> Event:
    """Of numbers that every machine has alike."""
    found: list[Event] = []
    h = np.round(np.sin(np.arange(12, dtype="f")), 2).reshape(3, 4)
    machine = Machine(precision=precision, watch=found.append, block=4)
    machine.linear(h, np.eye(4, dtype="f")[:3] / 4, at="mla.kv_down")
    return found[0]


def card(precision: str = "fp32", **options: object) -> OpCard:
    return OpCard(event(precision), load_hardware("h800"), so_far=1e-6, code=CODE, **options)  # type: ignore[arg-type]


def pair() -> OpPair:
    one, other = card(), card("fp8")
    words = apart(*difference(one.result, other.result)[:5])
    return OpPair((one, other), ("fp32", "fp8"), (one.result, other.result), words, ((), ("mla.quantise_h",)))


PICTURES: dict[str, RenderableType] = {
    "op_card": card(picture=picture_of("c_KV", event().result, axes=("N", "C")), heading="[7]"),
    "op_pair": pair(),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_as_they_were(name: str, width: int) -> None:
    check_golden(GOLDEN, name, PICTURES[name], width)
    check_ascii(PICTURES[name], width)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_stand_alone_as_svg(name: str) -> None:
    check_svg(PICTURES[name])


@pytest.mark.parametrize("precision", ["fp32", "fp8"])
def test_every_row_has_a_card_with_its_bill(precision: str) -> None:
    """Forward, backward, passes into tiles: a symbol for every array, sizes and times of the trace."""
    model = Model.initialise(ModelConfig.preset("nano", dim=32, vocab_size=64), seed=0)
    found: list[Event] = []
    machine = Machine(precision=precision, watch=lambda event: found.append(event._replace(outputs=())))
    model.loss_and_gradients([[1, 2, 3, 4]], 0.3, 0.01, machine=machine)
    hardware = load_hardware("h800")
    for one, line in zip(found, bill(machine.trace, hardware).lines, strict=True):
        made = OpCard(one, hardware)
        assert [operand.shape for operand in made.operands] == list(one.row.shapes)
        assert all(operand.symbol for operand in operands_of(one.row))
        assert made.line == line
        assert duration(line.seconds) in made.describe()


def test_meanings_are_of_this_symbol_here() -> None:
    assert meaning("W_DKV") == "down-projection to the latent of keys and values"
    assert meaning("[W_UK; W_UV]") == "up-projection to the keys; up-projection to the values"
    assert meaning("d_c_KV").startswith("gradient of latent")
    assert (meaning("g", ("N", "K")) != "", meaning("g", ("N", "M")), meaning("nonsense")) == (True, "", "")


def test_a_pair_says_alike_or_how_far() -> None:
    assert apart(4, 0, 0.0, 0.0, 0.0) == "all 4 numbers alike, bit for bit"
    same = OpPair((card(), card()), ("h800", "b200"), (event().result, event().result))
    assert same.picture is None
    assert "before it, fp8 alone: mla.quantise_h" in plain_text(pair(), 80)
