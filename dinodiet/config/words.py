"""One word of the command line that Hydra cannot compose: its key, what it says, and what may stand there."""

from __future__ import annotations

import re
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, EnumNode, ListConfig, OmegaConf

from dinodiet.config.describe import MOST_SHOWN, describe, shown
from dinodiet.config.groups import (
    CHOICES,
    EVALUATION_DATASET,
    LAUNCHER,
    RECORD,
    REFERENCE_DATASET,
    SWEEPER,
    SWEEPS,
    TEACHER,
    TEACHER_MODEL,
)
from dinodiet.config.precheck import hints_of
from dinodiet.config.settings import hints_below
from dinodiet.errors import UserError, printable

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

SEVERAL = ("eval", RECORD)  # groups of which a run takes any number of choices
NEEDED = "one choice is needed"
PLACED = (EVALUATION_DATASET, REFERENCE_DATASET, TEACHER_MODEL)  # groups that have an @: where the choice goes
# Groups of which a run may take none.
OPTIONAL = ("eval", RECORD, "tuned", SWEEPS, EVALUATION_DATASET, REFERENCE_DATASET)


def quoted(word: str) -> str:
    """Return a word of the command line whose value has letters that Hydra takes in quotes alone, with quotes.

    Names of files have them, and bytes that are no text. What may be more than a plain value stays as it is.
    """
    key, _, value = word.partition("=")
    plain = not value.isascii() and value == value.strip() and not set(value) & set(",'\"\\{}[]()$")
    return f'{key}="{value}"' if plain and re.fullmatch(r"\+{0,2}[\w@./]+", key) else word


def as_choice(word: str) -> str:
    """Return a word that names a teacher as Hydra takes it.

    `method.teacher.model=dinov2` would make the node the text dinov2; what composes the file `conf/model/dinov2.yaml`
    in its place is a choice of the group, `model@method.teacher.model=dinov2`.
    """
    key, equals, value = word.partition("=")
    return f"{TEACHER_MODEL}={value}" if key == TEACHER and equals and not value.startswith("{") else word


def parse(words: Sequence[str], loader: Any) -> tuple[list[Override], str | None]:
    """Return what the words say, and what is wrong with the first that says nothing."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: PLC0415

    parser = OverridesParser.create(config_loader=loader)
    parsed: list[Override] = []
    for word in words:
        try:
            (override,) = parser.parse_overrides([word])
            if not override.key_or_group:
                raise ValueError(word)
        except Exception:  # of the parser, or of a function in the value: choice(), range()
            how = "quote values with special characters: 'key=\"value\"'"
            return parsed, f"{_cut(printable(word))}: cannot be read as key=value; {how}"
        parsed.append(override)
    return parsed, None


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def chooses(override: Override, loader: Any) -> bool:
    """Return whether a word chooses a file of a group, and does not set a value."""
    if override.is_sweep_override() or "." in override.key_or_group:  # names of groups have none
        return False
    return bool(loader.get_group_options(override.key_or_group)) and not isinstance(override.value(), dict)


def check_chosen(choices: Mapping[str, Any], words: Sequence[str], loader: Any) -> None:
    """Refuse a run without one of its groups, or with a second choice of one, which Hydra would mix into the first.

    Of several choices none may come twice: a second k-NN would be the first one.

    Raises:
        UserError: one line that names the group and its choices.
    """
    for group in CHOICES:
        if group not in OPTIONAL and choices.get(group) in (None, "None"):
            raise UserError(f"{group}: {NEEDED}; {_choices(group, loader)}")
    if TEACHER_MODEL in choices and choices[TEACHER_MODEL] in (None, "None"):
        raise UserError(f"{TEACHER}: no teacher is named; {_choices('model', loader)}")
    for word in words:
        if (group := word.partition("=")[0].removeprefix("+")) in CHOICES and word.startswith("+"):
            raise UserError(f"{group}: leave out the +: a run has one already")
        if group in SEVERAL and (name := _twice(word.partition("=")[2])) is not None:
            raise UserError(f"{group}: {name} comes twice; name each once")


def _twice(value: str) -> str | None:
    """Return what a list of choices has more than once; None where it is none, or has nothing so."""
    names = [name.strip(" '\"").removesuffix(".yaml") for name in value.strip("[] ").split(",")]
    return next((name for name in names if value.startswith("[") and names.count(name) > 1), None)


def check_one(words: Sequence[str]) -> None:
    """Refuse a list where one choice is needed, and a run may do without: Hydra keeps none of a list's choices.

    Raises:
        UserError: one line that names the group and the list.
    """
    for word in words:
        group, _, value = word.partition("=")
        if value.startswith("[") and group in (*OPTIONAL, LAUNCHER, SWEEPER) and group not in SEVERAL:
            raise UserError(f"{group}: {_cut(value)}; {NEEDED}")


def _choices(group: str, loader: Any) -> str:
    names = _offered(group, loader) or loader.get_group_options(group)
    return f"choose from: {', '.join(sorted(names))}"


def _offered(group: str, loader: Any) -> set[str]:
    """Return the choices that files of dinodiet and of the user's own offer, those of Hydra's plugins left out."""
    from hydra.core.object_type import ObjectType  # noqa: PLC0415

    files = [source for source in loader.get_sources() if source.scheme() == "file" and source.is_group(group)]
    return {name for source in files for name in source.list(group, ObjectType.CONFIG) if not name.startswith("_")}


def choice_fault(override: Override, loader: Any) -> str | None:
    """Return what is wrong with the choice of a file; None where nothing is."""
    group = override.key_or_group if override.package is None else f"{override.key_or_group}@{override.package}"
    group = TEACHER if group == TEACHER_MODEL else group
    own = group == SWEEPER  # Hydra's others know nothing of dinodiet's launchers
    known = _offered(group, loader) if own else loader.get_group_options(override.key_or_group)
    wrong = _choice_fault(override, group, known)
    return None if wrong is None else f"{group}: {wrong}; {_choices(override.key_or_group, loader)}"


def _choice_fault(override: Override, group: str, known: Collection[str]) -> str | None:
    value = override.value()
    if override.is_force_add():
        return "leave out the ++"
    if override.package is not None and group not in (*PLACED, TEACHER):
        return f"no such group; only {', '.join(PLACED)} have an @"
    if override.is_delete():
        return None if group in OPTIONAL else NEEDED
    if value is None:
        return "null; [] is for none" if group in SEVERAL else f"null; {NEEDED}"
    if isinstance(value, list) and group not in SEVERAL:
        return f"{shown(value)}; {NEEDED}, or with -m {group}=a,b"
    for item in value if isinstance(value, list) else [value]:
        if "$" not in str(item) and (not isinstance(item, str) or item.removesuffix(".yaml") not in known):
            return f"no choice {item!r}"
    there = (*CHOICES, SWEEPS, LAUNCHER, SWEEPER)
    return "leave out the +, a run has one already" if override.is_add() and group in there else None


def without_place(chosen: Sequence[Override]) -> str | None:
    """Return that a choice is for a part that the run has not; None where that is not so.

    Reference images need the evaluator that compares with them, a teacher a method that learns from one.
    """
    named = {f"{one.key_or_group}@{one.package}" for one in chosen}
    asked = any(one.key_or_group == "eval" and "reference" in str(one.value()) for one in chosen)
    if REFERENCE_DATASET in named and not asked:
        return f"{REFERENCE_DATASET}: no evaluator takes it; add one: eval=[knn,reference]"
    return f"{TEACHER}: the method takes none; choose one that does: method=distill" if TEACHER_MODEL in named else None


def value_fault(override: Override, config: DictConfig, error: BaseException) -> str:
    """Return why a word cannot set a value of a configuration.

    Args:
        override: the word.
        config: what it was to change.
        error: what Hydra or OmegaConf raised.
    """
    key, package = override.key_or_group, override.package
    if package is not None:
        return f"{key}@{package}: no such group {key!r}; choose from: {', '.join(CHOICES)}"
    parent, stop = _parent(config, key)
    if not isinstance(parent, DictConfig):
        if isinstance(parent, ListConfig):
            return f"{key}: {first_line(error)}; {stop} is a list: give all of it"
        return f"{key}: no such key; {stop} is {shown(parent)}"
    name = key[len(stop) + 1 :] if stop else key
    if name not in parent and not override.is_add() and not override.is_force_add():
        return _unknown(key, name.partition(".")[0], parent)
    if override.is_delete():
        said = override.value()
        return f"{key}: {shown(said)} is not what it holds" if said is not None else f"{key}: cannot be left out"
    value = shown(override.value())
    if override.is_add() and name in parent and not isinstance(override.value(), (dict, list)):
        return f"{key}: is there already; leave out the +: {key}={override.get_value_element_as_str()}"
    return f"{key}: {value}; must be {_meant(key, name, parent)}"


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, without OmegaConf's lines on where."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def _parent(config: DictConfig, key: str) -> tuple[Any, str]:
    """Return what holds the last part of a key, or what stands in the way of it, and the key of that."""
    node: Any = config
    parts = re.findall(r"[^.\[\]]+", key)
    for depth, part in enumerate(parts[:-1]):
        if not isinstance(node, DictConfig) or part not in node:
            return node, ".".join(parts[:depth])
        node = _held(node, part)
    return node, ".".join(parts[:-1])


def _held(node: DictConfig, name: str) -> Any:
    """Return what a key holds: a node, or a value; interpolations stay."""
    found: Any = node._get_node(name)
    if isinstance(found, (DictConfig, ListConfig)) and not (found._is_none() or found._is_missing()):
        return found
    return found._value()


def _unknown(key: str, name: str, node: DictConfig) -> str:
    """Return that a node has no such name, and those that it has."""
    choices = sorted(choice for choice in map(str, node) if not choice.startswith("_") and choice != "hydra")
    more = f" (an argument of its _target_ that the file leaves out: +{key}=...)" if "_target_" in node else ""
    there = f"choose from: {', '.join(choices)}" if choices else "there are none"
    return f"{key}: no such key {name!r} here; {there}{more}"


def _meant(key: str, name: str, parent: DictConfig) -> str:
    """Return what a key takes, in words: by the settings, by the signature of its node, or by what stands there."""
    prefix = key[: len(key) - len(name)]
    hints: Mapping[str, Any] = hints_below(prefix)
    if "_target_" in parent and not OmegaConf.is_missing(parent, "_target_"):
        hints = hints_of(str(parent._get_node("_target_")))
    hint = hints.get(name, Any)
    if hint is not Any and typing.get_origin(hint) is not typing.ClassVar:
        return describe(hint)
    there = parent._get_node(name)
    if isinstance(there, EnumNode):
        return f"one of: {', '.join(there.enum_type.__members__)}"
    if isinstance(there, DictConfig):
        return "keys with values: {key: value}"
    return "a list" if isinstance(there, ListConfig) else "text or a number"
