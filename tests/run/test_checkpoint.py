from pathlib import Path
from typing import Any

import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.run import checkpoint
from dinodiet.store.rundir import RunDir


def state(step: int, **identity: Any) -> dict[str, Any]:
    parts = {"method": {}, "model": {}, "input": {}, "encoder": "encoder"}
    return {"identity": identity, "step": step, "weights": torch.full((1000,), float(step)), **parts}


def test_round_trip(tmp_path: Path) -> None:
    checkpoint.save(RunDir(tmp_path), state(3, seed=0))
    loaded = checkpoint.load(RunDir(tmp_path), {"seed": 0})
    assert loaded is not None
    assert loaded["step"] == 3
    assert torch.equal(loaded["weights"], torch.full((1000,), 3.0))


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(RunDir(tmp_path), {}) is None


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_a_truncated_checkpoint_falls_back_to_the_previous_one(tmp_path: Path, keep: int) -> None:
    run_dir = RunDir(tmp_path)
    checkpoint.save(run_dir, state(1, seed=0))
    checkpoint.save(run_dir, state(2, seed=0))
    run_dir.checkpoint.write_bytes(run_dir.checkpoint.read_bytes()[:keep])
    with pytest.warns(UserWarning, match="cannot be read"):
        loaded = checkpoint.load(run_dir, {"seed": 0})
    assert loaded is not None
    assert loaded["step"] == 1


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    checkpoint.save(run_dir, state(1, seed=0))
    run_dir.checkpoint.replace(run_dir.previous_checkpoint)
    loaded = checkpoint.load(run_dir, {"seed": 0})
    assert loaded is not None
    assert loaded["step"] == 1


def test_another_configuration_is_refused_by_key(tmp_path: Path) -> None:
    checkpoint.save(RunDir(tmp_path), state(1, seed=0, method={"lr": 0.1, "old": 1}))
    with pytest.raises(UserError) as refusal:
        checkpoint.load(RunDir(tmp_path), {"seed": 0, "method": {"lr": 0.2}})
    assert "method.lr (0.1 there, 0.2 here)" in str(refusal.value)
    assert "method.old (1 there, default here)" in str(refusal.value)
    assert "seed" not in str(refusal.value).split(": ", 2)[2]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="was not written by dinodiet"):
        checkpoint.read(tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"nowhere\.pt does not exist"):
        checkpoint.read(tmp_path / "nowhere.pt")
