"""The configuration explained: complete, true to the structs, and the pages up to date."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec import inspect as types

from appliance.config import Config, load
from appliance.config_example import example, explained, keys, reference, tables
from appliance.section import Section

SECTIONS = [Config, *(section for _, section in tables())]


@pytest.mark.parametrize("section", SECTIONS)
def test_each_key_is_explained(section: type[Section]) -> None:
    """A docstring has a line for each field, and for nothing else."""
    shown = {key.name for key in keys(section)}

    assert set(explained(section)) == shown
    assert all(key.meaning for key in keys(section))


def test_the_example_loads_to_the_defaults(tmp_path: Path) -> None:
    """What it shows is what would be without it."""
    file = tmp_path / "wattnap.toml"
    file.write_text(example())

    assert load(file) == Config()


def test_the_example_has_every_key() -> None:
    """Also those that are empty."""
    found = msgspec.toml.decode(example())
    sections = {name: {key.name for key in keys(section)} for name, section in tables()}

    assert {name: set(found[name]) for name in sections} == sections
    assert set(found) == {key.name for key in keys(Config)} | set(sections)


def test_units_and_limits_are_told() -> None:
    """From the field's name and type."""
    limits = {key.name: key.limits for _, section in tables() for key in keys(section)}

    assert limits["idle_timeout_s"].startswith("seconds")
    assert limits["port"] == "1 to 65535"
    assert '"fixed"' in limits["policy"]


def test_no_key_has_a_pattern_without_words() -> None:
    """Its `description` says it in the page and where a value is refused."""
    fields = [
        field
        for section in SECTIONS
        for field in types.type_info(section).fields  # type: ignore[attr-defined]  # a struct
    ]

    assert [field.name for field in fields if getattr(field.type, "pattern", None)] == []


def test_the_reference_is_up_to_date() -> None:
    """`python -m appliance.config_example > docs/config.md` was run after the last change."""
    page = Path(__file__).parents[2] / "docs" / "config.md"

    assert page.read_text() == reference()
