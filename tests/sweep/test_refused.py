from dinodiet.errors import ManyReasons
from dinodiet.sweep.refused import MOST_REASONS, refusal


def test_one_reason_is_one_line() -> None:
    made = refusal("4 of 9 runs are refused", {"seed: must be one": [(f"seed={seed}", 1) for seed in "abcd"]})
    assert not isinstance(made, ManyReasons)
    assert str(made) == "4 of 9 runs are refused: seed=a, seed=b, seed=c and 1 more: seed: must be one"
    assert str(refusal("1 of 1 runs is refused", {"seed: no": [("", 1)]})) == "1 of 1 runs is refused: seed: no"


def test_several_reasons_are_counted_with_their_keys() -> None:
    reasons = {"a.b: x\ny": [("c=1 seed=0..3", 4), ("c=2", 1)], "no key: at all": [("c=3", 1)], "a.b: z": [("c=4", 1)]}
    made = refusal("7 of 9 runs cannot be built", reasons)
    assert isinstance(made, ManyReasons)
    assert str(made) == "7 of 9 runs cannot be built, for 3 reasons: a.b"
    assert made.lines == ["5 runs: c=1 seed=0..3, c=2: a.b: x y", "1 run: c=3: no key: at all", "1 run: c=4: a.b: z"]


def test_of_very_many_reasons_the_first_are_told() -> None:
    made = refusal("all", {f"key{number}: no": [(f"c={number}", 1)] for number in range(MOST_REASONS + 2)})
    assert isinstance(made, ManyReasons)
    assert len(made.lines) == MOST_REASONS + 1
    assert made.lines[-1] == "and 2 more reasons"
    assert str(made) == f"all, for {MOST_REASONS + 2} reasons: key0, key1, key2 and {MOST_REASONS - 1} more"
