"""A training that is none is not done: parameters are compared with what they were at its start."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from dinodiet.run.movement import InvalidTrainingError, Sums, checked, sums
from dinodiet.run.parts import Parts, build_parts
from dinodiet.run.train import begin, train
from tests.contracts.choices import settings
from tests.running import CONVOLUTIONS, TINY, launch


def begun(folder: Path, *words: str, base: Sequence[str] = TINY) -> tuple[Parts, Sums]:
    parts = build_parts(settings(folder, "method=diet", "schedule.steps=2", *words, base=base))
    return parts, sums(parts.method.towers()[0])


def trained(parts: Parts) -> None:
    begin(parts)
    train(parts, lambda clock, logs: setattr(parts.state, "clock", clock))


def check(parts: Parts, start: Sums | None) -> dict[str, dict[str, int]]:
    return checked(start, parts.method, parts.optimisation.lr, parts.state.clock)


def test_what_is_trained_moves_and_nothing_else(tmp_path: Path) -> None:
    parts, start = begun(
        tmp_path, "method.trainable=last_1_blocks", "method.head.warmup_fraction=0", "schedule.lr=1e-3"
    )
    with pytest.raises(InvalidTrainingError, match=r"^training: 0 of 2 steps were done$"):
        check(parts, start)
    trained(parts)
    open_, frozen = len(start["open"]), len(start["frozen"])
    assert open_ and frozen
    assert check(parts, start) == {"moved": {"open": open_, "moved": open_, "frozen": frozen, "changed": 0}}
    assert check(parts, None) == {}, "an older checkpoint does not know"
    name = next(iter(start["frozen"]))
    with torch.no_grad():
        value = parts.method.backbone.get_parameter(name).view(-1)
        value[0] = torch.nextafter(value[0], torch.tensor(9.0))
    with pytest.raises(InvalidTrainingError, match=rf"^training: 1 of {frozen} frozen parameters .* changed: {name}$"):
        check(parts, start)


@pytest.mark.parametrize(
    ("words", "is_refused"),
    [
        (("method.head.warmup_fraction=0", "schedule.lr=1e-3"), True),
        (("method.head.warmup_fraction=1", "schedule.lr=1e-3"), False),
        (("method.head.warmup_fraction=0", "schedule.lr=0"), False),
        (("method.trainable=head_only", "schedule.lr=1e-3"), False),
    ],
)
def test_a_backbone_that_does_not_move_is_refused_where_it_was_to(
    words: tuple[str, ...], is_refused: bool, tmp_path: Path
) -> None:
    parts, start = begun(tmp_path, *words)
    parts.state.clock = parts.state.clock.at(2)
    if not is_refused:
        assert check(parts, start)["moved"]["moved"] == 0
        return
    with pytest.raises(InvalidTrainingError, match=r"none of \d+ open parameters .* method\.trainable=head_only"):
        check(parts, start)


def test_running_statistics_of_frozen_layers_count(tmp_path: Path) -> None:
    parts, start = begun(tmp_path, "method.trainable=last_1_blocks", base=CONVOLUTIONS)
    assert any(name.endswith("running_mean") for name in start["frozen"])
    trained(parts)
    assert check(parts, start)["moved"]["changed"] == 0
    dict(parts.method.backbone.named_buffers())[next(name for name in start["frozen"] if "running_mean" in name)].add_(
        1
    )
    with pytest.raises(InvalidTrainingError, match="running_mean"):
        check(parts, start)


WRONG = """
from dinodiet.methods.diet import DIET


class Wrong(DIET):
    def after_step(self, clock):
        next(self.backbone.parameters()).data.add_(1)
"""


def test_a_method_that_touches_what_is_frozen_fails_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    words = (*TINY, "schedule.steps=2", "method._target_=wrong.Wrong", "method.trainable=last_1_blocks")
    found = launch(tmp_path, *words)
    assert found.returncode == 1
    assert "error: training: 1 of " in found.stderr + found.stdout
    assert not list(tmp_path.glob("default/*/results.json"))
