"""Why runs failed: of one run, by reason of a study; and the command that is named continues the run."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dinodiet.results.__main__ import main
from dinodiet.store.grid import Cell, read_grid, write_grid
from tests.places import ROOT
from tests.results import studies
from tests.running import TINY

TRACE = "Traceback (most recent call last):\n" + '  File "x.py", line 1\n' * 9 + "ValueError: \x1b[31mno\x1b[0m\n"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([*map(str, arguments), "--why"]) == 0
    return capsys.readouterr().out


def failed(study: Path, name: str, reason: str, **status: object) -> Path:
    return studies.write_status(study, name, state="failed", reason=reason, step=12, total_steps=30, **status)


def test_a_failed_run_tells_all_that_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = failed(tmp_path, "run-1", "ValueError: no", traceback=TRACE, phase="training")
    (run / "log.txt").write_text("".join(f"line {number}\n" for number in range(30)) + "half a bar\rlast words \x07")
    write_grid(tmp_path, [Cell("run-1", ("seed=3", "eval=[knn]", "name=a b"), {"model": "m"}, 3)])
    lines = printed(capsys, run).splitlines()
    assert lines[0] == f"{run}: failed, training, step 12 of 30"
    assert lines[1] == "  reason: ValueError: no"
    assert "    ValueError: \\x1b[31mno\\x1b[0m" in lines and lines.count('    File "x.py", line 1') == 0
    assert lines.count('      File "x.py", line 1') == 7
    assert "    line 29" in lines and "    line 23" not in lines and "    last words \\x07" in lines
    assert lines[-2] == f"  log: {run.absolute()}/log.txt"
    command = lines[-1].partition("to continue: python launch.py ")[2]
    assert shlex.split(command) == ["seed=3", "eval=[knn]", "name=a b"]


def test_runs_that_failed_alike_are_one_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        failed(tmp_path, f"lost-{number}", f"loss is nan at step {number}")
    failed(tmp_path, "other", "out of memory")
    studies.write(tmp_path, studies.results())
    (studies.write(tmp_path, studies.results(seed=1)) / "results.json").write_text("{")
    head, *blocks = printed(capsys, tmp_path).split("\n\n")
    assert head.startswith(f"{tmp_path}: 6 runs: 1 done, 4 failed, 1 unreadable")
    assert [block.partition("\n")[0].rpartition("/")[2] for block in blocks] == [
        "lost-0: failed, step 12 of 30",
        "dinov2-base_pathmnist_diet_seed1_" + blocks[1].partition("seed1_")[2][:8] + ": unreadable",
        "other: failed, step 12 of 30",
    ]
    assert "and 2 alike: lost-1, lost-2" in blocks[0] and "broken or half-written" in blocks[1]
    assert "the command that began it, given again" in blocks[2] and "log: none was written" in blocks[2]


def test_the_log_of_its_job_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = studies.write_status(tmp_path, "run-1", state="killed", reason="OUT_OF_MEMORY", slurm_job="12_3")
    folder = tmp_path / ".sweep" / "jobs" / "12"
    folder.mkdir(parents=True)
    (folder / "12_3_0_log.err").write_text("slurmstepd: error: Detected 1 oom_kill event\n")
    told = printed(capsys, run)
    assert "reason: OUT_OF_MEMORY" in told and "oom_kill event" in told and f"log: {folder}/12_3_0_log.err" in told


def test_what_has_not_failed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = studies.write(tmp_path, studies.results())
    monkeypatch.chdir(done)
    assert printed(capsys, ".") == f"{done}: done: it finished, nothing has failed\n"
    assert printed(capsys, done) == f"{done}: done: it finished, nothing has failed\n"
    assert printed(capsys, tmp_path) == f"{tmp_path}: 1 runs: 1 done: none has failed\n"


def test_it_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies.write(tmp_path, studies.results())
    assert main([str(tmp_path), "--why", "--metric", "knn/f1"]) == 1
    assert capsys.readouterr().err == "error: --metric: not with --why\n"


@pytest.mark.slow
def test_the_command_that_is_named_continues_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, "name=study", f"outputs_dir={tmp_path}", "method.loss.label_smoothing=0.1"]
    launch = [sys.executable, str(ROOT / "launch.py")]
    subprocess.run([*launch, "-m", *words, "seed=0,1"], check=True, cwd=tmp_path, capture_output=True)
    run = tmp_path / "study" / read_grid(tmp_path / "study")[1].run_id
    before = json.loads((run / "results.json").read_text())["final"]
    for file in run.rglob("*.*"):
        file.unlink()
    failed(tmp_path / "study", run.name, "too hot")
    command = printed(capsys, run).rpartition("python launch.py ")[2]
    subprocess.run([*launch, *shlex.split(command)], check=True, cwd=tmp_path, capture_output=True)
    assert json.loads((run / "results.json").read_text())["final"] == before
