"""Numbers of the configuration that the daemon could not reckon with are refused by their key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect as types

from appliance.clock import SystemClock
from appliance.config import Config, load
from appliance.config_example import tables
from appliance.errors import ConfigError
from appliance.section import FOR_EVER_S


def fields() -> Iterator[tuple[str, str, types.Type]]:
    """Table, key and type of each."""
    for name, section in tables():
        for field in types.type_info(section).fields:  # type: ignore[attr-defined]  # a struct
            yield name, field.name, field.type


def floats(kind: types.Type, key: str, form: str = "%s") -> Iterator[tuple[str, str]]:
    """Key and how it is written, for each place in it that takes any number."""
    match kind:
        case types.FloatType():
            yield key, form
        case types.UnionType(types=options):
            for option in options:
                yield from floats(option, key, form)
        case types.DictType(key_type=types.LiteralType(values=[name, *_]), value_type=value):
            yield from floats(value, key, f"{{ {name} = {form} }}")
        case types.DictType(value_type=value):
            yield from floats(value, key, f'{{ "00:00-24:00" = {form} }}')


FLOATS = [(table, *found) for table, name, kind in fields() for found in floats(kind, name)]
SECONDS = [
    (table, name, getattr(kind, "le", None))
    for table, name, kind in fields()
    if name.endswith("_s")
]


def read(folder: Path, table: str, line: str) -> Config:
    file = folder / "wattnap.toml"
    file.write_text(f"[{table}]\n{line}\n")
    return load(file)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(("table", "key", "form"), FLOATS)
def test_what_is_no_number(tmp_path: Path, table: str, key: str, form: str, value: str) -> None:
    """Infinity and "not a number" are refused, wherever a fraction may stand."""
    with pytest.raises(ConfigError, match=rf"{table}\.{key}\b"):
        read(tmp_path, table, f"{key} = {form % value}")


@pytest.mark.parametrize(("table", "key", "most"), SECONDS)
def test_seconds_have_an_end(tmp_path: Path, table: str, key: str, most: float) -> None:
    """The longest is taken, and dates can be reckoned with it; what is longer is refused."""
    config = read(tmp_path, table, f"{key} = {json.dumps(most)}")
    now = SystemClock().utc()

    assert getattr(getattr(config, table), key) == most
    assert now - timedelta(seconds=most) > datetime.min.replace(tzinfo=UTC)
    assert now + timedelta(seconds=most) < datetime.max.replace(tzinfo=UTC)
    with pytest.raises(ConfigError, match=rf"{table}\.{key}\b"):
        read(tmp_path, table, f"{key} = {json.dumps(most + 1)}")


@pytest.mark.parametrize("value", ["inf", "1e11", "100_000_000_000"])
def test_for_ever_is_a_number(tmp_path: Path, value: str) -> None:
    """Who wants to keep the log for ever is told how to write that."""
    with pytest.raises(ConfigError, match=r"ledger\.keep_requests_s: .*1e9, which is for ever"):
        read(tmp_path, "ledger", f"keep_requests_s = {value}")

    assert read(tmp_path, "ledger", "keep_requests_s = 1e9").ledger.keep_requests_s == FOR_EVER_S


def test_no_number_is_left_out() -> None:
    """The lists above hold what they are for."""
    shown = {(table, key) for table, key, _ in FLOATS}

    assert {("power", "lambda_w"), ("tariff", "per_kwh"), ("energy", "gain")} <= shown
    assert ("defer", "max_wait_s", 30 * 86400) in SECONDS
    assert msgspec.convert({}, Config) == Config()
