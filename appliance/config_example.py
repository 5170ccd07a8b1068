"""The configuration explained, from the structs in `appliance.config` and their docstrings.

`python -m appliance.config_example > docs/config.md` writes the reference;
`wattnap config --example` prints a file. Both hold every key, and loading the
file gives the defaults.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct
from msgspec import inspect as types

from appliance.config import Config
from appliance.section import Section

UNITS = {
    "_w_per_gib": "watts per GiB",
    "_g_per_kwh": "grams per kWh",
    "_tokens": "tokens",
    "_len": "tokens",
    "_s": "seconds",
    "_ms": "milliseconds",
    "_w": "watts",
    "_mib": "MiB",
    "_bytes": "bytes",
    "_hz": "per second",
}

HEAD = """\
# Configuration of Wattnap. An empty file is valid: every key shows its default.
# The installed daemon reads /etc/wattnap/wattnap.toml and has to be restarted after a change.
"""

REFERENCE = """\
# Configuration

One TOML file: `/etc/wattnap/wattnap.toml`, or what `--config` or `WATTNAP_CONFIG` names.
An empty file is valid. An unknown key is an error, because it is a typo. A change needs a
restart; what was accepted is kept. "For ever" is 1e9 seconds. `wattnap config --example` prints
a file with all of this, `wattnap config --check FILE` tells what is wrong with one.

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
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
    return ", ".join(word for word in (unit, _span(kind)) if word)


def _span(kind: types.Type) -> str:
    """What may be written there."""
    match kind:
        case types.LiteralType(values=values):
            span = ", ".join(toml_value(value) for value in values)
        case types.UnionType(types=options):
            span = ", or ".join(_span(option) for option in options)
        case types.IntType(ge=low, le=high) | types.FloatType(ge=low, le=high, gt=None):
            to = f"{_number(low)} to {_number(high)}" if high else f"{low} or more"
            span = "number" if low is None else to
        case types.FloatType(gt=low, le=high):
            span = f"more than {low}, up to {_number(high)}"
        case types.BoolType():
            span = "true or false"
        case types.VarTupleType(item_type=types.IntType()):
            span = "list of numbers"
        case types.VarTupleType(item_type=item):
            span = f"list of {_span(item)}"
        case types.DictType():
            span = "table"
        case _:
            span = "text"
    return span


def _number(limit: float | None) -> str:
    """1e9 as people write it, and whole numbers in full."""
    return f"{limit:g}".replace("e+0", "e") if isinstance(limit, float) else str(limit)


def toml_value(value: Any) -> str:  # what TOML can hold
    """A value as TOML writes it. Its strings are JSON's, but for what we do not use."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(reference())
