"""A student's functions called from here: what is remembered of them, and how long they are waited for."""

import numpy as np
import pytest

from minidsv3.learn import student
from minidsv3.learn.exercises import find_lesson
from minidsv3.learn.sandbox import Limits
from minidsv3.learn.sandbox.session import Ended, Warm
from minidsv3.learn.student import StudentCode

SCORES = np.zeros((1, 1), "f")


def test_one_that_is_slow_at_every_call_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(student, "MOST_WAITED", 0.5)
    source = "import time\n\ndef softmax(scores):\n    time.sleep(0.2)\n    return scores\n"
    with Warm() as warm, StudentCode(warm, find_lesson("00"), source, Limits(wall_seconds=0.5)) as code:
        for i in range(3):  # each within its time, and sessions are opened again
            code.ask("softmax", {"scores": SCORES + i})
        for _ in range(2):
            with pytest.raises(Ended, match=r"^ran longer than 0.5 s in all$"):
                code.ask("softmax", {"scores": SCORES})
        assert code.waited < 2


def test_large_answers_are_not_remembered():
    source = (
        "import numpy as np\n\ndef softmax(scores):\n    return np.zeros(int(scores[0, 0]), np.float32)\n"
    )
    with Warm() as warm, StudentCode(warm, find_lesson("00"), source) as code:
        for size in (8, 2**20):
            assert code.call("softmax", {"scores": SCORES + size}).value.shape == (size,)
        assert [answer.value.size for answer in code._known.values()] == [8]
