"""What lies on disk, and that cleaning takes what can be had again and nothing else."""

import os
import re
import time
from pathlib import Path

import pytest
from filelock import FileLock

from dinodiet.results import disk
from dinodiet.results.__main__ import main
from tests.places import ROOT
from tests.results import studies

RUN_FILES = ("config.yaml", "weights.safetensors", "encoder.safetensors", "scores/a.json", "log.txt", "metrics.jsonl")
LEFTOVERS = ("checkpoint.pt", "checkpoint.previous.pt", "run.lock", ".results.json.abc12_x9")


def fill(folder: Path, *names: str, size: int = 1000) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size)
        os.utime(folder / name, (0, time.time() - 7200))


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A study with a finished, a failed and a running run, and the cache beside it."""
    study = tmp_path / "study"
    done = studies.write(study, studies.results())
    fill(done, *RUN_FILES, *LEFTOVERS, "wandb/offline-run/x.wandb")
    fill(studies.write_status(study, "failed", state="failed"), *LEFTOVERS)
    fill(tmp_path / ".cache", "embeddings/a.safetensors", "trunks/key/views.bin", "mine/notes.txt", size=4096)
    fill(study, ".sweep/grid.json", ".sweep/jobs/1_log.out", "sanity.json")
    return tmp_path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_all_kinds_are_shown_with_their_sizes(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(outputs / "study"), "--disk"]) == 0
    lines = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    shown = {line[0]: line[1:] for line in lines}
    assert shown["weights"] == ["2 files", "2.0 KiB"]
    assert shown["checkpoints of unfinished runs"] == [
        "2 files",
        "2.0 KiB",
    ]  # of the failed run: it may go on from there
    assert shown["checkpoints of finished runs"] == ["2 files", "2.0 KiB", "--clean takes all"]
    assert shown["unfinished files"] == ["2 files", "2.0 KiB", "--clean takes all"]
    assert shown["W&B"][0] == "1 file" and shown["logs"][0] == "3 files"
    assert shown["trunks"] == shown["embeddings"] == ["1 file", "4.0 KiB", "--clean takes all"]
    assert shown["total"][0] == f"{len(files(outputs)) - 1} files"  # what is not ours in the cache is not counted
    assert [line[0] for line in lines if line[0].startswith("/")] == [f"{outputs}/study", f"{outputs}/.cache"]


def test_cleaning_takes_what_can_be_had_again(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(outputs)
    assert main([str(outputs / "study"), "--clean", "--yes"]) == 0
    (name,) = (path.name for path in (outputs / "study").glob("dino*"))
    gone = {f"study/{name}/{file}" for file in LEFTOVERS} | {f"study/failed/{file}" for file in LEFTOVERS[2:]}
    assert before - files(outputs) == gone | {".cache/embeddings/a.safetensors", ".cache/trunks/key/views.bin"}
    assert not (outputs / ".cache" / "trunks").exists()
    assert "removed 8 files" in capsys.readouterr().out
    assert main([str(outputs / "study"), "--clean"]) == 0
    assert "nothing to clean" in capsys.readouterr().out


def test_nothing_goes_without_a_word(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(outputs)
    assert main([str(outputs / "study"), "--clean"]) == 1
    assert "add --yes" in capsys.readouterr().err
    assert files(outputs) == before


@pytest.mark.parametrize(("answer", "left"), [("y", False), ("", True)])
def test_the_user_is_asked(answer: str, left: bool, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    disk.disk([outputs / "study"], clean=True)
    assert (outputs / ".cache" / "embeddings").exists() == left


def test_what_runs_is_left_alone(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for study in ("study", "other"):  # the cache is shared with a run of another study
        running = studies.write_status(outputs / study, "running", state="running", heartbeat=time.time(), host="far")
        fill(running, *LEFTOVERS)
    before = files(outputs)
    assert main([str(outputs / "study"), "--clean", "--yes"]) == 0
    kept = {file for file in before if file.startswith((".cache", "study/running", "other"))}
    assert kept <= files(outputs) < before
    printed = capsys.readouterr().out
    assert "study: 1 run at work or queued, left alone" in printed
    assert f".cache: runs in {outputs}/other, {outputs}/study may use it" in printed


def test_a_finished_run_that_is_being_scored_is_left_alone(outputs: Path) -> None:
    (run,) = (outputs / "study").glob("dino*")
    before = files(run)
    with FileLock(run / "run.lock"):
        disk.disk([run], clean=True, yes=True)
    assert files(run) >= before - {"run.lock"}


def test_a_cache_that_is_written_to_is_left_alone(outputs: Path) -> None:
    with FileLock(outputs / ".cache" / "trunks" / "key.lock"):
        disk.disk([outputs / "study"], clean=True, yes=True)
    assert (outputs / ".cache" / "embeddings" / "a.safetensors").exists()


def test_the_only_weights_of_a_run_are_no_leftover(outputs: Path) -> None:
    (run,) = (outputs / "study").glob("dino*")
    (run / "weights.safetensors").unlink()
    disk.disk([run], clean=True, yes=True)
    assert (run / "checkpoint.pt").exists() and not (run / "run.lock").exists()


def test_a_cache_elsewhere_is_found_by_the_configuration(outputs: Path, tmp_path: Path) -> None:
    fill(tmp_path / "scratch", "decoded/a.bin", "decoded.txt")
    (outputs / "study" / "failed" / "config.yaml").write_text(f"cache_dir: {tmp_path}/scratch")
    disk.disk([outputs / "study"], clean=True, yes=True)
    assert files(tmp_path / "scratch") == {"decoded.txt"}


def test_the_folders_of_caches_are_those_that_are_written() -> None:
    modules = [path for path in (ROOT / "dinodiet").rglob("*.py") if path.parent.name != "results"]
    source = "".join(path.read_text() for path in modules)
    assert [name for name in disk.CACHES if f'/ "{name}"' not in source] == []
