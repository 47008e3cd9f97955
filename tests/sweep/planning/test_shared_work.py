"""What runs of a grid share is counted once."""

from pathlib import Path

import pytest

from dinodiet.sweep.planning.estimate import Estimator
from dinodiet.sweep.planning.plan import plan
from dinodiet.sweep.planning.run_work import RunWork
from dinodiet.sweep.planning.shared_work import SharedWork, shared_work, told
from dinodiet.sweep.task import Task, task_of
from tests.running import CHOICES, composed

from .cells import cell as tiny

DRAWN = "dataset.split_seed=${seed}"  # another part of the images with each seed


def cell(tmp_path: Path, *words: str) -> Task:
    """Return a run with weights that no seed draws."""
    return tiny(tmp_path, "model.weights=hub", *words)


def drawing(tmp_path: Path, *words: str) -> Task:
    """Return a run some of whose values are its seed, as Hydra composes it."""
    words = ("model.weights=hub", *words)
    return task_of(composed(tmp_path, *words), CHOICES, words)


def made(tasks: list[Task], **changes: float) -> SharedWork:
    """Return the work of runs of round numbers."""
    frozen = {"train": 10.0, "val": 20.0, "test": 30.0}
    return shared_work((task, RunWork(1000.0, frozen, **changes)) for task in tasks)  # type: ignore[arg-type]


def test_scores_before_the_training_are_shared_by_methods_and_seeds(tmp_path: Path) -> None:
    tasks = [cell(tmp_path, f"seed={seed}", f"method={method}") for seed in (0, 1) for method in ("diet", "simclr")]
    assert made(tasks) == SharedWork(4, shared=4060, alone=4240, without_caches=4240)


def test_what_a_seed_draws_is_its_own(tmp_path: Path) -> None:
    tasks = [drawing(tmp_path, f"seed={seed}", DRAWN) for seed in (0, 1)]
    assert made(tasks).shared == 2000 + 2 * 10 + 20 + 30
    assert made(tasks, published_val=False).shared == 2000 + 2 * (10 + 20) + 30
    tasks = [tiny(tmp_path, f"seed={seed}", "model.weights=none") for seed in (0, 1)]  # random weights
    assert made(tasks).shared == 2000 + 2 * 60


@pytest.mark.parametrize("word", ["dataset.image_size=64", "precision=bf16", "model.patch_size=4"])
def test_other_images_and_networks_share_nothing(tmp_path: Path, word: str) -> None:
    assert made([cell(tmp_path), cell(tmp_path, word)]).shared == 2000 + 2 * 60


def test_views_of_a_trunk_cache_are_shared_as_far_as_both_have_them(tmp_path: Path) -> None:
    views = ["method.trunk.views=3"]
    tasks = [cell(tmp_path, f"seed={seed}", *views, f"method.trunk.noise=0.{seed}") for seed in (0, 1)]
    found = made(tasks, views=3, view=100, drawn=5000)
    assert found == SharedWork(2, shared=2000 + 60 + 300, alone=2 * 1360, without_caches=2 * 6060)
    of_their_own = [drawing(tmp_path, f"seed={seed}", *views, "method.trunk.seed=${seed}") for seed in (0, 1)]
    assert made(of_their_own, views=3, view=100, drawn=5000).shared == 2000 + 60 + 600
    fewer = [(tasks[0], RunWork(0, {}, view=100, views=3)), (tasks[1], RunWork(0, {}, view=100, views=2))]
    assert shared_work(fewer).shared == 300


def test_the_line_tells_ratios_and_what_is_left_out(tmp_path: Path) -> None:
    task = cell(tmp_path)
    whole = RunWork(2e12, {"test": 1e12})
    line = "work of 5.0 TFLOP with what runs share, 6.0 TFLOP if each ran alone (0.83)"
    assert told([(task, whole), (task, whole)]) == line
    assert told([(task, whole), (task, None), (task, whole)]) == f"{line}; runs not counted: 1"
    kept = RunWork(1e12, {}, view=1e12, views=1, drawn=7e12)
    line = "work of 2.0 TFLOP with what runs share, 2.0 TFLOP if each ran alone (1.00), 8.0 TFLOP without trunk caches"
    assert told([(task, kept)]) == f"{line} (0.25)"
    assert told([(task, None)]) == "work unknown: the operations of no run could be counted"


def test_a_plan_has_the_line(tmp_path: Path) -> None:
    tasks = [tiny(tmp_path, "dataset.image_size=32", f"method.loss.label_smoothing={rate}") for rate in (0.1, 0.2)]
    work = Estimator()(tasks[0].settings()).work
    assert work is not None
    assert told((task, work) for task in tasks) in plan(tasks).splitlines()
    assert shared_work((task, work) for task in tasks).shared == 2 * work.alone - sum(work.frozen.values())
