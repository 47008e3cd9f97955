"""Whole runs that are fine-tuned before and after: added later, on budgets of labels, killed, and side by side."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from dinodiet.evals.finetune import FineTune
from dinodiet.io.files import read_json
from dinodiet.run.monitor import Monitor
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import read_scores
from dinodiet.types import Report, TrainingSplits
from tests.forking import CONTEXT, finish, launch_here, printed, start
from tests.run.test_evaluate import only_run, touched
from tests.run.test_resume import EVERY_STEP, step_of, wait_for
from tests.running import TINY, composed, results_in, run, scores

QUICK = ("schedule.epochs=1", "eval.finetune.steps=2", "eval.finetune.seeds=1", "eval.finetune.lr=[1e-4,1e-3]")
BUDGETS = ("eval.labels_per_class=[1,5]", "eval.label_seeds=2", "dataset.limit=100")
LONG = (
    *TINY,
    "eval=[knn,finetune]",
    "eval.finetune.steps=40",
    "eval.finetune.seeds=2",
    "eval.finetune.lr=[1e-4,1e-3]",
    "eval.finetune.augmentation.colour.jitter=[0.4,0.4,0.4,0.1]",
    "schedule.epochs=10",
    "log_every=1",
)


def said(run_dir: RunDir) -> dict[str, Any]:
    """Return the score files without their times, the bytes of artefacts, and those of the weights."""
    kept = {path.name: read_json(path) for path in run_dir.scores.iterdir()}
    for content in kept.values():
        assert content is not None and content.pop("written") > 0
    artefacts = {str(path.relative_to(run_dir.artefacts)): path.read_bytes() for path in run_dir.artefacts.rglob("*.*")}
    weights = {name: tensor.numpy().tobytes() for name, tensor in load_file(run_dir.weights).items()}
    return kept | artefacts | weights


def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the phase of each fine-tuning that is computed."""
    calls: list[str] = []
    call = FineTune.__call__

    def counted(self: FineTune, splits: TrainingSplits) -> Report:
        assert splits.work.folder is not None
        calls.append(splits.work.folder.name.partition("_")[0])
        return call(self, splits)

    monkeypatch.setattr(FineTune, "__call__", counted)
    return calls


@pytest.mark.slow
def test_it_is_added_to_a_finished_run_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(composed(tmp_path / "whole", *QUICK, "eval=[knn,finetune]"))
    for name in ("again", "evaluated"):
        run(composed(tmp_path / name, *QUICK[:1]))
    before = touched(only_run(tmp_path / "again"))
    monkeypatch.setattr(Monitor, "on_step", lambda *_: pytest.fail("it trains"))
    calls = called(monkeypatch)
    assert scores(run(composed(tmp_path / "again", *QUICK, "eval=[knn,finetune]"))) == scores(whole)
    words = ("mode=evaluate", f"checkpoint={only_run(tmp_path / 'evaluated').path}", "eval=[finetune]", *QUICK[1:])
    run(composed(tmp_path / "evaluated", *words, base=()), overrides=words)
    assert calls == ["initial", "final"] * 2
    expected = said(only_run(tmp_path / "whole"))
    assert said(only_run(tmp_path / "again")) == said(only_run(tmp_path / "evaluated")) == expected
    assert touched(only_run(tmp_path / "again")) == before


@pytest.mark.slow
def test_budgets_of_labels_have_trainings_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = called(monkeypatch)
    found = run(composed(tmp_path, *QUICK, *BUDGETS, "eval=[finetune]"))
    assert calls == ["initial"] * 4 + ["final"] * 4
    files = {file.key.partition("_")[0] + str(file.labels): file for file in read_scores(only_run(tmp_path))}
    for file in files.values():
        assert file.labels is not None and file.protocol is not None
        assert file.protocol["num_train"] == file.labels["images"] == 10 * file.labels["per_class"]
        before = files[f"initial{file.labels}"].protocol
        assert before is not None and before["lr"] == file.protocol["lr"]
    trained_on = {file.protocol["train_images"] for file in files.values() if file.protocol is not None}
    assert len(trained_on) == 4  # two draws of each budget, the same before and after
    assert [(row["evaluator"], row["images"], row["of"]) for row in found["budgets"]] == [
        ("finetune", 10 * amount, 100) for _ in range(2) for amount in (1, 1, 5, 5)
    ]
    assert found["final"] == found["refused"] == {}


def lines(folder: Path, file: str) -> int:
    """Return how many lines the one file of this name below a folder has."""
    return sum(len(path.read_text().splitlines()) for path in folder.glob(f"*/*/{file}"))


def exists(folder: Path, file: str) -> bool:
    return any(folder.glob(f"*/*/{file}"))


def moments(folder: Path) -> list[Callable[[], bool]]:
    """Return when to kill: early and late in what is done before, in, and after the training."""

    def curve(name: str, least: int) -> Callable[[], bool]:
        return lambda: lines(folder, f"artefacts/{name}.jsonl") >= least

    return [
        lambda: exists(folder, "status.json"),
        curve("initial/finetune/lr0.0001_seed0", 2),
        curve("initial/finetune/lr0.001_seed0", 12),
        lambda: exists(folder, "work/initial_finetune_*/lr*_seed1.pt") or exists(folder, "scores/initial_finetune_*"),
        lambda: step_of(folder) >= 1,
        lambda: step_of(folder) >= 17,
        lambda: step_of(folder) >= 31,
        curve("final/finetune/lr*_seed0", 3),
        curve("final/finetune/lr*_seed1", 9),
        lambda: exists(folder, "scores/final_finetune_*"),
    ]


@pytest.mark.slow
def test_killed_at_ten_moments_it_ends_as_undisturbed(tmp_path: Path) -> None:
    assert finish(start(tmp_path / "undisturbed", *LONG)) == 0, printed(tmp_path / "undisturbed")
    killed = tmp_path / "killed"
    for number, moment in enumerate(moments(killed)):
        process = start(killed, *LONG, EVERY_STEP)
        wait_for(moment, process)
        time.sleep(0.02 * (number % 3))  # between two steps, in one, or while something is written, as it comes
        assert process.is_alive(), f"the run ended before moment {number}: {printed(killed)}"
        process.kill()
        process.join()
    assert finish(start(killed, *LONG, EVERY_STEP)) == 0, printed(killed)
    assert said(only_run(killed)) == said(only_run(tmp_path / "undisturbed"))
    assert scores(results_in(killed)) == scores(results_in(tmp_path / "undisturbed"))
    assert not only_run(killed).work.exists()


def launch_counted(folder: Path, arguments: tuple[str, ...]) -> None:
    """Run launch.py in this process; a line for each fine-tuning that it computes goes to `computed.txt`."""
    call = FineTune.__call__

    def counted(self: FineTune, splits: TrainingSplits) -> Report:
        assert splits.work.folder is not None
        with (folder / "computed.txt").open("a") as stream:
            stream.write(f"{splits.work.folder.name.partition('_')[0]}\n")
        return call(self, splits)

    FineTune.__call__ = counted  # type: ignore[method-assign]
    launch_here(folder, arguments)


@pytest.mark.slow
def test_of_five_cells_that_start_at_once_one_computes_the_score_before(tmp_path: Path) -> None:
    few = (*TINY, *QUICK[1:], "eval=[finetune]", "eval.finetune.steps=20")
    cells = [
        CONTEXT.Process(target=launch_counted, args=(tmp_path, (*few, f"schedule.epochs={epochs}")))
        for epochs in range(1, 6)
    ]
    for cell in cells:
        cell.start()
    assert [finish(cell) for cell in cells] == [0] * 5, printed(tmp_path)
    assert sorted((tmp_path / "computed.txt").read_text().split()) == ["final"] * 5 + ["initial"]
    before = [
        {
            name: content
            for name, content in said(RunDir(folder)).items()
            if name.startswith(("initial_finetune", "initial/"))
        }
        for folder in (tmp_path / "default").iterdir()
    ]
    assert len(before) == 5 and len(before[0]) == 1 + 3 and all(one == before[0] for one in before)


@pytest.mark.slow
def test_what_a_kill_left_beside_a_score_is_dropped(tmp_path: Path) -> None:
    run(composed(tmp_path))
    run_dir = only_run(tmp_path)
    for there in read_scores(run_dir):
        (run_dir.work / there.key).mkdir(parents=True)
        (run_dir.work / there.key / "state.pt").touch()
    run_dir.results.unlink()
    run(composed(tmp_path))
    assert not run_dir.work.exists()
