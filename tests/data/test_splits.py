import pytest
import torch
from torch import Tensor

from dinodiet.data.splits import limit, stratified_split
from dinodiet.errors import UserError


def labels_of(*sizes: int) -> Tensor:
    """Return labels in mixed order: sizes[c] of class c."""
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


def counts(labels: Tensor, positions: Tensor) -> list[int]:
    return labels[positions].bincount(minlength=int(labels.max()) + 1).tolist()


class TestStratifiedSplit:
    def test_parts_are_disjoint_complete_and_sorted(self) -> None:
        labels = labels_of(70, 20, 10)
        rest, part = stratified_split(labels, 0.2, seed=3)
        assert sorted([*rest.tolist(), *part.tolist()]) == list(range(100))
        for positions in (rest, part):
            assert positions.dtype == torch.int64
            assert positions.tolist() == sorted(positions.tolist())

    def test_classes_are_in_proportion(self) -> None:
        labels = labels_of(700, 200, 100)
        _, part = stratified_split(labels, 0.1, seed=0)
        assert counts(labels, part) == [70, 20, 10]

    def test_takes_exactly_the_number_asked_for(self) -> None:
        labels = labels_of(31, 17, 11, 5)
        for count in range(1, 64):
            assert len(stratified_split(labels, count, seed=0)[1]) == count

    def test_rare_classes_are_in_both_parts(self) -> None:
        labels = labels_of(96, 2, 2)
        rest, part = stratified_split(labels, 4, seed=0)
        assert counts(labels, part) == [2, 1, 1]
        assert counts(labels, rest) == [94, 1, 1]

    def test_the_one_image_of_a_class_stays(self) -> None:
        labels = labels_of(50, 49, 1)
        for seed in range(5):
            rest, _ = stratified_split(labels, 0.5, seed)
            assert counts(labels, rest)[2] == 1

    def test_is_the_same_on_every_machine(self) -> None:
        # RandomState(0) shuffles to 18 1 19 8 10 17 ...: one of each class 2 1 3 0, then the next of 2 and 1.
        rest, part = stratified_split(torch.arange(20) % 4, 6, seed=0)
        assert part.tolist() == [1, 8, 10, 17, 18, 19]
        assert len(rest) == 14

    def test_depends_on_the_seed(self) -> None:
        labels = labels_of(70, 20, 10)
        assert not torch.equal(stratified_split(labels, 10, seed=0)[1], stratified_split(labels, 10, seed=1)[1])

    def test_multilabel_is_split_at_random(self) -> None:
        labels = torch.zeros(50, 14, dtype=torch.int64)
        rest, part = stratified_split(labels, 0.2, seed=0)
        assert sorted([*rest.tolist(), *part.tolist()]) == list(range(50))
        assert len(part) == 10

    @pytest.mark.parametrize("part", [0, 10, 11, 0.99])
    def test_refuses_empty_parts(self, part: float) -> None:
        with pytest.raises(UserError, match=r"split off \d+ of 10 images"):
            stratified_split(torch.arange(10) % 2, part, seed=0)


class TestLimit:
    def test_is_the_same_on_every_machine(self) -> None:
        assert limit(None, 20, 5, seed=0).tolist() == [1, 8, 10, 18, 19]

    @pytest.mark.parametrize("balanced", [False, True])
    def test_smaller_is_part_of_larger(self, balanced: bool) -> None:
        labels = labels_of(70, 20, 10)
        chosen = [set(limit(labels, 100, count, seed=0, balanced=balanced).tolist()) for count in (10, 30, 100)]
        assert chosen[0] < chosen[1] < chosen[2] == set(range(100))

    def test_balanced_fills_up_from_the_larger_classes(self) -> None:
        labels = labels_of(70, 20, 4)
        assert counts(labels, limit(labels, 94, 12, seed=0, balanced=True)) == [4, 4, 4]
        assert counts(labels, limit(labels, 94, 30, seed=0, balanced=True)) == [13, 13, 4]
        assert counts(labels, limit(labels, 94, 60, seed=0, balanced=True)) == [36, 20, 4]

    def test_unbalanced_follows_the_data(self) -> None:
        labels = labels_of(9000, 1000)
        assert counts(labels, limit(labels, 10000, 1000, seed=0))[1] == pytest.approx(100, abs=30)

    @pytest.mark.parametrize("count", [0, -1, 21])
    def test_refuses_more_than_there_is(self, count: int) -> None:
        with pytest.raises(UserError, match=rf"^limit: {count}; 20 images"):
            limit(None, 20, count, seed=0)

    def test_refuses_to_balance_what_has_no_classes(self) -> None:
        for labels, kind in ((None, "unlabelled"), (torch.zeros(20, 14), "multi-label")):
            with pytest.raises(UserError, match=f"^balanced: true, .* {kind}"):
                limit(labels, 20, 5, seed=0, balanced=True)


class TestProportional:
    @pytest.mark.parametrize(
        ("sizes", "count", "quotas"),
        [
            ((900, 60, 30, 10), 10, [7, 1, 1, 1]),
            ((500, 300, 200), 7, [4, 2, 1]),
            ((500, 300, 200), 1000, [500, 300, 200]),
            ((97, 1, 1, 1), 4, [1, 1, 1, 1]),
            ((50, 50, 50, 2), 100, [33, 33, 33, 1]),
        ],
    )
    def test_quotas(self, sizes: tuple[int, ...], count: int, quotas: list[int]) -> None:
        for seed in range(3):
            labels = labels_of(*sizes)
            found = limit(labels, len(labels), count, seed, balanced="proportional")
            assert found.tolist() == sorted(set(found.tolist()))
            assert counts(labels, found) == quotas

    def test_equal_claims_are_decided_by_the_seed(self) -> None:
        labels = labels_of(10, 10, 10)
        found = [tuple(counts(labels, limit(labels, 30, 4, seed, balanced="proportional"))) for seed in range(20)]
        assert set(found) == {(2, 1, 1), (1, 2, 1), (1, 1, 2)}

    def test_takes_exactly_the_number_asked_for_and_some_of_each_class(self) -> None:
        labels = labels_of(300, 41, 11, 5, 1)
        for count in range(5, 359):
            found = counts(labels, limit(labels, 358, count, seed=1, balanced="proportional"))
            assert sum(found) == count and min(found) >= 1

    def test_too_few_for_all_classes(self) -> None:
        with pytest.raises(UserError, match=r"^limit: 2, but .* each of 3 classes; choose 3 to 30"):
            limit(labels_of(10, 10, 10), 30, 2, seed=0, balanced="proportional")
        with pytest.raises(UserError, match=r"^limit: 31; 30 images"):
            limit(labels_of(10, 10, 10), 30, 31, seed=0, balanced="proportional")
