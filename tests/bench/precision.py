"""What rounding costs: a training step in BF16 and in FP8 beside the float32 step, at nano and at mini.

    python tests/bench/precision.py [--steps N]

The steps of the three precisions take turns, so that a busy machine slows all of them alike; ratios of the
medians are what counts. FP8 here is the fast path (`accumulate="ideal"`).
"""

import argparse
import statistics

import numpy as np

from minidsv3.config import ModelConfig, TrainConfig
from minidsv3.machine.parallel import keep_freed_memory, workers
from minidsv3.training import Trainer

PRECISIONS = ("fp32", "bf16", "fp8")


def measure(preset: str, steps: int, sequences: int, length: int) -> dict[str, float]:
    """Median seconds of a step."""
    config = ModelConfig.preset(preset)
    stream = np.random.default_rng(0).integers(0, config.vocab_size, 100_000, dtype=np.int32)
    trainers = {}
    for precision in PRECISIONS:
        plan = TrainConfig(
            steps=steps + 2, seq_len=length, batch_sequences=sequences, ramp_start_sequences=sequences,
            mtp_weight=0.3, precision=precision,
        )  # fmt: skip
        trainers[precision] = Trainer(config, plan, stream)
    times: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for step in range(steps + 1):
        for precision, trainer in trainers.items():
            seconds = trainer.step().seconds
            if step:  # the first is slow: memory is new
                times[precision].append(seconds)
    return {precision: statistics.median(values) for precision, values in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12, help="steps of each precision (12)")
    steps = parser.parse_args().steps
    keep_freed_memory()
    print(f"{workers()} workers, one BLAS thread each")
    for preset, sequences, length in (("nano", 4, 256), ("mini", 4, 256)):
        medians = measure(preset, steps, sequences, length)
        tokens = sequences * length
        for precision, seconds in medians.items():
            ratio = seconds / medians["fp32"]
            print(
                f"{preset:5} {precision:5} {seconds * 1e3:8.1f} ms a step of {tokens} tokens"
                f"  {tokens / seconds:8,.0f} tokens/s  {ratio:5.2f} x float32"
            )


if __name__ == "__main__":
    main()
