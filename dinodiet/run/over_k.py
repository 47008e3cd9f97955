"""k-NN scores of one encoder by the number of neighbours: whether a score hangs on one k, as a table and a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from dinodiet.evals.knn import KNN
from dinodiet.evals.scorer import Scorer
from dinodiet.results.figures import save
from dinodiet.results.render import aligned, grid, number

KS = (1, 5, 10, 20, 50, 100, 200)
Curve = dict[int, float]


@dataclass(frozen=True)
class Line:
    """What a table and a chart show of one score of a backbone on a dataset.

    `value` None: it was not scored. `curve`: by k, empty where it has none. `least`: what is published; None: nothing.
    `passed` None: nothing was checked.
    """

    title: str
    metric: str
    value: float | None
    curve: Curve
    least: float | None
    passed: bool | None


def over_k(scorer: Scorer, encoder: nn.Module, published: Mapping[str, float]) -> dict[str, Curve]:
    """Return the first metric of each k-NN evaluator by k, and every other that has a published threshold.

    The embeddings are those that the scorer has kept; every k costs a vote. More neighbours than there are labelled
    train images are left out. Metrics are named `<eval>/<metric>`.
    """
    several = {name: _of_several(one, scorer) for name, one in scorer.asked.evaluators.items() if isinstance(one, KNN)}
    if not several:
        return {}
    again = Scorer(several, scorer.data, scorer.input, scorer.runtime, validation=False)
    found: dict[str, Curve] = {}
    for name, scored in again(encoder, cached=True).items():
        metrics = [metric for metric, score in scored.test.items() if score.kind == "metric" and "_k" not in metric]
        for metric in metrics[:1] + [one for one in metrics[1:] if f"{name}/{one}" in published]:
            values = {k: scored.test[_named(metric, k, several[name])].value for k in several[name].ks}
            found[f"{name}/{metric}"] = dict(sorted(values.items()))
    return found


def _of_several(evaluator: KNN, scorer: Scorer) -> KNN:
    """Return the evaluator with all k that it can have, its own first."""
    most = len(scorer.data.train)
    return replace(evaluator, k=list(dict.fromkeys([*evaluator.ks, *(k for k in KS if k <= most)])))


def _named(metric: str, k: int, evaluator: KNN) -> str:
    return metric if k == evaluator.ks[0] else f"{metric}_k{k}"


def curve_lines(curves: Mapping[str, Curve]) -> list[str]:
    """Return the scores by k as lines of text; several evaluators may have had other k."""
    rows: list[list[str]] = []
    for name, curve in curves.items():
        rows += [["  k", *map(str, curve)], [f"  {name}", *map(number, curve.values())]]
    return [line for i in range(0, len(rows), 2) for line in aligned(rows[i : i + 2])]


def table(lines: Sequence[Line]) -> str:
    """Return one table of several backbones: a row each, a column each k."""
    ks = sorted({k for line in lines for k in line.curve})
    header = ["frozen", "metric", *(f"k={k}" for k in ks), "score", "published", "verdict"]
    return grid(header, [[line.title, line.metric, *_cells(line, ks)] for line in lines], "text")


def _cells(line: Line, ks: Sequence[int]) -> list[str]:
    verdict = {True: "pass", False: "FAIL", None: "nothing to check"}[line.passed]
    least = "-" if line.least is None else f">= {line.least:.2f}"
    scores = [line.curve.get(k) for k in ks] + [line.value]
    return [*("-" if score is None else number(score) for score in scores), least, verdict]


def draw(lines: Sequence[Line], path: Path) -> None:
    """Draw scores over k as SVG or PNG, a line each; what is published is a dashed line of the same colour.

    Without effect where no score has a k.
    """
    if drawn := [line for line in lines if line.curve]:
        save(figure(drawn), path)


def figure(lines: Sequence[Line]) -> Any:
    """Return the figure of `draw`."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes a second

    drawn = Figure(figsize=(5.6, 3.6), layout="constrained")
    ax = drawn.subplots()
    for place, line in enumerate(lines):
        colour = f"C{place % 10}"
        ax.plot(list(line.curve), list(line.curve.values()), "o-", color=colour, label=f"{line.title}, {line.metric}")
        if line.least is not None:
            label = f"published: at least {line.least:.2f}"
            ax.axhline(line.least, color=colour, linestyle="--", linewidth=1, label=label)
    ticks = sorted({k for line in lines for k in line.curve})
    ax.set_xscale("log")
    ax.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set(xlabel="neighbours (k)", ylabel="score on test")
    drawn.legend(loc="outside lower center", fontsize="x-small")
    return drawn
