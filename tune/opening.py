"""What a command is at until its first trials run: said at once, where nothing else is to be seen for seconds."""

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

__all__ = ["Opening", "clock"]


class Opening:
    """Tells step after step: on a terminal until the table takes the place, elsewhere in lines that stay.

    Args:
        console: where; None for nowhere.
        has_lines: whether it is told where the output is no terminal, too. The output of some commands is for programs.
    """

    def __init__(self, console: Console | None, *, has_lines: bool = True) -> None:
        self._console, self._has_lines = console, has_lines
        self._started = time.monotonic()
        self._steps: list[str] = []
        self._live: Live | None = None
        self._is_over = console is None

    def __enter__(self) -> "Opening":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def step(self, text: str) -> None:
        """Say what is done from now on."""
        if self._is_over or self._console is None:
            return
        line = f"{clock(time.monotonic() - self._started)} start: {text}"
        if not self._console.is_terminal:
            if self._has_lines:
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        self._steps.append(line)
        shown = Text("\n".join(self._steps), overflow="ellipsis", no_wrap=True)
        if self._live is None:
            # It is drawn when there is something new, by this thread: Ray's processes are forked meanwhile.
            self._live = Live(
                shown, console=self._console, auto_refresh=False, transient=True,
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._live.start(refresh=True)
            self._console.show_cursor(True)  # a kill in these seconds leaves the terminal as it was
        else:
            self._live.update(shown, refresh=True)

    def end(self, workers: int) -> None:
        """Make way for what shows the trials; elsewhere say what they wait for.

        Args:
            workers: how many processes are started for trials; 0 where there is nothing left to train.
        """
        if workers and self._console is not None and not self._console.is_terminal:
            self.step("1 worker, which loads torch" if workers == 1 else f"{workers} workers, which load torch")
        self._end()

    def _end(self) -> None:
        self._is_over = True
        if self._live is not None:
            self._live.stop()
            self._live = None


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds, such as 0:01:05."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
