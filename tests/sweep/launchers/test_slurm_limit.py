import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from dinodiet.store.grid import write_jobs
from dinodiet.sweep.launchers.slurm_limit import Array, Room, arrays_of, changes, rebalance, room_for
from tests.store.test_queue import pretend


@pytest.mark.parametrize(
    ("arrays", "room"),
    [
        ([], Room(4)),
        ([Array("7", 3, None, False)], Room(1)),
        ([Array("7", 9, 3, False)], Room(1)),
        ([Array("7", 9, 4, False)], Room(4, "7")),
        ([Array("7", 9, 3, False), Array("8", 5, 1, False)], Room(1, "8")),
        ([Array("7", 2, 4, False), Array("8", 5, 4, True)], Room(4, "8")),  # it will take the place of the first
        ([Array("7", 1, 4, False), Array("8", 3, 3, False)], Room(3, "8")),
        ([Array("7", 9, 4, False), Array("8", 5, 4, True)], Room(4, "8")),
        ([Array("7", 1, None, False), Array("9", 200, 200, False)], Room(4, "9")),  # submitted with another limit
    ],
)
def test_a_new_array_gets_what_others_leave_or_takes_the_place_of_the_newest(arrays: list[Array], room: Room) -> None:
    assert room_for(arrays, 4) == room


def test_what_is_free_goes_to_the_oldest_that_waits_or_else_to_those_that_run() -> None:
    old, one, first, second = (
        Array("7", 5, 2, False),
        Array("8", 1, None, False),
        Array("9", 5, 4, True),
        Array("11", 9, 4, True),
    )
    assert changes([old, one, first, second], 3) == {}
    assert changes([old, one, first, second], 5) == {first: (2, True), second: (2, False)}
    assert changes([old, one], 4) == {old: (3, False)}
    assert changes([old, one, Array("9", 9, 1, False)], 9) == {old: (5, False), Array("9", 9, 1, False): (3, False)}


def test_the_limit_holds_whatever_ends_and_comes() -> None:
    """Jobs end, arrays come and what is free is handed on, in any order: never more may run than the limit."""
    for seed in range(200):
        draw, limit = random.Random(seed), 4
        arrays: list[Array] = []
        after: dict[str, str] = {}
        for number in range(60):
            event = draw.choice(("submit", "end", "end", "hand on"))
            if event == "submit":
                room = room_for(arrays, limit)
                after |= {str(number): room.after} if room.after else {}
                arrays.append(Array(str(number), draw.randint(1, 9), room.throttle, room.after is not None))
            elif event == "end" and (going := [array for array in arrays if not array.waits]):
                ending = draw.choice(going)
                arrays = [replace(array, active=array.active - (array is ending)) for array in arrays]
            elif event == "hand on":
                told: dict[Array, tuple[int | None, bool]] = {**changes(arrays, limit)}
                arrays = [
                    replace(a, throttle=told[a][0], waits=a.waits and not told[a][1]) if a in told else a
                    for a in arrays
                ]
            arrays = [array for array in arrays if array.active]
            there = {array.job for array in arrays}
            arrays = [replace(array, waits=array.waits and after[array.job] in there) for array in arrays]
            assert sum(array.share for array in arrays) <= limit, (seed, number, event)
            assert not arrays or any(array.share for array in arrays)


def test_arrays_are_those_of_the_study_and_are_changed_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin{os.pathsep}/usr/bin")
    rows = ("7_1|None", "9_0|Dependency", "9_1|Dependency", "10|Priority", "11_0|None")
    pretend(tmp_path / "bin", "squeue", "; ".join(f"echo '{row}'" for row in rows))
    shows = 'case "$*" in *" 7") echo ArrayTaskId=1 ArrayTaskThrottle=2;; *" 9") echo ArrayTaskThrottle=2;; esac'
    pretend(tmp_path / "bin", "scontrol", f'echo "$@" >> {tmp_path}/asked; {shows}')
    write_jobs(tmp_path / "study", {"a": "7_0", "b": "7_1", "c": "9_0", "d": "9_1", "e": "10"})
    expected = [Array("7", 1, 2, False), Array("9", 2, 2, True), Array("10", 1, None, False)]
    assert arrays_of(tmp_path / "study") == expected
    rebalance(tmp_path / "study", 3, "afterok:5")
    assert "update JobId=9 ArrayTaskThrottle=1 Dependency=afterok:5" in (tmp_path / "asked").read_text()
