from typing import Any, Protocol

import pytest
from omegaconf import OmegaConf

from dinodiet.config.build import _guarded, build, declared
from dinodiet.errors import NotReleased, UserError
from dinodiet.io.declare import declares


def node(**values: Any) -> Any:
    return OmegaConf.create(values)


def test_build_waits_for_the_runtime_objects_and_keeps_their_identity() -> None:
    marker = object()
    made = build(node(_target_=PAIR, right=[1, {"a": 2}]), "method")(left=marker)
    assert made.left is marker
    assert made.right == [1, {"a": 2}]
    assert type(made.right) is list  # plain Python, no configuration object


def test_nested_nodes_are_built_from_the_inside_out() -> None:
    inner = {"_target_": PAIR, "left": 1, "right": 2}
    waiting = {"_target_": PAIR, "_partial_": True, "left": 3}
    made = build(node(_target_=PAIR, left=inner, right=[waiting]), "method")()
    assert made.left.right == 2
    assert made.right[0](right=4).right == 4


PAIR = "tests.config.test_build.Pair"


class Pair:
    def __init__(self, left: Any, right: Any) -> None:
        if right == "refused":
            raise UserError("right: 'refused'; choose another")
        if right == "plain":
            raise ValueError("a plain\nerror")
        self.left, self.right = left, right


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"_target_": "tests.nowhere.X"}, "method._target_: 'tests.nowhere.X' cannot be imported"),
        ({"_target_": "tests.config.test_build.CONSTANT"}, "method._target_: 'tests.config.test_build.CONSTANT' is a"),
        ({"_target_": PAIR, "middle": 1}, "method.middle: no such key; choose from"),
        (
            {"_target_": PAIR, "left": {"_target_": PAIR, "x": 1}},
            "method.left.x: no such key",
        ),
        (
            {"_target_": PAIR, "left": 1, "right": "refused"},
            "method.right: 'refused'; choose another",
        ),
        ({"_target_": PAIR, "left": 1, "right": "plain"}, "method: a plain error"),
    ],
)
def test_mistakes_are_told_under_their_full_key(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refusal:
        build(node(**values), "method")()
    assert str(refusal.value).startswith(words)


@pytest.mark.parametrize("right", [3, None, {"_target_": "builtins.dict"}])
def test_what_the_run_gives_is_not_to_be_set(right: Any) -> None:
    with pytest.raises(UserError, match=r"^method\.right: .*leave it out, the run gives it"):
        build(node(_target_=PAIR, left=1, right=right), "method")(right=2)
    inner = {"_target_": PAIR, "_partial_": True, "left": 1, "right": right}
    made = build(node(_target_=PAIR, left=1, right=inner), "method")()
    with pytest.raises(UserError, match=r"^method\.right\.right: .*leave it out, the run gives it"):
        made.right(right=2)


def test_a_target_in_c_that_tells_no_arguments_is_called_or_refused() -> None:
    assert build(node(_target_="builtins.dict", a=1), "method")() == {"a": 1}
    with pytest.raises(UserError, match=r"^method: TypeError: "):
        build(node(_target_="builtins.min", a=1), "method")()


CONSTANT = [1]


def test_a_mistake_that_a_part_tells_in_full_is_left_as_it_is() -> None:
    def refuse() -> None:
        raise UserError("dataset.image_size: 33; choose another")

    made = _guarded(refuse, "model")
    with pytest.raises(UserError, match=r"^dataset\.image_size: 33"):
        made()


def test_the_kind_of_a_mistake_is_kept() -> None:
    def refuse() -> None:
        raise NotReleased("weights: hub, but there are none")

    with pytest.raises(NotReleased, match=r"^model: weights"):
        _guarded(refuse, "model")()


class Paired(Protocol):
    left: Any

    def swap(self) -> None: ...


def test_a_part_that_lacks_a_member_of_its_contract_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^model._target_: Pair has no swap"):
        build(node(_target_=PAIR, left=1, right=2), "model", Paired)()


@declares(sizes=lambda *, names: list(names), licence=lambda: "mine")
def declaring(*, names: list[str], size: str = "a") -> None:
    raise AssertionError("it was called")


def test_what_a_factory_declares_is_told_from_its_settings_without_calling_it() -> None:
    plain = {"_target_": f"{__name__}.declaring", "names": ["a", "b"]}
    assert [tell() for tell in declared(plain, "model", "sizes")] == [["a", "b"]]
    assert [tell() for tell in declared(plain, "model", "licence")] == ["mine"]
    assert declared(plain, "model", "assets") == []
