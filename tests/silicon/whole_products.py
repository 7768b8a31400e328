"""Whole FP8 products through torch's `_scaled_mm`, with and without fast accumulation, beside `gemm_fp8`.

Fast accumulation keeps the sum in the tensor core along the whole K: gemm_fp8(..., interval=None). Without it
the library promotes partial sums to FP32 at an interval it does not publish: several are tried. What cuBLAS
splits over K, or how it orders K inside a tile, is not known either, so this is a finding to read, not a test
to pass; `wgmma.cu` is the test.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidsv3.numerics import BF16, E4M3
from minidsv3.numerics.gemm import gemm_fp8
from minidsv3.numerics.scaling import Quantized

INTERVALS = (None, 32, 64, 128, 256, 512)
SIZE = 128  # rows and columns


def compare(
    device: str = "cuda", depths: tuple[int, ...] = (512, 4096), seed: int = 0
) -> list[dict[str, Any]]:
    """A row for each product; none without torch and a Hopper GPU.  device: "cpu" tries the calls alone."""
    try:
        import torch
    except ImportError:
        return []
    if device == "cuda" and not (torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)):
        return []
    rng, rows = np.random.default_rng(seed), []
    for depth in depths:
        for kind in ("normal", "uniform"):
            draw = rng.normal if kind == "normal" else rng.uniform
            x, w = (E4M3.encode(draw(0, 1, (SIZE, depth)).astype(np.float32)) for _ in range(2))
            expected = {"float32": _ours(x, w, "ideal", None)}
            expected |= {
                f"every {n or depth}": _ours(x, w, "hardware", n) for n in INTERVALS if (n or 0) < depth
            }
            for fast in (True, False):
                got, output = _theirs(torch, x, w, fast, device)
                rows.append(_row(depth, kind, fast, output, got, expected) | {"torch": torch.__version__})
    return rows


def _ours(
    x: NDArray[np.uint8], w: NDArray[np.uint8], accumulate: str, interval: int | None
) -> NDArray[np.float32]:
    depth = x.shape[1]
    left, right = (Quantized(q, np.ones((len(q), 1), np.float32), (1, depth), E4M3) for q in (x, w))
    return gemm_fp8(left, right, accumulate, interval=interval)


def _theirs(
    torch: Any, x: NDArray[np.uint8], w: NDArray[np.uint8], fast: bool, device: str
) -> tuple[Any, str]:
    """x w^T through torch, in FP32 if it will, else in BF16."""
    a, b = (torch.from_numpy(q).to(device).view(torch.float8_e4m3fn) for q in (x, w))
    one = torch.ones((), dtype=torch.float32, device=device)
    for output in ("float32", "bfloat16"):
        try:
            got = torch._scaled_mm(
                a, b.t(), scale_a=one, scale_b=one, out_dtype=getattr(torch, output), use_fast_accum=fast
            )
            return got.float().cpu().numpy(), output
        except (RuntimeError, ValueError) as error:
            refused = error
    raise refused


def _row(
    depth: int, kind: str, fast: bool, output: str, got: Any, expected: dict[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """Share of equal results, and the normwise error against sums in float32."""
    rounded = {name: BF16.round(y) if output == "bfloat16" else y for name, y in expected.items()}
    shares = {name: round(float((got == y).mean()), 4) for name, y in rounded.items()}
    off = float(np.linalg.norm(got - expected["float32"]) / np.linalg.norm(expected["float32"]))
    return {
        "K": depth,
        "operands": kind,
        "fast": fast,
        "output": output,
        "equal": shares,
        "normwise_error": off,
    }
