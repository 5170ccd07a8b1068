"""What may stand in a line: anything at all is either an op or a refusal."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from appliance.doors.socket_lines import Ask, Hint, Submit, hint, payload, understand
from appliance.errors import BadRequest
from appliance.request import UTF8_BOM

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["op", "tag", "id", "request", "wait", "keep_warm_s", "depth", "model", "prompt"]
)
OPS = st.sampled_from(["submit", "ask", "answer", "cancel", "status", "wake", "rest", "x"])
LINES = st.binary() | st.builds(
    lambda fields, op: json.dumps(fields | {"op": op}).encode(),
    st.dictionaries(FIELDS, VALUES, max_size=5),
    OPS,
)


@given(LINES)
@example(b'{"op":"ask","request":"\xff"}')
@example(b'{"op":"ask","request":"\\ud800"}')
@example(b'{"op":"ask","request":' + b"[" * 5000)
@example(b'{"op":"ask","request":{"a":' * 3000)
@example(b'\xef\xbb\xbf{"op":"status"}')
@example(b"\0")
def test_a_line_is_an_op_or_a_refusal(line: bytes) -> None:
    """Never another error, whatever it holds; what was refused can be hinted at."""
    try:
        op = understand(line)
        if isinstance(op, Ask | Submit):
            payload(op.request)
    except BadRequest as error:
        told = hint(line)

        assert str(error)
        assert told.tag is None or isinstance(told.tag, str | int)


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
@example("\ufeff{")
@example("\ufeff[]")
def test_a_text_stays_what_it_is(text: str) -> None:
    """Through the line and back, also where it looks like JSON."""
    try:
        op = understand(json.dumps({"op": "ask", "request": text}).encode())
    except BadRequest:
        # A lone surrogate is no text.
        assert any(0xD800 <= ord(c) < 0xE000 for c in text)
        return
    assert isinstance(op, Ask)
    sent = payload(op.request)
    if sent.lstrip()[:1] in {b"{", b"["}:
        assert json.loads(sent) == {"prompt": text}
    else:
        assert sent.decode() == text
        assert not sent.startswith(UTF8_BOM)  # what stands behind one may be JSON


def test_a_hint_is_a_tag_and_an_id_or_nothing() -> None:
    """What a stranger says in a line that is no op is not echoed, and not kept in the ledger."""
    long = "x" * 1_000_000

    assert hint(b'{"tag":"t","id":"a"}') == Hint(tag="t", id="a")
    assert hint(b'{"tag":true,"id":5}') == Hint()
    assert hint(b'{"tag":"%s","id":"%s"}' % (long.encode(), long.encode())) == Hint()
    assert hint(b'{"id":"a b"}') == Hint()
