"""Reading FP8 weights: five exact ways to make float32 of codes, side by side, and what a file adds to it.

    python tests/bench/checkpoint.py [--rows 2048] [--columns 7168] [--repeats 9]

The five take turns over the same expert, piece by piece as the package does; nanoseconds a number, the best
of the repeats, and whether the result is the package's bit for bit. Then the package itself, from a file that
the system has in memory, by one thread and by two; BF16 beside it; and what 37 billion numbers a token take.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidsv3.checkpoint import Coded, decode_blocks, encode_blocks, stored, write_safetensors
from minidsv3.checkpoint.safetensors import SafetensorsFile
from minidsv3.checkpoint.stored import stored_tensors
from minidsv3.numerics import BF16, E4M3

Codes, Values = NDArray[np.uint8], NDArray[np.float32]
TABLE = E4M3.decode(np.arange(256, dtype=np.uint8))
PAIRS = np.stack([TABLE[np.arange(65536) & 255], TABLE[np.arange(65536) >> 8]], 1).view(np.uint64).reshape(-1)
BLOCK, PIECE = 128, 1 << 18


def by_table(codes: Codes, along: Values, out: Values) -> None:
    """A table of 256."""
    np.take(TABLE, codes, out=out, mode="clip")
    np.multiply(out, along, out=out)


def by_index(codes: Codes, along: Values, out: Values) -> None:
    """The same table, indexed."""
    np.multiply(TABLE[codes], along, out=out)


def by_pairs(codes: Codes, along: Values, out: Values) -> None:
    """A table of 65,536 pairs."""
    np.take(PAIRS, codes.view(np.uint16), out=out.view(np.uint64), mode="clip")
    np.multiply(out, along, out=out)


def by_float16(codes: Codes, along: Values, out: Values) -> None:
    """Bits moved to float16's place, then the conversion."""
    bits = codes.view(np.int8).astype(np.int16)
    np.left_shift(bits, 7, out=bits)
    np.bitwise_and(bits, np.int16(-0x4001), out=bits)
    out[...] = bits.view(np.float16)
    np.multiply(out, along * np.float32(2.0**8), out=out)


def by_float32(codes: Codes, along: Values, out: Values) -> None:
    """Bits moved to float32's place: the package's way."""
    bits = out.view(np.int32)
    bits[...] = codes.view(np.int8)
    np.left_shift(bits, np.int32(20), out=bits)
    np.bitwise_and(bits, np.int32(-0x7810_0000), out=bits)
    np.multiply(out, along * np.float32(2.0**120), out=out)


WAYS = (by_table, by_index, by_pairs, by_float16, by_float32)


def whole(way: Callable[[Codes, Values, Values], None], codes: Codes, scale: Values, out: Values) -> None:
    """A weight, some rows of a row of blocks at a time."""
    step = max(PIECE // codes.shape[1], 1)
    for i, row in enumerate(scale):
        along = np.repeat(row, BLOCK)[: codes.shape[1]]
        end = min((i + 1) * BLOCK, len(codes))
        for begin in range(i * BLOCK, end, step):
            here = slice(begin, min(begin + step, end))
            way(codes[here], along, out[here])


def best(repeats: int, size: int, *runs: Callable[[], object]) -> list[float]:
    """Nanoseconds a number of each, taking turns."""
    times = [[] for _ in runs]
    for _ in range(repeats):
        for run, held in zip(runs, times, strict=True):
            began = time.perf_counter()
            run()
            held.append(time.perf_counter() - began)
    return [min(held) / size * 1e9 for held in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--columns", type=int, default=7168)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    values = np.random.default_rng(0).standard_normal((given.rows, given.columns), np.float32)
    codes, scale = encode_blocks(values, (BLOCK, BLOCK))
    out, wanted = np.empty_like(values), decode_blocks(codes, scale, (BLOCK, BLOCK))
    times = best(given.repeats, out.size, *(lambda way=way: whole(way, codes, scale, out) for way in WAYS))
    for way, taken in zip(WAYS, times, strict=True):
        whole(way, codes, scale, out)
        exact = np.array_equal(out.view(np.uint32), wanted.view(np.uint32))
        print(f"{way.__name__:12} {taken:6.2f} ns  exact: {exact}  {way.__doc__}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "w"
        tensors = {"w": Coded(codes, "F8_E4M3"), "s": scale, "b": Coded(BF16.encode(values), "BF16")}
        write_safetensors(file, tensors)
        all_of = stored_tensors(SafetensorsFile(file))
        weight = replace(all_of["w"], scale=all_of["s"], block=(BLOCK, BLOCK))
        for threads, shared in ((1, 1 << 60), (2, 1)):
            stored.SHARED = shared
            fp8, bf16 = best(
                given.repeats, out.size, lambda: weight.read(out=out), lambda: all_of["b"].read(out=out)
            )
            print(
                f"read by {threads} thread(s): FP8 {fp8:.2f} ns, BF16 {bf16:.2f} ns; 37e9 in {37 * fp8:.0f} s"
            )


if __name__ == "__main__":
    main()
