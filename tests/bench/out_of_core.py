"""V3's true widths out of core: peak memory, bytes and seconds a token, and what all 61 layers would take.

    python tests/bench/out_of_core.py [--memory 1GiB 4GiB] [--tokens 4] [--folder DIR] [--weights fp8]

Writes a synthetic folder (published names, formats, scales, shards; one dense layer, one MoE layer, the MTP
module; numbers where every token reads, most experts holes: 5.3 GB of disk, 26 GiB as the files count), then,
for each budget, decodes in a child process, so that its peak resident memory is its own. Nothing is cold: the
files were just written, and what is measured is dequantising and multiplying; where a disk reads slower than
the printed bytes a second, it decides. `--drop-caches` (root) empties the system's page cache before each
child. Figures mean little while other work runs, hence the load is printed. `--whole` runs all 61 layers, in
a folder of 641 GiB that is holes but for its headers (20 MB of disk): the whole layout at the true cost of
computing, with weights of zero.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minidsv3 import ModelConfig
from minidsv3.checkpoint.synthesise import synthesise
from minidsv3.model.memory import in_words, memory_bytes
from minidsv3.model.one_token import token_reads

PROMPT = [0, 671, 6]


def main() -> None:
    """Write the folder, run a child for each budget, print."""
    parser = argparse.ArgumentParser(description="V3's widths out of core")
    parser.add_argument("--memory", nargs="+", default=["1GiB", "4GiB", "14GiB"])
    parser.add_argument("--tokens", type=int, default=4, help="new tokens; those behind the first are timed")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--folder", type=Path, help="kept and used again; otherwise temporary")
    parser.add_argument("--drop-caches", action="store_true")
    parser.add_argument("--whole", action="store_true", help="all 61 layers, as holes; minutes a token")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "wide"
        if not (folder / "config.json").is_file():
            write(folder, options.whole)
        for memory in options.memory:
            if options.drop_caches:
                os.sync()
                Path("/proc/sys/vm/drop_caches").write_text("3\n")
            report(memory, child(folder, memory, options.tokens, options.precision))
    arithmetic()


def write(folder: Path, whole: bool) -> None:
    """One dense layer, one MoE layer, the MTP module; or V3 as it is, without its numbers."""
    start = time.perf_counter()
    if whole:
        made = synthesise(folder, ModelConfig.preset("v3"), "fp8", fill="none")
    else:
        config = ModelConfig.preset("v3", n_layers=2, n_dense_layers=1)
        made = synthesise(folder, config, "fp8", fill="always", mtp_copies=False)
    size, numbers, seconds = in_words(made.bytes), in_words(made.written), time.perf_counter() - start
    print(f"wrote {made.tensors} tensors, {size}, of it {numbers} of numbers, in {seconds:.0f} s")


def child(folder: Path, memory: str, tokens: int, precision: str) -> dict[str, object]:
    """`predict --json` in a process of its own."""
    command = [sys.executable, "-m", "minidsv3", "predict", "--ids", ",".join(map(str, PROMPT))]
    command += ["--model", str(folder), "--memory", memory, "--tokens", str(tokens), "--json"]
    out = subprocess.run([*command, "--precision", precision], check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)


def report(memory: str, said: dict[str, object]) -> None:
    """A budget's lines."""
    w, budget = said["weights"], memory_bytes(memory)
    peak, seconds, count = w["peak_memory"], w["seconds_per_token"], w["bytes_per_token"]
    over = f"{'+' if peak >= budget else '-'} {in_words(abs(peak - budget))}"
    print(f"\nbudget {memory}, load {os.getloadavg()[0]:.1f}")
    print(f"  peak resident {in_words(peak)}, the budget {over}")
    first = w["prompt"]
    print(f"  prompt of {len(PROMPT)}: {in_words(first['bytes_read'])} in {first['seconds']:.1f} s")
    print(f"  a token after it: {in_words(count)} in {seconds:.2f} s, {in_words(count / seconds)}/s")
    print(f"  found in memory: {w['hit_rate']:.1%} of the numbers")
    if (whole := w["whole"]) and (all_layers := whole["seconds_per_token"]):
        print(f"  a token of all {whole['layers']} layers at this speed: {all_layers:.0f} s")


def arithmetic() -> None:
    """What a token of the whole V3 reads, part by part."""
    reads = token_reads(ModelConfig.preset("v3"))
    print("\na token of all 61 layers (arithmetic, from the config)")
    for part, numbers in reads.numbers_by_part.items():
        print(f"  {part:10} {numbers / 1e9:8.3f} G numbers {in_words(reads.bytes_by_part[part]):>12}")
    print(f"  {'all':10} {reads.numbers / 1e9:8.3f} G numbers {in_words(reads.bytes):>12}")
    for rate in (0.2e9, 0.5e9, 1e9, 2e9, 7e9):
        print(f"  a disk of {rate / 1e9:.1f} GB/s: at least {reads.seconds(float('inf'), rate):.0f} s")
    print(
        f"  held in float32: what every token uses {in_words(reads.always_bytes)}, all of a token "
        f"{in_words(reads.bytes_in_memory)}"
    )


if __name__ == "__main__":
    main()
