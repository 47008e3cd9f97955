"""What a killed process was writing is removed by the next that works on the run."""

from __future__ import annotations

from pathlib import Path

from dinodiet.io.files import atomic_file
from dinodiet.run.exclusive import exclusive
from dinodiet.store.rundir import RunDir


def unfinished(path: Path) -> Path:
    """Return a file as a kill in the middle of its writing leaves it."""
    with atomic_file(path) as temporary:
        left = temporary.with_name(temporary.name)
        temporary.write_text("half")
        content = temporary.read_text()
    left.write_text(content)
    return left


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    left = [unfinished(run_dir.checkpoint), unfinished(run_dir.artefacts / "final" / "a.csv")]
    kept = [unfinished(run_dir.status), run_dir.checkpoint, run_dir.path / ".notes", run_dir.path / ".notes.md"]
    for path in kept[2:]:
        path.write_text("mine")
    with exclusive(run_dir):
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in kept)
