"""Carries errors past Hydra."""

from __future__ import annotations


class Told(BaseException):
    """Carries an error of a run or a grid past Hydra, which would print words of its own on an `Exception`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error
