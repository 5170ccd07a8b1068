"""The configuration explained, from the structs in `appliance.config` and their docstrings.

`python -m appliance.config_example > docs/config.md` writes the reference;
`wattnap config --example` prints a file. Both hold every key, and loading the
file gives the defaults.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct
from msgspec import inspect as types

from appliance.config import Config
from appliance.section import Section
from appliance.spelling import span, toml_value, unit

HEAD = """\
# Configuration of Wattnap. An empty file is valid: every key shows its default.
# The installed daemon reads /etc/wattnap/wattnap.toml and has to be restarted after a change.
"""

REFERENCE = """\
# Configuration

One TOML file: `/etc/wattnap/wattnap.toml`, or what `--config` or `WATTNAP_CONFIG` names.
An empty file is valid. An unknown key is an error, because it is a typo. A change needs a
restart; what was accepted is kept. `wattnap config --example` prints a file with all of this,
`wattnap config --check FILE` tells what is wrong with one.

Most owners set `engine.model` (or `wattnap model use`), `power.idle_timeout_s`,
`tariff.per_kwh`, and `mqtt.host` if the broker is elsewhere:

```toml
[power]
idle_timeout_s = 600       # rest after ten minutes without a prompt

[tariff]
per_kwh = 0.30
```

This page is generated: `python -m appliance.config_example > docs/config.md`.
"""


class Key(Struct, frozen=True, kw_only=True):
    """One key of a table. `limits`: unit and allowed values, for people; may be empty."""

    name: str
    default: Any  # what TOML can hold
    meaning: str
    limits: str


def keys(section: type[Section]) -> Iterator[Key]:
    """Its own keys, in order, without the tables below it.

    Raises KeyError for a field that the docstring does not explain.
    """
    meanings = explained(section)
    for field in types.type_info(section).fields:  # type: ignore[attr-defined]  # it is a struct
        if isinstance(field.type, types.StructType):
            continue
        yield Key(
            name=field.name,
            default=_default(field),
            meaning=meanings[field.name],
            limits=_limits(field.name, field.type),
        )


def tables() -> Iterator[tuple[str, type[Section]]]:
    """The tables of the file, in order."""
    for name, kind in get_type_hints(Config).items():
        if isinstance(kind, type) and issubclass(kind, Section):
            yield name, kind


def explained(section: type[Section]) -> dict[str, str]:
    """Field name -> meaning, from the aligned lines of the docstring."""
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(section.__doc__ or "").splitlines():
        if start := re.fullmatch(r"([a-z]\w*) {2,}(\S.*)", line):
            name = start[1]
            found[name] = start[2]
        elif name and line.startswith("  "):
            found[name] += f" {line.strip()}"
    return found


def title(section: type[Section]) -> str:
    return inspect.cleandoc(section.__doc__ or "").splitlines()[0]


def example() -> str:
    """A file with every key, which loads to the defaults."""
    parts = [HEAD, *(_lines(Config))]
    for name, section in tables():
        parts += [f"\n[{name}]  # {title(section)}\n", *_lines(section)]
    return "\n".join(parts)


def _lines(section: type[Section]) -> Iterator[str]:
    for key in keys(section):
        told = "; ".join(filter(None, (key.limits, days(key))))
        limits = f" ({told})" if told else ""
        yield f"# {key.meaning}{limits}\n{key.name} = {toml_value(key.default)}\n"


def reference() -> str:
    """The same as a page of Markdown."""
    parts = [REFERENCE, "## Top of the file\n", *_table(Config)]
    for name, section in tables():
        parts += [f"\n## `[{name}]`\n", f"{title(section)}\n", *_table(section)]
    return "\n".join(parts) + "\n"


def _table(section: type[Section]) -> Iterator[str]:
    yield "| key | default | unit, values | meaning |"
    yield "|---|---|---|---|"
    for key in keys(section):
        limits, meaning = (text.replace("|", "\\|") for text in (key.limits, key.meaning))
        default = f"`{toml_value(key.default)}`" + (f", {days(key)}" if days(key) else "")
        yield f"| `{key.name}` | {default} | {limits} | {meaning} |"


def days(key: Key) -> str:
    """What a long default comes to; "" if it is not one."""
    if not key.name.endswith("_s") or not isinstance(key.default, (int, float)):
        return ""
    number, rest = divmod(key.default, 86400)
    if not number or rest:
        return ""
    return "1 day" if number == 1 else f"{number:.0f} days"


def _default(field: types.Field) -> Any:  # what TOML can hold
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _limits(name: str, kind: types.Type) -> str:
    return ", ".join(filter(None, (unit(name), span(kind))))


if __name__ == "__main__":
    sys.stdout.write(reference())
