"""YAML files from elsewhere: bounded before they are read, as aliases and depth can make a small file a large one."""

from __future__ import annotations

from pathlib import Path

from dinodiet.errors import UserError, one_line
from dinodiet.io.units import byte_size

MOST_BYTES, MOST_LEVELS = 1 << 20, 50  # a run's configuration has some 10 KiB and 8 levels


def yaml_text(path: Path) -> str:
    """Return the text of a YAML file that is no larger and no deeper than a configuration, and has no aliases.

    Raises:
        OSError: the file cannot be read.
        UserError: it is too large or too deep, has aliases, or is no YAML; names the file.
    """
    import yaml  # noqa: PLC0415 - tables do without

    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path}: {byte_size(path.stat().st_size)} are more than a configuration has")
    try:
        text = path.read_text(encoding="utf-8")
        level = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or level > MOST_LEVELS:
                what = f"the alias *{event.anchor}" if isinstance(event, yaml.AliasEvent) else f"{level} levels"
                raise UserError(f"{path}: {what}, which no configuration that a run writes has")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no YAML ({one_line(error)})") from error
    return text
