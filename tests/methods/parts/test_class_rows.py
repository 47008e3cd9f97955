"""Which heads are spread over processes, and that their rows begin as those of the whole head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dinodiet.methods.parts import class_rows as module
from dinodiet.methods.parts.class_rows import LARGE, ClassRows, class_rows, shards_in
from tests.processes.started import on_processes


def test_one_process_holds_all_rows() -> None:
    for sharded in (True, False, "auto"):
        layer = class_rows(2**12, 2**13, sharded)
        assert isinstance(layer, nn.Linear)
        assert shards_in(layer) == {}


def beginnings() -> tuple[list[Tensor], Tensor, list[bool]]:
    """Return rows, the random state behind them, and which layers are spread."""
    module.DRAWN = 20  # four rows at a time
    torch.manual_seed(3)
    layers = [class_rows(5, classes, True) for classes in (13, 4, 2)]
    after = torch.rand(3)
    with torch.device("meta"):
        asked = [class_rows(2**10, rows, "auto") for rows in (LARGE // 2**12, LARGE // 2**12 - 1)]
        asked.append(class_rows(2**10, LARGE, False))
    return [layer.weight.detach() for layer in layers], after, [isinstance(layer, ClassRows) for layer in asked]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_rows_begin_as_those_of_the_whole_head_bit_for_bit(count: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = [nn.Linear(5, classes, bias=False).weight for classes in (13, 4, 2)]
    after = torch.rand(3)
    rows, states, spread = zip(*on_processes(count, tmp_path / "all", beginnings), strict=True)
    assert all(torch.cat(parts).equal(weight) for parts, weight in zip(zip(*rows, strict=True), whole, strict=True))
    assert all(state.equal(after) for state in states)
    assert list(spread) == [[True, False, False]] * count


def loading() -> tuple[Tensor, str]:
    holder = nn.Sequential(ClassRows(2, 4))
    holder.load_state_dict({"0.weight": torch.arange(8.0).view(4, 2)})
    try:
        holder.load_state_dict(holder.state_dict())
    except ValueError as error:
        return holder.state_dict()["0.weight"], str(error)
    return holder.state_dict()["0.weight"], "taken"


@pytest.mark.slow
def test_a_state_has_all_rows_and_each_process_takes_its_own(tmp_path: Path) -> None:
    (first, refused), (second, _) = on_processes(2, tmp_path / "two", loading)
    assert torch.cat([first, second]).equal(torch.arange(8.0).view(4, 2))
    assert refused == "0.weight has 2 rows; a state has those of all processes, 4"
