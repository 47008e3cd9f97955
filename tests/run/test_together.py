from pathlib import Path

import pytest

from dinodiet.config.gate import gate
from dinodiet.errors import UserError
from dinodiet.run.run import run
from tests.running import CHOICES, composed

LARS = "schedule.optimizer={_target_: timm.optim.Lars, _partial_: true}"


def test_an_optimiser_of_whole_weights_is_refused_before_processes_start(tmp_path: Path) -> None:
    settings = gate(composed(tmp_path, LARS, "strategy=fsdp", "processes=2"), CHOICES)
    with pytest.raises(UserError, match=r"^schedule\.optimizer: timm\.optim\.Lars looks at.*strategy=ddp"):
        run(settings)
    assert not list(tmp_path.iterdir())


def test_torchrun_s_number_is_held_against_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gate(composed(tmp_path, "record=losses"), CHOICES)
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"^record: losses: .* there are 4"):
        run(settings)
    assert not list(tmp_path.iterdir())
