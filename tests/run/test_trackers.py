import time
import warnings
from pathlib import Path

import pytest

from dinodiet.errors import UserError
from dinodiet.run.trackers import NoTracker, Wandb
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
    deadline = time.monotonic() + 30
    while LAST_RECORD not in (records := path.read_bytes().decode("latin-1")) and time.monotonic() < deadline:
        time.sleep(0.1)
    return records


def test_a_real_offline_run_keeps_metrics_configuration_and_scores(tmp_path: Path) -> None:
    done = launch(tmp_path, *TINY, "schedule.epochs=1", "tracker=wandb", "tracker.mode=offline")
    assert done.returncode == 0, done.stderr
    run_id = results_in(tmp_path)["run_id"]
    records = read_back(tmp_path / "default" / run_id)
    for word in ("diet_loss", "label_smoothing", "final/knn/accuracy", run_id):
        assert word in records, word


def test_without_an_account_the_record_is_kept_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    tracker = Wandb(mode="online")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # wandb's own
        with pytest.warns(UserWarning, match="no W&B account"):
            tracker.start("run-1", {"seed": 0}, tmp_path)
        tracker.log({"loss": 0.25}, 1)
        tracker.finish({"final/knn/accuracy": 0.5})
    assert "final/knn/accuracy" in read_back(tmp_path)


def test_an_empty_project_is_refused() -> None:
    with pytest.raises(UserError, match="project"):
        Wandb(project="")
