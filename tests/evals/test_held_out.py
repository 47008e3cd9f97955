import torch

from dinodiet.evals.held_out import fifth


def test_a_fifth_of_each_class_is_held_out_and_depends_on_the_seed() -> None:
    labels = torch.arange(100) % 4
    fitted, held_out = fifth(labels, seed=0)
    assert labels[held_out].bincount().tolist() == [5, 5, 5, 5]
    assert sorted([*fitted.tolist(), *held_out.tolist()]) == list(range(100))
    assert held_out.tolist() == fifth(labels, seed=0)[1].tolist() != fifth(labels, seed=1)[1].tolist()


def test_images_with_several_labels_are_drawn_alike() -> None:
    assert len(fifth(torch.zeros(50, 3), seed=0)[1]) == 10
