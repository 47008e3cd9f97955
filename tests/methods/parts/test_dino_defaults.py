import pytest

from dinodiet.methods.parts import dino_defaults
from dinodiet.types import Clock


@pytest.mark.parametrize(
    ("num_images", "expected"),
    [
        (100, 1_024),
        (20_000, 1_024),
        (20_001, 2_048),
        (100_000, 4_096),
        (200_000, 16_384),
        (500_000, 32_768),
        (1_281_167, 65_536),
    ],
)
def test_prototypes_grow_with_the_dataset(num_images: int, expected: int) -> None:
    assert dino_defaults.prototypes(num_images) == expected


@pytest.mark.parametrize(
    ("num_images", "first", "last", "momentum"),
    [
        (100, 0.02, 0.02, 0.99),
        (650_583, 0.04, 0.045, 0.993),
        (1_281_167, 0.04, 0.07, 0.996),
        (10**8, 0.04, 0.07, 0.996),
    ],
)
def test_temperature_and_momentum_lie_between_few_images_and_imagenet(
    num_images: int, first: float, last: float, momentum: float
) -> None:
    clock = Clock(0, 1000, 100)
    temp = dino_defaults.teacher_temp(num_images)
    assert temp(clock) == pytest.approx(first, abs=1e-5)
    assert temp(clock.at(999)) == pytest.approx(last, abs=1e-5)
    assert dino_defaults.momentum(num_images)(clock) == pytest.approx(momentum, abs=1e-5)
    assert dino_defaults.momentum(num_images)(clock.at(1000)) == 1.0


def test_warmups_are_parts_of_a_short_training_and_steps_of_a_long_one() -> None:
    temp = dino_defaults.teacher_temp(1_281_167)
    short, long = Clock(0, 1_000, 100), Clock(0, 500_000, 1_250)
    assert temp(short.at(200)) == temp(short.at(299)) == pytest.approx(0.07)  # 3 epochs, both ends included
    assert temp(short.at(199)) < 0.07
    assert temp(long.at(29 * 1_250)) == pytest.approx(0.07)
    assert temp(long.at(29 * 1_250 - 1)) < 0.07
    assert dino_defaults.freeze_last_layer_steps(short) == 10
    assert dino_defaults.freeze_last_layer_steps(long) == 1_250
