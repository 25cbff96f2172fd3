"""One Ray for all tests of a process that are not about starting one: a start costs more than most searches in it."""

import contextlib
import gc
import time
from collections.abc import Iterator

import pytest

_DATA_BYTES = 10**8  # more than all digits


class SharedRay:
    """A Ray on this machine, as a search starts it, that is there from the first test that asks for it on."""

    def __init__(self) -> None:
        self._running: contextlib.ExitStack | None = None

    @property
    def is_running(self) -> bool:
        """Whether this process is connected to it."""
        return self._running is not None

    def start(self) -> None:
        """Start it unless it is there."""
        from tune.cluster.connection import connect  # imports Ray, which not every process of tests needs

        if self._running is None:
            running = contextlib.ExitStack()
            running.enter_context(connect("local", _DATA_BYTES))
            self._running = running

    def stop(self) -> None:
        """Stop it if it is there, for tests that start one of their own."""
        if self._running is not None:
            running, self._running = self._running, None
            running.close()

    def settle(self, seconds: float = 120) -> None:
        """Wait until nothing is left of what ran in it: a search that was left in the middle leaves its workers.

        They end with the last reference to them, for which Python would look later.
        """
        import ray

        deadline = time.monotonic() + seconds
        while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
            assert time.monotonic() < deadline, f"still at work: {ray.available_resources()}"
            gc.collect()
            time.sleep(0.1)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Have searches and confirmations that begin in this process while the context lasts run in it."""
        import tune.session

        self.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tune.session, "connect", lambda *_: self._entered())
            yield

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        self.settle()
        yield


SHARED_RAY = SharedRay()
