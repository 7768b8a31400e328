"""What the README shows is what the commands print."""

import re
from pathlib import Path

from minidsv3.learn.checker import check
from minidsv3.learn.exercises import find_lesson
from minidsv3.learn.panel import panel

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
AS_PRINTED = """
import numpy as np

def softmax(scores):
    later = np.triu(np.ones_like(scores, dtype=bool), 1)
    e = np.where(later, 0, np.exp(scores))
    return e / e.sum(axis=1, keepdims=True)
"""


def test_the_panel_is_what_check_prints() -> None:
    shown = re.search(r"```text\n(check 00.*?)\n```", README, re.DOTALL)
    assert shown is not None
    lines = panel(check(find_lesson("00"), AS_PRINTED), 80)
    shown_lines = [line for line in shown[1].split("\n") if not line.startswith("replay")]
    assert shown_lines == [line for line in lines if not line.startswith("replay")]
