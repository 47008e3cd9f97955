"""The centre of a teacher's logits; what a whole step makes of it is held against published code in test_losses.py."""

import torch

from dinodiet.methods.parts.centring import Centred
from dinodiet.types import Clock


def test_a_step_in_parts_moves_the_centre_once_by_the_mean_of_all_rows() -> None:
    centred = Centred(3, teacher_temp=0.5, center_momentum=0.5, centring="mean")
    rows = torch.arange(9.0).view(3, 3)
    centred.see(rows[:2], Clock(0, 1, 1, part=0))
    centred.see(rows[2:], Clock(0, 1, 1, part=1))
    assert not centred.center.any()
    centred.update_center(Clock(0, 1, 1))
    torch.testing.assert_close(centred.center, 0.5 * rows.mean(0, keepdim=True))
    expected = ((rows - centred.center) / 0.5).softmax(-1)
    torch.testing.assert_close(centred.targets(rows, Clock(0, 1, 1)), expected)
