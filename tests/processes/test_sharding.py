"""Rows spread over processes: who holds which, and all of them again on the first of real processes (gloo)."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dinodiet.processes.sharding import collected, own_shard, shard_of
from tests.processes.started import on_processes


@pytest.mark.parametrize(
    ("total", "count", "sizes"), [(10, 3, [4, 3, 3]), (4, 4, [1] * 4), (2, 3, [1, 1, 0]), (7, 1, [7])]
)
def test_shards_are_even_and_cover_all_rows_once(total: int, count: int, sizes: list[int]) -> None:
    whole = torch.arange(total)
    shards = [shard_of(total, place, count) for place in range(count)]
    assert [len(shard) for shard in shards] == sizes
    assert torch.cat([shard.of(whole) for shard in shards]).equal(whole)


def test_one_process_holds_all_rows_and_collects_nothing() -> None:
    rows, shard = torch.randn(5, 2), own_shard(5)
    assert (len(shard), shard.total) == (5, 5)
    assert collected(rows, shard) is rows


def both(totals: list[int]) -> list[Tensor | None]:
    shards = [own_shard(total) for total in totals]
    return [collected(shard.of(torch.arange(3 * shard.total).view(-1, 3)), shard) for shard in shards]


@pytest.mark.slow
def test_the_first_process_has_all_rows_again_and_the_others_none(tmp_path: Path) -> None:
    totals = [7, 3, 2, 1]
    first, *others = on_processes(3, tmp_path / "three", both, totals)
    assert others == [[None] * 4] * 2
    torch.testing.assert_close(first, [torch.arange(3 * total).view(-1, 3) for total in totals])
