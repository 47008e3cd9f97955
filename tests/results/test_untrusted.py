"""Files of a study that nobody of this program wrote: each is named in a line, or left out, and the rest is read."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from dinodiet.results.__main__ import main
from tests.kinds import after_nightly
from tests.results import studies

DEEP = "[" * 100_000 + "]" * 100_000
GARBAGE = [b"", b"{", b"[]", b"3", b"\xff\xfe\x00", b"\xef\xbb\xbf{}", DEEP.encode(), b'{"a": 1e999}']
VALUES: list[Any] = [None, -1, "x", [], [[{}]], {"x": [1]}, 10**400, {"knn/accuracy": "high"}]
COMMANDS = [(), ("--status",), ("--disk",), ("--compare", "method")]
CURVES = ("--curves", "val/knn/accuracy")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write four finished runs."""
    for method, seed in itertools.product(("diet", "dino"), (0, 1)):
        studies.write(tmp_path / "study", studies.results(method=method, seed=seed))
    return tmp_path / "study"


def ends(study: Path, capsys: pytest.CaptureFixture[str], *others: tuple[str, ...]) -> None:
    """Run every command on a study; each ends by itself, in a line or with what it prints."""
    for command in (*COMMANDS, *others):
        code = main([str(study), *command])
        errors = capsys.readouterr().err
        assert code in (0, 1) and "Traceback" not in errors, (command, errors)
        assert code == 0 or errors.startswith(("error: ", "warning: ")), (command, errors)


@pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("name", after_nightly(2, ["results.json", "status.json", "config.yaml", "metrics.jsonl"]))
def test_a_file_that_is_none_is_told_or_left_out(
    study: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    run = min(path for path in study.iterdir() if (path / "results.json").exists())
    if name != "results.json":
        (run / "results.json").unlink()
        (run / "status.json").write_text('{"state": "failed", "heartbeat": 0.0}')
    (run / name).write_bytes(content)
    ends(study, capsys, *([CURVES] if name == "metrics.jsonl" else []))


@pytest.mark.slow
@pytest.mark.parametrize("name", after_nightly(1, ["grid.json", "jobs.json", "collected.json"]))
def test_a_broken_record_of_the_study_is_left_out(study: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (study / ".sweep").mkdir(exist_ok=True)
    for content in [*GARBAGE, *(json.dumps({"cells": value}).encode() for value in VALUES)]:
        (study / ".sweep" / name).write_bytes(content)
        ends(study, capsys)


@pytest.mark.slow
def test_results_with_anything_in_the_place_of_a_value(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = min(path for path in study.iterdir() if (path / "results.json").exists())
    whole = json.loads((run / "results.json").read_text())
    for key in whole:
        for value in VALUES:
            changed = copy.deepcopy(whole)
            changed[key] = value
            (run / "results.json").write_text(json.dumps(changed))
            ends(study, capsys)


@pytest.mark.slow
def test_a_status_with_anything_in_the_place_of_a_value(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = {"state": "running", "heartbeat": 0.0, "host": "x", "pid": 1, "step": 3, "starts": 1, "slurm_job": "3"}
    for key in [*status, "reason", "phase", "total_steps", "seconds_left", "requeued_at", "settings", "loss"]:
        for value in VALUES:
            (studies.write_status(study, "vit_a_b_seed0_12345678")).joinpath("status.json").write_text(
                json.dumps({**status, key: value})
            )
            ends(study, capsys)
