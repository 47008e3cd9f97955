"""Where what is printed goes is no concern of a training: readers that are gone, closed streams, full disks."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.running import TINY, command, results_in

WAYS = ("{run} | head -1", "{run} 2>&1 | true", "{run} <&- >&- 2>&-", "{run} > /dev/full 2>&1")


def shell(words: list[str], way: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell does, and print its exit code."""
    folder.mkdir(exist_ok=True)
    script = "exec 9>code; { " + way.format(run='"$@"') + "; echo $? >&9; }"
    if "|" in way:
        script = way.format(run='{ "$@"; echo $? > code; }')
    done = subprocess.run(
        ["sh", "-c", script, "sh", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    done.returncode = int((folder / "code").read_text())
    return done


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_training_goes_on_where_nothing_can_be_printed(tmp_path: Path, way: str) -> None:
    done = shell(command(tmp_path / "runs", *TINY, "num_workers=1"), way, tmp_path)
    assert done.returncode == 0, done.stderr
    assert results_in(tmp_path / "runs")["steps"] == 12
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


@pytest.mark.parametrize("way", ["{run} | true", "{run} 2>&1 >&-"])
@pytest.mark.parametrize("words", [["--help"], ["results", "study"]])
def test_a_table_ends_quietly_where_nobody_reads_it(tmp_path: Path, words: list[str], way: str) -> None:
    (tmp_path / "study" / "run").mkdir(parents=True)
    (tmp_path / "study" / "run" / "status.json").write_text('{"state": "failed"}')
    words = [sys.executable, str(ROOT / "launch.py"), *words]
    done = shell(words, way, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
