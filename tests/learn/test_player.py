"""Forward, back, and forward again: the state in front of a cell is always the same."""

import numpy as np
import pytest

from minidsv3.learn import snapshot
from minidsv3.learn.player import Player
from minidsv3.learn.snapshot import Snapshot

LESSON = """\
# %% [markdown] About
# Prose.

# %% Make
import numpy as np
from minidsv3 import Machine
x = np.arange(4.0)
view = x[1:]
rows = [1]
rng = np.random.default_rng(0)
machine = Machine(trace=True)

# %% Change
view += 10
rows.append(rng.integers(1000))
machine.linear(np.ones((2, 3)), np.ones((4, 3)), at="mla.out")
print(x, rows[0])

# %% Fail
x[:] = 0
1 / 0
"""


@pytest.fixture
def player():
    return Player.from_text(LESSON, "demo.py")


def state(player):
    names = player.namespace
    drawn = names["rng"].bit_generator.state["state"]
    return (
        names["x"].tolist(),
        names["view"].tolist(),
        list(names["rows"]),
        len(names["machine"].trace),
        drawn,
    )


def test_forward_says_what_a_cell_did(player):
    player.go(2)
    result = player.forward()
    assert (result.ok, result.title, result.output) == (True, "Change", "[ 0. 11. 12. 13.] 1\n")
    assert [row.op for row in result.rows] == ["mla.out"]
    assert result.changed == ["x", "view", "rows"]


def test_back_puts_arrays_views_lists_generators_and_traces_back_in_place(player):
    player.go(2)
    before, x = state(player), player.namespace["x"]
    after = (player.forward(), state(player))[1]
    player.back()
    assert state(player) == before != after
    assert player.namespace["x"] is x
    assert np.shares_memory(player.namespace["view"], x)
    player.forward()
    assert state(player) == after


def test_a_failing_cell_leaves_everything_as_it_was(player):
    player.go(3)
    before = state(player)
    result = player.forward()
    assert not result.ok
    assert player.position == 3
    assert state(player) == before
    assert result.error.splitlines()[1:] == [
        '  File "demo.py", line 21, in <module>',
        "    1 / 0",
        "    ~~^~~",
        "ZeroDivisionError: division by zero",
    ]


def test_go_stops_at_a_failing_cell(player):
    player.go(4)
    assert player.position == 3
    assert player.last is not None
    assert not player.last.ok


def test_rerun_starts_from_the_state_in_front_of_the_cell(player):
    player.go(3)
    after = state(player)
    assert player.rerun().output == "[ 0. 11. 12. 13.] 1\n"
    assert state(player) == after


def test_large_arrays_that_changed_are_made_again_by_running(player, monkeypatch):
    monkeypatch.setattr(snapshot, "LARGE", 8)
    player.go(2)
    before = state(player)
    player.forward()
    player.back()
    assert state(player) == before
    assert player.position == 2


def test_large_arrays_that_did_not_change_stay(monkeypatch):
    monkeypatch.setattr(snapshot, "LARGE", 8)
    names = {"x": np.arange(4), "n": 1}
    before = Snapshot(names)
    names["n"] = 2
    assert before.restore(names)
    assert names["n"] == 1


def test_what_cannot_be_looked_into_is_run_again():
    player = Player.from_text("# %% A\ng = iter([1, 2, 3])\n# %% B\nfirst = next(g)\n# %% C\nnext(g)\n")
    player.go(3)
    player.go(1)
    assert next(player.namespace["g"]) == 1


def test_objects_with_slots_and_attributes_go_back():
    class Slotted:
        __slots__ = ("inside", "n")

    class Plain:
        pass

    names = {"a": Slotted(), "b": Plain(), "c": {1, 2}}
    names["a"].n, names["a"].inside, names["b"].n = 1, [1], 1
    before = Snapshot(names)
    names["a"].n, names["b"].n, names["b"].new = 2, 2, 3
    names["a"].inside.append(2)
    names["c"] ^= {2, 3}
    assert before.restore(names)
    assert (names["a"].n, names["a"].inside, vars(names["b"]), names["c"]) == (1, [1], {"n": 1}, {1, 2})


def test_builtins_are_left_alone():
    names: dict[str, object] = {}
    exec("x = 1", names)
    before = Snapshot(names)
    assert before.restore(names)
    assert names["__builtins__"]["dict"] is dict  # type: ignore[index]


def test_sys_exit_and_syntax_errors_are_failing_cells():
    player = Player.from_text("# %% Leave\nraise SystemExit(0)\n", "demo.py")
    assert "SystemExit" in player.forward().error
    broken = Player.from_text("# %% Broken\n\nx = = 1\n", "demo.py").forward()
    assert 'File "demo.py", line 3' in broken.error


def test_variables_show_changed_ones_first(player):
    player.go(3)
    shown = player.variables()
    assert [v.name for v in shown] == ["x", "view", "rows", "rng", "machine"]
    assert [v.changed for v in shown] == [True, True, True, False, False]
    x = shown[0]
    assert (x.kind, x.shape, x.low, x.high, x.mean) == ("float64", (4,), 0.0, 13.0, 9.0)


def test_the_ends_are_told(player):
    player.back()
    assert player.position == 0
    with pytest.raises(ValueError, match=r"expected a cell 0 \.\. 4, got 8"):
        player.go(8)
    empty = Player.from_text("")
    with pytest.raises(ValueError, match="at its end"):
        empty.forward()


# ---- ops, pictures, expressions, a changed text -----------------------------------------------------------


def test_events_hold_copies_of_what_went_in_and_came_out(player):
    player.go(3)
    (event,) = player.last.events
    assert (event.op.id, [name for name, _ in event.inputs]) == ("mla.out", ["o", "W_O"])
    assert event.result.tolist() == [[3.0] * 4] * 2


def test_events_keep_their_rows_where_there_is_no_room_for_arrays(player, monkeypatch):
    monkeypatch.setattr("minidsv3.learn.player.MOST_COPIED", 8)
    player.go(3)
    (event,) = player.last.events
    assert (event.row.op, event.inputs, event.outputs) == ("mla.out", (), ())


def test_machines_of_earlier_cells_report_to_later_ones(player):
    player.go(3)
    player.back()
    assert [len(result.events) for result in player.results] == [0, 0]
    assert len(player.forward().events) == 1


def test_run_all_stops_at_the_first_failing_cell_and_can_go_back(player):
    told = []
    ran = player.run_all(told.append)
    assert [result.ok for result in ran] == [True, True, True, False]
    assert told == ran
    player.go(2)
    assert player.namespace["x"].tolist() == [0, 1, 2, 3]


def test_back_shows_what_the_cell_before_gave(player):
    player.go(3)
    player.back()
    assert player.last.title == "Make"
    player.back()
    player.back()
    assert player.last is None


def test_evaluate_leaves_everything_as_it_was_unless_asked(player):
    player.go(3)
    before = state(player)
    found = player.evaluate("(x.fill(1), rows.append(2), rng.integers(9), x.sum())[-1]")
    assert (found.text, found.ok, found.undone) == ("np.float64(4.0)", True, True)
    assert state(player) == before
    assert player.evaluate("y = 1; print('said')").text == "said\n"
    assert "y" not in player.namespace
    assert player.evaluate("x[0] = 8", keep=True).ok
    assert player.namespace["x"][0] == 8
    failed = player.evaluate("nothing")
    assert (failed.text, failed.ok) == ("NameError: name 'nothing' is not defined", False)


def test_a_changed_text_is_taken_from_the_first_cell_that_differs(player):
    player.go(3)
    assert player.change(LESSON.replace("# Prose.", "# Prose.\n# More.").replace("+= 10", "+= 20")) == 0
    player.go(3)
    assert player.namespace["x"].tolist() == [0, 21, 22, 23]
    assert player.change(LESSON.replace("# Prose.", "# Prose.\n# More.")) == 2
    assert player.forward().output == "[ 0. 11. 12. 13.] 1\n"
    with pytest.raises(ValueError, match="expected a cell marker"):
        player.change("x = 1")
    assert player.position == 3


def test_back_runs_again_from_the_nearest_snapshot_only(monkeypatch):
    text = (
        "# %% A\nran = []\n# %% B\ng = iter('abc')\nran.append('B')\n# %% C\nran.append(next(g))\n# %% D\n1\n"
    )
    player = Player.from_text(text)
    player.go(4)
    player.go(2)
    assert player.namespace["ran"] == ["B"]
    assert next(player.namespace["g"]) == "a"


def test_a_picture_that_is_not_there_fails_its_cell():
    result = Player.from_text('# %% A  show="heat_map:y"\nx = 1\n', "demo.py").forward()
    assert not result.ok
    assert result.error.startswith(
        "demo.py, line 1: show='heat_map:y': expected a name of the lesson, got 'y'"
    )
