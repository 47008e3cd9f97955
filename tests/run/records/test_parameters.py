"""Lengths and angles of parameters against dinopl's trackers, and values by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from dinodiet.run.records.parameters import Parameters
from dinodiet.run.records.vectors import Sums, nonfinite, product, square
from tests.run.records.published import ARRAYS, BATCH, CLOCK, PARTS, Shown, network, recorded, tensor, value

VECTORS = {"teacher": "teach", "student": "stud", "gradient": "grad", "difference": "diff"}
COSINES = {
    "teacher_student": "teach, stud",
    "gradient_difference": "grad, diff",
    "teacher_moved_student_moved": "teach-init, stud-init",
}


def published() -> dict[str, float]:
    """Return the published values under our names."""
    found = {}
    for theirs, ours in {"": "model", "enc/": "encoder", "head/": "head"}.items():
        for (vector, short), what in itertools.product(VECTORS.items(), ("norm", "rms")):
            found[f"{ours}/{vector}/{what}"] = value(f"parameters:{theirs}{what}({short})")
        for (vector, short), what in itertools.product((("teacher", "teach"), ("student", "stud")), ("norm", "rms")):
            found[f"{ours}/{vector}_moved/{what}"] = value(f"parameters:{theirs}{what}({short} - init)")
        for pair, short in COSINES.items():
            found[f"{ours}/{pair}/cosine"] = value(f"parameters:{theirs}cos({short})")
    return found


def own(record: Parameters, start: bool = True) -> dict[str, float]:
    """Return the row of a record of the published networks, which begin elsewhere."""
    networks = {role: network(role) for role in ("student", "teacher")}
    now = {role: {part: module.state_dict() for part, module in networks[role].items()} for role in networks}
    record.prepare(recorded(Shown(networks)))
    for role, parts in networks.items():
        for part, module in parts.items():
            now[role][part] = {name: own.clone() for name, own in module.state_dict().items()}
            module.load_state_dict(network(f"{role}_start")[part].state_dict())
    if start:
        record.begin()
    for role, parts in networks.items():
        for part, module in parts.items():
            module.load_state_dict(now[role][part])
    for theirs, ours in PARTS.items():
        for name, parameter in networks["student"][ours].named_parameters():
            parameter.grad = tensor(f"parameters.gradient.{theirs}.{name}")
    record.on_gradients(CLOCK, BATCH)
    (row,) = record.on_step(CLOCK.at(1), {})
    return dict(row)


def test_rows_are_the_published_ones() -> None:
    row = own(Parameters(every_steps=1, each=True))
    expected = published()
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=2e-7, abs=6e-8)  # cosines are float32
    for theirs, ours in PARTS.items():
        for name, (what, role) in itertools.product(
            ("weight", "bias"), (("values", "student"), ("gradients", "gradient"))
        ):
            assert row[f"each/{role}/{ours}.{name}/rms"] == pytest.approx(
                value(f"rms.{what}.{theirs}.{name}"), rel=2e-7
            )
    assert not any(row[name] for name in row if name.endswith(("/nan", "/inf")))
    others = [name for name in row if not name.startswith("each/") and not name.endswith(("/nan", "/inf"))]
    assert set(others) == set(expected)


def test_a_resumed_record_knows_the_start_and_one_that_came_late_tells_nothing_of_it() -> None:
    first = Parameters()
    row = own(first)
    again = Parameters()
    networks = {role: network(role) for role in ("student", "teacher")}
    again.prepare(recorded(Shown(networks)))
    again.restore(first.state())
    again.on_gradients(CLOCK, BATCH)
    moved = {name: number for name, number in row.items() if "moved" in name}
    assert len(moved) == 15
    assert {name: again.on_step(CLOCK, {})[0][name] for name in moved} == moved
    late = Parameters()
    late.prepare(recorded(Shown(networks)))
    late.restore({})
    assert not [name for name in late.on_step(CLOCK, {})[0] if "moved" in name]
    assert not [name for name in own(Parameters(from_start=False)) if "moved" in name]


def test_a_teacher_that_is_a_copy_shares_the_start_and_one_of_another_form_is_compared_with_nothing() -> None:
    student = network("student")
    record = Parameters()
    record.prepare(recorded(Shown({"student": student, "teacher": network("student")})))
    record.begin()
    state = record.state()
    assert all(mine is theirs for mine, theirs in zip(state["student"], state["teacher"], strict=True))
    record = Parameters()
    record.prepare(recorded(Shown({"student": student, "teacher": {"encoder": nn.Linear(2, 2)}})))
    record.begin()
    record.on_gradients(CLOCK, BATCH)
    (row,) = record.on_step(CLOCK, {})
    assert "encoder/teacher/norm" in row and "model/student_moved/norm" in row
    assert not [name for name in row if "difference" in name or "cosine" in name]


def test_numbers_that_are_not_finite_are_counted() -> None:
    vector = torch.from_numpy(ARRAYS["nonfinite.vector"])
    assert nonfinite([vector]) == (value("nonfinite:nans(stud)"), value("nonfinite:infs(stud)")) == (2, 2)
    student = {"encoder": nn.Linear(2, 1), "head": nn.Linear(1, 1)}
    student["encoder"].weight.data[0, 0] = float("nan")
    record = Parameters()
    record.prepare(recorded(Shown({"student": student})))
    record.on_gradients(CLOCK, BATCH)
    (row,) = record.on_step(CLOCK, {})
    counts = {name: row[f"{name}/student/nan"] for name in ("model", "encoder", "head")}
    assert counts == {"model": 1, "encoder": 1, "head": 0}


def test_values_by_hand() -> None:
    sums = Sums()
    teacher, student = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    for name, vector in (("own", torch.tensor([3.0, 4.0])), ("t", teacher), ("s", student), ("d", teacher - student)):
        sums.add(name, "encoder", square(vector))
    sums.count("encoder", 2)
    sums.add("both", "encoder", product(teacher, student))
    sums.read()
    assert sums.rms("own", "encoder") == pytest.approx(3.535534, abs=1e-6)
    assert sums.cosine("both", "t", "s", "model") == 0
    assert sums.norm("d", "encoder") == pytest.approx(1.414214, abs=1e-6)
