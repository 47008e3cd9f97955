"""Processes that give no sign of life are told of, and no others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dinodiet.errors import UserError
from dinodiet.processes.heartbeat import ALIVE, LEAVES, VARIABLE, Silent, silence_minutes, watched

SECONDS = 0.5


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(SECONDS / 60))


@pytest.fixture
def other() -> Iterator[socket.socket]:
    """Return the socket of a second process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        yield made


def exchange(other: socket.socket, places: list[tuple[str, int]]) -> Callable[[Any], Sequence[Any]]:
    def of_all(own: Any) -> Sequence[Any]:
        places.append(("127.0.0.1", own[1]))
        return [own, (socket.gethostname(), other.getsockname()[1], "elsewhere")]

    return of_all


def heard_of(other: socket.socket, beats: Sequence[bytes], seconds: float) -> list[Silent]:
    """Return what is told of a process that sends this, and then nothing."""
    found, told, places = list[Silent](), threading.Event(), list[tuple[str, int]]()

    def on_silent(silent: Silent) -> None:
        found.append(silent)
        told.set()

    with watched(0, exchange(other, places), on_silent):
        for beat in beats:
            other.sendto(beat, places[0])
        told.wait(seconds)
    return found


def test_a_process_that_has_fallen_silent_is_named(other: socket.socket) -> None:
    (silent,) = heard_of(other, [ALIVE], 120 * SECONDS)
    assert silent.rank == 1
    assert str(silent).startswith("process 1 on elsewhere gave no sign of life for")


@pytest.mark.parametrize("beats", [[], [ALIVE, LEAVES]], ids=["never heard", "has left"])
def test_one_that_was_never_heard_or_has_left_is_not_missed(other: socket.socket, beats: Sequence[bytes]) -> None:
    assert heard_of(other, beats, 1.8 * SECONDS) == []


def test_this_one_beats_and_says_when_it_leaves(other: socket.socket) -> None:
    other.settimeout(60)
    with watched(0, exchange(other, []), lambda silent: None):
        assert other.recv(1) == ALIVE
    heard = {other.recv(1)}
    while LEAVES not in heard:
        heard.add(other.recv(1))


def test_two_that_beat_miss_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 4 * SECONDS  # a busy machine may leave a thread waiting
    monkeypatch.setenv(VARIABLE, str(seconds / 60))
    found, places, met = list[Silent](), list[Any]([None, None]), threading.Barrier(2)

    def one(rank: int) -> None:
        def of_all(own: Any) -> Sequence[Any]:
            places[rank] = own
            met.wait(60)
            return places

        with watched(rank, of_all, found.append):
            threading.Event().wait(1.3 * seconds)
            met.wait(60)

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == []


@pytest.mark.parametrize("said", ["soon", "0", "-1", "inf", "nan", "10081", "1e300"])
def test_what_is_no_time_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, said)
    told = rf"^{VARIABLE}: '{said}'; must be a number of minutes above 0 and up to 10080, such as 10$"
    with pytest.raises(UserError, match=told):
        silence_minutes()


def test_the_default_is_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    assert silence_minutes() == 10
