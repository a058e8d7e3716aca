"""Ctrl-C and SIGTERM as a wish that the training loop grants between two steps."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BY_SIGNAL = 128
"""What shells add to a signal's number for the exit code of a process that it ended."""


class Interrupt:
    """While entered, the first signal sets `asked`; a second one acts as it would without this.

    `end` then does what the first one would have done. Only the main thread of a process can do this; elsewhere
    signals act as always.
    """

    def __init__(self) -> None:
        self.asked = False
        self._number: int = signal.SIGINT
        self._handler: Any = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._ask) for one in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def end(self, said: str) -> NoReturn:
        """Act as the signal would have acted, with `said` as the reason; never return as if nothing had happened.

        A handler that the program had of its own is called first.

        Raises:
            KeyboardInterrupt: Ctrl-C, or another process of this run was asked to stop.
            SystemExit: SIGTERM; the exit code is the one that shells know.
        """
        if callable(self._handler) and self._handler is not signal.default_int_handler:
            self._handler(self._number, None)
        if self._number == signal.SIGTERM:
            raise SystemExit(BY_SIGNAL + signal.SIGTERM)
        raise KeyboardInterrupt(said)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked, self._number = True, number
        self._handler = self._before.get(signal.Signals(number))
        self._restore()

    def _restore(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, signal.SIG_DFL if handler is None else handler)
        self._before = {}
