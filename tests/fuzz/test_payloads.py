"""The strategies keep their word: else the doors would be tried with less than it seems."""

from __future__ import annotations

import pytest
from hypothesis import given

from appliance.errors import BadRequest
from appliance.request import parse
from tests.fuzz.payloads import LIMIT_BYTES, NO_PROMPTS, PROMPTS


@given(PROMPTS)
def test_prompts_are_understood(payload: bytes) -> None:
    """Strange as they are."""
    parse(payload, door="socket", limit_bytes=LIMIT_BYTES)


@given(NO_PROMPTS)
def test_what_is_no_prompt_is_refused(payload: bytes) -> None:
    """In words."""
    with pytest.raises(BadRequest) as refusal:
        parse(payload, door="socket", limit_bytes=LIMIT_BYTES)
    assert str(refusal.value)
