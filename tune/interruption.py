"""Ctrl-C and SIGTERM as a wish to stop."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interruption"]


class Interruption:
    """Turns SIGINT and SIGTERM into a request to stop; a second signal ends the program at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the context lasts."""
        previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    @property
    def name(self) -> str | None:
        """The signal's name, or None."""
        return None if self.signal is None else self.signal.name

    def __bool__(self) -> bool:
        return self.signal is not None
