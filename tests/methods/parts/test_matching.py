"""Two widths become one: by the published pooling of the wider side, or by a map that is trained."""

import pytest
import torch

from dinodiet.methods.parts.matching import Matching
from tests.methods.parts.test_feature_loss import CASES, array


@pytest.mark.parametrize("case", CASES)
def test_the_wider_side_is_pooled(case: str) -> None:
    teacher, student = array(f"{case}.teacher"), array(f"{case}.student")
    found = Matching(student.shape[1], teacher.shape[1])(student, teacher)
    wider = teacher.shape[1] > student.shape[1]
    torch.testing.assert_close(found[wider], array(f"{case}.pooled"), atol=1e-6, rtol=0)
    assert torch.equal(found[not wider], student if wider else teacher)


@pytest.mark.parametrize("widths", [(4, 2), (5, 3), (640, 384), (2048, 512)])
def test_pooling_takes_the_published_means(widths: tuple[int, int]) -> None:
    given, wanted = (array(f"pool.{widths[0]}_to_{widths[1]}.{end}") for end in ("in", "out"))
    student, teacher = Matching(*widths)(given, torch.zeros(1, widths[1]))
    torch.testing.assert_close(student, wanted, atol=1e-6, rtol=1e-6)
    assert student.shape == teacher.shape


def test_hand_values() -> None:
    for given, wanted in (([1, 2, 3, 4], [1.5, 3.5]), ([1, 2, 3, 4, 5], [1.5, 3, 4.5])):
        student, _ = Matching(len(given), len(wanted))(torch.tensor([given]).float(), torch.zeros(1, len(wanted)))
        assert student.tolist() == [wanted]


def test_a_linear_map_brings_the_student_to_the_teachers_width() -> None:
    for width in (3, 8):
        match = Matching(5, width, kind="linear")
        student, teacher = match(torch.ones(2, 5), torch.ones(2, width))
        assert student.shape == teacher.shape == (2, width)
        assert [tuple(parameter.shape) for parameter in match.parameters()] == [(width, 5)]
    assert not list(Matching(5, 3).parameters())
