"""The folder of a run: everything needed to go on after a kill, and what the run leaves behind.

    run.json          model, plan, text's source, held-out names; written last, before step 1
    tokenizer.json    as Hugging Face's `tokenizers` reads it
    data.safetensors  the packed stream, held-out ids and where each held-out document begins
    metrics.jsonl     one JSON object a step
    checkpoints/step-000100/   the trainer's state; the last two are kept
    start/            the weights it begins from, where these are not random ones
    phase-1/, -2/     of a context extension: a run for each phase, whole in itself
    model/            the finished model in Hugging Face's layout; report.txt, report.svg, report.json

A folder with a run.json can be resumed with nothing else at hand. A checkpoint is there whole or not at
all, and the newest whole one counts; what metrics.jsonl says of later steps is dropped, for these steps run
again.

Does: layout, reading, writing, choosing checkpoints. Does not: train, report.

    >>> free_run_path("no/such/folder", "nano").as_posix()
    'no/such/folder/nano-0'

Next: minidsv3.training.extension
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint import read_folder, read_safetensors, replacing, write_folder, write_safetensors
from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.model.parameters import Parameters
from minidsv3.tokenizer import Tokenizer
from minidsv3.training.preparation import Prepared
from minidsv3.training.trainer import StepReport, Trainer

__all__ = ["RunFolder", "check_new", "free_run_path", "newest_run"]

SCHEMA = "minidsv3.run/1"
START = "start"  # the weights to begin from
KEPT = 2  # checkpoints
_STEP = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class RunFolder:
    """A run on disk.  facts: what run.json says beside model and plan."""

    path: Path
    config: ModelConfig
    plan: TrainConfig
    facts: dict[str, Any]

    # ---- making and opening ----

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        config: ModelConfig,
        plan: TrainConfig,
        tokenizer: Tokenizer,
        data: Prepared,
        facts: Mapping[str, Any],
        start: Parameters | None = None,
    ) -> Self:
        """Make the folder of a new run; it must not exist, or be empty.

        facts: plain values for run.json; start: weights to begin from, in place of random ones.
        """
        self = cls(Path(path), config, plan, dict(facts) | {"held_out_names": data.held_out_names})
        check_new(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            if start is not None:
                write_folder(self.path / START, start.config, dict(start))
            self._write_start(tokenizer, data)
        except (
            BaseException
        ):  # a full disk, Ctrl-C: half a start is of no use, and in the way of the next try
            shutil.rmtree(self.path)
            raise
        return self

    def _write_start(self, tokenizer: Tokenizer, data: Prepared) -> None:
        tokenizer.save(self.path / "tokenizer.json")
        lengths = [0, *(len(ids) for ids in data.held_out)]
        arrays: dict[str, NDArray[Any]] = {
            "stream": data.stream,  # [S]
            "held_out": np.concatenate(data.held_out),  # [sum of lengths]
            "held_out_offsets": np.cumsum(lengths, dtype=np.int64),  # [documents + 1]
        }
        write_safetensors(self.path / "data.safetensors", arrays)
        table = {"schema": SCHEMA, "model": self.config.to_dict(), "plan": self.plan.to_dict()}
        write_json(self.path / "run.json", table | {"facts": self.facts})

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the folder of a run; ValueError saying what is missing if it is none."""
        path = Path(path)
        if not (path / "run.json").is_file():
            raise ValueError(f"expected the folder of a run, with run.json in it, got {path}: {_what(path)}")
        try:
            table = json.loads((path / "run.json").read_text(encoding="utf-8"))
            if not isinstance(table, dict):
                raise ValueError(f"expected an object, got {type(table).__name__}")
            schema = table["schema"]
            if schema != SCHEMA:
                raise ValueError(f"expected schema {SCHEMA!r}, got {schema!r}")
            config, plan = ModelConfig.from_dict(table["model"]), TrainConfig.from_dict(table["plan"])
            return cls(path, config, plan, dict(table["facts"]))
        except (KeyError, TypeError, ValueError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path / 'run.json'}: {what}") from error

    # ---- what was prepared ----

    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer."""
        return Tokenizer.load(self.path / "tokenizer.json")

    def stream(self) -> NDArray[np.int32]:
        """The packed training tokens.  -> [S]"""
        return np.array(self._data()["stream"], np.int32)

    def held_out(self) -> list[NDArray[np.int32]]:
        """Ids of each held-out document, an end-of-sequence token in front of each."""
        data = self._data()
        offsets = data["held_out_offsets"]  # [documents + 1]
        return [np.array(ids, np.int32) for ids in np.split(data["held_out"], offsets[1:-1])]

    def _data(self) -> Mapping[str, NDArray[Any]]:
        file = self.path / "data.safetensors"
        if not file.is_file():
            raise ValueError(f"{self.path}: expected data.safetensors, which the run began with, got none")
        return read_safetensors(file)

    # ---- checkpoints ----

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, the oldest first."""
        folder = self.path / "checkpoints"
        found = [
            path
            for path in folder.glob("step-*")
            if _STEP.fullmatch(path.name) and (path / "state.json").is_file()
        ]
        return sorted(found, key=checkpoint_step)

    def save(self, trainer: Trainer) -> Path:
        """Save the trainer's state; older checkpoints than the last two go once it is safe."""
        folder = self.path / "checkpoints" / f"step-{trainer.steps_done:06d}"
        trainer.save(folder)
        for old in self.checkpoints()[:-KEPT]:
            shutil.rmtree(old)
        return folder

    def trainer(self) -> Trainer:
        """The trainer at the newest checkpoint that can be read, or at the start; metrics are cut to it."""
        stream, problem = self.stream(), None
        for folder in reversed(self.checkpoints()):
            try:
                trainer = Trainer.load(folder, self.config, self.plan, stream)
            except (
                ValueError,
                KeyError,
                OSError,
            ) as error:  # damaged after it was written: an older one serves
                problem = problem or error
                continue
            self.cut_metrics(trainer.steps_done)
            return trainer
        if problem is not None:
            raise ValueError(f"{self.path}: no checkpoint can be read: {problem}") from problem
        self.cut_metrics(0)
        trainer = Trainer(self.config, self.plan, stream)
        if (self.path / START).is_dir():
            trainer.begin_from(self.weights(START))
        return trainer

    def weights(self, name: str) -> Parameters:
        """The weights of a model folder of the run, `start` or `model`, under the run's config."""
        _, tensors = read_folder(self.path / name)
        parameters = Parameters(self.config)
        for tensor, view in parameters.items():
            view[...] = tensors[tensor]
        return parameters

    @property
    def whole(self) -> Path:
        """What `--resume` goes on with: the folder itself, or that of the extension it is a phase of."""
        return self.path.parent if "phase" in self.facts else self.path

    # ---- metrics ----

    @property
    def metrics_path(self) -> Path:
        """metrics.jsonl."""
        return self.path / "metrics.jsonl"

    def metrics(self) -> list[dict[str, Any]]:
        """One row a step, in order; a last line that a kill cut off is left out."""
        if not self.metrics_path.is_file():
            return []
        rows: list[dict[str, Any]] = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def append(self, report: StepReport) -> None:
        """Add a step's row."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(report.to_dict()) + "\n")

    def cut_metrics(self, steps: int) -> None:
        """Keep the rows of the first `steps` steps."""
        kept = [row for row in self.metrics() if row["step"] <= steps]
        if self.metrics_path.is_file():
            with replacing(self.metrics_path) as file:
                file.write("".join(json.dumps(row) + "\n" for row in kept).encode())

    # ---- what the run leaves ----

    def write_model(self, parameters: Parameters) -> Path:
        """Write the finished model, with its tokenizer beside it."""
        folder = self.path / "model"
        write_folder(folder, self.config, dict(parameters))
        self.write("model/tokenizer.json", (self.path / "tokenizer.json").read_bytes())
        return folder

    def write(self, name: str, content: bytes) -> Path:
        """Write one file of the folder, whole or not at all."""
        with replacing(self.path / name) as file:
            file.write(content)
        return self.path / name


def checkpoint_step(folder: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(folder.name.removeprefix("step-"))


def free_run_path(parent: str | os.PathLike[str], name: str) -> Path:
    """The first of NAME-0, NAME-1, … that does not exist."""
    number = 0
    while (Path(parent) / f"{name}-{number}").exists():
        number += 1
    return Path(parent) / f"{name}-{number}"


def newest_run(parent: str | os.PathLike[str]) -> Path | None:
    """The run with a finished model that was written last, below a folder of runs."""
    models = list(Path(parent).glob("*/model/config.json"))
    return max(models, key=lambda path: (path.stat().st_mtime_ns, path)).parent.parent if models else None


def check_new(path: Path) -> None:
    """ValueError unless a run may begin here: nothing there, or an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        hint = "; --resume goes on with a run" if (path / "run.json").is_file() else ""
        raise ValueError(f"expected a new or an empty folder for the run, got {path}: {_what(path)}{hint}")


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    """Write plain values, whole or not at all."""
    with replacing(path) as file:
        file.write((json.dumps(table, indent=1, allow_nan=False) + "\n").encode())


def _what(path: Path) -> str:
    if not path.exists():
        return "no such folder"
    if not path.is_dir():
        return "a file"
    names = sorted(entry.name for entry in path.iterdir())
    return f"holds {', '.join(names[:4])}{', …' if len(names) > 4 else ''}" if names else "an empty folder"
