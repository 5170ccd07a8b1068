"""What strangers say to the socket: ops that are right, and lines that are wrong in one thing."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from appliance.doors.socket_connection import ENVELOPE_BYTES
from tests.fuzz.payloads import (
    ANYTHING,
    BAD_IDS,
    DEEP,
    IDS,
    LIMIT_BYTES,
    NO_JSON,
    NO_PROMPTS,
    PROMPTS,
    SCALARS,
    SOME_ID,
    Pair,
    obj,
    quoted,
    written,
)

TOO_LONG = b'{"op":"ask","request":"' + b"x" * (2 * LIMIT_BYTES + ENVELOPE_BYTES) + b'"}'

TAGS = st.sampled_from(
    (b"null", b"0", b"-1", b'""', b'"a"', b'"' + b"t" * 128 + b'"', b"9" * 2000, b'"\\u0000"')
)
BAD_TAGS = (b"1.5", b"true", b"[]", b"{}", b'"' + b"t" * 129 + b'"', b'"' + b"t" * 9000 + b'"')


def as_request(payload: bytes) -> bytes:
    """JSON as it is, text as a string: right only if that was right."""
    if payload.lstrip()[:1] in {b"{", b"["}:
        return payload
    return b'"%s"' % payload.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\t", b"\\t")


REQUESTS = (PROMPTS | DEEP).map(as_request)
BOM = b"\xef\xbb\xbf"  # in a string it is text like any other
NO_REQUESTS = NO_PROMPTS.filter(lambda p: not p.startswith(BOM)).map(as_request) | st.sampled_from(
    (b"null", b"5", b"true", b"[]", b'" "', b'"\\u0000"', b'"\\ud800"', b"NaN")
)
BAD_MEMBERS: tuple[Pair, ...] = (
    *(("tag", tag) for tag in BAD_TAGS),
    *(("id", value) for value in (b"1", b"[]", b"{}", b"true", b'"\\u0000"')),
    *(("id", quoted(id)) for id in BAD_IDS),
    *(("wait", value) for value in (b"null", b"1", b'"true"')),
    *(("op", value) for value in (b"null", b"5", b'"Ask"', b'""', b'"reset"', b"[]", b"{}")),
    *(("colour", value) for value in SCALARS[:3]),
    *(("a", value) for value in NO_JSON),
    ("request", b'{"prompt":"x"'),
)
"""None of them may stand in an op."""

BAD_CONTROLS: tuple[bytes, ...] = (
    *(b'{"op":"wake","keep_warm_s":%s}' % v for v in (b"-1", b"1e308", b"null", b'"1"', b"1e999")),
    *(b'{"op":"rest","depth":%s}' % v for v in (b'"awake"', b'"OFF"', b'""', b"0", b'"deep"')),
    b'{"op":"rest","depth":"' + b"d" * 33 + b'"}',
    b'{"op":"wake","depth":"off"}',
    b'{"op":"answer"}',
    b'{"op":"answer","id":"nobody"}',
    b'{"op":"answer","id":"nobody","wait":true}',
    b'{"op":"cancel","id":"a","door":"smtp"}',
    b'{"op":"cancel","id":"a","client":5}',
    b'{"op":"submit"}',
    b'{"op":"ask","id":"a"}',
)

CONTROLS = st.sampled_from(
    (
        b'{"op":"status"}',
        b'{"op":"status","tag":"x"}',
        b'{"op":"wake"}',
        b'{"op":"wake","keep_warm_s":0}',
        b'{"op":"wake","keep_warm_s":2592000,"tag":1}',
        b'{"op":"rest"}',
        b'{"op":"rest","depth":"off"}',
        b'{"op":"rest","depth":null}',
        b'\xef\xbb\xbf{"op":"status"}',
        b' \t{ "op" : "status" }\r',
        b'{"op":"rest","op":"status"}',
    )
)


OPS = st.sampled_from((b'"ask"', b'"submit"', b'"submit","wait":true', b'"submit"'))
SOME_TAG = st.none() | TAGS


def request_line(op: bytes, request: bytes, id: str | None, tag: bytes | None) -> bytes:
    """`ask` or `submit`."""
    pairs: list[Pair] = [("op", op), ("request", request)]
    if id is not None:
        pairs.append(("id", quoted(id)))
    if tag is not None:
        pairs.append(("tag", tag))
    return obj(pairs)


REQUEST_LINES = st.builds(request_line, OPS, REQUESTS, SOME_ID, SOME_TAG)
EARLIER = st.builds(
    lambda op, name: b'{"op":%s,"id":%s}' % (op, quoted(name)),
    st.sampled_from(
        (
            b'"answer"',
            b'"answer","wait":true',
            b'"cancel"',
            b'"cancel","door":"mqtt"',
            b'"cancel","client":"uid:0"',
        )
    ),
    IDS,
)
"""`answer` and `cancel`."""

BAD_LINES = st.one_of(
    st.builds(request_line, OPS, NO_REQUESTS, SOME_ID, SOME_TAG),
    st.builds(request_line, OPS, NO_REQUESTS, SOME_ID, SOME_TAG),
    st.builds(
        lambda op, pair: b'{"op":%s,"request":"hi",%s' % (op, obj([pair])[1:]),
        OPS,
        st.sampled_from(BAD_MEMBERS),
    ),
    st.sampled_from(BAD_CONTROLS),
    st.builds(lambda line, size: line[:size], REQUEST_LINES, st.integers(1, 12)),
    NO_PROMPTS,
)
"""No ops, or ops that ask for what cannot be."""

LINES = st.one_of(
    REQUEST_LINES,
    REQUEST_LINES,
    EARLIER,
    CONTROLS,
    BAD_LINES,
    ANYTHING,
    st.just(TOO_LONG),
)


class Visit(NamedTuple):
    """One connection: some lines, and how it ends.

    manner  "listen": says that it has said all, and hears everything out;
            "leave": closes at once; "reset": likewise, without reading;
            "cut": leaves in the middle of the last line
    """

    lines: list[bytes]
    manner: str

    def __repr__(self) -> str:
        return f"Visit([{', '.join(map(written, self.lines))}], {self.manner!r})"


def visits(lines: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[Visit]]:
    """Twenty lines, in visits of ten."""
    lines = lines.map(lambda raw: raw.replace(b"\n", b" "))
    manner = st.sampled_from(("listen", "listen", "listen", "leave", "reset", "cut"))
    visit = st.builds(Visit, st.lists(lines, min_size=10, max_size=10), manner)
    return st.lists(visit, min_size=2, max_size=2)
