from __future__ import annotations

import functools
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

from dinodiet.errors import UserError
from dinodiet.evals.solvers.pooling import ABMILP, EfficientProbing, Probes
from dinodiet.evals.solvers.side_by_side import Candidate, Examples, ProbeTraining, loss_of

CPU = torch.device("cpu")
POOLING = EfficientProbing(queries=4)


def make(count: int, generator: torch.Generator) -> Probes:
    return POOLING.probes(count, 8, 2, generator)


def examples(count: int = 40, *, multilabel: bool = False) -> Examples:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(count, 5, 8, generator=generator)
    labels = (tokens[:, :, 0].mean(dim=1) > 0).long()
    return Examples(tokens, torch.stack([labels, 1 - labels], dim=1) if multilabel else labels, torch.arange(count))


def test_candidates_are_all_pairs_from_the_smallest_on() -> None:
    assert ProbeTraining(lr=[0.1, 0.01], weight_decay=[0.5, 0.0]).candidates == [
        Candidate(*pair) for pair in itertools.product((0.01, 0.1), (0.0, 0.5))
    ]
    assert ProbeTraining(lr=1.0, weight_decay=0.0).candidates == [Candidate(1.0, 0.0)]
    with pytest.raises(UserError, match=r"^lr: \[\]"):
        ProbeTraining(lr=[])


@pytest.mark.parametrize("multilabel", [False, True])
def test_side_by_side_is_one_after_the_other(multilabel: bool) -> None:
    training, given = ProbeTraining(epochs=2, min_steps=0, batch_size=16), examples(multilabel=multilabel)
    candidates = [Candidate(1e-3, 0.0), Candidate(3e-2, 0.0), Candidate(1e-3, 5.0)]
    together = training.scores(training.fit(make, given, candidates, CPU), given, CPU)
    for row, candidate in enumerate(candidates):
        alone = training.fit(make, given, [candidate], CPU)
        torch.testing.assert_close(together[row], training.scores(alone, given, CPU)[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[2], atol=1e-4)  # weight decay is one of them


def test_it_is_adamw_with_a_cosine() -> None:
    training, given = ProbeTraining(epochs=1, min_steps=3, batch_size=64, seed=5), examples()
    found = training.fit(make, given, [Candidate(1e-2, 0.1)], CPU)
    expected = make(1, torch.Generator().manual_seed(5))
    optimizer = AdamW(expected.parameters(), lr=1e-2, weight_decay=0.1)
    for share in (1.0, 0.75, 0.25):  # (1 + cos(pi t / 3)) / 2
        optimizer.param_groups[0]["lr"] = 1e-2 * share
        optimizer.zero_grad()
        F.cross_entropy(expected(given.tokens)[0], given.labels).backward()
        optimizer.step()
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("count", "batch", "sizes"), [(10, 4, [4, 3, 3]), (3, 2, [3]), (5, 256, [5]), (2, 2, [2])])
def test_an_epoch_sees_each_image_once_in_batches_of_two_or_more(count: int, batch: int, sizes: list[int]) -> None:
    seen: list[Tensor] = []

    class Recording(Examples):
        def batch(self, positions: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
            seen.append(positions)
            return super().batch(positions, device)

    given = examples(count)
    training = ProbeTraining(epochs=2, min_steps=0, batch_size=batch)
    training.fit(make, Recording(given.tokens, given.labels, given.rows), [Candidate(1e-3, 0)], CPU)
    assert [len(part) for part in seen] == 2 * sizes
    assert torch.cat(seen).view(2, count).sort(dim=1).values.tolist() == 2 * [list(range(count))]


def test_global_randomness_and_examples_stay_as_they_are() -> None:
    given = examples()
    before, tokens = torch.random.get_rng_state(), given.tokens.clone()
    ProbeTraining(epochs=1, min_steps=2).fit(make, given, [Candidate(1e-3, 0)], CPU)
    assert torch.equal(torch.random.get_rng_state(), before) and torch.equal(given.tokens, tokens)


def test_the_loss_of_several_is_the_sum_of_their_means() -> None:
    for given, loss in ((examples(), F.cross_entropy), (examples(multilabel=True), F.binary_cross_entropy_with_logits)):
        probes = make(3, torch.Generator().manual_seed(0))
        labels = given.labels if given.labels.ndim == 1 else given.labels.float()
        expected = torch.stack([loss(logits, labels) for logits in probes(given.tokens)]).sum()
        torch.testing.assert_close(loss_of(probes, given.tokens, given.labels), expected)


@pytest.mark.parametrize("pooling", [EfficientProbing(queries=2), ABMILP()])
def test_attention_finds_the_token_that_a_mean_drowns(pooling: EfficientProbing | ABMILP) -> None:
    """One token of 16 tells the class by its sign, and is marked; 15 others have signs of their own."""
    generator = torch.Generator().manual_seed(0)
    count, number = 600, 16
    signs = torch.randn(count, number, generator=generator).sign()
    tokens = 0.1 * torch.randn(count, number, 8, generator=generator)
    tokens[:, :, 0] += signs
    marked = torch.randint(number, (count,), generator=generator)
    tokens[torch.arange(count), marked, 1] += 4
    labels = (signs[torch.arange(count), marked] > 0).long()
    train, test = (Examples(tokens, labels, rows) for rows in torch.arange(count).split(400))
    training = ProbeTraining(epochs=40, min_steps=0, batch_size=100)
    width_of = functools.partial(pooling.probes, width=8, num_labels=2)

    def accuracy(probes: Probes) -> float:
        scores = training.scores(probes, test, CPU)[0]
        return float(scores.argmax(dim=1).eq(labels[test.rows]).double().mean())

    probes = training.fit(
        lambda count, generator: width_of(count, generator=generator), train, [Candidate(3e-2, 0.0)], CPU
    )
    assert accuracy(probes) > 0.95
    attention = probes.get_parameter("queries" if isinstance(pooling, EfficientProbing) else "attention")
    with torch.no_grad():
        attention.zero_()
    assert accuracy(probes) < 0.75  # the mean of the same tokens
