"""Thousands of damaged files: each is read right or refused with our error, and nothing large is allocated.

Case i of a kind is drawn from a generator seeded with both, so that a failure names all that repeats it.
"""

import json
import random
import shutil
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minidsv3.checkpoint import (
    CheckpointError,
    Coded,
    open_folder,
    read_folder,
    read_safetensors,
    write_folder,
    write_safetensors,
)
from minidsv3.checkpoint.header import DTYPES
from minidsv3.checkpoint.safetensors import SafetensorsFile
from minidsv3.checkpoint.stored import stored_tensors
from minidsv3.config import ModelConfig
from minidsv3.numerics import BF16, E4M3, E5M2

Draw = random.Random
CASES = {"file": 7000, "index": 2000, "config": 500, "shard": 500}
SOME = {"file": 900, "index": 400, "config": 100, "shard": 100}
SECONDS = 5.0  # a case takes milliseconds; this much would be a hang
SPARE = 150_000  # bytes beside the numbers: a header's objects, a message, a traceback

HUGE = [2**31, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, 10**400]
ODD: list[object] = [-1, 0, 1, 3, 1.0, 0.5, True, None, "4", "", [], {}, [1], [[]], *HUGE, -(2**63)]
NAMES = [
    "",
    "../x.safetensors",
    "/etc/passwd",
    "..",
    "a/../b",
    "a\\b",
    "\0",
    "w\u0000",
    "__metadata__",
    "é" * 300,
]
TOKENS = ["{", "}", "[", "]", ",", ":", '"', "-", "0", "9", "1e9", "null", "true", "NaN", "F32", "F8_E4M3"]
TOKENS += ["\\ud800", "\\u0000", "[" * 2000, '{"a":' * 2000, "9" * 5000, "\xff", "//", " ", "\n"]

# ---- ways to do damage -------------------------------------------------------------------------------------


def flip_bits(data: bytes, draw: Draw, first: int = 0, last: int | None = None) -> bytes:
    damaged = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        damaged[draw.randrange(first, last or len(data))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def cut_or_lengthen(data: bytes, draw: Draw) -> bytes:
    at = draw.randrange(len(data))
    extra = bytes(draw.randint(1, 20))
    return draw.choice([data[:at], data[:-1], data[at:], data + extra, data[:at] + extra + data[at:]])


def edit_text(text: bytes, draw: Draw) -> bytes:
    for _ in range(draw.randint(1, 2)):
        at, cut = draw.randrange(len(text) + 1), draw.randint(0, 4)
        text = text[:at] + draw.choice(TOKENS).encode("latin-1") + text[at + cut :]
    return text


def edit_tree(tree: object, draw: Draw) -> object:
    """Change one place of a parsed JSON tree: a value, a name, an order, a nesting."""
    if draw.random() < 0.15 or not isinstance(tree, dict | list) or not tree:
        return draw.choice([*ODD, tree, [tree], {"a": tree}, draw.choice(NAMES), f"{tree}"])
    if isinstance(tree, list):
        at = draw.randrange(len(tree))
        change: list[Callable[[], list[object]]] = [
            lambda: [*tree[:at], edit_tree(tree[at], draw), *tree[at + 1 :]],
            lambda: tree[::-1],
            lambda: tree[:at] + tree[at + 1 :],
            lambda: [*tree, tree[at]],
        ]
        return draw.choice(change)()
    name, other = draw.choice(list(tree)), draw.choice(list(tree))
    changes: list[Callable[[], dict[str, object]]] = [
        lambda: tree | {name: edit_tree(tree[name], draw)},
        lambda: tree | {name: edit_tree(tree[name], draw)},
        lambda: tree | {name: tree[other], other: tree[name]},
        lambda: tree | {name: tree[other]},
        lambda: {key: value for key, value in tree.items() if key != name},
        lambda: {draw.choice(NAMES) if key == name else key: value for key, value in tree.items()},
        lambda: tree | {draw.choice(NAMES): tree[name]},
    ]
    return draw.choice(changes)()


def damage_json(text: bytes, draw: Draw) -> bytes:
    """Damage JSON in its text or its structure; sometimes a name stands twice after it."""
    kind = draw.random()
    if kind < 0.2:
        return edit_text(text, draw)
    if kind < 0.3:
        return flip_bits(text, draw)
    if kind < 0.35:
        return cut_or_lengthen(text, draw)
    tree = json.loads(text)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        tree = edit_tree(tree, draw)
    written = json.dumps(tree, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    if draw.random() < 0.1 and isinstance(tree, dict) and tree:
        name = draw.choice(list(tree))
        twice = json.dumps({name: draw.choice([tree[name], *ODD])})[1:-1].encode()
        written = b"{" + twice + b"," + written[1:]
    return written


def damage_file(data: bytes, draw: Draw) -> bytes:
    """Damage a safetensors file: its length, its header, its data, its end."""
    start = 8 + int.from_bytes(data[:8], "little")
    kind = draw.random()
    if kind < 0.1:
        return flip_bits(data, draw)
    if kind < 0.25:
        return flip_bits(data, draw, 0, start)
    if kind < 0.35:
        return cut_or_lengthen(data, draw)
    if kind < 0.45:
        length = draw.choice([0, 1, start - 9, start - 7, len(data) - 8, len(data) - 7, *HUGE[:-2], 10**8])
        return (length % 2**64).to_bytes(8, "little") + data[8:]
    header = damage_json(data[8:start].rstrip(), draw)
    length = len(header) if draw.random() < 0.95 else draw.randrange(2 * len(header) + 1)
    return length.to_bytes(8, "little") + header + data[start:]


# ---- reading by the shortest code that trusts everything ---------------------------------------------------

VALUES = {"F8_E4M3": E4M3, "F8_E5M2": E5M2, "BF16": BF16}


def trusting(data: bytes) -> dict[str, tuple[str, np.ndarray]]:
    start = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:start])
    table.pop("__metadata__", None)
    arrays = {}
    for name, fields in table.items():
        begin, end = fields["data_offsets"]
        assert 0 <= begin <= end <= len(data) - start
        numbers = np.frombuffer(data[start + begin : start + end], DTYPES[fields["dtype"]])
        arrays[name] = fields["dtype"], numbers.reshape(fields["shape"])
    return arrays


def assert_read_right(path: Path, data: bytes, came: dict[str, np.ndarray]) -> None:
    wanted, raw = trusting(data), stored_tensors(SafetensorsFile(path))
    assert came.keys() == wanted.keys() == raw.keys()
    for name, (dtype, numbers) in wanted.items():
        assert raw[name].raw().tobytes() == numbers.tobytes()
        assert came[name].shape == raw[name].shape == numbers.shape
        if dtype in VALUES:
            assert np.array_equal(came[name].astype("f"), VALUES[dtype].decode(numbers), equal_nan=True)
        else:
            assert came[name].tobytes() == numbers.tobytes()


# ---- the loop ----------------------------------------------------------------------------------------------


class Watch:
    """Time of each case and memory of every so many, and how many were read and refused."""

    def __init__(self, every: int) -> None:
        self.counts: Counter[str] = Counter()
        self.every = every  # watching memory takes three times as long

    def run(self, kind: str, case: int, size: int, read: Callable[[], object]) -> bool:
        """Whether the case was read; AssertionError if it was neither read nor refused as it should be."""
        began = time.perf_counter()
        if case % self.every == 0:
            tracemalloc.start()
        try:
            read()
        except CheckpointError as error:
            self.check_message(str(error), f"case {case} of {kind}")
            return False
        except BaseException as error:
            error.add_note(f"case {case} of {kind}")
            raise
        finally:
            grown = tracemalloc.get_traced_memory()[1]  # at its most; 0 where it is not watched
            tracemalloc.stop()
            assert grown <= 2 * size + SPARE, f"case {case} of {kind}: {grown} bytes for a file of {size}"
            assert time.perf_counter() - began < SECONDS, f"case {case} of {kind}"
        self.counts["read"] += 1
        return True

    def check_message(self, said: str, what: str) -> None:
        assert "expected" in said, what
        assert "got" in said or "missing" in said, what
        assert len(said) < 2000, what
        self.counts["refused"] += 1


def sound_files(folder: Path) -> list[bytes]:
    """Files to be damaged: of all number formats; of a model's; of one tensor; of none."""
    draw = np.random.default_rng(0)
    plain = [dtype for dtype in DTYPES if dtype not in VALUES]
    every: dict[str, object] = {f"{dtype}": np.ones((2, 3), DTYPES[dtype]) for dtype in plain}
    every |= {dtype: Coded(draw.integers(0, 100, (3, 2)).astype(DTYPES[dtype]), dtype) for dtype in VALUES}
    every |= {"none": np.zeros((0, 3), "f"), "single": np.float32(3)[...]}
    weight = draw.integers(0, 120, (130, 140)).astype(np.uint8)
    model = {"w": Coded(weight, "F8_E4M3"), "w_scale_inv": np.ones((2, 2), "f"), "norm": np.ones(140, "f")}
    sets = [(every, {"format": "np"}), (model, None), ({"w": np.arange(60_000, dtype="f")}, None), ({}, None)]
    files = []
    for tensors, metadata in sets:
        write_safetensors(folder / "sound", tensors, metadata)
        files.append((folder / "sound").read_bytes())
    return files


def run_files(folder: Path, cases: int, watch: Watch) -> None:
    files, path = sound_files(folder), folder / "x.safetensors"
    for case in range(cases):
        draw = Draw(f"file {case}")
        data = damage_file(draw.choice(files), draw)
        path.write_bytes(data)
        came: dict[str, np.ndarray] = {}
        if watch.run("file", case, len(data), lambda came=came: came.update(read_safetensors(path))):
            assert_read_right(path, data, came)


TINY = ModelConfig(
    vocab_size=11,
    dim=12,
    inter_dim=10,
    moe_inter_dim=6,
    n_layers=1,
    n_dense_layers=0,
    n_heads=2,
    n_routed_experts=2,
    n_shared_experts=1,
    n_activated_experts=1,
    n_expert_groups=1,
    n_limited_groups=1,
    route_scale=2.5,
    kv_lora_rank=5,
    qk_nope_head_dim=4,
    qk_rope_head_dim=2,
    v_head_dim=3,
    q_lora_rank=7,
    n_mtp_layers=1,
    fp8_block=4,
)


def sound_folder(folder: Path) -> dict[str, np.ndarray]:
    """An FP8 folder of several files, beside it one that no index may lead to, in it a link to that."""
    draw = np.random.default_rng(0)
    tensors = {n: draw.standard_normal(shape, np.float32) for n, shape in TINY.tensor_shapes().items()}
    write_folder(folder, TINY, tensors, "fp8", mtp_copies=True, shard_bytes=900, block=4)
    shutil.copy(open_folder(folder).files[0], folder.parent / "x.safetensors")
    (folder / "link.safetensors").symlink_to(folder.parent / "x.safetensors")
    return read_folder(folder)[1]


def target(folder: Path, kind: str, draw: Draw) -> Path:
    shards = sorted(folder.glob("model-*"))
    return {"index": folder / "model.safetensors.index.json", "config": folder / "config.json"}.get(
        kind, draw.choice(shards)
    )


def repoint(text: bytes, draw: Draw) -> bytes:
    """An index that sends tensors to other files, or to none, or out of the folder."""
    table = json.loads(text)
    files = sorted(set(table["weight_map"].values()))
    strange = [
        "../x.safetensors",
        "link.safetensors",
        "x.safetensors",
        ".safetensors",
        "a\0.safetensors",
        "x.bin",
    ]
    strange += [
        "/etc/x.safetensors",
        "./" + files[0],
        files[0].upper(),
        "model.safetensors",
        "",
        "..",
        files[0] + "/",
    ]
    strange += [f"{'a' * 300}.safetensors", "\ud800.safetensors"]
    for name in draw.sample(sorted(table["weight_map"]), draw.choice([1, 1, 2, 20])):
        table["weight_map"][name] = draw.choice([*strange, *files])
    return json.dumps(table).encode()


def run_folders(folder: Path, kind: str, cases: int, watch: Watch) -> None:
    wanted = sound_folder(folder)
    size = sum(file.stat().st_size for file in open_folder(folder).files)
    for case in range(cases):
        draw = Draw(f"{kind} {case}")
        file = target(folder, kind, draw)
        sound = file.read_bytes()
        damages = {"index": draw.choice([damage_json, repoint]), "config": damage_json, "shard": damage_file}
        damaged = damages[kind](sound, draw)
        file.write_bytes(damaged)
        came: dict[str, np.ndarray] = {}
        read = lambda came=came: came.update(read_folder(folder)[1])  # noqa: E731
        # float32 of FP8 is four times the codes: what was asked for, and no allocation of the reader's own
        if watch.run(kind, case, 2 * size + len(damaged), read):
            assert came.keys() <= wanted.keys()
            same = [np.array_equal(came[name], wanted[name], equal_nan=True) for name in came]
            assert all(same) or kind == "shard"  # where numbers themselves may have changed
            left = {name.split(".")[2] for name in wanted.keys() - came.keys()}
            assert left <= {"1"}  # a config without the MTP module, at most
        file.write_bytes(sound)


def check(watch: Watch, cases: int) -> None:
    assert watch.counts["refused"] + watch.counts["read"] == cases
    assert watch.counts["refused"] > cases // 3
    assert watch.counts["read"] > cases // 60  # and the loop does not only make rubbish


@pytest.mark.parametrize("kind", CASES)
def test_some_damaged_files_are_read_right_or_refused(tmp_path, kind):
    watch = Watch(every=5)
    if kind == "file":
        run_files(tmp_path, SOME[kind], watch)
    else:
        run_folders(tmp_path / "model", kind, SOME[kind], watch)
    check(watch, SOME[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_ten_thousand_damaged_files_are_read_right_or_refused(tmp_path, kind):
    watch = Watch(every=1)
    assert sum(CASES.values()) == 10_000
    if kind == "file":
        run_files(tmp_path, CASES[kind], watch)
    else:
        run_folders(tmp_path / "model", kind, CASES[kind], watch)
    check(watch, CASES[kind])
