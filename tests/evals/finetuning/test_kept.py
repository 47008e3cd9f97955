"""What is stopped goes on to the same numbers; what runs share is computed once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dinodiet.evals.finetune import FineTune
from dinodiet.evals.finetuning.watch import Watch
from dinodiet.evals.scorer import Scorer
from dinodiet.types import Clock, Runtime, Work
from tests.evals.finetuning.tiny import backbone, data, splits
from tests.kinds import after_nightly

TUNE = FineTune(lr=[1e-4, 1e-3], seeds=2, steps=6)


@pytest.mark.slow
@pytest.mark.parametrize("stop", after_nightly(1, [3, 10]))
def test_a_stopped_fine_tuning_goes_on_to_the_same_numbers(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, steps = TUNE(splits()), [0]
    given = replace(splits(), work=Work(tmp_path / "work", 0.0, "key"), path=tmp_path / "files")
    on_step = Watch.on_step

    def stopped(self: Watch, clock: Clock, logs: Any) -> None:
        on_step(self, clock, logs)
        steps[0] += 1
        if steps[0] == stop:
            raise InterruptedError

    monkeypatch.setattr(Watch, "on_step", stopped)
    with pytest.raises(InterruptedError):
        TUNE(given)
    assert (tmp_path / "work" / "checkpoint.pt").exists()
    assert TUNE(given) == expected
    assert steps[0] == 6 * 3  # two rates, and a second seed: no step is done twice
    shutil.rmtree(tmp_path / "work")


def test_runs_that_share_the_encoder_compute_its_score_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    call = FineTune.__call__

    def counted(self: FineTune, given: Any) -> Any:
        calls.append(1)
        return call(self, given)

    monkeypatch.setattr(FineTune, "__call__", counted)
    tune, model = FineTune(lr=1e-3, seeds=1, steps=2), backbone()
    found = []
    for cell in range(5):
        scorer = Scorer({"tune": tune}, data(), model.input, Runtime(cache=tmp_path / "cache"), validation=True)
        found.append(scorer(model, cached=True, folder=tmp_path / f"{cell}"))
    assert len(calls) == 1 and all(one == found[0] for one in found)
    assert found[4]["tune"].protocol and (tmp_path / "4" / "tune" / "trainings.csv").exists()
    other = Scorer({"tune": replace(tune, steps=3)}, data(), model.input, scorer.runtime, validation=True)
    other(model, cached=True)
    assert len(calls) == 2
