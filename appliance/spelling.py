"""Values of TOML and JSON, and what may stand in a field, as people read them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import inspect as types

from appliance.section import FOR_EVER_S

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


def unit(name: str) -> str:
    """Of a field, by the end of its name; "" if it has none."""
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")


def span(kind: types.Type) -> str:
    """What may be written there."""
    match kind:
        case types.LiteralType(values=values):
            told = ", ".join(toml_value(value) for value in values)
        case types.UnionType(types=options):
            told = ", or ".join(span(option) for option in options)
        case types.Metadata(extra_json_schema={"description": described}):
            told = described
        case types.IntType(ge=low, le=high) | types.FloatType(ge=low, le=high, gt=None):
            told = _between(low, high)
        case types.FloatType(gt=low, le=high):
            told = f"more than {low}" + (f", up to {_number(high)}" if high is not None else "")
        case types.BoolType():
            told = "true or false"
        case types.VarTupleType(item_type=item) | types.ListType(item_type=item):
            numbers = isinstance(item, types.IntType | types.FloatType)
            told = f"list of {'numbers' if numbers else span(item)}"
        case types.DictType() | types.StructType():
            told = "table"
        case types.StrType(min_length=low, max_length=high) if high is not None:
            told = f"text of {f'{low} to' if low else 'up to'} {high} characters"
        case _:
            told = "text"
    return told


def _between(low: float | None, high: float | None) -> str:
    if low is None:
        return "number"
    return f"{low} or more" if high is None else f"{_number(low)} to {_number(high)}"


def _number(limit: float | None) -> str:
    """1e9 as people write it, and whole numbers in full."""
    told = f"{limit:g}".replace("e+0", "e") if isinstance(limit, float) else str(limit)
    return f"{told}, which is for ever" if limit == FOR_EVER_S else told


def toml_value(value: Any) -> str:  # what TOML can hold
    """A value as TOML writes it. Its strings are JSON's, but for what we do not use."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
