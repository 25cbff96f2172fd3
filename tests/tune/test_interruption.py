import contextlib
import signal

import pytest

from tune.interruption import Interruption


@pytest.fixture
def own_handlers():
    """Handlers that a test can tell from ours, put back as they were afterwards."""

    def handler(number, frame):
        pytest.fail("the signal was not listened for")

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    yield handler
    for number, previous in before.items():
        signal.signal(number, previous)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted(own_handlers, number):
    interruption = Interruption()
    with interruption.listening():
        assert not interruption
        signal.raise_signal(number)
        assert interruption
        assert interruption.signal == number


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)],
)
def test_the_second_signal_ends_the_program(own_handlers, first, second):
    interruption = Interruption()
    with interruption.listening():
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)
    assert interruption.signal == first


def test_handlers_are_put_back_however_it_ends(own_handlers):
    interruption = Interruption()
    with interruption.listening():
        assert signal.getsignal(signal.SIGINT) is not own_handlers
    with contextlib.suppress(KeyboardInterrupt), interruption.listening():
        raise KeyboardInterrupt
    assert signal.getsignal(signal.SIGINT) is own_handlers
    assert signal.getsignal(signal.SIGTERM) is own_handlers
