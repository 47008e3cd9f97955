from pathlib import Path

from dinodiet.store.grid import Cell, grid_path, read_grid, read_jobs, write_grid, write_jobs

CELLS = [Cell(f"run{seed}", (f"seed={seed}", "model=mae"), {"model": "mae"}, seed) for seed in range(3)]


def test_a_grid_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_grid(tmp_path) == []
    write_grid(tmp_path, CELLS)
    assert read_grid(tmp_path) == CELLS
    write_grid(tmp_path, CELLS[:1])
    assert read_grid(tmp_path) == CELLS[:1]


def test_a_half_written_grid_is_none(tmp_path: Path) -> None:
    write_grid(tmp_path, CELLS)
    grid_path(tmp_path).write_text(grid_path(tmp_path).read_text()[:50])
    assert read_grid(tmp_path) == []


def test_jobs_are_kept_beside_older_ones(tmp_path: Path) -> None:
    write_jobs(tmp_path, {"run0": "1_0", "run1": "1_1"})
    write_jobs(tmp_path, {"run1": "2"})
    assert read_jobs(tmp_path) == {"run0": "1_0", "run1": "2"}
