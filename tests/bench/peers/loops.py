"""Times the loops of all sides in one process, in turn.

`python -m tests.bench.peers.loops SETTING WORKERS STEPS ROUNDS` prints one line of JSON: the operations of a step's
matrix products by side, and the seconds of its steps. torch's threads are those of OMP_NUM_THREADS; WORKERS are the
processes of the peers' loaders (dinodiet's views are made by torch's threads), which share the cores: as many as
threads.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Protocol

import torch
from torch import Tensor

from tests.bench.peers import lightly_side, our_side, stable_pretraining_side
from tests.bench.peers.setting import NUM_GLOBAL, SETTINGS


class Side(Protocol):
    """What the sides' modules call Training."""

    def run(self, steps: int) -> list[tuple[float, float]]: ...

    def flops(self, views: list[Tensor]) -> int: ...


def main() -> None:
    name, workers, steps, rounds = sys.argv[1], *map(int, sys.argv[2:])
    chosen, cores = SETTINGS[name], torch.get_num_threads()
    if cores > 1:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    sides: dict[str, Side] = {
        "dinodiet": our_side.Training(chosen),
        "lightly": lightly_side.build(chosen, workers),
        "lightly, grouped": lightly_side.build(chosen, workers, grouped=True),
        "stable-pretraining": stable_pretraining_side.build(chosen, workers),
    }
    sizes = [chosen.size] * NUM_GLOBAL + [chosen.local] * chosen.num_local
    views = [torch.randn(chosen.batch, 3, size, size) for size in sizes]
    flops = {side: training.flops(views) for side, training in sides.items()}
    spent: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for turn in range(rounds + 1):
        for side in list(sides) if turn % 2 else list(sides)[::-1]:
            seconds = sides[side].run(steps if turn else 1)
            spent[side] += seconds if turn else []  # the first turn warms up
    print(json.dumps({"flops": flops, "spent": spent}))


if __name__ == "__main__":
    main()
