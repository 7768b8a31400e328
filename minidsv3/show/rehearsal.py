"""A run too short to learn anything, whose numbers the pictures of training are tried with.

Text made of needles in haystacks, a model of a few thousand parameters, a dozen steps: all of it computed,
in less than a second, and the same every time but for the clock.

Does: train, measure, keep what came out. Does not: draw; show what training does (`minidsv3 run` does).

    >>> run = rehearsed()
    >>> len(run.rows), sorted(run.rows[0]["losses"])
    (12, ['balance', 'main', 'mtp_1', 'mtp_1_mean', 'mtp_2', 'mtp_2_mean', 'total'])

Next: minidsv3.show.dashboard
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.interpreter import Model
from minidsv3.model.parameters import Parameters
from minidsv3.tokenizer import Tokenizer
from minidsv3.training import Trainer, made_text, plan_for_steps, prepare, train_tokenizer

__all__ = ["CONFIG", "LEARNING_STEPS", "PLAN", "STEPS", "Rehearsal", "rehearsed"]

STEPS, SEED = 12, 0
LEARNING_STEPS = 80  # after these its drafts are often right; about a second
CONFIG = ModelConfig.preset(
    "needle",
    dim=32,
    inter_dim=48,
    moe_inter_dim=16,
    n_layers=2,
    q_lora_rank=16,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=8,
    n_mtp_layers=2,
)
PLAN = replace(TrainConfig.preset("needle"), batch_sequences=4, ramp_start_sequences=4, seed=SEED)


@dataclass(frozen=True)
class Rehearsal:
    """What the run left."""

    rows: list[dict[str, Any]]  # a step each, as metrics.jsonl has them
    parameters: Parameters
    tokenizer: Tokenizer
    held_out: NDArray[np.int32]  # [S]

    @property
    def model(self) -> Model:
        """The trained weights, to run."""
        return Model(self.parameters.config, self.parameters)


@lru_cache
def rehearsed(precision: str = "fp32", steps: int = STEPS) -> Rehearsal:
    """The run.  precision: a recipe's name."""
    plan = replace(plan_for_steps(PLAN, steps), precision=precision)
    text = made_text(plan)
    tokenizer = train_tokenizer(text, CONFIG.vocab_size)
    prepared = prepare(text, tokenizer, plan)
    trainer = Trainer(CONFIG, plan, prepared.stream)
    try:
        rows = [trainer.step().to_dict() for _ in range(plan.steps)]
    finally:
        trainer.close()
    return Rehearsal(rows, trainer.parameters, tokenizer, np.concatenate(prepared.held_out))
