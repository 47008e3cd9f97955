"""Label budgets: how many images of train evaluators are given with their labels. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dinodiet.config.settings import Evaluation, LabelRule


@dataclass(frozen=True)
class Budget:
    """So many labelled images of train: `amount` of each class, or that fraction of all.

    Attributes:
        kind: what `amount` counts.
        amount: images a class, or a fraction between 0 and 1.
        rule: balanced: equally many of each class; proportional: as the classes are in train.
        seed: of the draw; with one seed a smaller budget is a part of a larger one.
    """

    kind: str
    amount: int | float
    rule: LabelRule
    seed: int

    @property
    def name(self) -> str:
        """Return what tells the budget from others, for the names of files: `per_class-5-seed0`."""
        usual = "balanced" if self.kind == "per_class" else "proportional"
        rule = "" if self.rule == usual else f"-{self.rule}"
        return f"{self.kind}-{self.amount}{rule}-seed{self.seed}"

    @property
    def key(self) -> str:
        """Return the configuration key that the amount is from."""
        return "eval.labels_per_class" if self.kind == "per_class" else "eval.label_fraction"

    def plain(self) -> dict[str, Any]:
        """Return what files of scores say of the budget."""
        return {self.kind: self.amount, "rule": self.rule, "seed": self.seed}


def budgets(evaluation: Evaluation) -> list[Budget | None]:
    """Return all budgets with their seeds, in the order of the configuration; None stands for all labels."""
    kind, amounts = _amounts(evaluation)
    rule = evaluation.label_rule or ("balanced" if kind == "per_class" else "proportional")
    found: list[Budget | None] = []
    for amount in amounts:
        everything = amount == "all" or (kind == "fraction" and amount == 1)
        found += [None] if everything else [Budget(kind, amount, rule, seed) for seed in range(evaluation.label_seeds)]
    return list(dict.fromkeys(found))


def _amounts(evaluation: Evaluation) -> tuple[str, list[Any]]:
    if evaluation.label_fraction is not None:
        return "fraction", list(evaluation.label_fraction)
    return "per_class", ["all"] if evaluation.labels_per_class is None else list(evaluation.labels_per_class)
