"""The rows of a batch that a process computes, and what is drawn for them: those of one process for all rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dinodiet.processes.place import Place, place_in
from dinodiet.processes.rows import Share, draw_rows
from dinodiet.types import Clock


def test_a_share_is_the_same_part_of_every_block() -> None:
    rows = torch.arange(12)  # two views of six images
    assert Share(0, 2).of(rows, 2).tolist() == [0, 1, 2, 6, 7, 8]
    assert Share(1, 2).of(rows, 2).tolist() == [3, 4, 5, 9, 10, 11]
    assert Share(2, 3).of(rows.view(2, 6), dim=1).tolist() == [[4, 5], [10, 11]]
    assert Share().of(rows) is rows


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_shares_of_what_is_drawn_are_what_one_process_draws(size: int, views: int) -> None:
    def drawn(clock: Clock, rows: int) -> Tensor:
        generator = clock.generator("views")
        return draw_rows(lambda number: torch.rand(number, 2, generator=generator), rows, generator, blocks=views)

    clock = Clock(3, 10, 5, seed=7)
    whole = drawn(clock, 8 * views)
    parts = [
        drawn(Clock(3, 10, 5, seed=7, share=Share(rank, size)), 8 * views // size).unflatten(0, (views, -1))
        for rank in range(size)
    ]
    assert torch.equal(torch.cat(parts, dim=1).flatten(0, 1), whole)


def test_torchrun_says_which_process_this_is() -> None:
    assert place_in({}) is None
    assert place_in({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}) is None
    assert place_in({"WORLD_SIZE": "two", "RANK": "0", "LOCAL_RANK": "0"}) is None  # not of torchrun
    assert place_in({"WORLD_SIZE": "2"}) is None
    assert place_in({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}) == Place(3, 4, 1)
