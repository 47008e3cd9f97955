"""Cost per image from 1,000 to 100,000 images: flat, except for DIET's head, which has a class for each of them."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.data.images import TensorImages
from dinodiet.data.loader import TrainLoader
from dinodiet.data.views.views import SingleView
from dinodiet.features.embed import embed
from dinodiet.methods.diet import DIET
from dinodiet.training.optim import build_fused
from dinodiet.types import Clock, DataSpec, InputSpec, Runtime
from tests.backbones.toy import Toy
from tests.bench.rows import Note

pytestmark = pytest.mark.bench
COUNTS, BATCH, WIDTH, ROUNDS = (1000, 10_000, 100_000), 64, 64, 5
SPEC = InputSpec(size=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class Pixels(Toy):
    """A backbone that costs next to nothing: what is left of a step is what surrounds a backbone."""

    def __init__(self) -> None:
        super().__init__(WIDTH, SPEC.size)
        self.project = nn.Linear(3 * 8 * 8, WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.project(F.avg_pool2d(images, 4).flatten(1))
        return output

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[self.project]]


def images(count: int) -> TensorImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return TensorImages(pixels, torch.arange(count) % 10)


def microseconds(work: Callable[[], object], images: int) -> float:
    """Return the CPU time of one thread, per image."""
    begun = time.process_time()
    work()
    return 1e6 * (time.process_time() - begun) / images


def alternating(works: dict[int, Callable[[], object]], images: int) -> dict[int, list[float]]:
    """Return the times of each, measured in turn."""
    times: dict[int, list[float]] = {count: [] for count in works}
    for turn in range(1 + ROUNDS):
        for count, work in works.items():
            spent = microseconds(work, images)
            if turn:
                times[count].append(spent)
    return times


def report(note: Note, what: str, times: dict[int, list[float]]) -> dict[int, float]:
    """Print the cost at each size over that at the smallest; return the least ratio of each."""
    ratios = {n: [one / first for one, first in zip(times[n], times[COUNTS[0]], strict=True)] for n in times}
    parts = [
        f"{n:,} images {statistics.median(times[n]):.1f} us, {statistics.median(ratios[n]):.2f} x "
        f"({min(ratios[n]):.2f} to {max(ratios[n]):.2f})"
        for n in times
    ]
    for n in COUNTS[1:]:
        note(f"{what.strip()}, for one image of {n:,}, over one of {COUNTS[0]:,}", ratios[n])
    print(f"\n{what}, for one image: {'; '.join(parts)}", end="")
    return {n: min(found) for n, found in ratios.items()}


def test_loading_and_views_and_embedding_cost_the_same_at_any_size(note: Note) -> None:
    steps, views = 20, SingleView(SPEC, strength=3)

    def load(images: TensorImages) -> Callable[[], object]:
        batches = TrainLoader(images, BATCH, seed=0).batches(0)
        generator = torch.Generator().manual_seed(0)
        return lambda: [views(next(batches).images, generator) for _ in range(steps)]

    sets = {count: images(count) for count in COUNTS}
    loaded = report(
        note, "loading and views at 32 px", alternating({n: load(sets[n]) for n in COUNTS}, images=steps * BATCH)
    )
    encoder, times = Pixels().eval(), {count: [0.0] * 0 for count in COUNTS}
    for _ in range(3):
        for count, images_of_set in sets.items():
            repeats = max(10_000 // count, 1)
            once = partial(embed, encoder, images_of_set, SPEC, Runtime(), num_labels=10, multilabel=False)
            work = partial(lambda once, r: [once() for _ in range(r)], once, repeats)
            times[count].append(microseconds(work, count * repeats))
    embedded = report(note, "embedding for an evaluation", times)
    assert max(loaded.values()) <= 1.3
    assert max(embedded.values()) <= 1.3


def step_of_diet(count: int) -> Callable[[], object]:
    """Return a step of the head's training, without the loading of images."""
    torch.manual_seed(0)
    method = DIET(Pixels(), DataSpec("pixels", count, 10), views=partial(SingleView, strength=0), trainable="all")
    make = partial(torch.optim.AdamW, lr=1e-4)
    optimizer = build_fused(make, [group.as_dict() for group in method.param_groups()])
    clock, batch = Clock(10, 100, 10), next(TrainLoader(images(1000), BATCH, seed=0).batches(0))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        method(batch, clock)["loss"].backward()
        optimizer.step()

    return step


def bare_head(count: int) -> Callable[[], object]:
    """Return what such a step cannot do without: three products with the head's weight, and its optimiser's update."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(count, WIDTH))
    optimizer = torch.optim.AdamW([weight], lr=1e-4, fused=True)
    features, logits = torch.randn(BATCH, WIDTH), torch.empty(BATCH, count)

    def step() -> None:
        torch.mm(features, weight.detach().T, out=logits)
        torch.mm(logits, weight.detach())
        weight.grad = torch.mm(logits.T, features)
        optimizer.step()

    return step


def test_diets_head_costs_its_products_and_its_update(note: Note) -> None:
    """Its softmax runs over all images, so a step's cost is a constant and a share that grows with their number."""
    floors = alternating({count: bare_head(count) for count in COUNTS}, images=BATCH)
    whole = alternating({count: step_of_diet(count) for count in COUNTS}, images=BATCH)
    report(note, "a DIET step without its backbone", whole)
    report(note, "  of which products and update of the head", floors)
    constant = statistics.median(whole[COUNTS[0]])
    over = [(one - constant) / floor for one, floor in zip(whole[100_000], floors[100_000], strict=True)]
    print(f"\n  growth from 1,000 to 100,000 images over these: {statistics.median(over):.2f} x", end="")
    note("growth of a DIET step from 1,000 to 100,000 images over its products and update", over)
    assert min(over) <= 4
