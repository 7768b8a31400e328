"""The program `wgmma.cu` from Python: its files, its building, its runs."""

import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from silicon.operands import BYTES, COLUMNS, ROWS, UNITS, Case

SOURCE = Path(__file__).with_name("wgmma.cu")
BUILD = ["-O2", "-std=c++17", "-gencode=arch=compute_90a,code=sm_90a"]
HEADER = struct.Struct("<8sIIIIQ")  # magic, unit, tiles, steps, with C, bytes of payload
OPERANDS, RESULTS = b"MDSTILE1", b"MDSRSLT1"


def write_operands(path: Path, case: Case) -> None:
    """A case as `wgmma.cu` reads it."""
    unit, (tiles, steps) = UNITS[case.unit], case.a.shape[:2]
    payload = b"".join(
        [
            *((codes.astype(unit.stored) << unit.shift).tobytes() for codes in (case.a, case.b)),
            b"" if case.c is None else case.c.astype("<f4").tobytes(),
        ]
    )
    header = HEADER.pack(OPERANDS, unit.number, tiles, steps, case.c is not None, len(payload))
    path.write_bytes(header + payload)


def read_operands(path: Path, name: str) -> Case:
    """The inverse of `write_operands`; ValueError for a file that is not whole."""
    unit_number, tiles, steps, with_c, payload = _read(path, OPERANDS)
    unit_name, unit = next((n, u) for n, u in UNITS.items() if u.number == unit_number)
    instructions, results = tiles * steps, tiles * ROWS * COLUMNS
    sizes = [instructions * ROWS * BYTES, instructions * COLUMNS * BYTES, 4 * results * with_c]
    if len(payload) != sum(sizes):
        raise ValueError(f"{path.name}: expected {sum(sizes)} bytes of operands, got {len(payload)}")
    a, b = (
        np.frombuffer(part, unit.stored).astype(fmt.dtype) >> unit.shift
        for part, fmt in ((payload[: sizes[0]], unit.a), (payload[sizes[0] : sizes[0] + sizes[1]], unit.b))
    )
    a, b = (codes.reshape(tiles, steps, -1, unit.depth) for codes in (a, b))
    c = np.frombuffer(payload, "<f4", offset=sizes[0] + sizes[1]) if with_c else None
    return Case(name, unit_name, a, b, c if c is None else c.reshape(tiles, ROWS, COLUMNS))


def write_results(path: Path, case: Case, results: NDArray[np.float32]) -> None:
    """What the program writes; for tests that stand in for it."""
    payload = results.astype("<f4").tobytes()
    fields = (UNITS[case.unit].number, *case.a.shape[:2], case.c is not None, len(payload))
    path.write_bytes(HEADER.pack(RESULTS, *fields) + payload)


def read_results(path: Path, case: Case) -> NDArray[np.float32]:
    """Results of a case, [tiles, 64, 8]; ValueError if they are another's or not whole."""
    *fields, payload = _read(path, RESULTS)
    tiles, steps = case.a.shape[:2]
    expected = [UNITS[case.unit].number, tiles, steps, int(case.c is not None)]
    if fields != expected or len(payload) != 4 * tiles * ROWS * COLUMNS:
        raise ValueError(f"{path.name}: expected results of {expected}, got {fields}, {len(payload)} bytes")
    return np.frombuffer(payload, "<f4").reshape(tiles, ROWS, COLUMNS)


def _read(path: Path, magic: bytes) -> tuple[int, int, int, int, bytes]:
    """Unit, tiles, steps, with C, payload."""
    data = path.read_bytes()
    if len(data) < HEADER.size or data[:8] != magic:
        raise ValueError(f"{path.name}: expected a file that begins with {magic!r}, got {data[:8]!r}")
    _, unit, tiles, steps, with_c, size = HEADER.unpack_from(data)
    behind = len(data) - HEADER.size
    if behind != size:
        raise ValueError(f"{path.name}: expected {size} bytes behind the header, got {behind}")
    return unit, tiles, steps, with_c, data[HEADER.size :]


# ---- the program -------------------------------------------------------------------------------------------


def nvcc() -> str | None:
    """CUDA's compiler, if it is here."""
    usual = Path("/usr/local/cuda/bin/nvcc")
    return shutil.which("nvcc") or (str(usual) if usual.exists() else None)


def build(folder: Path, swapped: bool = False) -> Path:
    """Compile `wgmma.cu` for Hopper.  swapped: exchange the descriptors' two offsets."""
    compiler, program = nvcc(), folder / "wgmma"
    if compiler is None:
        raise FileNotFoundError("expected nvcc (CUDA 12.3 or newer) on the PATH")
    _run([compiler, *BUILD, *(["-DSWAPPED"] if swapped else []), "-o", str(program), str(SOURCE)])
    return program


def run(program: Path, how: str, cases: Sequence[Case], folder: Path) -> list[NDArray[np.float32]]:
    """Results of each case by "wgmma", "mma" or "host", in one start of the program."""
    files: list[Path] = []
    for i, case in enumerate(cases):
        files += [folder / f"{i}.operands", folder / f"{i}.{how}"]
        write_operands(files[-2], case)
    _run([str(program), how, *map(str, files)])
    return [read_results(path, case) for path, case in zip(files[1::2], cases, strict=True)]


def gpu(program: Path) -> dict[str, object]:
    """What the runtime says of the GPU; RuntimeError where there is none of compute capability 9.0."""
    found: dict[str, object] = json.loads(_run([str(program), "device"]))
    if found["capability"] != "9.0":
        raise RuntimeError(f"expected a GPU of compute capability 9.0 (H100, H200, H800), got {found}")
    return found


def driver_version() -> str:
    """The driver's own version, as nvidia-smi has it; empty if that is not here."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return _run(command).splitlines()[0].strip()
    except (RuntimeError, FileNotFoundError, IndexError):
        return ""


def nvcc_version() -> str:
    """The line of `nvcc --version` that names the release; empty without nvcc."""
    compiler = nvcc()
    lines = _run([compiler, "--version"]).splitlines() if compiler else []
    return next((line.strip() for line in lines if "release" in line), "")


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
