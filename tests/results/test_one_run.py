"""One run: what is read of it, and what the command prints of it, in 80 columns."""

import io
import json
import math
from pathlib import Path

import pytest

from dinodiet.errors import UserError
from dinodiet.results.__main__ import main
from dinodiet.results.one_run import one_run
from dinodiet.results.score_rows import ScoreRow
from dinodiet.results.sparklines import ASCII, BLOCKS, sparkline
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import ScoreFile, write_scores
from tests.results import studies

LOGGED = [{"step": step, "epoch": step / 10, "loss": 4.0 - step / 10} for step in range(5, 31, 5)]


def finished(study: Path, **options: float) -> Path:
    content = studies.results(**options)  # type: ignore[arg-type]
    content["intervals"] = {"final": {"knn/accuracy": [0.82, 0.88]}}
    content["refused"] = {"kmeans": "another number of clusters before than after"}
    directory = studies.write(study, content)
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in LOGGED))
    return directory


def failed(study: Path, run_id: str = "run-1") -> Path:
    told = "Traceback (most recent call last):\n" + '  File "x.py", line 1\n' * 9 + "RuntimeError: \x1b[31mred\x1b[0m\n"
    directory = studies.write_status(
        study, run_id, state="failed", reason="red", traceback=told, step=12, total_steps=30
    )
    (directory / "log.txt").write_text("...")
    return directory


def test_a_run_directory_alone_is_shown_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = finished(tmp_path / "study", initial=0.8, final=0.85)
    finished(tmp_path / "study", seed=1)
    assert main([str(directory)]) == 0
    printed = capsys.readouterr().out
    for words in (
        "dinov2-base on pathmnist with diet, seed 0",
        "state: done",
        "knn/accuracy                0.800    0.850   +0.050     +6.2%  [0.820, 0.880]",
        "kmeans/ari                  0.800    0.850        -         -",
        "not compared: another number of clusters",
        "loss                           3.5 -> 1         █▇▅▄▂▁",
        "knn/accuracy                  0.79 -> 0.84      ▁▅▇█",
        "cost: 30 steps, 1 min 2 s, 125 images/s, peak memory 1,073 MiB, 1 min 30 s of",
        "    device time in all, 10 Wh",
    ):
        assert words in printed
    assert "error" not in printed
    assert max(map(len, printed.replace(str(directory), "").splitlines())) <= 80


def test_code_that_began_a_run_is_told_beside_that_which_finished_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alike, mixed = (studies.results(seed=seed) | {"code": "cccc"} for seed in (0, 1))
    studies.write(tmp_path, alike)
    directory = studies.write(tmp_path, mixed | {"code_before": ["aaaa", "bbbb"]})
    assert main([str(directory)]) == 0
    assert "  code: finished by cccc, from a checkpoint of other code: aaaa, bbbb\n" in capsys.readouterr().out
    assert main([str(tmp_path)]) == 0
    assert f"1 of 2 runs continued a checkpoint of other code (code_before in results.json): {directory}" in (
        capsys.readouterr().out
    )
    assert main([str(tmp_path), "--where", "seed=0"]) == 0
    assert "other code" not in capsys.readouterr().out


def test_options_still_ask_for_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = finished(tmp_path / "study")
    assert main([str(directory), "--phase", "final"]) == 0
    assert "knn/accuracy, final: mean ± sd" in capsys.readouterr().out


def test_a_failed_run_says_where_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = failed(tmp_path)
    entry = {"value": 0.25, "better": "higher", "kind": "metric"}
    write_scores(RunDir(directory), ScoreFile("initial_knn", "knn", "initial", {}, test={"accuracy": entry}))
    assert main([str(directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  state: failed, step 12 of 30" in lines
    assert "  knn/accuracy                0.250        -        -         -" in lines
    assert "    RuntimeError: \\x1b[31mred\\x1b[0m" in lines  # nothing in a file moves a terminal's cursor
    assert [line.strip() for line in lines].count('File "x.py", line 1') == 7
    assert "log: " in "".join(lines)


def test_a_run_that_was_killed_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = studies.write_status(tmp_path, "run-1", state="running", phase="training", step=4, total_steps=30)
    assert main([str(directory)]) == 0  # its last heartbeat is of 1970
    printed = capsys.readouterr().out
    assert "state: stopped, training, step 4 of 30" in printed
    assert "why it ended:\n    killed: not heard of for" in printed


def test_an_unfinished_run_tells_what_it_has_spent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spent = {"seconds": 60.0, "device_seconds": 120.0, "joules": None, "starts": 1}
    directory = studies.write_status(tmp_path, "run-1", state="preempted", spent=spent, images_per_second=3.0)
    assert main([str(directory)]) == 0
    assert "  cost: 2 min 0 s of device time in all\n" in capsys.readouterr().out
    assert one_run(directory).costs == {"device_hours": 120 / 3600}


def test_settings_are_those_in_which_the_study_differs(tmp_path: Path) -> None:
    for value in (0.1, 0.2):
        content = studies.results(overrides={"method.loss.label_smoothing": value})
        directory = studies.write(tmp_path, content)
    assert one_run(directory).settings == {"method.loss.label_smoothing": "0.2"}


@pytest.mark.parametrize("name", ["", "study"])
def test_what_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    finished(tmp_path / "study")
    with pytest.raises(UserError, match=r"no run directory"):
        one_run(tmp_path / name)


def test_a_change_is_final_minus_initial_and_relative_to_what_is_not_0() -> None:
    row = ScoreRow("kmeans/ari", -0.1, 0.05)
    assert row.change == pytest.approx(0.15) and row.relative == pytest.approx(150)
    assert ScoreRow("knn/accuracy", 0.0, 0.5).relative is None
    assert ScoreRow("knn/accuracy", 0.4, 0.5, refused="another k").change is None
    assert ScoreRow("knn/accuracy", 0.4, math.nan).cells()[:4] == ["knn/accuracy", 0.4, None, None]


def test_a_sparkline_spans_the_lowest_and_the_highest_value() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == BLOCKS
    assert sparkline([7, 0], 8, ASCII) == "#_"
    assert sparkline([1.0, math.nan, 1.0], 3) == "▁ ▁"
    assert sparkline([0, 0, 1, 1], 2) == "▁█"


def test_where_a_terminal_has_no_blocks_curves_are_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.TextIOWrapper(stream := io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", printed)
    assert main([str(finished(tmp_path))]) == 0
    printed.flush()
    assert "-> 1         #" in stream.getvalue().decode("latin-1")
