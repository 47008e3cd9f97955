"""The plan of a grid: a line for runs that need the same, and what is to do."""

import re
from pathlib import Path

import pytest

from dinodiet.errors import ManyReasons, UserError
from dinodiet.io.files import write_json
from dinodiet.io.units import byte_size
from dinodiet.store.scores import ScoreFile, write_scores
from dinodiet.sweep.planning.estimate import Estimator
from dinodiet.sweep.planning.plan import alike, differing, named, plan
from dinodiet.sweep.task import task_of
from tests.running import CHOICES, composed

from .cells import cell


def test_a_line_says_state_and_needs(tmp_path: Path) -> None:
    tasks = [cell(tmp_path, f"seed={seed}", f"method.loss.label_smoothing={seed / 10}") for seed in range(4)]
    write_json(tasks[0].run_dir.results, {"evaluations": dict.fromkeys(tasks[0].wanted, True)})
    write_json(tasks[1].run_dir.status, {"state": "failed", "reason": "loss is nan", "step": 5, "total_steps": 12})
    write_json(tasks[2].run_dir.status, {"state": "killed", "reason": "preempted", "step": 4, "total_steps": 12})
    told = plan(tasks, full=True).splitlines()
    title, done, failed, stopped, missing, total, time, scores, work, left_out = told
    assert title == f"{tasks[0].study}: 4 runs: 1 done, 1 failed, 1 stopped, 1 missing"
    found = Estimator()(tasks[0].settings())
    needs = f"12 steps  {found.parameters / 1e3:.1f} k parameters"  # type: ignore[operator]
    assert done.startswith(f"  done     method.loss.label_smoothing=0.0 seed=0  {needs}")
    assert failed.startswith(f"  failed   method.loss.label_smoothing=0.1 seed=1  {needs}")
    assert failed.endswith("at step 5; loss is nan")
    assert stopped.startswith("  stopped  method.loss.label_smoothing=0.2 seed=2")
    assert missing.startswith("  missing  method.loss.label_smoothing=0.3 seed=3")
    assert total == f"48 steps in all, 27 of them to do; largest peak {byte_size(found.peak or 0)}"
    assert time.startswith("time unknown: no finished run of that model and method")
    assert scores == "8 evaluations in all, 8 of them to do"
    assert work.startswith("work of ")
    assert "peak: with activations" in left_out


def test_only_what_differs_is_named(tmp_path: Path) -> None:
    both = "schedule.epochs=1"
    tasks = [cell(tmp_path, both, *own) for own in (["method=diet"], ["method=dino"], ["seed=1", "method=diet"])]
    assert [named([one]) for one in differing(tasks)] == ["method=diet", "method=dino", "method=diet seed=1"]
    assert plan(tasks[:1]).splitlines()[1].split()[1] == tasks[0].cell.run_id


@pytest.mark.slow
def test_runs_that_need_the_same_are_one_line(tmp_path: Path) -> None:
    values = [(seed, smoothing, epochs) for epochs in (1, 2) for smoothing in (0.0, 0.2) for seed in range(4)]
    tasks = [
        cell(tmp_path, f"schedule.epochs={epochs}", f"method.loss.label_smoothing={smoothing}", f"seed={seed}")
        for seed, smoothing, epochs in values
    ]
    write_json(tasks[0].run_dir.results, {"evaluations": dict.fromkeys(tasks[0].wanted, True)})
    write_json(tasks[9].run_dir.status, {"state": "failed", "reason": "loss is nan"})
    title, *groups, _, _, _, _, explained = plan(tasks).splitlines()
    words = [re.split(r"  +", line.strip())[:2] for line in groups]
    assert words == [
        ["1 done, 7 missing", "schedule.epochs=1 method.loss.label_smoothing=0.0,0.2 seed=0..3"],
        ["3 missing", "schedule.epochs=2 method.loss.label_smoothing=0.0 seed=0,2,3"],
        ["failed", "schedule.epochs=2 method.loss.label_smoothing=0.0 seed=1"],
        ["4 missing", "schedule.epochs=2 method.loss.label_smoothing=0.2 seed=0..3"],
    ]
    assert len(plan(tasks, full=True).splitlines()) == 16 + 6
    assert (title.rpartition("/")[2], "plan=full" in explained) == (
        "default: 16 runs: 1 done, 1 failed, 14 missing",
        True,
    )


def test_a_line_names_no_run_that_is_not_there() -> None:
    cells = [{"a": "1", "b": "1"}, {"a": "1", "b": "2"}, {"a": "2", "b": "2"}, {"b": "1"}]
    groups = alike(cells, [["same"]] * 4)
    assert groups == [[0, 1], [2], [3]]
    assert [named([cells[number] for number in group]) for group in groups] == ["a=1 b=1,2", "a=2 b=2", "b=1"]
    assert alike(cells, [["same"], ["same"], ["other"], ["same"]]) == [[0, 1], [2], [3]]
    many = [{"a": str(10**number)} for number in range(12)]
    assert named(many) == "a=1,..,100000000000 (12 values)"


def test_all_impossible_cells_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = {
        "seed=0": None,
        "dataset.image_size=33": "model.image_size: 33 (image_size of",
        "dataset.limit=5000": "dataset.limit: 5000; 1000 images",
        "+method.views.size=64": "method.views.size: 64 pixels is more than",
        "method.trainable=last_99_blocks": "method.trainable: 'last_99_blocks', but",
        "eval.knn.k=65": "eval.knn.k: 65; there are only 64",
        "schedule.lr={_target_: dinodiet.schedules.Cosine, value: 1, warmup_steps: 1, warmup_epochs: 1}": "are all set",
        "model.weights=/no/such/file.pth": "model.weights: no file",
        "schedule.optimizer._target_=torch.optim.AdamX": "schedule.optimizer._target_: 'torch.optim.AdamX' cannot be",
    }
    with pytest.raises(UserError) as caught:
        plan([cell(tmp_path, override) for override in reasons])
    assert isinstance(caught.value, ManyReasons)
    assert str(caught.value).startswith("8 of 9 runs cannot be built, for 8 reasons: model.image_size, dataset.limit, ")
    assert len(caught.value.lines) == 8
    printed = capsys.readouterr().out.splitlines()
    for line, (override, reason) in zip(printed[1:], reasons.items(), strict=False):
        assert override in line
        assert line.split()[0] == ("refused" if reason else "missing")
        assert (reason or "12 steps") in line
        assert reason is None or any(reason in told and override in told for told in caught.value.lines)
    assert "12 steps in all" in printed[len(reasons) + 1]
    assert not list(tmp_path.iterdir())


def test_evaluations_on_budgets_are_counted_and_those_that_are_done_are_not_to_do(tmp_path: Path) -> None:
    words = ["eval=[knn,geometry]", "eval.labels_per_class=[1,2,all]", "eval.label_seeds=2", "eval.knn.k=1"]
    task = task_of(composed(tmp_path, *words), CHOICES, words)

    def told() -> str:
        return plan([task]).splitlines()[4]

    assert told() == "12 evaluations in all, 12 of them to do"  # 1 and 2 a class twice, all once; geometry once
    keys = [key for key in task.wanted if key.startswith("initial_")]
    knn = [key for key in keys if "_knn_" in key]
    for key in knn[:2]:
        write_scores(task.run_dir, ScoreFile(key, "knn", "initial", {}, test={}, val={}))
    whole = next(key for key in keys if "_geometry_" in key).partition("+")[0]
    write_scores(task.run_dir, ScoreFile(whole, "geometry", "initial", {}, test={}, val={}, fits_labels=False))
    assert told() == "12 evaluations in all, 9 of them to do"


def test_evaluations_on_budgets_of_labels_that_are_not_here_are_not_counted(tmp_path: Path) -> None:
    words = ["dataset=bloodmnist", "eval.labels_per_class=[1,2]", "eval.knn.k=1"]
    task = task_of(composed(tmp_path, *words), {**CHOICES, "dataset": "bloodmnist"}, words)
    for key in task.wanted:  # scored where the labels are
        write_scores(task.run_dir, ScoreFile(key, "knn", "initial", {}, test={}, val={}))
    found = plan([task]).splitlines()[4]
    assert found == "0 evaluations in all, 0 of them to do; runs not counted, whose labels are not here: 1"
