"""The examples run from a plain Python, and say what they promise."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("one_prediction_priced.py", ["c_KV (5, 48)", "NVIDIA H800", "experts.gate_up"]),
        ("decode_on_other_machines.py", ["NVIDIA H800 SXM", "bound by network", "tokens/s a GPU"]),
        pytest.param(
            *("train_on_your_text.py", ["step 60", "bits a byte", "accepted"]), marks=pytest.mark.slow
        ),
    ],
)
def test_example(name: str, said: list[str]) -> None:
    root = str(EXAMPLES.parent)
    code = f"import runpy, sys; sys.path.insert(0, {root!r}); sys.argv = [{name!r}]"
    code += f"; runpy.run_path({str(EXAMPLES / name)!r}, run_name='__main__')"
    command = [sys.executable, "-X", "utf8", "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in said), done.stdout


def test_every_example_is_tested() -> None:
    tested = {"decode_on_other_machines.py", "one_prediction_priced.py", "train_on_your_text.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested
