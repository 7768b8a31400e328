"""A pass that runs in a thread of its own and waits behind every op until it is sent on.

The thread begins with the first `resume` and works only while the caller waits, so that no two threads ever
touch the model at once, and a pass that would take minutes stands still at its first op. `resume` comes back
when the handler says stop or the pass is over; what a pass raises is raised there. Ctrl-C in a `resume` lets
the op at hand finish, so that the pass stands at an op again, and is then raised. `close` ends the pass
wherever it stands.

Does: hand the turn back and forth, end cleanly. Does not: remember anything.

    >>> import numpy as np
    >>> from minidsv3.machine import Machine
    >>> def work(watch):
    ...     machine, one = Machine(watch=watch), np.ones((1, 1))
    ...     return machine.add(machine.add(one, one, at="ffn.residual"), one, at="ffn.residual")
    >>> seen = []
    >>> with Runner(work) as runner:
    ...     runner.resume(lambda event: seen.append(event.result) or True), seen
    ...     runner.answer = np.array([[5.0]])
    ...     runner.resume(lambda event: False), runner.result
    (True, [array([[2.]])])
    (False, array([[6.]]))

Next: minidsv3.learn.stepping.passes
"""

import threading
from collections.abc import Callable
from typing import Any, Self

from minidsv3.machine import Event, Watch

__all__ = ["Handler", "Runner"]

PATIENCE = 10.0  # seconds that `close` waits for the op at hand
Handler = Callable[[Event], bool]
"""Is called in the pass's thread with each event; True: stop here."""


class Abandoned(BaseException):
    """Raised in the pass to end it; nothing that handles errors takes it for one."""


class Runner:
    """One run of a pass.  work: what to run; gives every event to the watch that it is called with.

    answer: set by the handler, or while the pass stands, takes the place of the result at hand.
    """

    def __init__(self, work: Callable[[Watch], Any]) -> None:
        self.result: Any = None
        self.answer: Any = None
        self.over = False
        self._work = work
        self._error: BaseException | None = None
        self._handler: Handler = lambda _: True
        self._go, self._stood = threading.Semaphore(0), threading.Semaphore(0)
        self._pause = self._leave = False
        self._thread = threading.Thread(target=self._run, name="pass", daemon=True)

    def resume(self, handler: Handler) -> bool:
        """Go on until the handler says stop: True; until the pass is over: False."""
        if self.over:
            return False
        self._handler, self._pause = handler, False
        if not self._thread.is_alive():
            self._thread.start()
        self._go.release()
        try:
            self._stood.acquire()
        except KeyboardInterrupt:
            self._pause = True
            self._stood.acquire()
            raise
        if self._error is not None:
            raise self._error
        return not self.over

    def close(self) -> None:
        """End the pass; waits for the op at hand, some seconds at most."""
        self._leave = self.over = True
        if self._thread.is_alive():
            self._go.release()
            self._thread.join(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- in the thread ----

    def _run(self) -> None:
        try:
            self._go.acquire()
            if not self._leave:
                self.result = self._work(self._watch)
        except Abandoned:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.over = True
            self._stood.release()

    def _watch(self, event: Event) -> Any:
        if self._leave:
            raise Abandoned
        self.answer = None
        if self._handler(event) or self._pause:
            self._stood.release()
            self._go.acquire()
            if self._leave:
                raise Abandoned
        return self.answer
