"""What an evaluator returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["metric", "setting", "diagnostic"]


@dataclass(frozen=True)
class Score:
    """One number that an evaluator returns; NaN where it is undefined.

    `kind` says whether it is a metric, a setting that metrics depend on, or a diagnostic: what helps to judge the
    metrics and is none itself, such as the accuracy on the images that a probe was fitted on. `better` says which
    direction is an improvement, `none`: neither is by itself; of a setting it means nothing. `interval` holds the value
    in 95 of 100 samples of test images; None: not known. `note` says why a value is undefined, or what was done to it.
    """

    value: float
    better: Literal["higher", "lower", "none"] = "higher"
    kind: Kind = "metric"
    interval: tuple[float, float] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Report:
    """What an evaluator says that trains: scores on test and, of the same training, on val; and how it was done.

    `protocol` holds plain values of JSON: what scores that are to be compared must have in common (its keys in
    `dinodiet.store.protocol`), and what was seen on the way.
    """

    test: dict[str, Score]
    val: dict[str, Score] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
