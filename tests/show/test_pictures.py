"""Golden renderings, and what holds for every picture: widths, ASCII, no colour, deterministic SVG."""

from pathlib import Path

import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg
from rich.console import RenderableType

from minidsv3.cost import Bill, bill
from minidsv3.hardware import load_hardware
from minidsv3.machine import Row, Trace
from minidsv3.show import Bar, Chips, Curve, Sparkline, Strip, plain_text
from minidsv3.show.chips import visible
from minidsv3.show.dashboard import View, dashboard, plain_line
from minidsv3.show.numbers import duration, flops, size
from minidsv3.show.tables import BillTable, RollUp, TraceTable

GOLDEN = Path(__file__).parent / "golden"


def example_bill() -> Bill:
    rows = [
        Row(
            op="experts.gate_up",
            phase="forward",
            layer=1,
            expert=3,
            shapes=((64, 128), (192, 128), (64, 192)),
            formats=("float32",) * 3,
            matrix_flops=3_145_728,
            bytes={"weight": 98_304, "activation": 81_920},
        ),
        Row(
            op="mla.kv_down",
            phase="forward",
            layer=0,
            shapes=((256, 128), (48, 128), (256, 48)),
            formats=("float32",) * 3,
            matrix_flops=3_145_728,
        ),
        Row(
            op="loss.main",
            phase="forward",
            shapes=((256, 2048), (256,), (256,)),
            formats=("float32", "int64", "float32"),
            vector_flops=2_621_440,
        ),
    ]
    return bill(Trace(rows), load_hardware("h800"))


def example_view() -> View:
    rows = [
        {
            "step": i,
            "losses": {
                "main": 8 - 0.5 * i,
                "mtp_1": 8.2 - 0.4 * i,
                "mtp_1_mean": 8.3 - 0.4 * i,
                "total": 9.0,
            },
            "gradient_norm": 1.25,
            "learning_rate": 0.004,
            "mtp_weight": 0.3,
            "sequences": 8,
            "tokens": 2048,
            "seconds": 0.25,
            "max_violation": [2.0 - 0.1 * i, 1.5],
            "loads": [[4, 8, 0, 4], [3, 5, 4, 4]],
        }
        for i in range(1, 9)
    ]
    return View(rows, 20, 24_576, 3.0, 0.01, "runs/nano-0")


PICTURES: dict[str, RenderableType] = {
    "bill": BillTable(example_bill(), rows=2),
    "trace": TraceTable(example_bill()),
    "roll_up": RollUp(example_bill()),
    "dashboard": dashboard(example_view()),
    "chips": Chips([b"def", b" f", b"(", b"x", b"):\n", b"    ", "図".encode()[:2], b"return"] * 3),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PICTURES)
def test_golden(name: str, width: int) -> None:
    check_golden(GOLDEN, name, PICTURES[name], width)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("width", WIDTHS)
def test_ascii_form(name: str, width: int) -> None:
    check_ascii(PICTURES[name], width)


@pytest.mark.parametrize("name", PICTURES)
def test_svg_stands_alone_and_is_deterministic(name: str) -> None:
    check_svg(PICTURES[name])


def test_text_is_never_markup() -> None:
    assert plain_text("[bold]x[/bold] :smile:", 60) == "[bold]x[/bold] :smile:"
    assert plain_text(Chips([b"[red]", b"[/red]"]), 60) == "│[red]│[/red]│"


def test_charts_of_nothing() -> None:
    assert Sparkline([]).text(plain=False) == ""
    assert Sparkline([2.0, 2.0]).text(plain=True) == "__"
    assert Strip([]).text(plain=False) == ""
    assert Strip([0, 0]).text(plain=False) == "  "
    assert Bar(7.0, width=3).text(plain=True) == "###"
    assert plain_text(Curve({"main": []}), 60)
    assert (
        Curve({"main": [2.0, 1.0]}, unit="nats").describe()
        == "main: first 2.000, lowest 1.000, last 1.000 nats"
    )


def test_plain_line_is_one_line() -> None:
    line = plain_line(example_view())
    assert "\n" not in line
    assert line.startswith("step 8/20  main 4.000  mtp_1 5.100")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (duration(0), "0 s"),
        (duration(2.5e-10), "0.25 ns"),
        (duration(1.5), "1.5 s"),
        (duration(89.6), "89.6 s"),
        (flops(999.6), "1.00 kFLOP"),
        (size(999), "999 B"),
        (size(1e21), "1000 EB"),
        (visible(b"\t"), "\\t"),
        (visible("é".encode(), plain=True), "\\xe9"),
    ],
)
def test_numbers_and_bytes(text: str, expected: str) -> None:
    assert text == expected
