"""The work of a published study, from its file alone."""

import os
from collections import defaultdict

import pytest

from dinodiet.sweep.planning.estimate import Estimator
from dinodiet.sweep.planning.run_work import RunWork
from dinodiet.sweep.planning.shared_work import shared_work
from dinodiet.sweep.task import Task
from tests.sweep.test_compose import hydra, sweeper  # noqa: F401 - a fixture


@pytest.mark.slow
def test_a_trunk_cache_spares_most_of_a_published_study_with_diet() -> None:
    words = ["sweeps=continued_pretraining", "method=diet", "method.trunk.views=8"]
    grid, estimator = sweeper(words, os.environ["OWN"]), Estimator()
    runs = [(task, estimator(task.settings(quiet=True)).work) for task in grid.tasks(grid.expand(words))]
    groups = defaultdict[str, list[tuple[Task, RunWork]]](list)
    for task, work in runs:
        assert work is not None
        groups[str(task.config["model"].get("size"))].append((task, work))
    found = {size: shared_work(group) for size, group in groups.items()}
    parts = {size: work.shared / work.without_caches for size, work in found.items()}
    assert sum(work.runs for work in found.values()) == 5 * 22 * 3
    assert parts["large"] < 0.35  # 2 of 24 blocks are trained
    assert max(parts.values()) < 0.45  # 2 of 12: forwards and backwards, 6 / 16 of a step of all blocks
    whole = shared_work(run for group in groups.values() for run in group)
    assert whole.shared / whole.without_caches < 0.4
