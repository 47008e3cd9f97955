"""What was printed is printed again, at once, while no file changes, and never when one did."""

import argparse
import os
import time
from pathlib import Path

import pytest

from dinodiet.results import __main__ as command
from dinodiet.results.__main__ import main
from dinodiet.store.grid import write_jobs
from tests.results import studies


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a table is computed."""
    found, compute = list[int](), command._compute

    def counted(args: argparse.Namespace) -> None:
        found.append(1)
        compute(args)

    monkeypatch.setattr(command, "_compute", counted)
    return found


@pytest.fixture
def study(tmp_path: Path) -> Path:
    studies.grid(tmp_path / "study", models=["mae"], seeds=[0])
    age(tmp_path / "study")
    return tmp_path / "study"


def age(study: Path) -> None:
    for file in study.rglob("*.json"):
        os.utime(file, (time.time() - 10,) * 2)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_nothing_is_computed_twice(study: Path, computed: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    first = printed(capsys, study)
    assert "knn/accuracy, final" in first and printed(capsys, study) == first
    assert len(computed) == 1
    other = printed(capsys, study, "--metric", "kmeans/ari")
    assert "kmeans/ari, final" in other and printed(capsys, study, "--metric", "kmeans/ari") == other
    assert printed(capsys, study) == first and len(computed) == 2


def test_every_change_is_seen(study: Path, computed: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    run = min(path for path in study.iterdir() if path.name.startswith("mae"))
    file, grid = run / "results.json", study / ".sweep" / "grid.json"
    seen = [printed(capsys, study)]
    before = file.stat()
    file.write_text(file.read_text().replace('"final": {\n  "knn/accuracy": 0.', '"final": {\n  "knn/accuracy": 9.'))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # of one size and time, as a second may hide them
    seen.append(printed(capsys, study))
    assert "9." in seen[-1]
    studies.write(study, studies.results("vit", seed=7))
    age(study)
    seen.append(printed(capsys, study))
    file.unlink()
    studies.write_status(study, run.name, state="failed", reason="too hot")
    seen.append(printed(capsys, study))
    assert "too hot" in seen[-1]
    (run / "status.json").unlink()
    seen.append(printed(capsys, study))
    grid.unlink()
    seen.append(printed(capsys, study))
    assert len(set(seen)) == len(seen) == len(computed)


def test_what_goes_on_is_judged_anew(study: Path, computed: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    running = studies.write_status(study, "run-1", state="running", heartbeat=time.time(), pid=1, host="elsewhere")
    assert "1 running" in printed(capsys, study)
    status = running / "status.json"
    status.write_text(status.read_text().replace('"running"', '"failed"'))
    age(study)
    assert "1 failed" in printed(capsys, study) and "1 failed" in printed(capsys, study)
    assert len(computed) == 2
    write_jobs(study, {"run-1": "12"})  # may be waiting in the queue again at any time
    age(study)
    printed(capsys, study), printed(capsys, study)
    assert len(computed) == 4


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 1, "answers": {"a": 3}}'])
def test_broken_answers_are_passed_over(content: str, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = printed(capsys, study)
    (study / ".sweep" / "printed.json").write_text(content)
    assert printed(capsys, study) == first


def test_files_are_written_each_time(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        printed(capsys, study, "--out", tmp_path / "table.md")
        (tmp_path / "table.md").unlink()
