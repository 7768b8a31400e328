"""`minidsv3 reproduce`: all figures, some of them, one explained; exit codes; how long it takes."""

import dataclasses
import json
import resource
import subprocess
import sys

import pytest

from minidsv3.cli import main, reproduce
from minidsv3.cost import published
from minidsv3.cost.figures import KINDS
from minidsv3.cost.published import Recomputed, figures


def test_all_figures_come_out_or_are_shown_not_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "minidsv3.reproduce/1"
    assert len(said["figures"]) == len(figures()) == sum(said["counts"].values())
    assert said["counts"]["differs"] == 0
    derived = [one for one in said["figures"] if one["verdict"] == "equal" and not one["ours"]]
    assert len(derived) >= 70
    assert {"kv.ratio.llama", "flops.qwen", "flops.llama"} <= {
        one["id"] for one in said["figures"] if one["verdict"] == "contradicts"
    }


def test_the_table_tells_printed_computed_and_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "kv", "table4.mpft.mfu"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "kv.v3 70.272 KB 70.272 = equal arXiv 2505.09343, Table 1" in out
    assert "table4.mpft.mfu.causal 38.94 % 38.9418 = equal" in out
    assert "kv.ratio.llama 7.28x 7.3443 ! contradicts" in out
    assert "the two figures of the same table give 7.34" in out
    assert out.endswith("12 figures: 11 equal (4 of them ours), 1 contradicts")


def test_one_figure_is_explained_to_its_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "kv.v3", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "printed: 70.272 KB, rounded to the nearest: within 0.0005" in out
    assert "formula: layers x (d_c + d_R) x bytes a number" in out
    assert "minidsv3.cost.per_token.kv_bytes_per_token: Cache bytes of a token with MLA" in out
    assert "config = model:v3  [arXiv 2412.19437, abstract and section 4.2; report]" in out
    assert "number_bytes = 2  [the entry's formula; constant]" in out


def test_kinds_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.KINDS == KINDS
    assert main(["reproduce", "--kind", "contradicts", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {one["kind"] for one in said["figures"]} == {"contradicts"}
    assert said["counts"]["equal"] == 0


def test_screen_readers_get_sentences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    assert main(["reproduce", "kv.ratio.llama"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "printed 7.28x, computed 7.3443 x, does not follow from its own inputs: the two figures" in out
    assert main(["reproduce", "kv.v3", "--explain"]) == 0
    assert "With config = model:v3" in " ".join(capsys.readouterr().out.split())


def test_a_figure_that_does_not_come_out_is_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(figure: published.Figure) -> Recomputed:
        return dataclasses.replace(published_recompute(figure), computed=71_000, verdict="differs")

    published_recompute = published.recompute
    monkeypatch.setattr(published, "recompute", off)
    assert main(["reproduce", "kv.v3"]) == 1
    assert "X differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kv.v4"], "or a word of a title, got 'kv.v4': did you mean kv.v3"),
        (["mfus"], "expected a figure, the first part of some, or a word of a title, got 'mfus'"),
        (["--kind", "derived"], "invalid choice: 'derived'"),
    ],
)
def test_what_is_no_figure_is_exit_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", *words]) == 2
    assert said in capsys.readouterr().err


def test_it_takes_less_than_two_seconds() -> None:
    """Of processor time, imports included: what else runs on the machine is not its doing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys; from minidsv3.cli import main; sys.exit(main(['reproduce']))"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 2
