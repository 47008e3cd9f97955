"""Runs of a grid that are refused, told by reason: a short line that names the keys, then one line for each reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dinodiet.errors import ManyReasons, UserError

MOST_NAMES = 3  # of runs, or keys, in a line
MOST_REASONS = 20


def refusal(said: str, reasons: Mapping[str, Sequence[tuple[str, int]]]) -> UserError:
    """Return the error that tells why runs are refused: one line where all have the same reason.

    Args:
        said: how many runs are refused, in words.
        reasons: of each, what the runs are called that have it, and how many runs each name means; "" where all runs
            of the grid are meant.
    """
    if len(reasons) == 1:
        ((reason, names),) = reasons.items()
        return UserError(f"{said}: {_named(names)}{reason}")
    keys = dict.fromkeys(key for key in (reason.partition(":")[0] for reason in reasons) if " " not in key)
    lines = [_line(reason, names) for reason, names in reasons.items()][:MOST_REASONS]
    if more := len(reasons) - len(lines):
        lines.append(f"and {more} more reasons")
    return ManyReasons(f"{said}, for {len(reasons)} reasons: {_few(list(keys)) or 'each has a line'}", lines)


def _line(reason: str, names: Sequence[tuple[str, int]]) -> str:
    number = sum(runs for _, runs in names)
    return f"{number} run{'' if number == 1 else 's'}: {_named(names)}{reason}"


def _named(names: Sequence[tuple[str, int]]) -> str:
    told = _few([name for name, _ in names if name])
    return f"{told}: " if told else ""


def _few(words: Sequence[str]) -> str:
    """Return the first words, and how many there are more."""
    more = f" and {len(words) - MOST_NAMES} more" if len(words) > MOST_NAMES else ""
    return f"{', '.join(words[:MOST_NAMES])}{more}"
