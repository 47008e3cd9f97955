"""What a process of a run says when another one is gone. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dinodiet.errors import one_line
from dinodiet.processes.place import machine_name
from dinodiet.store.status import OthersLost

CONTINUES = "the same command continues from the last checkpoint"

# Torch has no class of its own for what gloo raises: only its text tells that another process is gone.
_SAID = ("gloo", "NCCL", "Connection closed", "Connection reset", "DistBackendError")


def says_lost(error: BaseException) -> bool:
    """Return whether an error says that another process is gone."""
    if isinstance(error, OthersLost):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _SAID)


@contextlib.contextmanager
def others_told(rank: int) -> Iterator[None]:
    """Raise `OthersLost` in the place of an error that says that another process is gone.

    Args:
        rank: of this process.
    """
    try:
        yield
    except RuntimeError as error:
        if not says_lost(error):
            raise
        raise lost_others(rank, error) from error


def lost_others(rank: int, error: BaseException) -> OthersLost:
    """Return what a process says of an error that tells that others are gone."""
    if isinstance(error, OthersLost):
        return error
    said = one_line(error).partition(" This is typically")[0]  # gloo's advice
    return OthersLost(f"processes: process {rank} on {machine_name()} lost the others ({said}); {CONTINUES}")
