"""What-ifs, co-design, comparisons as pictures: golden renderings, ASCII, SVG, words."""

from functools import lru_cache
from pathlib import Path

import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg
from rich.console import RenderableType

from minidsv3.config import ModelConfig
from minidsv3.cost.co_design import Line
from minidsv3.cost.compare import contenders
from minidsv3.cost.deployment import Deployment, Sourced
from minidsv3.cost.phase_bill import PhaseBill, price
from minidsv3.cost.scenarios import Beyond, Scenario
from minidsv3.cost.what_if import Effect, compare
from minidsv3.hardware import load_hardware, with_values
from minidsv3.machine import Row, Trace
from minidsv3.show import plain_text
from minidsv3.show.co_design_table import CoDesignTable, co_design_json
from minidsv3.show.contender_table import ContenderTable, contenders_json
from minidsv3.show.what_if_table import WhatIf, WhatIfCard, WhatIfList, amount, change, what_ifs_json

GOLDEN = Path(__file__).parent / "golden"
NANO, H800 = ModelConfig.preset("nano"), load_hardware("h800")
FORMATS = {"formats": ("e4m3", "e4m3", "bf16"), "blocks": ((1, 128), (128, 128), None)}
SHAPES = (4, 32_000), (31_250, 32_000), (4, 31_250)  # of the product: a weight of 10**9 values


def bill(bandwidth: str, sent: int) -> PhaseBill:
    """Three rows: a product, a norm, an exchange."""
    trace = Trace(
        [
            Row(
                "mla.out",
                "forward",
                layer=0,
                shapes=SHAPES,
                matrix_flops=10**13,
                bytes={"weight": 10**9},
                **FORMATS,
            ),
            Row("attn.norm", "forward", layer=0, vector_flops=10**9, bytes={"activation": 6 * 10**9}),
            Row("experts.dispatch", "communication", layer=0, formats=("e4m3",), bytes={"network": sent}),
        ]
    )
    hardware = with_values(H800, {"chip.hbm.bandwidth": bandwidth})
    deployment = Deployment("train", "train", 1, 4096, expert_parallel=64, overlap=True)
    return price(trace, NANO, hardware, deployment, "a model")


@lru_cache
def wishes() -> tuple[WhatIf, ...]:
    faster = Scenario(
        "faster-memory",
        "memory twice as fast",
        "twice the bandwidth of the memory, whatever it takes",
        "arXiv 2505.09343, 6.6",
        "train",
        set={"chip.hbm.bandwidth": "6.7TB/s"},
        assumed="twice",
        says="norms gain, products do not",
    )
    lighter = Scenario(
        "less-to-send",
        "half the bytes",
        "formats of eight bits on every wire",
        "arXiv 2505.09343, 3.2",
        "train",
        change=("fp8_combine",),
        today=("promote_partial_sums",),
    )
    before, figures = bill("3.35TB/s", 4 * 10**8), [Effect("bytes of a value", "B", 2, 1.03125)]
    errors = [Effect("relative RMS error", "share", 0.00166, 0.0257)]
    first = compare(before, bill("6.7TB/s", 4 * 10**8))
    second = compare(before, bill("3.35TB/s", 2 * 10**8), figures, errors)
    return WhatIf(faster, first), WhatIf(lighter, second)


@lru_cache
def co_design() -> CoDesignTable:
    scenario = wishes()[0].scenario
    saved = (Effect("cache of a token", "B", 3_997_696, 70_272), Effect("copies", "count", 7.875, 3.5))
    inputs = {"acceptance": Sourced(0.85, "5.4.3", "report")}
    lines = [
        Line(
            "the cache fills memory", "MLA: one latent a token", "arXiv 1", saved, "", scenario, saved[1:], {}
        ),
        Line(
            "the CPU stands between",
            "IBGDA",
            "arXiv 2",
            (),
            "no time is printed",
            scenario,
            saved[:1],
            inputs,
        ),
    ]
    return CoDesignTable(lines, "DeepSeek-V3", H800.name)


PICTURES: dict[str, RenderableType] = {
    "what_if": WhatIfCard(wishes()[1]),
    "what_ifs": WhatIfList(wishes(), [Beyond("a whole wafer", "6.6", "no number is given")]),
    "co_design": co_design(),
    "compare": ContenderTable(contenders(["v3", "v2", "llama-3.1-405b"])),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PICTURES)
def test_golden(name: str, width: int) -> None:
    check_golden(GOLDEN, name, PICTURES[name], width)
    check_ascii(PICTURES[name], width)


@pytest.mark.parametrize("name", PICTURES)
def test_svg(name: str) -> None:
    check_svg(PICTURES[name])


def test_amounts() -> None:
    written = {
        ("s", 0.0147571): "14.8 ms",
        ("B", 1.28125): "1.28 B",
        ("B", 70_272): "70.3 kB",
        ("FLOP", 3.7e24): "3.7e+24 FLOP",
        ("FLOP/s", 1.979e15): "1.98 PFLOP/s",
        ("B/s", 64e9): "64.0 GB/s",
        ("count", 671_026_419_200): "671B",
        ("count", 3.5): "3.5",
        ("count", 16_384): "16,384",
        ("share", 0.07436): "7.44 %",
        ("1/s", 3999.4): "3,999/s",
        ("USD", 5_576_000): "$5,576,000",
        ("h", 2_788_000): "2,788,000 h",
        ("days", 56.7): "56.7 days",
    }
    assert {key: amount(key[1], key[0]) for key in written} == written


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (2, 2, "same"),
        (1, 1.00001, "same"),
        (0, 0, "same"),
        (0, 1, "new"),
        (1, 0, "none left"),
        (112, 132, "+17.9 %"),
        (1, 4, "x 4"),
        (56.9, 1, "/ 56.9"),
        (2, 1, "-50.0 %"),
    ],
)
def test_changes(before: float, after: float, said: str) -> None:
    assert change(Effect("", "count", before, after)) == said


def test_words() -> None:
    card, all_of_them = WhatIfCard(wishes()[1]).describe(), WhatIfList(wishes()).describe()
    assert "bytes of a value: 2 B -> 1.03 B, -48.4 %." in card
    assert "before: promote partial sums: what a bill leaves out." in card
    assert "communicating: 10 ms -> 5 ms, -50.0 %." in card
    assert "faster-memory, memory twice as fast: phase train; seconds" in all_of_them
    assert "less-to-send, half the bytes" in all_of_them
    assert "relative RMS error 0.166 % -> 2.57 %" in all_of_them
    assert "cache of a token: 4.00 MB -> 70.3 kB, / 56.9" in co_design().describe()
    assert "IBGDA: no time is printed." in co_design().describe()
    words = ContenderTable(contenders(["v3", "llama-3.1-405b"])).describe()
    assert "LLaMA-3.1-405B: parameters 405.9B x 0.605" in words
    assert "GPU hours 30,840,000 h x 11.1" in words


def test_what_nobody_printed_is_a_dash() -> None:
    text = plain_text(ContenderTable(contenders(["v3", "v2"])), 80)
    assert "its training" in text
    assert any(line.startswith("GPU hours") and line.endswith("-") for line in text.splitlines())
    assert "its training" not in plain_text(ContenderTable(contenders(["v2", "nano"])), 80)


def test_plain_values() -> None:
    said = what_ifs_json(wishes(), [])
    assert said["what_ifs"][1]["errors"][0]["after"] == 0.0257
    assert said["what_ifs"][0]["scenario"]["set"] == {"chip.hbm.bandwidth": "6.7TB/s"}
    assert co_design_json(co_design())["rows"][1]["inputs"]["acceptance"]["value"] == 0.85
    models = contenders_json(ContenderTable(contenders(["v3"])))["models"]
    assert models[0]["model"]["cache of a token"] == {"value": 70_272, "unit": "B"}
