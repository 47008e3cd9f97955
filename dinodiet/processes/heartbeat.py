"""Whether the processes of a run still live: each tells its neighbour several times a minute.

A process that is stopped keeps its connections, so that nothing else tells of it while the others wait long. What is
sent goes past the process group, in datagrams: a neighbour that none ever arrives from is not watched. Imports
no torch.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dinodiet.errors import UserError
from dinodiet.processes.place import machine_name

VARIABLE, MINUTES, MOST_MINUTES = "DINODIET_SILENCE_MINUTES", 10.0, 10_080.0  # a week
BEATS = 40  # that must be missing, one after another
LONGEST = 5.0  # seconds between two beats
ALIVE, LEAVES = b"1", b"0"
GOODBYES = 3  # a datagram may be lost


@dataclass(frozen=True)
class Silent:
    """A process that has given no sign of life for so many minutes."""

    rank: int
    host: str
    minutes: float

    def __str__(self) -> str:
        """Return it in words."""
        return f"process {self.rank} on {self.host} gave no sign of life for {self.minutes:g} minutes ({VARIABLE})"


def silence_minutes() -> float:
    """Return after how many minutes a silent process is given up, as the environment says.

    Raises:
        UserError: it says something else than a number above 0 and up to a week.
    """
    said = os.environ.get(VARIABLE, "")
    with contextlib.suppress(ValueError):
        minutes = float(said or MINUTES)
        if 0 < minutes <= MOST_MINUTES:
            return minutes
    raise UserError(
        f"{VARIABLE}: {said!r}; must be a number of minutes above 0 and up to {MOST_MINUTES:g}, such as {MINUTES:g}"
    )


@contextlib.contextmanager
def watched(
    rank: int, exchange: Callable[[Any], Sequence[Any]], on_silent: Callable[[Silent], object]
) -> Iterator[None]:
    """Tell the process before this one that it lives, and watch the one after it; all of the group enter.

    Args:
        rank: of this process.
        exchange: returns what all processes give to it, in the order of their ranks.
        on_silent: is called in a thread of its own, once, where the watched process is silent for too long.
    """
    minutes = silence_minutes()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("", 0))
        ours.setblocking(False)
        places = exchange((socket.gethostname(), ours.getsockname()[1], machine_name()))
        told, seen = places[rank - 1], (rank + 1) % len(places)
        silent = Silent(seen, places[seen][2], minutes)
        heartbeat = _Heartbeat(ours, _address(told), silent, on_silent)
        heartbeat.tell(ALIVE)  # before anything can stop this process
        thread = threading.Thread(target=heartbeat.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            heartbeat.ended.set()
            thread.join()


def _address(place: tuple[str, int, str]) -> tuple[str, int]:
    """Return where a process is told; the name of this machine need not have an address."""
    host, port, _ = place
    return ("127.0.0.1" if host == socket.gethostname() else host), port


class _Heartbeat:
    """Beats, and counts the beats of this process in which none of the watched one has arrived.

    A process that was stopped itself has not beaten meanwhile, and blames nobody when it goes on.
    """

    def __init__(
        self, ours: socket.socket, told: tuple[str, int], silent: Silent, on_silent: Callable[[Silent], object]
    ) -> None:
        self.ended = threading.Event()
        self._ours, self._told, self._silent, self._on_silent = ours, told, silent, on_silent
        self._pause = min(60 * silent.minutes / BEATS, LONGEST)
        self._most = math.ceil(60 * silent.minutes / self._pause)

    def run(self) -> None:
        """Beat until the end, or until the watched process is silent for too long."""
        missed, watching = 0, False
        while not self.ended.wait(self._pause):
            self.tell(ALIVE)
            heard = self._heard()
            watching = (watching or ALIVE in heard) and LEAVES not in heard
            missed = 0 if heard else missed + 1
            if watching and missed >= self._most:
                self._on_silent(self._silent)
                return
        for _ in range(GOODBYES):
            self.tell(LEAVES)

    def tell(self, word: bytes) -> None:
        """Send a word to the process that watches this one."""
        with contextlib.suppress(OSError):  # what a network cannot do is no sign
            self._ours.sendto(word, self._told)

    def _heard(self) -> set[bytes]:
        """Return what has arrived since the last time."""
        found = set()
        with contextlib.suppress(OSError):  # nothing more has
            while word := self._ours.recv(1):
                found.add(word)
        return found
