import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from dinodiet.io.room import check_room


def test_what_does_not_fit_is_refused_before_the_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3000))
    folder = tmp_path / "not" / "there"
    check_room(folder, 3000)
    check_room(folder, 1500, spare=1500)
    for needed, spare in ((3001, 0), (1500, 1501)):
        with pytest.raises(OSError, match=rf"KiB to write to {folder}, 2.9 KiB free") as caught:
            check_room(folder, needed, spare)
        assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())
