"""The block before a run says what accumulation does to its loss."""

from pathlib import Path

import pytest

from dinodiet.config.settings import settings_of
from dinodiet.processes.gathering import assumed
from dinodiet.run.described import describe
from dinodiet.run.parts import build_parts
from dinodiet.store.rundir import RunDir
from tests.running import CHOICES, composed

SINKHORN = ("method=dino", "method.loss.centring=sinkhorn")
KOLEO = ("method=dino", "method.koleo=0.1")


def schedule_line(folder: Path, *overrides: str) -> str:
    settings = settings_of(composed(folder, *overrides), CHOICES)
    lines = describe(settings, build_parts(settings), RunDir(folder)).splitlines()
    return next(line for line in lines if line.startswith("  schedule"))


@pytest.mark.parametrize(
    "method", [("method=simclr",), ("method=lejepa",), SINKHORN, KOLEO], ids=["simclr", "lejepa", "sinkhorn", "koleo"]
)
def test_parts_are_told_where_a_loss_compares_their_images(method: tuple[str, ...], tmp_path: Path) -> None:
    line = schedule_line(tmp_path, *method, "schedule.accumulate=4")
    assert line.endswith("12 steps of 16 in parts of 4; the loss compares the images of a part alone")
    assert schedule_line(tmp_path, *method).endswith("12 steps of 16")


def test_parts_are_told_where_batchnorm_sees_them_one_by_one(tmp_path: Path) -> None:
    line = schedule_line(tmp_path, "method=byol", "schedule.accumulate=4")
    assert line.endswith("in parts of 4; BatchNorm sees a part at a time")


def test_own_statistics_of_processes_are_told(tmp_path: Path) -> None:
    settings = settings_of(composed(tmp_path, "method=byol", "sync_batchnorm=false"), CHOICES)
    parts = build_parts(settings)
    with assumed(2):
        told = describe(settings, parts, RunDir(tmp_path))
    assert "steps of 16; BatchNorm sees the 8 of each process\n" in told
    assert "BatchNorm" not in describe(settings, parts, RunDir(tmp_path))


@pytest.mark.parametrize("method", ["diet", "dino", "mae"])
def test_other_losses_are_means_over_images(method: str, tmp_path: Path) -> None:
    assert schedule_line(tmp_path, f"method={method}", "schedule.accumulate=4").endswith("steps of 16 in parts of 4")
