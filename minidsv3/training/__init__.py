"""How it learns: schedules, gradients, the optimiser, the loop, held-out evaluation, and a folder for it all.

    read_text -> prepare -> RunFolder.create -> Trainer.step, step, step -> evaluate

*Schedule*: what each step does. *Gradients*: of a batch, on all cores. *Optimizer*: AdamW, the sign rule,
the moving average. *Trainer*: the loop and its state. *Evaluation*: bits per byte on text held out.
*Preparation*: from text to a stream of tokens. *Run folder*: everything a run needs to go on after a kill.
*Extension*: the same model at longer context. *Retrieval*: needles in haystacks.

Does: train on one computer, resumable bit for bit. Does not: print, draw, generate text, price anything.

    >>> from minidsv3.config import TrainConfig
    >>> schedule = Schedule(TrainConfig(steps=3, batch_sequences=2))
    >>> schedule.total_sequences
    6

Next: minidsv3.training.schedule
"""

from minidsv3.training.evaluation import Evaluation, compressed_bits_per_byte, evaluate
from minidsv3.training.extension import bits_by_position, extended_config, phase_plan, token_sizes
from minidsv3.training.optimizer import Optimizer, max_violation
from minidsv3.training.preparation import (
    Prepared,
    SplitText,
    made_text,
    plan_for_steps,
    prepare,
    read_text,
    train_tokenizer,
)
from minidsv3.training.retrieval import retrieval
from minidsv3.training.run_folder import RunFolder, check_new, free_run_path, newest_run
from minidsv3.training.schedule import Schedule
from minidsv3.training.trainer import Diverged, StepReport, Trainer

__all__ = [
    "Diverged",
    "Evaluation",
    "Optimizer",
    "Prepared",
    "RunFolder",
    "Schedule",
    "SplitText",
    "StepReport",
    "Trainer",
    "bits_by_position",
    "check_new",
    "compressed_bits_per_byte",
    "evaluate",
    "extended_config",
    "free_run_path",
    "made_text",
    "max_violation",
    "newest_run",
    "phase_plan",
    "plan_for_steps",
    "prepare",
    "read_text",
    "retrieval",
    "token_sizes",
    "train_tokenizer",
]
