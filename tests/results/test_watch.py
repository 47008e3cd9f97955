"""A table that is drawn again while a study changes, ends when all of it has ended, and leaves on Ctrl-C."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dinodiet.io.files import write_json
from dinodiet.results.__main__ import main
from dinodiet.store.grid import write_grid
from tests.results import studies

DONE, LATER = studies.results(), studies.results(seed=1)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write a study with a finished run and one that goes on."""
    write_grid(tmp_path, [studies.cell(DONE), studies.cell(LATER)])
    studies.write(tmp_path, DONE)
    progress(tmp_path, 1)
    return tmp_path


def progress(study: Path, step: int, **status: object) -> None:
    told = {"state": "running", "heartbeat": time.time(), "pid": 1, "host": "elsewhere", **status}
    write_json(study / LATER["run_id"] / "status.json", {"step": step, "total_steps": 30, **told})


def test_it_prints_what_is_new_and_ends_with_the_last_run(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def go_on() -> None:
        for step in range(2, 8):
            time.sleep(0.1)
            progress(study, step)
        write_json(study / LATER["run_id"] / "results.json", LATER)

    thread = threading.Thread(target=go_on)
    thread.start()
    assert main([str(study), "--watch", "0.05", "--phase", "final"]) == 0
    thread.join()
    out = capsys.readouterr().out
    assert out.count("knn/accuracy, final") in (2, 3)  # states may be read a moment after results
    assert out.count("2 runs: 1 done, 1 running") == 1
    assert out.index("0.850 (1 of 2)") < out.index("2 runs: 2 done") < out.index("0.850 ± 0.000 (2)")


def test_a_run_that_failed_has_ended(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress(study, 3, state="failed", reason="too hot")
    assert main([str(study), "--watch"]) == 0
    assert "too hot" in capsys.readouterr().out


def test_ctrl_c_leaves_in_a_line(study: Path) -> None:
    command = [sys.executable, "-m", "dinodiet.results", str(study), "--watch", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert any("knn/accuracy, change" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == "stopped\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--watch", "0"], "--watch: 0; give seconds above 0"),
        (["--watch", "1e12"], "--watch: 1e12; give seconds above 0"),
        (["--watch", "--html", "x.html"], "--html: not with --watch"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[str], told: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(study), *words]) == 1
    assert told in capsys.readouterr().err
