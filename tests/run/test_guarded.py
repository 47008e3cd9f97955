"""A tracker never stops a run, whatever it does: throwing, leaving, hanging, or a real W&B that is killed."""

import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from dinodiet.errors import UserError
from dinodiet.run import guarded
from dinodiet.run.guarded import Guarded
from dinodiet.run.trackers import NoTracker
from tests.places import ROOT
from tests.running import TINY, composed, launch, results_in, run, scores

CALLS = ("start", "log", "figure", "table", "finish")


class Throwing(NoTracker):
    """Raises an error of some kind at one call, or at all of them."""

    def __init__(self, *, at: str = "all", kind: str = "ConnectionError") -> None:
        self._at, self._kind = at, kind
        self._raise("__init__")

    def _raise(self, name: str) -> None:
        if self._at in (name, "all"):
            kinds: dict[str, type[BaseException]] = {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}
            raise kinds.get(self._kind, ConnectionError)("no\nroute")

    def start(self, *_: Any) -> None:
        self._raise("start")

    def log(self, *_: Any) -> None:
        self._raise("log")

    def figure(self, *_: Any) -> None:
        self._raise("figure")

    def table(self, *_: Any) -> None:
        self._raise("table")

    def finish(self, *_: Any) -> None:
        self._raise("finish")


def use(tracker: Guarded, folder: Path) -> None:
    tracker.start("run", {"name": "study"}, folder)
    for step in (1, 2):
        tracker.log({"loss": 1.0}, step)
    tracker.figure("a", folder)
    tracker.table("b", folder)
    tracker.finish({})


@pytest.mark.parametrize("kind", ["ConnectionError", "SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("at", ["__init__", *CALLS, "all"])
def test_a_tracker_that_throws_costs_one_warning(tmp_path: Path, at: str, kind: str) -> None:
    with pytest.warns(UserWarning, match=f"failed .{kind}: no route.; the run goes on") as told:
        use(Guarded(lambda: Throwing(at=at, kind=kind)), tmp_path)
    assert len(told) == 1


def test_settings_that_a_tracker_refuses_are_refused() -> None:
    def make() -> NoTracker:
        raise UserError("rate: 3")

    with pytest.raises(UserError, match="rate: 3"):
        Guarded(make)


class Hanging(NoTracker):
    def log(self, metrics: dict[str, float], step: int) -> None:
        time.sleep(600)


def test_a_tracker_that_does_not_answer_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "SECONDS", 0.2)
    begun = time.monotonic()
    with pytest.warns(UserWarning, match="Hanging failed .TimeoutError") as told:
        use(Guarded(Hanging), tmp_path)
    assert len(told) == 1
    assert time.monotonic() - begun < 60


class Meddling(NoTracker):
    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        config.clear()

    def log(self, metrics: dict[str, float], step: int) -> None:
        metrics.clear()


def test_a_tracker_cannot_change_what_it_is_told(tmp_path: Path) -> None:
    config, metrics = {"name": "study"}, {"loss": 1.0}
    tracker = Guarded(Meddling)
    tracker.start("run", config, tmp_path)
    tracker.log(metrics, 1)
    assert (config, metrics) == ({"name": "study"}, {"loss": 1.0})


def test_where_warnings_are_errors_the_run_goes_on_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use(Guarded(Throwing), tmp_path)
    assert "warning: tracker: " in capsys.readouterr().err


def test_a_run_whose_tracker_throws_at_every_call_has_the_same_scores(tmp_path: Path) -> None:
    plain = run(composed(tmp_path / "plain"))
    cfg = composed(tmp_path / "throwing", "tracker._target_=tests.run.test_guarded.Throwing", "+tracker.at=all")
    with pytest.warns(UserWarning, match="the run goes on"):
        assert scores(run(cfg)) == scores(plain)


SCRIPT = """
import os, signal, subprocess, sys
from pathlib import Path
from dinodiet.run import guarded
from dinodiet.run.trackers import Wandb
guarded.SECONDS = 60.0
tracker = guarded.Guarded(lambda: Wandb(mode="offline"))
tracker.start("run", {"name": "study"}, Path(sys.argv[1]))
guarded.SECONDS = 2.0
children = subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb-core"], capture_output=True, text=True).stdout
os.kill(int(children), signal.Signals[sys.argv[2]])
for step in (1, 2):
    tracker.log({"loss": 1.0}, step)
tracker.finish({"a": 1.0})
print("went on")
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_real_wandb_that_is_killed_or_stopped_costs_one_warning(tmp_path: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "Wandb failed" in done.stderr


@pytest.mark.slow
def test_an_account_without_a_route_keeps_the_record_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a1" * 20)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    done = launch(tmp_path, *TINY, "tracker=wandb")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("W&B cannot be reached") == 1
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("*/*/wandb/offline-run-*"))
    assert results_in(tmp_path)["final"]
