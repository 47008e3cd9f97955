"""Records of whole runs: they change no weight, survive kills, and are refused before any work where they cannot be."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file

from dinodiet.config.parent import WHOLE
from dinodiet.errors import UserError
from dinodiet.run import checkpoint
from dinodiet.run.parts import build_parts
from dinodiet.run.trackers import NoTracker
from dinodiet.store.records import read_record
from tests.contracts.choices import settings
from tests.forking import finish, printed, start
from tests.kinds import after_nightly
from tests.run.test_resume import step_of, wait_for
from tests.running import CHOICES, TINY, composed, killed_after, run

ALL = ("parameters", "features", "saved_features", "gradient_variance", "losses")
EVERY = {"parameters": 1, "features": 2, "saved_features": 5, "gradient_variance": 3, "losses": 1}
RECORDS = (f"record=[{','.join(ALL)}]", *(f"record.{name}.every_steps={steps}" for name, steps in EVERY.items()))
DINO = (
    *("method=dino", "method.head.hidden_dims=[16]", "method.head.out_dim=32", "method.views.crops=2+1x16"),
    *("schedule.batch_size=16", "schedule.epochs=2", "schedule.clip_grad=1.0", "checkpoint_minutes=0", "log_every=1"),
)
STEPS = 8
WITH_DINO = {**CHOICES, "method": "dino"}


class Heard(NoTracker):
    """Remembers what it heard."""

    names: ClassVar[set[str]] = set()

    def log(self, metrics: dict[str, float], step: int) -> None:
        Heard.names |= metrics.keys()


def without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in which what is not a number equals itself."""
    return {name: "nan" if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of the one run below a folder, by record."""
    (records,) = folder.glob("*/*/records")
    return {name: [without_nan(row) for row in read_record(records / name).to_pylist()] for name in ALL}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob(f"*/*/{WHOLE}")
    return load_file(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an undisturbed run with all records."""
    folder = tmp_path_factory.mktemp("whole")
    run(composed(folder, *DINO, *RECORDS, f"tracker._target_={__name__}.Heard"), WITH_DINO)
    return folder


@pytest.mark.slow
def test_records_change_no_weight(whole: Path, tmp_path: Path) -> None:
    run(composed(tmp_path, *DINO), WITH_DINO)
    plain, recorded = weights(tmp_path), weights(whole)
    assert plain.keys() == recorded.keys()
    assert all(torch.equal(own, recorded[name]) for name, own in plain.items())
    assert {path.name for path in tmp_path.glob("*/*")} == {path.name for path in whole.glob("*/*")}


def test_rows_are_of_their_steps_and_say_what_the_run_logged(whole: Path) -> None:
    found = rows(whole)
    steps = {name: sorted({row["step"] for row in own}) for name, own in found.items()}
    assert steps["parameters"] == steps["losses"] == list(range(1, STEPS + 1))
    assert steps["features"] == [0, 2, 4, 6, 8]
    assert steps["saved_features"] == [0, 5, 8]
    assert steps["gradient_variance"] == [3, 6, 8]
    (metrics,) = whole.glob("*/*/metrics.jsonl")
    logged = [line for line in map(json.loads, metrics.read_text().splitlines()) if "loss" in line]
    for row, line in zip(found["losses"], logged, strict=True):
        assert row["ce/opposite"] == pytest.approx(line["loss"], rel=1e-5) == row["loss"]
        assert row["kl/opposite"] == pytest.approx(line["kl"], rel=1e-4)
        assert row["teacher/entropy"] == pytest.approx(line["teacher_entropy"], rel=1e-5)
    first, last = found["parameters"][1], found["parameters"][-1]
    assert 0 < first["model/teacher_moved/norm"] < first["model/student_moved/norm"] < last["model/student_moved/norm"]
    assert first["model/gradient/norm"] > 1  # before clipping
    still = found["parameters"][0]  # a warm-up begins at a rate of 0
    assert (still["model/student_moved/norm"], still["model/teacher_student/cosine"]) == (0, pytest.approx(1))
    assert still["model/gradient_difference/cosine"] == "nan"
    for row in found["saved_features"]:
        assert len(row["student/embeddings"]) == 24 and len(row["teacher/logits"]) == 32
    start_ = [row for row in found["saved_features"] if row["step"] == 0]
    assert len(start_) == 64 and all(row["student/embeddings"] == row["teacher/embeddings"] for row in start_)
    moved = [row["validation/embeddings/student/moved"] for row in found["features"]]
    assert moved[0] == 0 and all(distance > 0 for distance in moved[1:])


def test_trackers_hear_of_single_rows(whole: Path) -> None:
    assert {"record/parameters/model/student/norm", "record/losses/ce/all"} <= Heard.names
    assert not [name for name in Heard.names if name.startswith("record/saved_features")]


@pytest.mark.slow
@pytest.mark.parametrize("after", after_nightly(1, [1, 5]))
def test_a_killed_run_writes_the_same_rows(
    whole: Path, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = composed(tmp_path, *DINO, *RECORDS)
    with killed_after(after, monkeypatch):
        run(cfg, WITH_DINO)
    run(cfg, WITH_DINO)
    assert rows(tmp_path) == rows(whole)


@pytest.mark.slow
def test_rows_after_the_checkpoint_are_written_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop between the rows and the checkpoint leaves rows of steps that are done again."""
    cfg = composed(tmp_path, *DINO, *RECORDS)
    save = checkpoint.save

    def stopped(run_dir: Any, state: dict[str, Any]) -> None:
        if state["step"] == 6:
            raise InterruptedError
        if state["step"] == 3:  # the newest checkpoint is behind the rows by two steps
            save(run_dir, state)

    with monkeypatch.context() as patch, contextlib.suppress(InterruptedError):
        patch.setattr(checkpoint, "save", stopped)
        run(cfg, WITH_DINO)
    (records,) = tmp_path.glob("*/*/records")
    assert max(read_record(records / "losses")["step"].to_pylist()) == 6
    run(cfg, WITH_DINO)
    assert rows(tmp_path) == rows(whole)


@pytest.mark.slow
def test_killed_in_real_processes(tmp_path: Path) -> None:
    words = (*TINY, *DINO, *RECORDS, "schedule.epochs=40")
    assert finish(start(tmp_path / "whole", *words)) == 0, printed(tmp_path / "whole")
    killed = tmp_path / "killed"
    for least in (3, 40, 90):
        process = start(killed, *words)
        wait_for(lambda least=least: step_of(killed) >= least, process)  # type: ignore[misc]
        assert process.is_alive(), printed(killed)
        process.kill()
        process.join()
    assert finish(start(killed, *words)) == 0, printed(killed)
    assert rows(killed) == rows(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("record.parameters.every_steps=0",),
            r"record\.parameters\.every_steps: 0; must be a whole number of",
        ),
        (("record=features", "record.features.kinds=[logits]"), r"record\.features\.kinds: logits; DIET shows no such"),
        (("method=frozen",), "record: the method takes no step"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_any_work(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=f"^{told}"):
        build_parts(settings(tmp_path, "record=parameters", *words))


def test_parquet_without_pyarrow_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"^record: Parquet needs pyarrow: pip install 'dinodiet\[parquet\]'"):
        build_parts(settings(tmp_path, "record=parameters"))


def test_a_run_that_is_done_says_that_nothing_is_recorded_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(composed(tmp_path))
    capsys.readouterr()
    run(composed(tmp_path, "record=parameters"))
    assert "warning: record.parameters: not recorded; this run is done" in capsys.readouterr().err
