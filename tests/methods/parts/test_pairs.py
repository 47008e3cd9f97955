import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.methods.parts.pairs import Pairing, Pairs


@pytest.mark.parametrize(
    ("targets", "views", "counts"), [(2, 6, (12, 2, 10)), (2, 2, (4, 2, 2)), (1, 1, (1, 1, 0)), (1, 3, (3, 1, 2))]
)
def test_pairs_are_as_many_as_published_and_the_mask_and_partners_are_of_them(
    targets: int, views: int, counts: tuple[int, int, int]
) -> None:
    pairings: list[Pairing] = ["all", "same", "opposite"]
    for pairing, count in zip(pairings, counts, strict=True):
        pairs, values = Pairs(pairing, targets, views), torch.randn(views, 3)
        mask = pairs.mask()
        assert len(pairs) == count == int(mask.sum())
        torch.testing.assert_close(pairs.partners(values), mask @ values)
        own = mask[:, :targets].diagonal()
        assert own.eq(0 if pairing == "opposite" else 1).all()


def test_one_view_has_no_other() -> None:
    with pytest.raises(UserError, match=r"loss.pairs: opposite .* views.crops makes 1 .* choose same or all"):
        Pairs("opposite", 1, 1).check()
    Pairs("same", 1, 1).check()
