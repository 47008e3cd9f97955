"""Scores beside published ones: what others measured, joined to the runs that measured the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from dinodiet.errors import UserError
from dinodiet.results.endings import Style
from dinodiet.results.phases import PHASES
from dinodiet.results.published import NO_CHOICE, Fields, Published
from dinodiet.results.render import grid, number, titled
from dinodiet.results.runs import Run
from dinodiet.results.table import as_text, place
from dinodiet.results.tidy import matches, tidy

MEASURED = (
    "n",
    "mean",
    "sd",
    "published",
    "published_sd",
    "seeds",
    "difference",
    "errors",
    "notes",
    "place",
    "remarks",
)
LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\~{}", "^": r"\^{}"}
MOST_NAMED = 20  # scores that no run has measured


def beside(published: Published, runs: Sequence[Run], metrics: Sequence[str], phases: Sequence[str]) -> pd.DataFrame:
    """Return a row for each published score and each group of runs that measured the same; seeds are averaged.

    Columns: metric, phase, whatever tells groups apart (never averaged over), n, mean, sd (ddof = 1), published,
    published_sd, seeds, difference, errors, notes (letters of the remarks that apply to those runs), place (of the row
    in the file), remarks (those of the letters, as text). `errors` is the difference in
    standard errors of both means (Welch), NaN where one of them is not known. `metrics` and `phases`: only these; none:
    all that are published.

    Raises:
        UserError: nothing published was measured.
    """
    plan, wanted = place(runs), asked_of(published, metrics, phases)
    names = list(dict.fromkeys([*plan.cols, *plan.rows]))
    found = [
        {**line, "place": place, "remarks": "; ".join(published.notes[letter] for letter in line["notes"])}
        for place, row in wanted
        for line in _measured(published, row, _like(row, runs), names, phases)
    ]
    if not found:
        models = ", ".join(dict.fromkeys(str(row["model"]) for _, row in wanted))
        asked = f" ({', '.join(metrics)})" if metrics else ""
        told = f"no finished run has measured any of it{asked}; its models: {models or 'none'}"
        raise UserError(f"--against {published.name}: {told}")
    return pd.DataFrame(found)


def asked_of(published: Published, metrics: Sequence[str], phases: Sequence[str]) -> list[tuple[int, Fields]]:
    """Return places and fields of the published scores of some metrics and phases; none: of all."""
    return [
        (place, row)
        for place, row in enumerate(published.rows)
        if (not metrics or row["metric"] in metrics) and (not phases or row.get("phase", phases[0]) in phases)
    ]


def _like(row: Fields, runs: Sequence[Run]) -> list[Run]:
    """Return the runs that share the choices of a published score and have that metric."""
    choices = {key: value for key, value in row.items() if key not in NO_CHOICE}
    have = [run for run in runs if f"{row.get('phase', 'final')}/{row['metric']}" in run.record]
    return [run for run in have if all(matches(run.record.get(key), [value]) for key, value in choices.items())]


def _measured(
    published: Published, row: Fields, like: Sequence[Run], names: list[str], phases: Sequence[str]
) -> Iterator[Fields]:
    """Yield the scores of each group of runs beside a published one."""
    shown = [row["phase"]] if "phase" in row else phases or [PHASES[1]]
    scores = as_text(tidy(like, [str(row["metric"])], names), names)
    scores = scores[scores["phase"].isin(shown) & scores["value"].notna()]
    for group, values in scores.groupby([*names, "phase"], observed=True, sort=False)["value"]:
        *choices, phase = group
        mean, sd = float(values.mean()), float(values.std(ddof=1))
        there = (row["value"], row.get("sd", math.nan), row.get("seeds", math.nan))
        apart = mean - row["value"]
        measured = (
            len(values),
            mean,
            sd,
            *there,
            apart,
            errors_apart(apart, (sd, len(values)), there[1:]),
            _applying(published, row, [run for run in like if run.name in {*scores.loc[values.index, "run"]}]),
        )
        told = dict(zip(names, choices, strict=True))
        yield {"metric": row["metric"], "phase": phase, **told, **dict(zip(MEASURED, measured, strict=False))}


def _applying(published: Published, row: Fields, runs: Sequence[Run]) -> str:
    """Return the letters of the remarks on a score that apply to one of the runs beside it, or more."""

    def applies(letter: str) -> bool:
        key, value = published.unless.get(letter, ("", ""))
        return not key or not all(matches(run.record.get(key), [value]) for run in runs)

    return "".join(filter(applies, row.get("notes", "")))


def errors_apart(difference: float, *means: tuple[float, float]) -> float:
    """Return a difference of two means in standard errors of it (Welch); each is told by its sd and how many it is of.

    NaN where one is not known, or neither varies.
    """
    squares = sum(sd**2 / count if count > 1 else math.nan for sd, count in means)
    return difference / math.sqrt(squares) if squares > 0 else math.nan


def beside_table(rows: pd.DataFrame, published: Published, style: Style = "text") -> str:
    """Return the rows of `beside` as a table."""
    keys = [name for name in rows.columns if name not in MEASURED]
    shown = [name for name in keys if name != "phase" or rows["phase"].nunique() > 1]
    known = bool(rows["errors"].notna().any())
    header = [*shown, "here (n)", "published", "difference", *(["in standard errors"] if known else [])]
    lines = [
        [*(str(row[name]) for name in shown), *_texts(row)[: len(header) - len(shown)]]
        for row in rows.to_dict("records")
    ]
    title = f"{published.name}: mean ± sd over seed (n) beside the published score; difference = here - published"
    return titled(title, grid(header, lines, style), style)


def written(rows: pd.DataFrame, published: Published, style: Style) -> str:
    """Return the rows of `beside` as a table for a file, with the remarks that belong to it below."""
    told = [line for line in remarks(rows, published) if line.startswith("[")]
    below = {
        "text": [f"note: {line}" for line in told],
        "markdown": ["", *(f"* {line}" for line in told)],
        "latex": [f"\\par\\footnotesize {escaped(line)}" for line in told],
    }
    return "\n".join([beside_table(rows, published, style), *(below[style] if told else [])])


def escaped(text: str) -> str:
    """Return text for LaTeX."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def _texts(row: dict[Any, Any]) -> list[str]:
    there = mean_text(row["published"], row["published_sd"], row["seeds"])
    notes = f" [{','.join(row['notes'])}]" if row["notes"] else ""
    errors = "-" if math.isnan(row["errors"]) else f"{row['errors']:+.1f}"
    return [mean_text(row["mean"], row["sd"], row["n"]), there + notes, number(row["difference"], signed=True), errors]


def mean_text(mean: float, sd: float, count: float) -> str:
    """Return mean ± sd (n), as far as they are known."""
    spread = "" if math.isnan(sd) else f" ± {number(sd)}"
    return f"{number(mean)}{spread}{'' if math.isnan(count) else f' ({count:.0f})'}"


def remarks(rows: pd.DataFrame, published: Published, asked: Sequence[tuple[int, Fields]] = ()) -> list[str]:
    """Say where the published scores are from, what belongs to those shown, and which of them no run has measured."""
    used = sorted({letter for notes in rows["notes"] for letter in notes})
    counted = f"{len(published.rows)} scores are published there, {len(rows)} lines stand above"
    return [
        *published.told,
        *(f"[{letter}] {published.notes[letter]}" for letter in used),
        counted,
        *_missing(rows, asked),
    ]


def _missing(rows: pd.DataFrame, asked: Sequence[tuple[int, Fields]]) -> list[str]:
    """Name the published scores, of those asked for, that stand in no row."""
    left = [row for place, row in asked if place not in set(rows["place"])]
    names = list(dict.fromkeys(_cell(row) for row in left))
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return [f"measured by no finished run: {'; '.join(names[:MOST_NAMED])}{more}"] if names else []


def _cell(row: Fields) -> str:
    choices = [
        f"{key.rpartition('.')[2]}={value}" for key, value in row.items() if key not in (*NO_CHOICE, "model", "dataset")
    ]
    return " ".join([str(row["model"]), str(row["dataset"]), *choices])
