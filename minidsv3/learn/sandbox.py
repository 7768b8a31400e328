"""A child process for code that may loop, eat memory, crash or say it is done when it is not.

The child is an isolated Python (`-I`) in its own session, in an empty folder, with no input, one BLAS thread
and limits on memory, CPU seconds and file size that it sets on itself before anything else runs. What it
prints is read up to a cap. Results come as JSON lines over a pipe of their own, each with a nonce; the last
line says that it is the last. Without it, or with a line that is not ours, the run has a `problem`, in words.
At the end the whole process group is killed.

It guards against accidents. It is no security boundary: code that wants to find the pipe finds it. Memory
and CPU limits need POSIX, memory also Linux (macOS does not enforce it); the wall clock always holds.

    >>> run("minidsv3.learn.sandbox:echo", {"say": "hello"}).messages
    [{'say': 'hello'}]

Next: minidsv3.learn.child_values
"""

import contextlib
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

__all__ = ["Finished", "Limits", "run"]

Message = dict[str, Any]
Send = Callable[[Message], None]

CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from minidsv3.learn.sandbox import child; child()"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
MOST_RESULT = 2**20  # bytes of results read
TICK = 0.05  # seconds between two looks at the child


@dataclass(frozen=True)
class Limits:
    """What a run may use."""

    memory_mib: int = 1024  # address space: NumPy and Hypothesis alone map some 400
    cpu_seconds: int = 10
    wall_seconds: float = 20.0
    file_mib: int = 16  # the largest file that may be written
    disk_mib: int = 32  # all files together, where the system can hold that
    processes: int = 16  # and threads, its own among them
    output_bytes: int = 64 * 1024


@dataclass(frozen=True)
class Finished:
    """How a run went."""

    messages: list[Message]
    problem: str | None  # in words; None if the run came to its own end
    output: str  # what was printed, up to the cap
    seconds: float


def run(job: str, request: Message, limits: Limits | None = None) -> Finished:
    """Run a job, `"module:function"`, in a child.

    The function is called with the request and a `send`; what it sends are the messages.
    """
    limits, nonce, start = limits or Limits(), secrets.token_hex(16), monotonic()
    if os.name != "posix":
        raise OSError("checking an exercise needs a POSIX system (Linux, macOS, WSL)")
    with tempfile.TemporaryDirectory(prefix="minidsv3-", ignore_cleanup_errors=True) as folder:
        order = {"job": job, "request": request, "nonce": nonce, "limits": asdict(limits)}
        (Path(folder) / "order.json").write_text(json.dumps(order), encoding="utf-8")
        process, result = _start(folder)
        try:
            said, output, late = _listen(process, result, start + limits.wall_seconds, limits.output_bytes)
        finally:
            _kill_group(process)
            os.close(result)
    messages, ended = _read(said, nonce)
    problem = None if ended and not late else _in_words(process.returncode, late, limits)
    return Finished(messages, problem, output.decode(errors="replace"), monotonic() - start)


def _start(folder: str) -> tuple[subprocess.Popen[bytes], int]:
    """The child and our end of its result pipe."""
    result, theirs = os.pipe()
    package = Path(__file__).resolve().parents[2]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", CHILD, str(package), str(theirs)],
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"} | dict.fromkeys(THREADS, "1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs],
            start_new_session=True,
        )
    finally:
        os.close(theirs)
    return process, result


def _listen(
    process: subprocess.Popen[bytes], result: int, until: float, most_output: int
) -> tuple[bytes, bytes, bool]:
    """Read both pipes until they close, the child ends, or time is up  ->  results, output, too late."""
    assert process.stdout is not None
    said = {result: b"", process.stdout.fileno(): b""}
    most = {result: MOST_RESULT, process.stdout.fileno(): most_output}
    late = False
    with selectors.DefaultSelector() as both, process.stdout:
        for descriptor in said:
            os.set_blocking(descriptor, False)
            both.register(descriptor, selectors.EVENT_READ)
        while both.get_map() and not late:
            ended = process.poll() is not None  # looked at first: what it wrote before is then in the pipes
            events = both.select(0 if ended else TICK)
            for key, _ in events:
                _take(key.fd, said, most, both)
            if ended and not events:  # a grandchild may hold the pipes open
                break
            late = monotonic() > until
        return said[result], said[process.stdout.fileno()], late


def _take(
    descriptor: int, said: dict[int, bytes], most: dict[int, int], both: selectors.BaseSelector
) -> None:
    """Read what is there; more than the most is thrown away."""
    data = os.read(descriptor, 65536)
    if not data:
        both.unregister(descriptor)
    said[descriptor] = (said[descriptor] + data)[: most[descriptor]]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the child, if it still runs, and everything that it started in its session."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(TICK)  # both pipes may close a moment before it ends: its own exit code tells more
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(said: bytes, nonce: str) -> tuple[list[Message], bool]:
    """The messages up to the first line that is not ours, and whether the last line ends them."""
    messages: list[Message] = []
    for line in said.split(b"\n")[:-1]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            return messages, False
        if not isinstance(found, dict) or found.pop("nonce", None) != nonce:
            return messages, False
        messages.append(found)
    ended = bool(messages) and messages[-1] == {"end": True} and said.endswith(b"\n")
    ends = sum("end" in message for message in messages)
    return [message for message in messages if "end" not in message], ended and ends == 1


def _in_words(code: int, late: bool, limits: Limits) -> str:
    """Why a run has no valid result."""
    if late:
        return f"ran longer than {limits.wall_seconds:g} s"
    if code == -signal.SIGXCPU:
        return f"used {limits.cpu_seconds} s of CPU"
    if code == -signal.SIGKILL:
        return f"was killed (out of memory, or {limits.cpu_seconds} s of CPU used up)"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return f"ended before the checks did (exit code {code})"


# ---- in the child -----------------------------------------------------------------------------------------


def child() -> None:
    """What the child process runs; `sys.argv[2]` is its end of the result pipe."""
    descriptor, write = int(sys.argv[2]), os.write
    os.set_inheritable(descriptor, False)
    place = Path("order.json")
    order = json.loads(place.read_text(encoding="utf-8"))
    place.unlink()
    _limit_self(Limits(**order["limits"]))
    nonce, dumps = order["nonce"], json.dumps

    def send(message: Message) -> None:
        write(descriptor, (dumps(message | {"nonce": nonce}) + "\n").encode())

    module, _, name = order["job"].partition(":")
    sys.argv = [""]
    getattr(import_module(module), name)(order["request"], send)
    send({"end": True})
    sys.stdout.flush()
    os._exit(0)  # nothing that the code left behind (threads, atexit) runs after the end


def _limit_self(limits: Limits) -> None:
    import resource

    memory, file = limits.memory_mib * 2**20, limits.file_mib * 2**20
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file, file))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS refuses
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def echo(request: Message, send: Send) -> None:
    """A job that sends its request back; for tests and the example above."""
    send(request)
