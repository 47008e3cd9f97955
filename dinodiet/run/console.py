"""What a run prints: one block before it starts, one table when it is done, and warnings."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dinodiet.io.units import duration
from dinodiet.run.by_labels import by_labels
from dinodiet.store.scores import ScoreFile, budget_rows, number


def block(title: str, lines: Mapping[str, str]) -> str:
    """Return a titled block of aligned `name  text` lines."""
    width = max(map(len, lines))
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in lines.items())])


def warn(lines: Iterable[str]) -> None:
    """Print each line as a warning, beside a progress bar."""
    for line in lines:
        tqdm.write(f"warning: {line}", file=sys.stderr)


def results_table(results: Mapping[str, Any]) -> str:
    """Return initial -> final scores with absolute and relative change, what was left out, and the settings.

    Beside a final score stands its 95 % interval, where one is known. Of a run of no steps they are the scores alone.
    Those that measure train alone, on no split, have a table of their own. Scores on budgets of labels follow; where
    there are no others, they stand alone.
    """
    final, budgets = results["final"], by_labels(results.get("budgets", []), trained=results.get("steps") != 0)
    refused, elsewhere = results.get("refused", {}), set(results.get("of_train", ()))
    of_train = [name for name in final if name.rpartition("/")[0] in elsewhere]
    on_test = [name for name in final if name not in of_train]
    lines = _table("test score", on_test, results) if on_test or not (of_train or budgets) else []
    lines += _table("score", of_train, results) if of_train else []
    lines += [f"  {name} is not compared: {reason}" for name, reason in refused.items()]
    lines += [f"  {name} is left out: {reason}" for name, reason in results["skipped"].items()]
    beside = results["settings"]["final"] | results.get("diagnostics", {}).get("final", {})
    return "\n".join([*lines, *_settings(beside), *budgets])


def _table(title: str, names: Sequence[str], results: Mapping[str, Any]) -> list[str]:
    """Return a header and a line for each of the final scores with these names."""
    intervals, trained = results.get("intervals", {}).get("final", {}), results.get("steps") != 0
    width = max(map(len, results["final"]), default=5)
    columns = "initial    final   change  relative" if trained else "  value"
    known = trained and any(name in intervals for name in names)
    lines = [f"  {title:<{width}}  {columns}{'  95 % of final' if known else ''}"]
    for name in names:
        value, refused = number(results["final"][name]), name.rpartition("/")[0] in results.get("refused", {})
        cells = _row(results["initial"], name, value, refused=refused) if trained else _score(value)
        lines.append(f"  {name:<{width}}  {cells}{_interval(intervals.get(name))}")
    return lines


def _row(initial: Mapping[str, Any], name: str, final: float, *, refused: bool) -> str:
    """Return the cells of a score; of one that is of the training alone, as a trained classifier's, the final one."""
    if name not in initial:
        return f"{'-':>7}  {_score(final)}  {'-':>7}  {'-':>8}"
    return _cells(number(initial[name]), final, refused=refused)


def _cells(initial: float, final: float, *, refused: bool) -> str:
    change = math.nan if refused else final - initial
    relative = change / abs(initial) if initial else math.nan
    return f"{_score(initial)}  {_score(final)}  {_score(change, '+')}  {_percent(relative)}"


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"  [{ends[0]:.3f}, {ends[1]:.3f}]"


def _score(value: float, sign: str = "") -> str:
    return f"{'missing':>7}" if math.isnan(value) else f"{value:{sign}7.3f}"


def _percent(value: float) -> str:
    return f"{'missing':>8}" if math.isnan(value) else f"{100 * value:+7.1f}%"


def closing(results: Mapping[str, Any], folder: Path) -> str:
    """Return the last lines of a run: the table, the cost, and where everything lies."""
    cost = (
        f"  nothing was trained, peak memory {results['peak_memory_mb']:,.0f} MiB"
        if results["steps"] == 0
        else f"  {results['steps']:,} steps in {duration(results['train_seconds'])}, "
        f"{results['images_per_second'] or 0:.0f} images/s, peak memory {results['peak_memory_mb']:,.0f} MiB"
    )
    return f"\n{results['run_id']}\n{results_table(results)}\n{cost}\n  results in {folder}/results.json"


def evaluation_table(title: str, files: Sequence[ScoreFile], published: Mapping[str, float] | None = None) -> str:
    """Return the scores of one encoder, with the published thresholds beside them where `published` has any.

    Scores on budgets of labels follow, as means over draws.
    """
    given, files = files, [file for file in files if file.labels is None]
    scores = {f"{file.name}/{key}": entry for file in files for key, entry in file.test.items()}
    metrics = {name: entry for name, entry in scores.items() if entry["kind"] == "metric"}
    width = max(map(len, metrics), default=5)
    lines = [title]
    for name, entry in metrics.items():
        value, ends = number(entry["value"]), _interval(entry.get("interval"))
        lines.append(f"  {name:<{width}}  {_score(value)}{ends}{_verdict(value, (published or {}).get(name))}")
    lines += [f"  {file.name} is left out: {file.skipped}" for file in files if file.skipped is not None]
    if published is not None and not published:
        lines.append("  no published threshold is known for this backbone and dataset")
    settings = {name: entry["value"] for name, entry in scores.items() if entry["kind"] != "metric"}
    return "\n".join([*lines, *_settings(settings), *by_labels(budget_rows(given))])


def _verdict(value: float, least: float | None) -> str:
    return "" if least is None else f"   published: at least {least:.2f}   {'pass' if value >= least else 'FAIL'}"


def _settings(settings: Mapping[str, float | None]) -> list[str]:
    told = ", ".join(f"{name}={value:g}" for name, value in settings.items() if value is not None)
    return [f"  ({told})"] if told else []
