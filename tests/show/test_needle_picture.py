"""Heat maps of needles and the table of positions, as pictures."""

from pathlib import Path

import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg

from minidsv3.show import plain_text
from minidsv3.show.context import PositionTable, context_page, context_picture
from minidsv3.show.needle import NeedleMap, NeedleMaps

GOLDEN = Path(__file__).parent / "golden"
LENGTHS, DEPTHS = [64, 128, 256, 512, 1024], [0.0, 0.5, 1.0]
BEFORE = [[1.0, 0.97, 0.75, 0.41, 0.0], [1.0, 1.0, 0.5, 0.12, 0.03], [0.94, 0.95, 0.94, 0.7, 0.69]]
AFTER = [[1.0, 1.0, 1.0, 1.0, 0.97], [1.0, 1.0, 0.97, 1.0, 1.0], [0.94, 1.0, 1.0, 1.0, 0.99]]


def maps(count: int = 2) -> NeedleMaps:
    found = [
        NeedleMap("as trained", 128, BEFORE),
        NeedleMap("YaRN, untrained", 128, AFTER),
        NeedleMap("after phase 1", 512, AFTER),
        NeedleMap("after phase 2", 1024, AFTER),
    ]
    return NeedleMaps(LENGTHS, DEPTHS, 32, 1 / 32, found[:count])


def positions() -> PositionTable:
    names = ["as trained", "YaRN, untrained", "after phase 1", "after phase 2"]
    bits = {name: [2.0 + 0.1 * i, 3.5 - 0.5 * i] for i, name in enumerate(names)}
    return PositionTable([0, 256, 1024], bits, {name: sum(bits[name]) / 2 for name in names})


def report() -> dict[str, object]:
    table = positions()
    phase = {"seq_len": 512, "steps": 40, "batch_sequences": 8, "learning_rate": 5e-4}
    phase |= {"first_losses": {"main": 1.5}, "last_losses": {"main": 1.25}}
    return {
        "extended": "runs/needle-0",
        "preset": "needle",
        "seed": 0,
        "source": "needles in haystacks, made for the run",
        "trained_seq_len": 128,
        "recipe": {"factor": 8.0, "beta_fast": 32, "beta_slow": 1, "phases": [phase]},
        "softmax_scale": {"before": 0.1581, "after": 0.2307},
        "phases": [phase],
        "positions": {"edges": table.edges, "bits_per_byte": table.bits, "overall": table.overall},
        "needle": maps().to_dict(),
        "wall": {"train": 61.0, "measure": 20.0},
    }


@pytest.mark.parametrize("width", WIDTHS)
def test_golden(width: int) -> None:
    check_golden(GOLDEN, "needle", maps(4), width)
    check_golden(GOLDEN, "context", context_picture(report()), width)


@pytest.mark.parametrize("width", [30, 40, *WIDTHS])
def test_every_width_and_ascii(width: int) -> None:
    for picture in (maps(), positions()):
        check_ascii(picture, width)
        assert all(len(line) <= width for line in plain_text(picture, width).splitlines())


def test_svg() -> None:
    check_svg(maps())
    check_svg(context_picture(report()))


def test_a_map_is_its_values_again() -> None:
    assert NeedleMaps.from_dict(maps(4).to_dict()) == maps(4)


def test_the_bar_stands_behind_the_longest_text_learned_from() -> None:
    head = plain_text(maps(4), 30, ascii_only=True).splitlines()
    assert any("64   128|" in line for line in head)
    untold = NeedleMaps([256], [0.0], 4, 1 / 32, [NeedleMap("short", 128, [[0.5]])])
    assert "|" not in plain_text(untold, 60, ascii_only=True).split("in %")[0]


def test_in_words() -> None:
    said = maps().describe()
    assert "as trained, learned from up to 128 tokens:" in said
    assert "256 tokens: 73.0 %; at least 50.0 %, at depth 50%" in said
    assert "as trained: 2.000 bits a byte at positions up to 256, 3.500 from 256 on, 2.750 in all" in (
        positions().describe()
    )


def test_the_page_has_the_curve() -> None:
    rows = [{"step": i, "losses": {"main": 2.0 - 0.1 * i}} for i in (1, 2, 3)]
    text = plain_text(context_page(report(), rows), 80)
    assert "training loss, all phases" in text
    assert "training 61 s, measuring 20 s" in text
