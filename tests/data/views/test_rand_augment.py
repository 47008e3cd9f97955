"""RandAugment and erasing of timm: reproducible, and they leave the global generators alone."""

import random

import numpy as np
import pytest
import torch

from dinodiet.data.views import SingleView
from dinodiet.data.views.rand_augment import RandAugmented
from dinodiet.errors import UserError
from dinodiet.types import InputSpec

SPEC = InputSpec(size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
IMAGES = torch.randint(256, (16, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PLAIN = SingleView(SPEC, 1)


def made(seed: int = 0, policy: str | None = None, erasing: float = 0.0) -> torch.Tensor:
    (view,) = RandAugmented(PLAIN, SPEC, policy, erasing)(IMAGES, torch.Generator().manual_seed(seed))
    return view


def plain(seed: int = 0) -> torch.Tensor:
    return PLAIN(IMAGES, torch.Generator().manual_seed(seed))[0]


@pytest.mark.parametrize(("policy", "erasing"), [("rand-m9-mstd0.5-inc1", 0.0), (None, 1.0), ("rand-m9-inc1", 0.25)])
def test_one_seed_gives_one_view_whatever_was_drawn_elsewhere(policy: str | None, erasing: float) -> None:
    first = made(0, policy, erasing)
    _ = random.random(), np.random.rand(), torch.rand(3)
    assert torch.equal(made(0, policy, erasing), first)
    assert not torch.equal(made(1, policy, erasing), first)
    assert not torch.equal(first, plain())
    assert (first.shape, first.dtype) == ((16, 3, 32, 32), torch.float32)


def test_the_global_generators_are_as_they_were() -> None:
    def states() -> tuple[object, ...]:
        numpy = np.random.get_state(legacy=False)
        return random.getstate(), str(numpy), torch.get_rng_state().tolist()

    before = states()
    made(0, "rand-m9-mstd0.5-inc1", 1.0)
    assert states() == before


def test_erased_parts_are_noise_and_the_rest_is_untouched() -> None:
    found, before = made(0, None, 1.0), plain()
    changed = (found != before).any(1)
    shares = changed.flatten(1).float().mean(1)
    assert ((shares > 0.005) & (shares < 0.5)).all()
    assert torch.equal(found[~changed[:, None].expand_as(found)], before[~changed[:, None].expand_as(found)])
    noise = (found - torch.tensor(SPEC.mean)[:, None, None])[changed[:, None].expand_as(found)] / 0.2
    assert noise.std().item() == pytest.approx(1, abs=0.1)


def test_every_operation_takes_the_greatest_strength() -> None:
    views = RandAugmented(PLAIN, SPEC, "rand-m10-n8-mstd5-inc1")
    for seed in range(4):
        assert views(IMAGES, torch.Generator().manual_seed(seed))[0].isfinite().all()


def test_without_both_it_is_the_view_itself() -> None:
    assert torch.equal(made(), plain())


@pytest.mark.parametrize("policy", ["autoaugment", "rand-x9", "rand-m9-mmax20", ""])
def test_an_unknown_policy_is_named(policy: str) -> None:
    with pytest.raises(UserError, match=rf"^rand_augment: '{policy}' is no policy of RandAugment; give one of timm's"):
        RandAugmented(PLAIN, SPEC, policy)
