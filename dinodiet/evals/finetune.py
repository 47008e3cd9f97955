"""Full fine-tuning: a copy of the encoder and a classifier are trained on labels, and scored."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from torch import nn

from dinodiet.config.ranges import AtLeastOne, Range
from dinodiet.data.images import Subset, files_of
from dinodiet.data.splits import grouped_split
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.finetuning.finetuned import FineTuned, opened
from dinodiet.evals.finetuning.kept import Kept, Outcome
from dinodiet.evals.finetuning.protocol import protocol_of
from dinodiet.evals.finetuning.settings import Augmentation, Head, Length, Optimiser, Recipe, Regularisation
from dinodiet.evals.finetuning.training import STATE_PER_PARAMETER, Task, Trainings, global_state_kept
from dinodiet.evals.metrics import bounded
from dinodiet.store.scores import number
from dinodiet.types import Backbone, CopyTraining, DataSpec, Images, Report, Score, TrainingSplits

CARVED = 0.2  # of train, where there is no validation split


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Trains every parameter of a copy of the encoder, with a classifier on top, and reports its scores on test.

    `accuracy`, `recall`, `f1`, `auroc` (multi-label: `auroc` alone) are of the last step, `accuracy_best` ... of that
    which is best on val; both are means over `seeds` trainings, which differ in head, order and crops.
    `accuracy_sd` is the deviation over seeds, `accuracy_seed0` ... are the single ones (multi-label: of `auroc`). The
    same seeds are used before and after the self-supervised training: differences are paired.

    Of several `lr` the one that is best on val with seed 0 is taken. `choose: before` does so once, with the weights
    before the self-supervised training, and uses it for both sides; `each` chooses for each side. Scores of unequal
    rates are not subtracted. Val is the validation split; where there is none a fifth of train, stratified, that is
    then not trained on. Test is looked at once for each training that is reported.

    `lr` is meant for `lr_reference_batch` images and scales with the batch; None: for the batch at hand. `steps` None:
    as `length` says. `batch_size` None: 32, and 64 from 5,000 images on. `validations`: how often val is scored in a
    training, at most. Groups of settings that are None are as their classes have them.

    Raises:
        UserError: the list of rates is empty.
    """

    needs: ClassVar[Literal["training"]] = "training"
    lr: Annotated[float | list[float], Range(0, 100, open_low=True)] = field(default_factory=lambda: [5e-5, 2e-4, 8e-4])
    lr_reference_batch: AtLeastOne[int | None] = None
    choose: Literal["before", "each"] = "before"
    seeds: Annotated[int, Range(1, 100)] = 3
    steps: AtLeastOne[int | None] = None
    batch_size: AtLeastOne[int | None] = None
    validations: AtLeastOne[int] = 20
    length: Length | None = None
    optimiser: Optimiser | None = None
    head: Head | None = None
    regularisation: Regularisation | None = None
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        if not self.rates:
            raise UserError("lr: []; give a positive number, or a list of them")

    @property
    def rates(self) -> list[float]:
        """Return every learning rate."""
        return self.lr if isinstance(self.lr, list) else [self.lr]

    @property
    def follows(self) -> bool:
        """Return whether the learning rate is that of the evaluation before the training."""
        return self.choose == "before" and len(self.rates) > 1

    @property
    def recipe(self) -> Recipe:
        """Return what all trainings are made of."""
        return Recipe(
            steps=self.steps,
            batch_size=self.batch_size,
            validations=self.validations,
            length=self.length or Length(),
            optimiser=self.optimiser or Optimiser(),
            head=self.head or Head(),
            regularisation=self.regularisation or Regularisation(),
            augmentation=self.augmentation or Augmentation(),
        )

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable where there is nothing to tell apart."""
        if not spec.labelled:
            raise NotApplicable("needs labels; this dataset has none")
        if spec.num_labels < 2 and not spec.multilabel:
            raise NotApplicable("needs two classes; this dataset has one")

    def training_of(self, encoder: Backbone, spec: DataSpec, num_train: int) -> CopyTraining:
        """Return what is trained of an encoder, which may be without values, on so many images."""
        recipe = self.recipe
        assert isinstance(encoder, nn.Module)
        backbone, _ = opened(encoder, recipe.regularisation.drop_path)
        method = FineTuned(backbone, spec, recipe, num_train)
        return CopyTraining(method, recipe.batch(num_train), STATE_PER_PARAMETER)

    def __call__(self, splits: TrainingSplits) -> Report:
        """Return the metrics on test and val, and how they came about.

        Raises:
            NotApplicable: a split has no labels, or there are too few images to hold some out.
            UserError: every training diverged.
            Preempted: a signal asked to leave; what was done is kept.
        """
        task, validation = self._task(splits)
        with global_state_kept(splits.runtime.device):
            trainings = Trainings(task, Kept(splits.work.folder, splits.work.key), splits.work.seconds, splits.folder)
            lr, chosen = self._rate(trainings, splits.work.before, len(task.train))
            outcomes = [trainings.tested(lr, seed) for seed in range(self.seeds)]
        if splits.folder is not None:
            _write_table(splits.folder / "trainings.csv", list(trainings.kept.outcomes.values()))
        settings = {
            name: Score(float(value), kind="setting")
            for name, value in {"lr": lr, "steps": outcomes[0].facts["steps"], "seeds": self.seeds}.items()
        }
        test = _scores([_known(outcome.test) for outcome in outcomes], [_known(o.best_test) for o in outcomes])
        val = _scores([outcome.val for outcome in outcomes], [outcome.best_val for outcome in outcomes])
        protocol = protocol_of(task, outcomes, chosen, validation)
        return Report(test | settings, val | settings, protocol)

    def _task(self, splits: TrainingSplits) -> tuple[Task, str]:
        train, val, how = _held_out(splits.train_images, splits.val_images)
        for images in (train, val, splits.test_images):
            if images.labels is None:
                raise NotApplicable("needs labels, which a split of this dataset lacks")
        task = Task(
            splits.encoder, splits.input, splits.spec, splits.runtime, train, val, splits.test_images, self.recipe
        )
        return task, how

    def _rate(self, trainings: Trainings, before: Any, num_train: int) -> tuple[float, str]:
        """Return the learning rate, and how it was chosen."""
        if self.follows and before is not None:
            return float(before["lr"]), "on val, with the weights before the training"
        reference = self.lr_reference_batch
        factor = 1.0 if reference is None else self.recipe.batch(num_train) / reference
        rates = [rate * factor for rate in self.rates]
        if len(rates) == 1:
            return rates[0], "given"
        return trainings.best_of(rates), "on val, with these weights"


def _held_out(train: Images, val: Images | None) -> tuple[Images, Images, str]:
    """Return the images to train on, those to choose on, and where these are from."""
    if val is not None and len(val) > 0:
        return train, val, "the validation split"
    if train.labels is None:
        raise NotApplicable("needs labels, which a split of this dataset lacks")
    try:
        rest, part = grouped_split(train.labels, files_of(train), CARVED, 0)
    except UserError as error:
        raise NotApplicable(f"there is no validation split, and of {len(train)} images none can be held out") from error
    return Subset(train, rest), Subset(train, part), f"{len(part)} of {len(train)} train images, stratified"


def _known(metrics: dict[str, float] | None) -> dict[str, float]:
    assert metrics is not None
    return metrics


def _scores(last: Sequence[dict[str, float]], best: Sequence[dict[str, float]]) -> dict[str, Score]:
    """Return means over trainings, of the last step and of the best; of the first metric also what they are means of.

    By that metric trainings are chosen.
    """
    found: dict[str, Score] = {}
    for name in last[0]:
        found[name] = bounded(_mean(last, name))
        found[f"{name}_best"] = bounded(_mean(best, name))
    headline, *_ = last[0]
    singles = np.array([number(metrics[headline]) for metrics in last])
    if len(singles) > 1:
        beside = {f"{headline}_sd": singles.std(ddof=1)}
        beside |= {f"{headline}_seed{seed}": value for seed, value in enumerate(singles)}
        found |= {name: Score(float(value), kind="diagnostic") for name, value in beside.items()}
    return found


def _mean(trainings: Sequence[dict[str, float]], name: str) -> float:
    return float(np.mean([number(metrics[name]) for metrics in trainings]))


def _write_table(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write a row a training: its rate, seed, losses, and scores."""
    rows = [
        {
            "lr": outcome.lr,
            "seed": outcome.seed,
            "first_loss": outcome.first_loss,
            "last_loss": outcome.last_loss,
            "best_step": outcome.best_step,
            **{f"val {name}": value for name, value in outcome.val.items()},
            **{f"test {name}": value for name, value in (outcome.test or {}).items()},
            **{f"test {name} best": value for name, value in (outcome.best_test or {}).items()},
        }
        for outcome in outcomes
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names, restval=math.nan)
        writer.writeheader()
        writer.writerows(rows)
