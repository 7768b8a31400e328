"""Time `minidsv3.numerics` beside ml_dtypes and torch, one thread each, in millions of values a second.

    python tests/bench/numerics.py [--repeats 9] [--sections formats ...]

The sides of a line take turns in one process, so that a disturbed moment disturbs all; medians of the time
that the processor gave the thread, so that waiting for other work is left out. Ours is NumPy calls, theirs
compiled loops: ml_dtypes one number at a time, torch with vector instructions. A ratio "ours / theirs" above
1 means that we are quicker. A section is a function that yields lines; SECTIONS lists them.
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # read when the libraries are loaded, hence before the imports

import argparse  # noqa: E402
import time  # noqa: E402
import tracemalloc  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from statistics import median  # noqa: E402
from typing import NamedTuple  # noqa: E402

import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from minidsv3.hardware import tensor_core  # noqa: E402
from minidsv3.numerics import (  # noqa: E402
    BF16,
    E2M1,
    E4M3,
    E5M2,
    E5M6,
    FORMATS,
    FP16,
    MXFP4,
    MXFP8_E4M3,
    NVFP4,
    UE8M0,
    LogFMT,
    gemm_fp8,
    mma,
    quantize,
    tile_round,
)

OURS, ML, TORCH = "ours", "ml_dtypes", "torch"
VALUES = 1 << 20


class Line(NamedTuple):
    """What is done, to how many values (or products, or bytes: `unit`), and by whom; the first is ours."""

    what: str
    count: int
    sides: dict[str, Callable[[], object]]
    unit: str = "values"


def formats() -> Iterator[Line]:
    """Encode, decode, round: a million normal numbers, of which one in eighty is subnormal in E4M3."""
    x = np.random.default_rng(0).standard_normal(VALUES).astype(np.float32)
    t, y, rng = torch.from_numpy(x), x.copy(), np.random.default_rng(1)
    narrow = [
        (E4M3, ml_dtypes.float8_e4m3fn, torch.float8_e4m3fn),
        (E5M2, ml_dtypes.float8_e5m2, torch.float8_e5m2),
        (BF16, ml_dtypes.bfloat16, torch.bfloat16),
        (FP16, np.float16, torch.float16),
    ]
    for fmt, theirs, torchs in narrow:
        label = "numpy" if fmt is FP16 else ML
        codes, coded = fmt.encode(x), t.to(torchs)
        typed = codes.view(theirs)
        peers = {label: lambda d=theirs: x.astype(d), TORCH: lambda d=torchs: t.to(d)}
        yield Line(f"encode {fmt.name}", VALUES, {OURS: lambda f=fmt: f.encode(x), **peers})
        back = {
            label: lambda c=typed: c.astype(np.float32),
            TORCH: lambda c=coded: c.to(torch.float32),
        }
        yield Line(f"decode {fmt.name}", VALUES, {OURS: lambda f=fmt, c=codes: f.decode(c), **back})
        both = {
            label: lambda d=theirs: x.astype(d).astype(np.float32),
            TORCH: lambda d=torchs: t.to(d).to(torch.float32),
        }
        yield Line(f"round {fmt.name} in place", VALUES, {OURS: lambda f=fmt: f.round(y, out=y), **both})
    four = {OURS: lambda: E2M1.encode(x), ML: lambda: x.astype(ml_dtypes.float4_e2m1fn)}
    yield Line("encode e2m1", VALUES, four)
    yield Line("round e5m6 in place", VALUES, {OURS: lambda: E5M6.round(y, out=y)})
    scales, other = np.abs(x), t.abs()
    scale = {
        OURS: lambda: UE8M0.encode(scales),
        ML: lambda: scales.astype(ml_dtypes.float8_e8m0fnu),
        TORCH: lambda: other.to(torch.float8_e8m0fnu),
    }
    yield Line("encode ue8m0", VALUES, scale)
    for fmt in (E4M3, BF16):
        for rounding in ("toward-zero", "stochastic"):
            side = {OURS: lambda f=fmt, r=rounding: f.encode(x, None, r, rng)}
            yield Line(f"encode {fmt.name} {rounding}", VALUES, side)


def tensor_cores() -> Iterator[Line]:
    """Multiply-adds, bit for bit; the measure of the machine: ml_dtypes casting as many float32 to E4M3."""
    rng = np.random.default_rng(0)
    shapes = {
        ("hopper-wgmma", "fp8"): [(512, 512, 512), (128, 128, 1024), (32, 32, 4096)],
        ("hopper-wgmma", "bf16"): [(256, 256, 512)],
        ("hopper-wgmma", "tf32"): [(256, 256, 512)],
        ("ada", "fp8"): [(256, 256, 512)],
        ("ampere", "bf16"): [(256, 256, 256)],
        ("blackwell-tcgen05", "fp8"): [(256, 256, 512)],
    }
    for (family, name), several in shapes.items():
        unit = tensor_core(family, name)
        fmt = FORMATS[unit.operands[0]]
        for M, N, K in several:
            x, w = (rng.standard_normal(shape).astype(np.float32) * 50 for shape in ((M, K), (K, N)))
            a, b, many = fmt.encode(x), fmt.encode(w), np.resize(x, M * N * K)
            sides = {
                OURS: lambda a=a, b=b, u=unit: mma(a, b, None, u),
                ML: lambda m=many: m.astype(ml_dtypes.float8_e4m3fn),
            }
            yield Line(f"{family} {name} {M}x{N}x{K}", M * N * K, sides, "multiply-adds")
    x, w = rng.standard_normal((2, 256, 1024)).astype(np.float32)
    for accumulate in ("ideal", "promoted", "hardware"):
        side = {OURS: lambda how=accumulate: gemm_fp8(x, w, how)}
        yield Line(f"gemm_fp8 {accumulate}", 256 * 256 * 1024, side, "multiply-adds")
    unit = tensor_core("hopper-wgmma", "fp8")
    for M, N, K in ((64, 64, 1 << 16), (4096, 4096, 32)):
        a, b = np.ones((M, K), np.uint8), np.ones((K, N), np.uint8)
        tracemalloc.start()
        mma(a, b, None, unit)
        peak = (tracemalloc.get_traced_memory()[1] - 4 * M * N) / 1e6
        tracemalloc.stop()
        side = {OURS: lambda a=a, b=b: mma(a, b, None, unit)}
        yield Line(f"{M}x{N}x{K}, {peak:.0f} MB beside", M * N * K, side, "multiply-adds")


def scaling() -> Iterator[Line]:
    """Quantise (codes and scales), round in place, and back, by tiles; ml_dtypes casts only, unscaled."""
    x = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    t, y = torch.from_numpy(x), x.copy()

    def act_quant() -> object:
        tiles = t.view(1024, 8, 128)
        s = tiles.abs().amax(-1, keepdim=True).clamp(1e-4) / 448
        return (tiles / s).to(torch.float8_e4m3fn), s

    def cast() -> object:
        return x.astype(ml_dtypes.float8_e4m3fn)

    for block in ((1, 128), (128, 1), (128, 128), (1, 32), (32, 1), (32, 32)):
        for scale in ("float32", "power-of-two"):
            label = f"{block[0]}x{block[1]} {scale}"
            sides = {OURS: lambda b=block, s=scale: quantize(x, b, scale=s), ML: cast}
            torchs = {TORCH: act_quant} if (block, scale) == ((1, 128), "float32") else {}
            yield Line(f"quantize {label}", VALUES, sides | torchs)
            sides = {OURS: lambda b=block, s=scale: tile_round(y, b, scale=s, out=y), ML: cast}
            yield Line(f"tile_round {label}", VALUES, sides)
    q = quantize(x)
    yield Line("dequantize 1x128", VALUES, {OURS: q.dequantize})
    yield Line("regroup 1x128 to 128x1", VALUES, {OURS: lambda: q.regroup((128, 1))})
    for fmt in (MXFP8_E4M3, MXFP4, NVFP4):
        yield Line(f"encode {fmt.name}", VALUES, {OURS: lambda f=fmt: f.encode(x)})


def logfmt() -> Iterator[Line]:
    """LogFMT has no peer in Python."""
    x = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32) * np.float32(0.1)
    for fmt in (LogFMT(8), LogFMT(10), LogFMT(10, convention="deepep")):
        label, encoded = f"logfmt-{fmt.bits} {fmt.convention}", fmt.encode(x)
        packed = fmt.pack(encoded.codes)
        yield Line(f"encode {label}", VALUES, {OURS: lambda f=fmt: f.encode(x)})
        yield Line(f"decode {label}", VALUES, {OURS: lambda f=fmt, e=encoded: f.decode(e)})
        yield Line(f"pack {label}", VALUES, {OURS: lambda f=fmt, e=encoded: f.pack(e.codes)})
        yield Line(f"unpack {label}", VALUES, {OURS: lambda f=fmt, p=packed: f.unpack(p, VALUES)})


SECTIONS: dict[str, Callable[[], Iterator[Line]]] = {
    "formats": formats,
    "scaling": scaling,
    "logfmt": logfmt,
    "tensor-cores": tensor_cores,
}


def rates(line: Line, repeats: int) -> dict[str, float]:
    """Millions a second of every side, taking turns; the median of so many."""
    times: dict[str, list[float]] = {side: [] for side in line.sides}
    for run in range(repeats + 1):
        for side, call in line.sides.items():
            began = time.thread_time()
            call()
            if run:  # the first one fills caches
                times[side].append(time.thread_time() - began)
    return {side: line.count / median(taken) / 1e6 for side, taken in times.items()}


def show(line: Line, repeats: int) -> None:
    """One line of the table: ours, theirs, ratios."""
    found = rates(line, repeats)
    ours = found.pop(OURS)
    others = "".join(
        f"   {side} {rate:7.0f}  ours / {side} {ours / rate:5.2f}" for side, rate in found.items()
    )
    print(f"{line.what:28s} {ours:7.0f} M {line.unit}/s{others}", flush=True)


def main() -> None:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"numpy {np.__version__}, ml_dtypes {ml_dtypes.__version__}, torch {torch.__version__}, one thread;"
    )
    print(f"load of the machine: {os.getloadavg()[0]:.1f} (figures mean little while other work runs)")
    for section in arguments.sections:
        print(f"\n{section}: {SECTIONS[section].__doc__}")
        for line in SECTIONS[section]():
            show(line, arguments.repeats)


if __name__ == "__main__":
    main()
