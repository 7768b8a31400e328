"""The training loop of `minidsv3 run`, and what is seen of it.

Ctrl-C is heard between two steps: the state is saved and the loop ends; a second Ctrl-C stops at once, and
the last checkpoint counts. A loss that is not a number and a disk that is full end the run with the last
good checkpoint kept.

Does: train, save, show progress on stderr. Does not: prepare (`run_preparing`), evaluate (`run_results`).

Next: minidsv3.cli.pricing
"""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

from rich.console import Console
from rich.live import Live

from minidsv3.cli import EnvironmentProblem
from minidsv3.cli.terminal import draws_in_place, word
from minidsv3.machine.crew import CrewFailed
from minidsv3.show.dashboard import View, dashboard, plain_line
from minidsv3.show.numbers import duration
from minidsv3.training import (
    Diverged,
    RunFolder,
    StepReport,
    Trainer,
)

__all__ = ["summary", "train"]

REDRAW_SECONDS = 0.4
PLAIN_LINES = 30  # a run prints about so many


# ---- the loop ---------------------------------------------------------------------------------------------


def train(run: RunFolder, trainer: Trainer, talk: Console) -> bool:
    """Train to the plan's end, or to Ctrl-C: False. Whatever happens, the run can be resumed."""
    first = trainer.steps_done
    try:
        with _Progress(run, trainer, talk) as progress, _interruptible() as asked:
            while not trainer.finished and not asked:
                report = trainer.step()
                run.append(report)
                progress.show(report)
                if trainer.steps_done % run.plan.checkpoint_every == 0 and not trainer.finished:
                    run.save(trainer)
            if not trainer.finished or trainer.steps_done > first:  # a damaged one of this step is replaced
                run.save(trainer)
    except Diverged as error:
        extension = run.facts.get("extension")
        command = f"minidsv3 run --extend {extension['of']}" if extension else "minidsv3 run"
        lower = f"{command} --set learning_rate={run.plan.learning_rate / 2:g}"
        advice = f"a resumed run takes the same steps and stops here again; try a lower rate: {lower}"
        raise EnvironmentProblem(f"training stopped: {error}\n{_what_is_kept(run)}; {advice}") from error
    except OSError as error:
        raise EnvironmentProblem(
            f"could not write to the run folder: {error}\n"
            f"{_what_is_kept(run)}; go on with: minidsv3 run --resume {word(run.whole)}"
        ) from error
    except CrewFailed as error:
        raise EnvironmentProblem(
            f"training stopped: {error}\n{_what_is_kept(run)}; "
            f"go on with: minidsv3 run --resume {word(run.whole)}"
        ) from error
    finally:
        trainer.close()
    return trainer.finished


def _what_is_kept(run: RunFolder) -> str:
    found = run.checkpoints()
    return f"the last good checkpoint is {found[-1]}" if found else "no checkpoint was written yet"


@contextlib.contextmanager
def _interruptible() -> Iterator[list[int]]:
    """A list that gets an entry at the first Ctrl-C, lest a step be cut in two; the second one raises."""
    asked: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        print("\nCtrl-C: saving after this step (once more: stop at once)", file=sys.stderr)

    try:
        before = signal.signal(signal.SIGINT, on_signal)
    except ValueError:  # not the main thread, where signals do not arrive anyway
        yield asked
        return
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


class _Progress:
    """Shows steps: a dashboard in place, or a line now and then."""

    def __init__(self, run: RunFolder, trainer: Trainer, talk: Console) -> None:
        self.run, self.trainer, self.talk = run, trainer, talk
        self.rows = run.metrics()
        self.every = max(1, run.plan.steps // PLAIN_LINES)
        self.shown = 0.0
        tokens = sum(len(ids) - 1 for ids in run.held_out())
        self.bytes_per_token = run.facts["held_out_bytes"] / max(tokens, 1)
        self.live = Live(console=talk, auto_refresh=False) if draws_in_place(talk) else None

    def __enter__(self) -> "_Progress":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            if self.rows:
                self.live.update(dashboard(self.view()), refresh=True)
            self.live.stop()

    def view(self) -> View:
        """The run as it stands."""
        schedule, plan = self.trainer.schedule, self.run.plan
        step = self.trainer.steps_done
        done = schedule.total_sequences if self.trainer.finished else int(schedule.consumed[step])
        left = (schedule.total_sequences - done) * plan.seq_len
        return View(
            self.rows,
            plan.steps,
            left,
            self.bytes_per_token,
            schedule.bias_speed(step - 1),
            str(self.run.path),
        )

    def show(self, report: StepReport) -> None:
        """Take a step's report; draw if it is time."""
        self.rows.append(report.to_dict())
        if self.live is None:
            if report.step % self.every == 0 or report.step in (1, self.run.plan.steps):
                self.talk.print(plain_line(self.view()))
        elif time.monotonic() - self.shown > REDRAW_SECONDS:
            self.live.update(dashboard(self.view()), refresh=True)
            self.shown = time.monotonic()


def summary(run: RunFolder) -> str:
    """One line behind the training."""
    rows = run.metrics()
    seconds = sum(row["seconds"] for row in rows)
    return f"trained {len(rows)} steps in {duration(seconds)}; main loss {rows[-1]['losses']['main']:.3f}"
