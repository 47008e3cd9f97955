"""Scores on budgets of labels: each budget and draw of a run is read as a run of its own, so that none are mixed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dinodiet.errors import UserError
from dinodiet.results.cache import Record
from dinodiet.results.record import LABEL_COLUMNS, LABELS, is_choice
from dinodiet.results.runs import Run
from dinodiet.store.scores import BUDGET_COLUMNS

KEPT = ("better/", "setting/")
ALL = "all"


def on_budgets(runs: Iterable[Run]) -> list[Run]:
    """Return for each run that has budgets: itself on all labels, and a run for each budget and draw.

    These have the columns labels_per_class or label_fraction, and label_seed; None for all labels. Costs are those of
    the first one alone. Runs come back as they are where none has budgets.
    """
    runs = list(runs)
    return [one for run in runs for one in _parts(run)] if any(map(has_budgets, runs)) else runs


def has_budgets(run: Run) -> bool:
    """Return whether a run has scores on budgets."""
    return next(reversed(run.record), "").startswith(LABELS)  # they come last


def _parts(run: Run) -> list[Run]:
    none: Record = dict.fromkeys(LABEL_COLUMNS)
    whole = {key: value for key, value in run.record.items() if not key.startswith(LABELS)}
    base = {key: value for key, value in whole.items() if is_choice(key) or key.startswith(KEPT)}
    found: dict[tuple[str, str, str], Record] = {}
    for key, value in run.record.items():
        if key.startswith(LABELS):
            budget, rule, seed, rest = key.removeprefix(LABELS).split("/", 3)
            found.setdefault((budget, rule, seed), {})[rest] = value
    return [replace(run, record={**whole, **none})] + [
        replace(run, record={**base, **none, **_columns(*budget), **_told(part)}) for budget, part in found.items()
    ]


def _columns(budget: str, rule: str, seed: str) -> Record:
    kind, _, amount = budget.partition("=")
    return {BUDGET_COLUMNS[kind]: int(amount) if kind == "per_class" else float(amount), "label_seed": int(seed)} | (
        {} if (kind == "per_class") == (rule == "balanced") else {"label_rule": rule}
    )


def _told(part: Record) -> Record:
    """Return the scores of a part; how many images it has is no choice."""
    return {f"setting/labels/{key}" if key in ("images", "of") else key: value for key, value in part.items()}


def picked(runs: Sequence[Run], wanted: Sequence[str] = ()) -> list[Run]:
    """Return runs on the wanted budgets: `all`, images a class (10), or fractions of train (0.1).

    If none are named: on all labels, and where no evaluator was fitted on all, on every budget.

    Raises:
        UserError: no run has such a budget; those that there are are listed.
    """
    runs = list(runs)
    if list(wanted) == [ALL] or (not wanted and (_has_all(runs) or not any(map(has_budgets, runs)))):
        return runs
    if unknown := [one for one in wanted if one != ALL and not _is_number(one)]:
        raise UserError(f"labels: {unknown[0]}; give images a class such as 10, fractions such as 0.1, or all")
    parts = [run for run in on_budgets(runs) if run.record.get("label_seed") is not None or ALL in wanted]
    if not wanted:
        return parts
    for one in wanted:
        if one != ALL and not any(_is(run, [one]) for run in parts):
            there = ", ".join([*dict.fromkeys(_amount(run) for run in parts if _amount(run) != ALL), ALL])
            raise UserError(f"labels: no run has {one}; there are: {there}")
    return _named([run for run in parts if _is(run, wanted)])


def _named(parts: list[Run]) -> list[Run]:
    """Return runs of which those on all labels say so in the columns that tell the others apart."""
    used = [column for column in BUDGET_COLUMNS.values() if any(run.record.get(column) is not None for run in parts)]
    whole: Record = dict.fromkeys(used, ALL)
    return [run if _amount(run) != ALL else replace(run, record={**run.record, **whole}) for run in parts]


def _is_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _amount(run: Run) -> str:
    found = (run.record.get(column) for column in BUDGET_COLUMNS.values())
    return next((str(amount) for amount in found if amount is not None), ALL)


def _is(run: Run, wanted: Sequence[str]) -> bool:
    amount = _amount(run)
    return amount in wanted or (amount != ALL and any(one != ALL and float(one) == float(amount) for one in wanted))


def _has_all(runs: Sequence[Run]) -> bool:
    """Return whether an evaluator with budgets was fitted on all labels too."""
    return any(
        key.split("/", 4)[4] in run.record
        for run in runs
        if has_budgets(run)
        for key in run.record
        if key.startswith(LABELS) and "/final/" in key
    )


def like(waiting: Sequence[Run], done: Sequence[Run]) -> list[Run]:
    """Return unfinished runs once for each budget and draw that the finished ones are shown on."""
    names = (*LABEL_COLUMNS, "label_rule")
    shown = {tuple((name, run.record[name]) for name in names if name in run.record) for run in done}
    ordered = sorted(shown, key=repr) or [()]
    return [replace(run, record={**run.record, **dict(one)}) for run, one in itertools.product(waiting, ordered)]


def over_draws(runs: Sequence[Run]) -> list[str]:
    """Return what is averaged over: the seed, and the draw of labels where there are several budgets."""
    return ["seed", "label_seed"] if any("label_seed" in run.record for run in runs) else ["seed"]


def notes(runs: Sequence[Run], shown: Sequence[Run]) -> list[str]:
    """Say on which labels the shown scores were fitted, where runs have several budgets."""
    if not any(map(has_budgets, runs)):
        return []
    amounts = list(dict.fromkeys(map(_amount, shown)))
    others = [one for one in dict.fromkeys(map(_amount, on_budgets(runs))) if one not in amounts]
    more = f"; others: --labels {','.join(others)}" if others else ""
    draws = len({run.record.get("label_seed") for run in shown} - {None})
    told = f", means over {draws} draws" if any(amount != ALL for amount in amounts) else ""
    return [f"fitted on labels (a class, or a fraction of train): {', '.join(amounts)}{told}{more}"]
