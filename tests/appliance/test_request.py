"""What each door makes of a payload, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ApplianceError, BadRequest, Loop, TooLarge
from appliance.request import MAX_DEPTH, Extras, Request, parse


def understood(payload: bytes, **given: Any) -> Request:
    return parse(payload, door="mqtt", limit_bytes=10_000, **given)[0]


def body_of(request: Request) -> Any:
    return msgspec.json.decode(request.body)


def test_plain_text_is_one_user_message() -> None:
    """Whatever it says, if it is not JSON."""
    request = understood("turn on the light, élan".encode())

    assert body_of(request) == {
        "messages": [{"role": "user", "content": "turn on the light, élan"}]
    }
    assert request.form == "text"


def test_a_prompt_is_a_user_message_with_options() -> None:
    """Sampling fields travel on; ours do not."""
    request = understood(b'{"prompt":"x","max_tokens":5,"wattnap":{"id":"7","priority":-3}}')

    assert body_of(request) == {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
    assert (request.id, request.priority) == ("7", -3)


def test_a_byte_order_mark_is_no_part_of_it() -> None:
    """JSON after one is JSON."""
    assert understood(b'\xef\xbb\xbf{"prompt":"x"}').digest == understood(b"x").digest


def test_a_chat_body_travels_as_it_is() -> None:
    """Messages, tools and all; `stream` only decides how we answer."""
    chat = {"messages": [{"role": "user", "content": "x"}], "temperature": 0, "stream": True}
    request = understood(json.dumps(chat).encode())

    assert body_of(request) == {"messages": [{"role": "user", "content": "x"}], "temperature": 0}
    assert request.form == "message"
    assert request.stream


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"\xff\xfe", "UTF-8"),
        (b"a\0b", "NUL"),
        (b'{"prompt":', "JSON"),
        (b"[1]", "object"),
        (b"{}", "either"),
        (b'{"prompt":"a","messages":[]}', "either"),
        (b'{"prompt":""}', "prompt"),
        (b'{"prompt":3}', "prompt"),
        (b'{"messages":[]}', "messages"),
        (b'{"messages":[{"content":"x"}]}', "role"),
        (b'{"prompt":"a","max_tokens":-1}', "max_tokens"),
        (b'{"prompt":"a","max_tokens":"5"}', "max_tokens"),
        (b'{"prompt":"a","n":2}', "n"),
        (b'{"prompt":"a","colour":1}', "colour"),
        (b'{"prompt":"a","wattnap":{"colour":1}}', "colour"),
        (b'{"prompt":"a","wattnap":{"deadline_s":-1}}', "deadline_s"),
        (b'{"prompt":"a","wattnap":{"id":"a b"}}', "id"),
        (b'{"prompt":"a","wattnap":{"id":"a\\n"}}', "id"),
        (b'{"prompt":"a","model":"a b"}', "model"),
        (b'{"prompt":"a","wattnap":{"class":"urgent"}}', "class"),
        (b'{"prompt":"a","temperature":NaN}', "JSON"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(payload: bytes, word: str) -> None:
    """The message says which field, or what is wrong with the whole."""
    with pytest.raises(BadRequest, match=word):
        understood(payload)


def test_a_wrong_id_is_refused_also_where_a_stronger_one_stands() -> None:
    """A line end at its end is not part of an id either."""
    with pytest.raises(BadRequest, match="id"):
        understood(b'{"prompt":"x","wattnap":{"id":"a\\n"}}', id="b")


def test_too_large() -> None:
    """Said with both sizes, before anything is read."""
    with pytest.raises(TooLarge, match="10001 bytes; at most 10000"):
        understood(b"x" * 10_001)


@pytest.mark.parametrize("wide", ["", "[],{}," * 300])
def test_how_deep_it_may_be(wide: str) -> None:
    """200 arrays and objects in one another, however many there are beside them."""

    def nested(depth: int) -> bytes:
        # The payload and `metadata` are two of them.
        inner = depth - 3
        return f'{{"prompt":"x","metadata":{{"a":[{wide}{"[" * inner}{"]" * inner}]}}}}'.encode()

    assert understood(nested(MAX_DEPTH))
    with pytest.raises(BadRequest, match="nested more than 200 deep"):
        understood(nested(MAX_DEPTH + 1))


def test_four_hops_are_a_loop() -> None:
    """Whether the door or the payload says so."""
    assert understood(b"x", hops=3).hops == 3
    with pytest.raises(Loop):
        understood(b"x", hops=4)
    with pytest.raises(Loop):
        understood(b'{"prompt":"x","wattnap":{"hops":4}}')


def test_the_door_wins_over_the_payload() -> None:
    """An id in the topic is the id."""
    request = understood(b'{"prompt":"x","wattnap":{"id":"a","model":"m"}}', id="b", model="n")

    assert (request.id, request.model) == ("b", "n")


def test_equal_requests_have_equal_digests() -> None:
    """And an option more or less is another request."""
    assert understood(b"x").digest == understood(b"x", id="1").digest
    assert understood(b'{"prompt":"x"}').digest == understood(b"x").digest
    assert understood(b'{"prompt":"x","seed":1}').digest != understood(b"x").digest


@given(st.binary(max_size=300))
def test_any_bytes_are_understood_or_refused(payload: bytes) -> None:
    """Nothing else is ever raised."""
    try:
        request = understood(payload)
    except BadRequest as error:
        assert str(error)
    else:
        assert body_of(request)["messages"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["prompt", "messages", "wattnap", "model", "stream", "max_tokens", "n", "stop"]
)


@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_any_json_is_understood_or_refused(fields: dict[str, Any]) -> None:
    """Deep, strange or mistyped: an ApplianceError or a Request."""
    try:
        understood(json.dumps(fields).encode())
    except ApplianceError as error:
        assert error.http_status in {400, 413}


def test_every_field_of_ours_is_explained() -> None:
    """In the docstring, one line each."""
    assert Extras.__doc__ is not None
    for name in Extras.__struct_fields__:
        assert f"    {name} " in Extras.__doc__
