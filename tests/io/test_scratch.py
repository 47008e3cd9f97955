from pathlib import Path

import pytest

from dinodiet.io.scratch import data_root, scratch_folder


def test_home_is_expanded() -> None:
    assert data_root("~/data") == Path.home() / "data"


def test_what_was_moved_out_stays_and_the_rest_goes(tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    with scratch_folder(root, "set") as scratch:
        assert scratch.parent == root
        (scratch / "kept").touch()
        (scratch / "kept").replace(root / "kept")
        (scratch / "lost").touch()
    assert [path.name for path in root.iterdir()] == ["kept"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no network"), scratch_folder(tmp_path / "new" / "root", "set") as scratch:
        (scratch / "half").touch()
        raise OSError("no network")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "set"):
        pass
    assert tmp_path.is_dir()
    assert list(tmp_path.iterdir()) == []
