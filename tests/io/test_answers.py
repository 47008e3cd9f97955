"""Whether there is a hub is known in an instant, and what does not answer is left; see also test_slow_server."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinodiet.io import answers as module
from dinodiet.io.answers import check_hub, in_time
from tests.web import Web, serving


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with serving(tmp_path, monkeypatch) as found:
        yield found


def test_the_hub_is_asked_for_in_an_instant(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "getproxies", dict)
    check_hub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")  # where nobody listens
    with pytest.raises(ConnectionRefusedError):
        check_hub()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        check_hub()


def test_a_call_that_is_not_over_in_time_is_left_and_what_it_opens_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_SECONDS", 0.1)
    closed = threading.Event()

    class Opened:
        def close(self) -> None:
            closed.set()

    def late() -> Opened:
        time.sleep(0.4)
        return Opened()

    with pytest.raises(TimeoutError, match="no answer in 0 s"):
        in_time(late)
    assert closed.wait(60)
    monkeypatch.undo()
    assert in_time(lambda: 3) == 3
