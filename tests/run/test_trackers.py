import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dinodiet.errors import UserError
from dinodiet.run.trackers import NoTracker, Wandb, show_artefacts, wandb_id
from dinodiet.store.rundir import RunDir
from tests.run.wandb_records import history, run_record
from tests.running import TINY, launch, results_in

LAST_RECORD = "final/knn/accuracy"


def test_no_tracker_takes_everything(tmp_path: Path) -> None:
    tracker = NoTracker()
    tracker.start("run", {}, tmp_path)
    tracker.log({"loss": 1.0}, 1)
    tracker.finish({"final/knn/accuracy": 1.0})
    assert not list(tmp_path.iterdir())


def read_back(folder: Path) -> str:
    """Return the raw records of the one finished offline run below a folder, written by a process of W&B's own."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 120
    while LAST_RECORD not in (records := path.read_bytes().decode("latin-1")) and time.monotonic() < deadline:
        time.sleep(0.1)
    return records


@pytest.mark.slow
def test_a_real_offline_run_keeps_metrics_configuration_and_scores(tmp_path: Path) -> None:
    done = launch(tmp_path, *TINY, "schedule.epochs=1", "tracker=wandb", "tracker.mode=offline")
    assert done.returncode == 0, done.stderr
    run_id = results_in(tmp_path)["run_id"]
    records = read_back(tmp_path / "default" / run_id)
    for word in ("diet_loss", "label_smoothing", "final/knn/accuracy", run_id):
        assert word in records, word


@pytest.mark.slow
def test_figures_tables_and_names_of_a_real_offline_run_are_read_back(tmp_path: Path) -> None:
    words = ("schedule.epochs=1", "eval=[knn,confusion]", "figures=true", "tracker=wandb", "tracker.mode=offline")
    done = launch(tmp_path, *TINY, *words, "tracker.tags=[mine]")
    assert done.returncode == 0, done.stderr
    results = results_in(tmp_path)
    (path,) = tmp_path.glob("*/*/wandb/offline-run-*/run-*.wandb")
    told, logged = run_record(path), history(path)
    assert told.run_group == "default" and told.job_type == "diet"
    assert {*told.tags} == {"mine", "default", "vit-tiny", "digits", "diet", "seed=0"}
    kinds = {key.removesuffix("/_type"): value for row in logged for key, value in row.items() if key.endswith("_type")}
    shown = {name: kinds[name] for name in ("progress", "validation_curves", "initial_vs_final", "validation")}
    assert [*shown.values()] == ["image-file", "image-file", "table-file", "table-file"]
    assert kinds["final/confusion/test/confusion"] in ("image-file", "table-file")
    (file,) = {row[key] for row in logged for key in row if key == "initial_vs_final/path"}
    table = json.loads((path.parent / "files" / file).read_text())
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["data"]}
    assert rows["knn/accuracy"]["final"] == results["final"]["knn/accuracy"]
    steps = [row["_step"] for row in logged if "loss" in row]
    assert steps == sorted({*steps})


@pytest.mark.slow
def test_a_score_that_is_added_to_a_finished_run_reaches_its_offline_record(tmp_path: Path) -> None:
    arguments = [*TINY, "schedule.epochs=1", "tracker=wandb", "tracker.mode=offline"]
    assert launch(tmp_path, *arguments).returncode == 0
    done = launch(tmp_path, *arguments, "eval=[knn,kmeans]")
    assert done.returncode == 0, done.stderr
    records = read_back(tmp_path / "default" / results_in(tmp_path)["run_id"])  # of the one record that is there
    for word in ("diet_loss", "final/knn/accuracy", "final/kmeans/ari"):
        assert word in records, word


@pytest.mark.slow
def test_without_an_account_the_record_is_kept_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    tracker = Wandb(mode="online")
    with pytest.warns(UserWarning, match="no W&B account"):
        tracker.start("run-1", {"name": "study", "seed": 0}, tmp_path)
    tracker.log({"loss": 0.25}, 1)
    tracker.finish({"final/knn/accuracy": 0.5})
    assert "final/knn/accuracy" in read_back(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("project", ""),
        ("project", "a/b"),
        ("project", "50%"),
        ("project", "p" * 129),
        ("project", "two\nlines"),
        ("entity", ""),
        ("entity", "my team/lab"),
        ("tags", ["good", "t" * 65]),
        ("tags", [""]),
    ],
)
def test_what_wandb_does_not_take_is_refused(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{key}: "):
        Wandb(**{key: value})


@pytest.mark.slow
def test_what_is_not_set_follows_the_environment_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PROJECT": "theirs", "ENTITY": "lab", "MODE": "offline", "RUN_GROUP": "night"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    tracker = Wandb()
    tracker.start("run-1", {"name": "study"}, tmp_path / "run")
    run = tracker._run
    found = run.project, run.entity, run.group
    tracker.finish({LAST_RECORD: 1.0})
    assert found == ("theirs", "lab", "night")
    assert LAST_RECORD in read_back(tmp_path)


@pytest.mark.parametrize("environment", [{"WANDB_MODE": "disabled"}, {"WANDB_DISABLED": "true"}])
def test_a_tracker_that_the_environment_switches_off_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tracker = Wandb()
    tracker.start("run-1", {"name": "study"}, tmp_path)
    tracker.finish({})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("MODE", "sometimes"), ("PROJECT", "a/b"), ("TAGS", "a," + "b" * 80)])
def test_an_environment_that_wandb_does_not_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"WANDB_{name}", value)
    with pytest.raises(UserError, match=f"^{name.lower()}: "):
        Wandb()


def test_three_starts_leave_one_offline_record_of_the_whole_run(tmp_path: Path) -> None:
    """The second start was killed after step 2, of which there is no checkpoint: the third comes to it again."""
    run_dir, rows = RunDir(tmp_path), [{"loss": value} for value in (0.1234, 0.2345, 0.3456)]
    for begins, losses in ((1, rows[:1]), (2, rows[1:2]), (2, rows[1:])):
        tracker = Wandb(mode="offline")
        tracker.start("run-1", {"name": "study"}, tmp_path)
        run_dir.keep_metrics_until(begins - 1)
        for step, metrics in enumerate(losses, start=begins):
            run_dir.append_metrics({"step": step, **metrics})
            tracker.log(metrics, step)
        tracker.finish({LAST_RECORD: 0.5})
    records = read_back(tmp_path)
    assert [records.count(str(row["loss"])) for row in rows] == [2, 2, 2]  # in its history, and in the summary then


def test_studies_are_told_apart_and_group_their_runs(tmp_path: Path) -> None:
    ids = {wandb_id(study, "vit_seed0_ab12") for study in ("a", "b/c", "b:c", "long" * 20, "long" * 21)}
    assert len(ids) == 4  # b/c and b:c cannot both be folders
    assert all(re.fullmatch(r"[\w.-]{1,64}", name) for name in ids)
    tracker = Wandb(mode="offline")
    tracker.start("run-1", {"name": "a_study"}, tmp_path)
    group = tracker._run.group
    tracker.finish({LAST_RECORD: 1.0})
    assert group == "a_study"


def test_figures_and_tables_of_evaluators_are_shown(tmp_path: Path) -> None:
    drawn = tmp_path / "artefacts"
    (drawn / "knn").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(drawn / "knn" / "confusion.png")
    (drawn / "knn" / "per_class.csv").write_text("class,recall\ncat,0.5\n")
    (drawn / "notes.txt").write_text("not shown")
    tracker = Wandb(mode="offline")
    tracker.start("run-1", {"name": "study"}, tmp_path)
    show_artefacts(tracker, drawn)
    tracker.finish({LAST_RECORD: 1.0})
    kept = sorted(path.suffix for path in tmp_path.glob("wandb/offline-run-*/files/media/**/*.*"))
    assert kept == [".json", ".png"]
