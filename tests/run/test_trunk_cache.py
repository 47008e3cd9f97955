"""Whole runs on a trunk cache: interrupted and resumed bit for bit, also where the cache is gone; refused in a line."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from dinodiet.errors import UserError
from dinodiet.features.trunk_cache import TrunkCache
from dinodiet.types import Clock
from tests.running import CHOICES, composed, results_in, run, scores

# Four blocks' worth of everything that draws random numbers: the head-only phase, drop path, micro-batches.
CACHED = (
    *("method.trunk.views=2", "method.trainable=last_1_blocks", "model.drop_path=0.1", "schedule.epochs=2"),
    *("schedule.accumulate=2", "eval.validation=false"),
)


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_numbers_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = run(composed(tmp_path / "a", *CACHED), CHOICES)
    assert undisturbed["prepare_seconds"] > 0
    assert undisturbed["initial"] != undisturbed["final"]
    draw = TrunkCache.draw

    def killed(self: TrunkCache, index: Tensor, clock: Clock) -> Any:
        if clock.step == 5:
            raise InterruptedError
        return draw(self, index, clock)

    cfg = composed(tmp_path / "b", *CACHED, "checkpoint_minutes=0")
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(TrunkCache, "draw", killed)
        run(cfg, CHOICES)
    shutil.rmtree(tmp_path / "b" / ".cache")
    assert scores(run(cfg, CHOICES)) == scores(undisturbed)
    printed = capsys.readouterr().out
    assert "continuing from step 5 of 8" in printed
    assert "trunk 2 views" in printed
    assert scores(results_in(tmp_path / "a")) == scores(undisturbed)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.trainable=all"], r"^method\.trunk\.views: 2, but with trainable all"),
        (["compile=true"], r"^compile: true compiles"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(composed(tmp_path, *CACHED, *overrides), CHOICES)
    assert not list(tmp_path.rglob("*.bin"))
