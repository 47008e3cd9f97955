"""Checks that several parts make of their settings."""

from __future__ import annotations

from dinodiet.errors import UserError


def check_fraction(name: str, value: float) -> None:
    """Refuse a part of the training that is none.

    Raises:
        UserError: it is not from 0 to 1.
    """
    if not 0 <= value <= 1:
        raise UserError(f"{name}: {value}; give a part of the training, from 0 to 1")
