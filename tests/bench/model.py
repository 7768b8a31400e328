"""Time preset `mini` against `transformers`: prefill, decoding, a training step; two threads each, medians.

    python tests/bench/model.py [--repeats 9] [--tasks prefill decode train]

Both sides hold the same weights and do the same work; the first lines show by how little their logits, losses
and greedy tokens differ. `transformers` runs in two settings (eager attention and experts; sdpa and
grouped_mm), both with the fused AdamW, and the better one of a task counts. The sides take turns, so that a
disturbed minute disturbs all; still, figures mean little while other work runs, hence the load is printed.
Our training step also keeps the moving average of the parameters, theirs does not.
"""

import os

THREADS = 2
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(THREADS)  # read when the libraries are loaded, hence before the imports

import argparse  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from statistics import median  # noqa: E402
from typing import NamedTuple  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from minidsv3 import Model, ModelConfig, TrainConfig  # noqa: E402
from minidsv3.model.transformer import LossOptions  # noqa: E402
from minidsv3.training.gradients import Shards, shared  # noqa: E402
from minidsv3.training.optimizer import Optimizer  # noqa: E402

SEQUENCES, LENGTH, PROMPT, NEW = 4, 256, 64, 64
SETTINGS = {"eager": ("eager", "eager"), "sdpa + grouped_mm": ("sdpa", "grouped_mm")}
RATE = 1e-4
OURS = "minidsv3"


class Task(NamedTuple):
    """What is timed: the tokens of one run, and a run for each side."""

    tokens: int
    runs: dict[str, Callable[[], object]]
    aim: float  # how many times as fast as transformers we want to be


def main() -> None:
    """Load both sides, check that they compute the same, time them, print tokens a second and ratios."""
    parser = argparse.ArgumentParser(description="time preset mini against transformers")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    transformers.utils.logging.disable_progress_bar()
    ours = Model.initialise(ModelConfig.preset("mini"), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        ours.save(folder)
        theirs = {name: load_peer(folder, *setting) for name, setting in SETTINGS.items()}
    print(f"NumPy {np.__version__}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"preset mini, {ours.parameters.buffer.size:,} parameters, float32, {THREADS} threads")
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name in options.tasks:
        report(name, TASKS[name](ours, theirs), options.repeats)


def load_peer(folder: str, attention: str, experts: str) -> torch.nn.Module:
    """The same weights in transformers, with one choice of its implementations."""
    peer = transformers.DeepseekV3ForCausalLM.from_pretrained(
        folder, attn_implementation=attention, experts_implementation=experts, dtype=torch.float32
    )
    return peer.eval()


def report(name: str, task: Task, repeats: int) -> None:
    """Time the sides in turn; print each one's median and the ratio to the better of theirs."""
    times: dict[str, list[float]] = {side: [] for side in task.runs}
    for turn in range(repeats + 2):
        for side, run in task.runs.items():
            time.sleep(0.1)  # the other library's threads spin for a while after their work
            start = time.perf_counter()
            run()
            if turn >= 2:  # the first turns touch fresh memory
                times[side].append(time.perf_counter() - start)
    rates = {side: task.tokens / median(taken) for side, taken in times.items()}
    print(f"{name}: {task.tokens} tokens a run, medians of {repeats}")
    for side, rate in rates.items():
        fastest, slowest = task.tokens / min(times[side]), task.tokens / max(times[side])
        print(f"  {side:34} {rate:9,.1f} tokens/s   ({slowest:,.1f} to {fastest:,.1f})")
    for what, of in (
        ("medians", rates),
        ("fastest runs", {s: task.tokens / min(t) for s, t in times.items()}),
    ):
        ratio = of[OURS] / max(rate for side, rate in of.items() if side != OURS)
        print(f"  {what + ', ours to their better:':34} {ratio:9.2f}            (aim {task.aim})")


def prefill(ours: Model, theirs: dict[str, torch.nn.Module]) -> Task:
    """Logits of four sequences of 256 tokens."""
    tokens = np.random.default_rng(0).integers(0, ours.config.vocab_size, (SEQUENCES, LENGTH))
    ids = torch.tensor(tokens)

    def run(peer: torch.nn.Module) -> torch.Tensor:
        with torch.inference_mode():
            return peer(ids, use_cache=False).logits

    logits = ours.logits(tokens)
    for name, peer in theirs.items():
        difference = float(np.abs(run(peer).numpy() - logits).max())
        print(f"logits up to {np.abs(logits).max():.1f}, largest difference to {name}: {difference:.1e}")
    runs = {name: lambda peer=peer: run(peer) for name, peer in theirs.items()}
    return Task(tokens.size, {OURS: lambda: ours.logits(tokens), **runs}, aim=1.3)


def decode(ours: Model, theirs: dict[str, torch.nn.Module]) -> Task:
    """64 greedy tokens after a prompt of 64, through the cache; the prompt's own pass included."""
    prompt = np.random.default_rng(1).integers(0, ours.config.vocab_size, PROMPT).tolist()

    def run(peer: torch.nn.Module) -> list[int]:
        """The bare loop, which is faster than the library's `generate`."""
        tokens: list[int] = []
        cache, given = transformers.DynamicCache(config=peer.config), torch.tensor([prompt])
        with torch.inference_mode():
            for _ in range(NEW):
                given = (
                    peer(given, past_key_values=cache, logits_to_keep=1)
                    .logits[:, -1]
                    .argmax(-1, keepdim=True)
                )
                tokens.append(int(given))
        return tokens

    def run_ours() -> list[int]:
        return list(ours.generate(prompt, NEW).tokens)

    for name, peer in theirs.items():
        same = sum(a == b for a, b in zip(run(peer), run_ours(), strict=True))
        print(f"greedy tokens equal to {name}: {same} of {NEW}")
    runs = {name: lambda peer=peer: run(peer) for name, peer in theirs.items()}
    return Task(NEW, {OURS: run_ours, **runs}, aim=5)


def train(ours: Model, theirs: dict[str, torch.nn.Module]) -> Task:
    """Forward, backward, clipping to 1.0 and AdamW on four sequences of 256 tokens."""
    tokens = np.random.default_rng(2).integers(0, ours.config.vocab_size, (SEQUENCES, LENGTH + 1))
    runs: dict[str, Callable[[], object]] = {OURS: our_step(ours, tokens)}
    for name, peer in theirs.items():
        runs[name] = their_step(peer, torch.tensor(tokens))
    losses = ", ".join(f"{side} {run():.6f}" for side, run in runs.items())
    print(f"losses of the first step: {losses}")
    return Task(SEQUENCES * LENGTH, runs, aim=1.5)


def our_step(model: Model, tokens: np.ndarray) -> Callable[[], float]:
    """One step of ours on fixed tokens, returning the loss before it."""
    parameters, steps = shared(model.parameters), [0]
    optimizer, shards = Optimizer(parameters, TrainConfig(clip_norm=1.0, ema_decay=0.0)), Shards(parameters)

    def run() -> float:
        steps[0] += 1
        losses, _ = shards.accumulate(tokens, LossOptions())
        norm = optimizer.norm(shards.gradients)
        optimizer.step(shards.gradients, norm, steps[0], RATE)
        return float(losses["main"])

    return run


def their_step(peer: torch.nn.Module, ids: torch.Tensor) -> Callable[[], float]:
    """The same of theirs."""
    optimizer = torch.optim.AdamW(peer.parameters(), RATE, (0.9, 0.95), weight_decay=0.1, fused=True)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def run() -> float:
        peer.train()
        optimizer.zero_grad()
        loss = peer(inputs, labels=targets, shift_labels=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return run


TASKS = {"prefill": prefill, "decode": decode, "train": train}

if __name__ == "__main__":
    main()
