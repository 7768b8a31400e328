"""The author's rules: every lesson keeps them, and each of them speaks when it is broken."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from minidsv3.cli import COMMANDS
from minidsv3.cli import main as minidsv3
from minidsv3.learn.authoring import (
    HIDDEN,
    LEAST_WRONG,
    MOST_ELEMENTS,
    MOST_SECONDS,
    Caught,
    Finding,
    Report,
    examine,
    exercise,
    files,
    hidden,
    manifest,
    style,
)
from minidsv3.learn.authoring.runs import Run, plainly, played
from minidsv3.learn.authoring.text import is_telling, lines, names, numbers, words_of
from minidsv3.learn.checker import check
from minidsv3.learn.exercises import find_lesson, lessons
from minidsv3.learn.result import CheckResult, Counterexample, Outcome
from minidsv3.learn.sandbox.session import Warm


@pytest.fixture
def copy(tmp_path):
    """The first lesson, to be broken."""
    folder = tmp_path / "00_one_prediction"
    shutil.copytree(find_lesson("00").folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    table = folder / "lesson.toml"
    table.write_text(table.read_text().partition('"88.73"')[0])  # of a hint
    return replace(find_lesson("00"), folder=folder, hints=("Look.", "Compute.", "Write."))


def with_cells(copy, text):
    copy.path.write_text(text)
    return copy


def prose(copy, *said):
    """A lesson of some lines of prose."""
    return with_cells(copy, "\n".join(["# %% [markdown] Prose", *(f"# {line}" for line in said), ""]))


@pytest.mark.slow  # 40 s: every wrong solution of every lesson
@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.id)
def test_every_lesson_keeps_every_rule(lesson):
    (report,) = examine([lesson], COMMANDS)
    assert report.findings == ()
    assert len(report.caught) >= LEAST_WRONG
    assert all(one.by and one.elements <= MOST_ELEMENTS for one in report.caught)
    assert all(one.seconds <= MOST_SECONDS for one in report.caught)


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.id)
def test_text_and_manifest_keep_every_rule(lesson):
    found = [*files(lesson), *manifest(lesson), *lines(lesson), *names(lesson, COMMANDS), *numbers(lesson)]
    assert found == []


# ---- names and numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ("`minidsv3 chekc 00`", "`minidsv3 chekc`"),
        ("`minidsv3 check 98`", "lesson 98"),
        ("`minidsv3 lesson run 98`", "lesson 98"),
        ("`minidsv3 ops mla.kv_dwn`", "op 'mla.kv_dwn'"),
        ("`mla.kv_dwn` does it", "op 'mla.kv_dwn'"),
        ("see `minidsv3.numerics.mmma`", "`minidsv3.numerics.mmma`"),
        ("then `W_DKW h`, and W_DKW once more", "symbol W_DKW"),
        ("as eq. 77 says", "equation 77"),
        ("eqs. 2, 5 and 78", "equation 78"),
        ("Equation 79", "equation 79"),
        ("section 9.9.9 of the report", "section 9.9.9"),
    ],
)
def test_a_name_that_does_not_exist_is_told(copy, said, missing):
    found = list(names(prose(copy, "First.", said), COMMANDS))
    assert found
    assert {finding.says for finding in found} == {missing}
    assert {finding.where for finding in found} == {"lesson.py:3"}


@pytest.mark.parametrize(
    "said",
    [
        "`minidsv3 check 00`, `minidsv3 ops mla.out`, `minidsv3.numerics.mma`, `minidsv3.model.mla`",
        "eqs. 2 and 5, eq. 10, section 2.1.1, W_DKV, d_c_KV, q_R, d_h",
        "671 B of parameters, 70,272 bytes, 4096, 2^13, 0.03125, 61 layers of 7168, arXiv 2412.19437",
        "a file such as `a.b`, a number such as `3.14159`",
    ],
)
def test_names_and_numbers_of_the_package_are_known(copy, said):
    lesson = prose(copy, said)
    assert [*names(lesson, COMMANDS), *numbers(lesson)] == []


def test_strings_and_comments_are_read_too(copy):
    lesson = with_cells(
        copy,
        "# %% Code\nx = 12345  # 12,347 is no number of the data\n"
        'print(f"{x:7.3f} of 12,349", "gate.nothing")\n',
    )
    assert [word.text.strip() for word in words_of(lesson) if word.file == "lesson.py"] == [
        "Code",
        "# 12,347 is no number of the data",
        "of 12,349",
        "gate.nothing",
    ]
    assert [finding.says for finding in numbers(lesson)] == [
        "12,347 is not of the data",
        "12,349 is not of the data",
    ]
    assert [finding.says for finding in names(lesson)] == ["op 'gate.nothing'"]


def test_hints_and_stubs_are_read_too(copy):
    lesson = replace(prose(copy, "Prose."), hints=("Look at eq. 10.", "Then at W_DKW."))
    (copy.folder / "exercise.py").write_text('"""Exercise 00, by `minidsv3 chekc 00`; 12,347 rows."""\n')
    assert [(f.where, f.says) for f in [*names(lesson, COMMANDS), *numbers(lesson)]] == [
        ("hints.toml:2", "symbol W_DKW"),
        ("exercise.py:1", "`minidsv3 chekc`"),
        ("exercise.py:1", "12,347 is not of the data"),
    ]


def test_a_number_with_a_reason_is_left_alone_and_a_reason_without_number_is_not(copy):
    table = copy.folder / "lesson.toml"
    table.write_text(table.read_text() + '\n"12,347" = "an example"\n"12,349" = "another"\n')
    found = list(numbers(prose(copy, "12,347 tokens")))
    assert [finding.says for finding in found] == ["nothing says 12,349 any more"]


def test_a_lesson_ends_on_a_number_of_the_data(copy):
    lesson = replace(prose(copy, "Prose."), anchor="12,347 bytes")
    assert [finding.rule for finding in numbers(lesson)] == ["anchor"]


@pytest.mark.parametrize("word", ["7", "64", "0.5", "100", "4096", "65,536", "0.125", "2000"])
def test_small_and_round_numbers_tell_nothing(word):
    assert not is_telling(word)


# ---- files, manifest, stub ---------------------------------------------------------------------------------


def test_files_that_are_missing_or_in_the_way(copy):
    (copy.folder / "hints.toml").unlink()
    (copy.folder / "notes.txt").write_text("")
    assert [(f.where, f.says) for f in files(copy)] == [
        (copy.name, "hints.toml is missing"),
        ("notes.txt", "belongs to no lesson"),
    ]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"title": "A title that nobody can read at one glance any more"}, "manifest"),
        ({"minutes": 90}, "manifest"),
        ({"needs": ("05",)}, "order"),
        ({"id": "05"}, "order"),
        ({"op": "mla.nothing"}, "manifest"),
        ({"hints": ("only one",)}, "hints"),
        ({"functions": ("softmax", "another")}, "stub"),
    ],
)
def test_a_manifest_that_breaks_a_rule(copy, change, rule):
    assert [finding.rule for finding in manifest(replace(copy, **change))] == [rule]


def test_a_stub_says_where_to_write_and_has_the_solutions_parameters(copy):
    (copy.folder / "exercise.py").write_text("def softmax(x):\n    return x\n")
    assert [finding.says for finding in manifest(copy)] == [
        "nothing says where to write",
        "softmax(x); in solution.py (scores)",
    ]


def test_long_lines_and_cells_without_title(copy):
    copy.path.write_text("# %%\nx = 1\n" + "# " + "a" * 120 + "\n" + "x = 2\n" * 250)
    assert [finding.says for finding in lines(copy)] == [
        "253 lines",
        "begins or ends with code",
        "a cell without title",
    ]
    assert "122 columns" in [finding.says for finding in style(copy)]


# ---- runs --------------------------------------------------------------------------------------------------

RUN = """\
# %% Wide
print("x" * 81)
# %% Silent
x = 1
# %% Picture  show="heat_map:nothing"
print("a picture of nothing")
# %% Fails
print(1 / 0)
# %% Never reached
print(2)
"""


def test_what_cells_print_and_show(copy):
    found = played(with_cells(copy, RUN.replace(' show="heat_map:nothing"', ""))).findings
    assert [(f.where, f.says) for f in found] == [
        ("lesson.py:1", "prints 81 columns"),
        ("lesson.py:3", "shows nothing"),
        ("lesson.py:7", "ZeroDivisionError: division by zero"),
    ]


def test_a_lesson_may_lean_only_on_those_that_it_needs(copy):
    code = "# %% A\nfrom minidsv3.learn import lessons\n\nassert [x.id for x in lessons()] == {ids}\n"
    assert list(plainly(with_cells(copy, code.format(ids=["00"])))) == []
    (found,) = plainly(with_cells(copy, code.format(ids=["00", "05"])))
    assert found.says == "as plain Python: AssertionError"
    assert list(plainly(replace(with_cells(copy, code.format(ids=["00", "05"])), needs=("05",)))) == []


# ---- exercises ---------------------------------------------------------------------------------------------


PASSED = Outcome("value", "the value is right", "passed")
FAILED = Outcome("value", "the value is right", "failed", "yours and the expected differ")
NOT_LOADED = Outcome("loads", "the file loads", "failed", "raised ZeroDivisionError", "loads")


def judged(outcome, elements=1):
    """What a check could have said."""
    inputs = {"scores": np.zeros(elements)} if elements else None
    shown = Counterexample(inputs, None, None, (), "") if inputs else None
    return CheckResult("00", "", (outcome,), None, shown, (), None, None, None, "", 0.1)


@pytest.fixture
def examined(copy, monkeypatch):
    """What is found in an exercise whose files are checked as told."""

    def found(stub=FAILED, solution=PASSED, unlucky=PASSED, **wrong):
        said = {copy.stub: judged(stub), copy.solution: judged(solution)}
        shutil.rmtree(copy.folder / "wrong")
        (copy.folder / "wrong").mkdir()
        for name, result in wrong.items():
            said[source := f'"""Wrong: {name}."""\n'] = result
            (copy.folder / "wrong" / f"{name}.py").write_text(source)
        monkeypatch.setattr(
            "minidsv3.learn.authoring.check",
            lambda lesson, source, seed=0, **_: judged(unlucky) if seed == HIDDEN[-1][0] else said[source],
        )
        findings, caught = exercise(copy, None)
        return [(finding.where, finding.says) for finding in findings], [one.by for one in caught]

    return found


def test_wrong_solutions_that_are_caught(examined):
    caught = judged(FAILED, elements=MOST_ELEMENTS)
    assert examined(a=caught, b=caught, c=caught) == ([], ["value"] * LEAST_WRONG)


def test_a_stub_that_passes_and_a_solution_that_does_not(examined):
    found, _ = examined(stub=PASSED, solution=FAILED)
    assert found == [
        ("exercise.py", "the stub passes"),
        ("solution.py", "value: yours and the expected differ"),
        ("wrong/", "0 wrong solutions"),
    ]


def test_a_solution_that_fails_at_a_hidden_seed(examined):
    found, _ = examined(unlucky=FAILED)
    assert (
        "solution.py",
        "at hidden seed 3, axes up to 3 longer: value: yours and the expected differ",
    ) in found


def test_a_solution_is_tried_with_larger_inputs(copy):
    (copy.folder / "solution.py").write_text(
        copy.solution.replace("T = len(scores)", "T = min(len(scores), 4)")
    )
    with Warm() as worker:
        assert check(
            copy, copy.solution, worker=worker, replay=("shape", {"scores": np.zeros((4, 4), "f")})
        ).passed
        (found,) = hidden(copy, worker)
    assert found.rule == "hidden"
    assert "hidden seed 1, axes up to 2 longer: shape" in found.says


def test_wrong_solutions_that_escape(examined):
    large, unseen = judged(FAILED, elements=MOST_ELEMENTS + 1), judged(FAILED, elements=0)
    found, by = examined(broken=judged(NOT_LOADED), large=large, right=judged(PASSED), unseen=unseen)
    assert found == [
        ("wrong/broken.py", "does not load: raised ZeroDivisionError"),
        ("wrong/large.py", "its counterexample has 17 elements"),
        ("wrong/right.py", "passes"),
        ("wrong/unseen.py", "value shows no input"),
    ]
    assert by == ["loads", "value", "", "value"]


def test_a_wrong_solution_found_out_late(examined, monkeypatch):
    monkeypatch.setattr("minidsv3.learn.authoring.MOST_SECONDS", -1.0)
    found, _ = examined(slow=judged(FAILED))
    assert ("wrong/slow.py", "found out after 0.0 s") in found


# ---- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def one_report(monkeypatch):
    """A lesson that was examined a moment ago."""
    caught = Caught("no_maximum", "Exponentiates the scores as they are.", "rows_sum_to_one", 1, 0.25)

    def reported(findings=()):
        report = Report(find_lesson("00"), findings, (caught,), Run((), 1.5, 6))
        monkeypatch.setattr("minidsv3.learn.authoring.examine", lambda chosen, commands: iter([report]))

    return reported


def test_the_command_says_how_lessons_stand(capsys, one_report):
    one_report()
    assert minidsv3(["dev", "check", "00", "--wrong"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "00_one_prediction: ok; runs in 1.5 s, 6 pictures; 1 wrong solution, the slowest caught in 0.2 s",
        "  no_maximum: by rows_sum_to_one, 1 elements, 0.2 s",
    ]


def test_the_command_says_what_to_do(capsys, one_report):
    one_report((Finding("names", "lesson.py:3", "symbol W_DKW", "did you mean 'W_DKV'?"),))
    assert minidsv3(["dev", "check", "00"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == ["  names  lesson.py:3  symbol W_DKW", "    -> did you mean 'W_DKV'?"]
    assert minidsv3(["dev", "check", "00", "--json"]) == 1
    plain = json.loads(capsys.readouterr().out)
    assert (plain["schema"], plain["passed"]) == ("minidsv3.dev-check/1", False)
    (lesson,) = plain["lessons"]
    assert lesson["findings"][0]["do"] == "did you mean 'W_DKV'?"
    assert lesson["wrong"][0]["by"] == "rows_sum_to_one"


def test_the_command_refuses_unknown_lessons(capsys):
    assert minidsv3(["dev", "check", "98"]) == 2
    assert "expected a lesson, got '98'" in capsys.readouterr().err
