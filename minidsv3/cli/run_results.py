"""The second half of `minidsv3 run`: what the trained model knows, writes and costs.

Held-out bits per byte of the main head and of each MTP depth, from the averaged and from the last
parameters, beside gzip and xz of the same files; expert loads; two pieces of held-out code continued and
filled in, plainly and with MTP drafts; two priced steps. All of it as the plain values of report.json:
apart from what is under "wall", they are the same each time.

Does: measure, write report.txt, report.svg, report.json. Does not: train.

Next: minidsv3.cli.run_comparing
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from minidsv3.cli.needles import BEYOND, Haystacks, needle_lengths, needle_maps
from minidsv3.cli.pricing import decode_step_bill, training_step_bill
from minidsv3.cost import Bill, kv_bytes_mha, kv_bytes_per_token
from minidsv3.hardware import Hardware
from minidsv3.interpreter import Model
from minidsv3.model.parameters import Parameters
from minidsv3.show import plain_text, svg_text
from minidsv3.show.numbers import duration
from minidsv3.show.report import report_page, report_picture
from minidsv3.tokenizer import Tokenizer
from minidsv3.training import RunFolder, Trainer, compressed_bits_per_byte, evaluate, max_violation
from minidsv3.training.run_folder import write_json

__all__ = ["finish"]

SCHEMA = "minidsv3.report/1"
MOST_NEW_TOKENS = 96
LONGEST_HOLE = 24  # tokens
WINDOW = 20  # steps
T = TypeVar("T")
Ids = NDArray[np.int32]


def finish(
    run: RunFolder, trainer: Trainer, hardware: Hardware, talk: Console
) -> tuple[dict[str, Any], list[Bill]]:
    """Measure, write the reports, give them back."""
    stages = {"prepare": run.facts["prepare_seconds"], "train": sum(row["seconds"] for row in run.metrics())}

    def timed(name: str, stage: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = stage()
        stages[name] = time.perf_counter() - start
        talk.print(f"{name}: {duration(stages[name])}")
        return result

    held_out, tokenizer = run.held_out(), run.tokenizer()
    average = trainer.optimizer.average
    run.write_model(average)
    measured = timed("evaluate", lambda: evaluation(run, trainer, held_out, tokenizer))
    samples, needle = {}, None
    if run.plan.synthetic:  # such a model has nothing to write
        needle = timed("find needles", lambda: found_needles(run, average, tokenizer, talk))
    else:
        model = Model(run.config, average)
        samples = timed("write text", lambda: written(model, tokenizer, held_out, run.plan.seq_len))
    bills = timed("bill", lambda: priced(run, average, trainer, held_out, hardware))
    report = {"schema": SCHEMA, **facts(run), **measured, "samples": samples, **prices(run, bills, held_out)}
    report |= {"needle": needle} if needle else {}
    report["wall"] = {"stages": stages}
    write_reports(run, report, bills)
    return report, bills


def facts(run: RunFolder) -> dict[str, Any]:
    """What the run was."""
    rows = run.metrics()
    return {
        "preset": run.facts["preset"],
        "seed": run.facts["seed"],
        "source": run.facts["source"],
        "note": run.facts["note"],
        "parameters": run.config.parameter_counts(),
        "training": {
            "steps": len(rows),
            "tokens": sum(row["tokens"] for row in rows),
            "seq_len": run.plan.seq_len,
            "precision": run.plan.precision,
            "accumulate": run.plan.accumulate,
            "first_losses": rows[0]["losses"],
            "last_losses": rows[-1]["losses"],
        },
    }


# ---- what it knows ----------------------------------------------------------------------------------------


def evaluation(
    run: RunFolder, trainer: Trainer, held_out: Sequence[Ids], tokenizer: Tokenizer
) -> dict[str, Any]:
    """Bits per byte and expert loads on the held-out text."""
    size, length = run.facts["held_out_bytes"], run.plan.seq_len
    average = evaluate(trainer.optimizer.average, held_out, size, length)
    last = evaluate(trainer.parameters, held_out, size, length)
    bits = {"main head": average.bits_per_byte[0]}
    bits |= {f"MTP depth {k}": value for k, value in enumerate(average.bits_per_byte) if k}
    bits["main head, last weights"] = last.bits_per_byte[0]
    bits |= {f"MTP depth {k}, last weights": value for k, value in enumerate(last.bits_per_byte) if k}
    if run.plan.precision != "fp32":
        rounded = evaluate(trainer.optimizer.average, held_out, size, length, trainer.machine)
        bits[f"main head, in {Path(run.plan.precision).stem}"] = rounded.bits_per_byte[0]
    bits |= compressed_bits_per_byte([tokenizer.decode_bytes(ids[1:]) for ids in held_out])
    bits["untrained"] = run.facts["untrained_bits_per_byte"][0]
    first, loads = run.config.n_dense_layers, average.loads.tolist()
    return {
        "held_out": {"files": len(held_out), "bytes": size, "tokens": average.tokens},
        "bits_per_byte": bits,
        "max_violation": {
            "layers": [_layer_name(run, first + i) for i in range(len(loads))],
            "start": run.facts["untrained_max_violation"],
            **training_violation([row["max_violation"] for row in run.metrics()]),
            "end": [float(x) for x in max_violation(average.loads)] if loads else [],
        },
        "loads": loads,
    }


def training_violation(rows: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """MaxVio of each layer on training batches, meant over WINDOW steps: the worst ones, and the last.

    rows: [steps][layers].
    """
    values, window = np.array(rows), min(WINDOW, len(rows))  # [steps, layers]
    sums = np.cumsum(np.vstack([np.zeros(values.shape[1]), values]), axis=0)  # [steps + 1, layers]
    means = (sums[window:] - sums[:-window]) / window  # [steps - window + 1, layers]
    return {"highest": means.max(axis=0).tolist(), "last": means[-1].tolist()}


def _layer_name(run: RunFolder, layer: int) -> str:
    depth = layer - run.config.n_layers + 1
    return f"layer {layer}" if depth < 1 else f"MTP depth {depth}"


def found_needles(run: RunFolder, parameters: Parameters, tokenizer: Tokenizer, talk: Console) -> Any:
    """The heat map up to BEYOND times the trained length."""
    T = run.plan.seq_len
    asked = Haystacks(needle_lengths(T, BEYOND * T))
    return needle_maps([("as trained", T, parameters)], tokenizer, asked, talk).to_dict()


# ---- what it writes ---------------------------------------------------------------------------------------


def written(model: Model, tokenizer: Tokenizer, held_out: Sequence[Ids], length: int) -> dict[str, Any]:
    """A continuation and a filled hole, in the longest held-out document.  length: T of the training."""
    ids = max(held_out, key=len)[1:].tolist()
    cut = _line_end(ids, tokenizer, len(ids) // 2, b":\n") or _line_end(ids, tokenizer, len(ids) // 2, b"\n")
    cut = cut or max(len(ids) // 2, 1)
    new = max(2, min(MOST_NEW_TOKENS, length // 2))
    prompt = ids[max(0, cut - max(length // 2, 1)) : cut]
    samples = {"continuation": _sample(model, tokenizer, prompt, new)}
    samples["continuation"]["prompt"] = tokenizer.decode(prompt)
    samples["fill in the middle"] = _filled(model, tokenizer, ids, length)
    return samples


def _line_end(ids: Sequence[int], tokenizer: Tokenizer, start: int, ending: bytes) -> int:
    """The first position from `start` on behind a token that ends so; 0 if there is none."""
    for i in range(start, len(ids)):
        if tokenizer.token_bytes(ids[i]).replace(b"\r", b"").rstrip(b" ").endswith(ending):
            return i + 1
    return 0


def _filled(model: Model, tokenizer: Tokenizer, ids: Sequence[int], length: int) -> dict[str, Any]:
    """`<fim_begin> prefix <fim_hole> suffix <fim_end>`: the hole is a line, at most LONGEST_HOLE tokens."""
    start = _line_end(ids, tokenizer, len(ids) // 3, b"\n") or len(ids) // 3
    stop = _line_end(ids, tokenizer, start, b"\n") or len(ids)
    stop = min(stop, start + LONGEST_HOLE, start + max(length // 4, 1))
    before, behind = ids[max(0, start - length // 3) : start], ids[stop : stop + length // 4]
    prompt = [tokenizer.fim_begin, *before, tokenizer.fim_hole, *behind, tokenizer.fim_end]
    sample = _sample(model, tokenizer, prompt, max(2, min(2 * LONGEST_HOLE, length // 4)))
    sample |= {"prompt": tokenizer.decode(before), "suffix": tokenizer.decode(behind)}
    return sample | {"expected": tokenizer.decode(ids[start:stop])}


def _sample(model: Model, tokenizer: Tokenizer, prompt: Sequence[int], new: int) -> dict[str, Any]:
    """Greedy text over the latent cache with absorbed MLA, plainly and with MTP drafts."""
    prompt = prompt[-(model.config.max_seq_len - new) :]
    plain = model.generate(prompt, new, stop_ids=[tokenizer.eos])
    text = tokenizer.decode([token for token in plain.tokens if token != tokenizer.eos])
    sample: dict[str, Any] = {
        "text": text,
        "new_tokens": len(plain.tokens),
        "drafted": None,
        "accepted": None,
    }
    speed = {"plain": plain.tokens_per_second}
    if model.config.n_mtp_layers:
        guessed = model.generate(prompt, new, stop_ids=[tokenizer.eos], speculative=True)
        sample |= {"drafted": guessed.drafted, "accepted": guessed.accepted}
        sample["same_text"] = guessed.tokens == plain.tokens
        speed["speculative"] = guessed.tokens_per_second
    return sample | {"wall": {"tokens_per_second": speed}}


# ---- what it costs ----------------------------------------------------------------------------------------


def priced(
    run: RunFolder, parameters: Parameters, trainer: Trainer, held_out: Sequence[Ids], hardware: Hardware
) -> list[Bill]:
    """Bills of a training step of one sequence and of a decode step."""
    training = training_step_bill(parameters, run.plan, trainer.batches.stream, 1, hardware)
    prompt = decode_prompt(run, held_out)
    decode = decode_step_bill(parameters, prompt, hardware, run.plan.precision)
    return [training, decode]


def decode_prompt(run: RunFolder, held_out: Sequence[Ids]) -> list[int]:
    """The tokens behind which the priced token is decoded."""
    prompt: list[int] = max(held_out, key=len)[: run.plan.seq_len - 1].tolist()
    return prompt


def prices(run: RunFolder, bills: Sequence[Bill], held_out: Sequence[Ids]) -> dict[str, Any]:
    """The bills as plain values, without their single lines."""
    training, decode = (
        {name: value for name, value in b.to_dict().items() if name != "lines"} for b in bills
    )
    return {
        "bill": {
            "hardware": bills[0].hardware,
            "rule": bills[0].rule,
            "training_tokens": run.plan.seq_len,
            "decode_cached": len(decode_prompt(run, held_out)),
            "training_step": training,
            "decode_step": decode,
        },
        "kv_bytes_per_token": {"MLA": kv_bytes_per_token(run.config), "MHA": kv_bytes_mha(run.config)},
    }


# ---- the files --------------------------------------------------------------------------------------------


def write_reports(run: RunFolder, report: dict[str, Any], bills: Sequence[Bill]) -> None:
    """report.txt, report.svg, report.json: the last says that the run is finished."""
    rows = run.metrics()
    run.write("report.txt", (plain_text(report_page(report, rows, bills), width=120) + "\n").encode())
    picture = svg_text(report_picture(report, rows), title="minidsv3 run", width=90)
    run.write("report.svg", picture.encode())
    write_json(run.path / "report.json", report)
