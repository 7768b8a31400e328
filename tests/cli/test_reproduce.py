"""`minidsv3 reproduce`: all figures, some of them, one explained; exit codes; how long it takes."""

import dataclasses
import json
import resource
import subprocess
import sys
from typing import Any

import pytest

from minidsv3.cli import main, reproduce
from minidsv3.cost import published
from minidsv3.cost.figures import KINDS
from minidsv3.cost.published import VERDICTS, Recomputed, figures


def test_all_figures_come_out_or_are_shown_not_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "minidsv3.reproduce/1"
    assert len(said["figures"]) == len(figures()) == sum(said["counts"].values())
    assert said["counts"]["differs"] == 0
    assert all(
        said["ours"][verdict] + said["published"][verdict] == count
        for verdict, count in said["counts"].items()
    )
    assert said["ours"]["equal"] == sum(one["ours"] for one in said["figures"])
    derived = [one for one in said["figures"] if one["verdict"] == "equal" and not one["ours"]]
    assert len(derived) >= 70
    assert {"kv.ratio.llama", "flops.qwen", "flops.llama"} <= {
        one["id"] for one in said["figures"] if one["verdict"] == "contradicts"
    }


def test_the_table_tells_printed_computed_and_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "kv", "table4.mpft.mfu"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "kv.v3 KV cache a token, DeepSeek-V3 (MLA) 70.272 KB 70.272 = equal" in out
    assert "38.94 % 38.9418 = equal" in out
    assert "7.28x 7.3443 ! contradicts" in out
    assert "7.34x 7.3443 =* agrees, ours" in out
    assert "the two figures of the same table give 7.34" in out
    assert "12 figures: 7 published equal, 4 of ours agree, 1 contradicts its inputs legend" in out


def test_one_figure_is_explained_to_its_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "kv.v3", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "printed: 70.272 KB, rounded to the nearest: within 0.0005" in out
    assert "formula: layers x (d_c + d_R) x bytes a number" in out
    assert "minidsv3.cost.per_token.kv_bytes_per_token: Cache bytes of a token with MLA" in out
    assert "config = model:v3  [arXiv 2412.19437, abstract and section 4.2; report]" in out
    assert "number_bytes = 2  [the entry's formula; constant]" in out


def test_what_is_ours_is_stated_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "counts.v3.exact", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "stated here: 671,026,419,200" in out
    assert "verdict: agrees with what is stated here" in out
    assert "source: derived here, printed nowhere" in out
    assert "1 figure: 1 of ours agrees" in out


def _chosen(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main(["reproduce", *words, "--json"]) == 0
    figures: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["figures"]
    return figures


def test_kinds_and_verdicts_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert {*KINDS, *VERDICTS, "agrees"} == set(reproduce.KINDS)
    for word in ("constant", "measured", "equal", "contradicts", "corrected"):
        assert {one["verdict"] for one in _chosen(["--kind", word], capsys)} == {word}
    assert {one["kind"] for one in _chosen(["--kind", "derivable"], capsys)} == {"derivable"}
    assert {(one["verdict"], one["ours"]) for one in _chosen(["--kind", "agrees"], capsys)} == {
        ("equal", True)
    }
    assert _chosen(["--kind", "differs"], capsys) == []


def test_a_dot_behind_a_first_part_is_no_other_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert _chosen(["kv."], capsys) == _chosen(["kv"], capsys)
    assert _chosen(["kv.v3."], capsys) == _chosen(["kv.v3"], capsys)


def test_screen_readers_get_sentences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIDSV3_SCREEN_READER", "1")
    assert main(["reproduce", "kv.ratio.llama"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "printed 7.28x, computed 7.3443x, does not follow from its own inputs: the two figures" in out
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
        (
            ["--kind", "derived"],
            "got 'derived': did you mean 'derivable'? known: derivable, constant, measured",
        ),
        (["--kind", "correct"], "got 'correct': did you mean 'corrected'?"),
        ([""], "expected a figure or the first part of some, got '': without a name all are meant"),
        (["kv", "."], "expected a figure or the first part of some, got '.'"),
        ([" "], "expected a figure or the first part of some, got ' '"),
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
