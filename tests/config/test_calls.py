"""Schedules on the command line are text to Hydra, each by itself."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep

from dinodiet.config.calls import quote_calls

CAT, COSINE = "cat(linear(0,5e-4,10ep),cosine(5e-4, 1e-6))", "cosine(1,0)"


def values(word: str) -> list[object]:
    """Return what Hydra reads: the values that are swept, or the one."""
    (override,) = OverridesParser.create().parse_overrides([quote_calls(word)])
    found = override.value()
    return [getattr(one, "text", one) for one in found.list] if isinstance(found, ChoiceSweep) else [found]


def test_a_schedule_needs_no_quotes() -> None:
    assert values(f"schedule.lr={CAT}") == [CAT]
    assert values(f"+a/b@c.lr= {COSINE}") == [COSINE]
    assert values(f"a=[{CAT},1,{COSINE}]") == [[CAT, 1, COSINE]]


def test_schedules_are_swept_like_other_values() -> None:
    for words in (f"{CAT},{COSINE},1e-3", f"{CAT} , {COSINE}, 1e-3", f"choice({CAT},{COSINE},1e-3)"):
        assert values(f"schedule.lr={words}") == [CAT, COSINE, 1e-3]


@pytest.mark.parametrize(
    "word",
    [
        *("a=range(3)", "a=choice(1,2)", "root=/x/y(1)", f"a='{COSINE}'", f'a="{COSINE}"', "a=b", "-m", "a={b: f(1)}"),
        *("a=\\f(1)", "a=${f:1}", "~a", f"--config-dir={COSINE}"),
    ],
)
def test_what_is_no_schedule_stays(word: str) -> None:
    assert quote_calls(word) == word
