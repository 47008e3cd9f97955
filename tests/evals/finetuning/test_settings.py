from __future__ import annotations

import pytest

from dinodiet.evals.finetune import FineTune
from dinodiet.evals.finetuning.settings import Length, Regularisation


# Steps of an epoch -> steps of a training: 1,500, but 30 epochs at least and 100 at most.
@pytest.mark.parametrize(
    ("steps_per_epoch", "total"), [(1, 100), (4, 400), (15, 1500), (32, 1500), (50, 1500), (79, 2370)]
)
def test_a_training_is_1500_steps_between_30_and_100_epochs(steps_per_epoch: int, total: int) -> None:
    assert Length().total(steps_per_epoch) == total


@pytest.mark.parametrize(("images", "batch"), [(7, 7), (32, 32), (4999, 32), (5000, 64)])
def test_the_batch_follows_the_number_of_images(images: int, batch: int) -> None:
    assert FineTune().recipe.batch(images) == batch


def test_nothing_is_mixed_below_a_thousand_images() -> None:
    mixed = Regularisation(mixup_alpha=0.8, cutmix_alpha=1.0)
    assert set(mixed.alphas(999).values()) == {0.0}
    assert mixed.alphas(1000) == {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}


def test_val_is_scored_at_ends_of_epochs_so_many_times_at_most() -> None:
    recipe = FineTune(validations=3).recipe
    assert recipe.validated(100, 10) == {40, 80, 100}
    assert recipe.validated(5, 10) == {5}
    assert recipe.validated(25, 10) == {10, 20, 25}
    assert all(len(recipe.validated(total, 7)) <= 3 for total in range(1, 200))
