from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dinodiet.store import spent as module
from dinodiet.store.spent import Devices, Spending, Spent, as_content, spent_in

WHOLE = {"seconds": 10.0, "device_seconds": 20.0, "joules": 5.0, "starts": 2}


class Time:
    """A clock that is set by hand, in place of `time.monotonic`."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(module, "time", made)
    return made


def readings(*values: float | None) -> Callable[[], float | None]:
    told: Iterator[float | None] = iter(values)
    return lambda: next(told)


def test_seconds_count_for_each_device(clock: Time) -> None:
    spending = Spending(Devices(4, readings(1000.0, 1300.0)), {})
    clock.now += 30
    assert spending.so_far() == Spent(30.0, 120.0, 300.0, 1)


def test_a_later_start_adds_to_those_before(clock: Time) -> None:
    spending = Spending(Devices(2, readings(7.0, 8.0)), {"starts": 2, "spent": WHOLE})
    clock.now += 1
    assert spending.so_far() == Spent(11.0, 22.0, 6.0, 3)


def test_the_whole_is_unknown_where_an_earlier_start_did_not_tell(clock: Time) -> None:
    assert Spending(Devices(), {"starts": 1}).so_far() is None
    assert Spending(Devices(), {"state": "queued"}).so_far() == Spent(0.0, 0.0, None, 1)


@pytest.mark.parametrize(
    ("counter", "before"),
    [((None, 5.0), 5.0), ((5.0, None), 5.0), ((5.0, 6.0), None), ((5.0, 1.0), 5.0)],
    ids=["unknown at the beginning", "unknown now", "unknown before", "the driver was loaded again"],
)
def test_energy_is_unknown_where_a_part_of_it_is(counter: tuple[Any, Any], before: float | None) -> None:
    spending = Spending(Devices(1, readings(*counter)), {"starts": 2, "spent": {**WHOLE, "joules": before}})
    found = spending.so_far()
    assert found is not None
    assert found.joules is None
    assert found.starts == 3


def test_what_is_written_is_read_again() -> None:
    assert spent_in({"spent": as_content(Spent(1.0, 2.0, None, 3))}) == Spent(1.0, 2.0, None, 3)
    assert as_content(None) is None


@pytest.mark.parametrize(
    "found",
    [None, 3, [], {}, {**WHOLE, "seconds": "much"}, {**WHOLE, "joules": -1.0}, {**WHOLE, "more": 1}, {"seconds": 1.0}],
)
def test_what_cannot_be_used_is_unknown(found: Any) -> None:
    assert spent_in({"spent": found}) is None


def test_hours_and_kilowatt_hours() -> None:
    spent = Spent(1800.0, 7200.0, 1.8e6, 1)
    assert (spent.device_hours, spent.energy_kwh) == (2.0, 0.5)
    assert Spent(joules=None).energy_kwh is None
