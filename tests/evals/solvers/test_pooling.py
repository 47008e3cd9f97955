from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.errors import UserError
from dinodiet.evals.solvers.pooling import ABMILP, EfficientProbes, EfficientProbing, Probes

WIDTH, QUERIES, LABELS = 12, 4, 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(count: int = 5, number: int = 7) -> Tensor:
    return torch.randn(count, number, WIDTH, generator=generator(1))


def efficient(count: int = 1, queries: int = QUERIES) -> EfficientProbes:
    return EfficientProbing(queries=queries).probes(count, WIDTH, LABELS, generator())


def set_to(parameter: Tensor, values: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(values)


def test_the_published_number_of_parameters() -> None:
    probes = EfficientProbing().probes(1, 768, 1000, generator())
    assert sum(parameter.numel() for parameter in probes.parameters()) == 1_383_400
    assert 0.019 < float(probes.queries.detach().std()) < 0.021


def test_it_is_the_module_of_the_paper() -> None:
    """Values of every token, cut into slices that the queries pool; batch norm; a linear layer."""
    probes, given = efficient(), tokens()
    values = (given @ probes.values[0].flatten(0, 1).T).unflatten(2, (QUERIES, -1))
    weights = (given @ probes.queries[0].T / WIDTH**0.5).softmax(dim=1)
    pooled = torch.einsum("btq,btqe->bqe", weights, values).flatten(1)
    norm = nn.BatchNorm1d(WIDTH, eps=1e-6, affine=False)
    for training in (True, False):
        norm.train(training)
        expected = F.linear(norm(pooled), probes.weight[0], probes.bias[0])
        torch.testing.assert_close(probes.train(training)(given)[0], expected, rtol=1e-4, atol=1e-5)


def test_queries_of_zero_pool_the_mean_in_each_slice() -> None:
    probes, given = efficient(), tokens()
    set_to(probes.queries, torch.zeros(()))
    expected = given.mean(dim=1) @ probes.values[0].flatten(0, 1).T
    torch.testing.assert_close(probes.pooled(given)[0], expected)


def test_one_query_with_values_as_they_are_returns_the_token_with_the_largest_score() -> None:
    probes, given = efficient(queries=1), tokens()
    set_to(probes.values, torch.eye(WIDTH))
    given[:, 3] = 50 * given[:, 3] / given[:, 3].norm(dim=1, keepdim=True)
    set_to(probes.queries, 20 * F.normalize(given[0, 3], dim=0))
    torch.testing.assert_close(probes.pooled(given)[0, 0], given[0, 3])


@pytest.mark.parametrize("pooling", [EfficientProbing(queries=QUERIES), ABMILP()])
def test_the_order_of_tokens_changes_nothing(pooling: EfficientProbing | ABMILP) -> None:
    probes, given = pooling.probes(2, WIDTH, LABELS, generator()), tokens()
    torch.testing.assert_close(probes(given[:, torch.randperm(7, generator=generator())]), probes(given))


@pytest.mark.parametrize("pooling", [EfficientProbing(queries=QUERIES), ABMILP()])
def test_probes_side_by_side_are_each_on_its_own(pooling: EfficientProbing | ABMILP) -> None:
    def changed(row: int, probes: Probes) -> Probes:
        for parameter in probes.parameters():
            set_to(parameter, parameter + torch.randn(parameter.shape[1:], generator=generator(row)))
        return probes

    one, other = (changed(row, pooling.probes(1, WIDTH, LABELS, generator())) for row in (0, 1))
    both = pooling.probes(2, WIDTH, LABELS, generator())
    for joint, first, second in zip(both.parameters(), one.parameters(), other.parameters(), strict=True):
        set_to(joint, torch.cat([first, second]))
    for _ in range(2):  # in training, then with the statistics of the training
        torch.testing.assert_close(both(tokens()), torch.cat([one(tokens()), other(tokens())]))
        for probes in (both, one, other):
            probes.eval()


def test_abmilp_is_the_direction_of_the_weighted_mean() -> None:
    probes, given = ABMILP().probes(1, WIDTH, LABELS, generator()), tokens()
    weights = (given @ probes.get_parameter("attention")[0]).softmax(dim=1)
    pooled = F.normalize((weights[..., None] * given).sum(dim=1), dim=1)
    expected = F.linear(pooled, probes.get_parameter("weight")[0])
    torch.testing.assert_close(probes(given)[0], expected)


def test_a_width_that_queries_do_not_divide_is_refused_with_those_that_do() -> None:
    EfficientProbing(queries=32).check(768)
    with pytest.raises(
        UserError, match=r"^pooling: queries 5 do not divide the width 12 of tokens; .* 1, 2, 3, 4, 6, 12$"
    ):
        EfficientProbing(queries=5).check(12)
