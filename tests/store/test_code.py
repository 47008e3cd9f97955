import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dinodiet.errors import UserError
from dinodiet.store import code
from dinodiet.store.code import code_folder, code_record, codes_before, import_folders, take_snapshot
from tests.places import ROOT

SAYS = "import dinodiet, mine, json; from dinodiet.store.code import code_record as r; "
SAYS += "print(json.dumps([dinodiet.__file__, mine.__file__, r()]))"


def test_a_copy_is_taken_once_and_imported_from_wherever_the_checkout_is(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("X = 1\n")
    own = {"mine": tmp_path / "mine.py"}
    copy = take_snapshot(tmp_path / "study", own)
    assert copy.parent == code_folder(tmp_path / "study")
    assert {path.name for path in copy.iterdir()} == {"dinodiet", "conf", "sweeps", "launch.py", "own"}
    taken = copy.stat().st_mtime_ns
    assert take_snapshot(tmp_path / "study", own) == copy
    assert copy.stat().st_mtime_ns == taken
    assert sorted(path.name for path in copy.parent.iterdir() if path.suffix != ".diff") == [
        copy.name,
        f"{copy.name}.json",
    ]

    (tmp_path / "mine.py").write_text("X = 2\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*import_folders(copy), tmp_path, ROOT]))}
    told = subprocess.run(
        [sys.executable, "-c", SAYS], env=environment, cwd=copy, capture_output=True, text=True, check=True
    )
    package, mine, record = json.loads(told.stdout)
    assert (Path(package), Path(mine)) == (copy / "dinodiet" / "__init__.py", copy / "own" / "mine.py")
    assert record == {"code": copy.name, "git_commit": code_record()["git_commit"]}
    assert take_snapshot(tmp_path / "study", own) != copy

    (copy / "dinodiet" / "errors.py").write_text("")
    (tmp_path / "mine.py").write_text("X = 1\n")
    with pytest.raises(UserError, match=rf"{copy.name}: this copy of the code was changed"):
        take_snapshot(tmp_path / "study", own)


def test_commit_and_changes_are_told_beside_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "dinodiet" / "__pycache__").mkdir(parents=True)
    (checkout / "outputs").mkdir()
    for name in ("dinodiet/__init__.py", "dinodiet/__pycache__/x.pyc", "launch.py", "outputs/big.bin", "README.md"):
        (checkout / name).write_text("1\n")
    for module, name, value in ((code, "PACKAGE", checkout / "dinodiet"), (code, "ROOT", checkout)):
        monkeypatch.setattr(module, name, value)
    nothing = take_snapshot(tmp_path / "study", {})
    assert json.loads(nothing.with_name(f"{nothing.name}.json").read_text())["commit"] is None

    def git(*words: str) -> str:
        named = ["-c", "user.name=n", "-c", "user.email=e@e"]
        return subprocess.run(["git", *named, *words], cwd=checkout, capture_output=True, text=True, check=True).stdout

    git("init")
    git("add", "dinodiet/__init__.py", "launch.py")
    git("commit", "-m", "m")
    head = git("rev-parse", "HEAD").strip()
    (checkout / "dinodiet" / "__init__.py").write_text("2\n")
    changed = take_snapshot(tmp_path / "study", {})
    assert json.loads(changed.with_name(f"{changed.name}.json").read_text())["commit"] == f"{head}+changes"
    assert "\n-1\n+2" in changed.with_name(f"{changed.name}.diff").read_text()
    files = sorted(str(path.relative_to(changed)) for path in changed.rglob("*") if path.is_file())
    assert files == ["dinodiet/__init__.py", "launch.py"]


def test_digests_of_other_code_are_kept_from_checkpoint_to_checkpoint() -> None:
    this = code_record()["code"]
    assert codes_before(None) == codes_before({}) == codes_before({"code": this}) == []
    assert codes_before({"code": "b", "code_before": ["a"]}) == ["a", "b"]
    assert codes_before({"code": "a", "code_before": ["a", this, "b"]}) == ["a", "b"]
