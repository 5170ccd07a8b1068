"""What strangers say over HTTP: requests that are right, wrong in one thing, or no HTTP at all."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from tests.fuzz.payloads import (
    ANYTHING,
    BAD_IDS,
    DEEP,
    GOOD_IDS,
    IDS,
    LIMIT_BYTES,
    NO_PROMPTS,
    PROMPTS,
    written,
)

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"

HELLO = b'[{"role":"user","content":"hello"}]'


def as_chat(payload: bytes) -> bytes:
    """Right only if that was right. (A filter would have Hypothesis give up.)"""
    if payload.lstrip()[:1] != b"{":
        return b'{"messages":%s}' % HELLO
    return (
        payload
        if b'"messages":' in payload
        else payload.replace(b'"prompt":', b'"messages":%s,"user":' % HELLO)
    )


def as_text(payload: bytes) -> bytes:
    if payload.lstrip()[:1] != b"{" or b'"messages":' in payload:
        return b'{"prompt":"hello"}'
    return payload


def as_json(payload: bytes) -> bytes:
    return payload if payload.lstrip()[:1] in {b"{", b"["} else b"{}"


CHATS = (PROMPTS | DEEP).map(as_chat)
TEXTS = PROMPTS.map(as_text)


class Call(NamedTuple):
    """One request: a line, headers, a body. `chunked`: sent in chunks of that many bytes."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    chunked: int = 0

    def __repr__(self) -> str:
        about = f"{self.method!r}, {self.path!r}, {self.headers!r}"
        return f"Call({about}, {written(self.body)}, {self.chunked})"

    def raw(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.body or self.method == "POST":
            lines.append(f"Content-Length: {len(self.body)}")
        head = "\r\n".join([*lines, "", ""]).encode(errors="surrogateescape")
        return head + (_chunks(self.body, self.chunked) if self.chunked else self.body)


def _chunks(body: bytes, size: int) -> bytes:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


Header = tuple[str, str]

HOSTS: tuple[Header, ...] = (("Host", "localhost"), ("Host", "127.0.0.1:8071"))
IS_JSON: Header = ("Content-Type", "application/json")
HARMLESS: tuple[Header, ...] = (
    ("Authorization", "Bearer any"),
    ("Accept", "text/event-stream"),
    ("X-Request-Id", "trace-1"),
    ("X-Request-Id", "no trace " * 20),
    ("Prefer", "handling=lenient"),
    ("User-Agent", "x" * 4000),
    ("Cookie", "a=b"),
    ("Expect", "200-ok"),
)
KEEPING: tuple[Header, ...] = (
    *(("Idempotency-Key", id) for id in GOOD_IDS),
    *(("Idempotency-Key", f'"{id}"') for id in GOOD_IDS),
    *7 * (("Prefer", "respond-async"), ("Prefer", "wait=5, Respond-Async; x=1")),
)
WRONG: tuple[Header, ...] = (
    ("Content-Type", "text/plain"),
    ("Content-Type", "application/jsonp"),
    ("Content-Encoding", "gzip"),
    ("Content-Encoding", "br"),
    ("Origin", "https://evil.example"),
    ("Origin", "null"),
    ("Host", "evil.example"),
    *(("Idempotency-Key", id) for id in BAD_IDS if id.strip() == id),
)
"""None of them may stand in a prompt. They stand before what is right: the first counts."""


def headers(*more: st.SearchStrategy[Header]) -> st.SearchStrategy[tuple[Header, ...]]:
    some = st.lists(st.sampled_from(HARMLESS), max_size=2, unique_by=lambda h: h[0])
    return st.builds(
        lambda host, plain, rest: (*rest, host, IS_JSON, *plain),
        st.sampled_from(HOSTS),
        some,
        st.tuples(*more),
    )


SIZES = st.sampled_from((0, 0, 0, 1, 7, 1000))
RIGHT = st.builds(Call, st.just("POST"), st.just(CHAT), headers(), CHATS, SIZES) | st.builds(
    Call, st.just("POST"), st.just(TEXT), headers(), TEXTS, SIZES
)
KEPT = st.builds(
    Call, st.just("POST"), st.just(CHAT), headers(st.sampled_from(KEEPING)), CHATS, SIZES
)
EARLIER = st.builds(
    lambda method, name, wait: Call(
        method, f"/v1/wattnap/requests/{name}", (HOSTS[0], ("Prefer", wait)), b""
    ),
    st.sampled_from(("GET", "DELETE", "HEAD")),
    IDS,
    st.sampled_from(("", "wait=0", "wait=1", "wait=x", "wait=99999999999999999999")),
)
CONTROLS = st.sampled_from(
    tuple(
        Call("POST", f"/v1/wattnap/{path}", (HOSTS[0], IS_JSON), body)
        for path, body in (
            ("wake", b""),
            ("wake", b"{}"),
            ("wake", b'{"keep_warm_s":0}'),
            ("rest", b""),
            ("rest", b'{"depth":"off"}'),
        )
    )
)
LOOKS = st.builds(
    lambda method, path: Call(method, path, (HOSTS[0],), b""),
    st.sampled_from(("GET", "HEAD", "OPTIONS")),
    st.sampled_from(("/v1/models", "/v1/models/main", "/health", "/metrics", "/v1/wattnap/state")),
)
BAD = st.one_of(
    st.builds(
        Call,
        st.just("POST"),
        st.sampled_from((CHAT, TEXT)),
        headers(),
        NO_PROMPTS.map(as_json),
        SIZES,
    ),
    st.builds(Call, st.just("POST"), st.just(CHAT), headers(), TEXTS, SIZES),
    st.builds(Call, st.just("POST"), st.just(CHAT), headers(st.sampled_from(WRONG)), CHATS, SIZES),
    st.builds(
        lambda method, path: Call(method, path, (HOSTS[0], IS_JSON), b"{}"),
        st.sampled_from(("POST", "PUT", "DELETE", "PATCH", "GET")),
        st.sampled_from(
            (
                "/",
                "/v1",
                "/v1/chat",
                "/v1/models/x",
                "/v1/models/%00",
                "/wattnap/sleep?level=2",
                "/wattnap/wake",
                "/v1/wattnap/requests/",
                "/v1/embeddings",
                "/v1/load_lora_adapter",
                "/sleep",
                "//v1/chat/completions",
                "/v1/chat/completions/x",
                "/V1/models",
            )
        ),
    ),
    st.builds(
        lambda path, body: Call("POST", f"/v1/wattnap/{path}", (HOSTS[0], IS_JSON), body),
        st.sampled_from(("wake", "rest")),
        st.sampled_from(
            (
                b'{"keep_warm_s":-1}',
                b'{"depth":"awake"}',
                b'{"depth":5}',
                b"[]",
                b"{",
                b"\xff",
                b'{"x":1}',
                b"[" * 3000,
                b'{"depth":"' + b"d" * 33 + b'"}',
            )
        ),
    ),
)
"""No prompt, or none that may be asked: nothing of it wakes anything."""

NONSENSE = st.one_of(
    ANYTHING,
    ANYTHING.map(lambda raw: b"GET /health HTTP/1.1\r\n" + raw + b"\r\n\r\n"),
    ANYTHING.map(lambda raw: raw.replace(b" ", b"") + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ANYTHING.map(
        lambda raw: (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n" + raw
        )
    ),
)

TOO_LARGE = st.sampled_from((0, 999)).map(
    lambda size: Call("POST", CHAT, (HOSTS[0], IS_JSON), b"x" * (LIMIT_BYTES + 1), size)
)
"""Nothing after it on its connection is sure to be read."""
CALLS = st.one_of(*2 * (RIGHT, RIGHT, KEPT, EARLIER, CONTROLS, LOOKS, BAD), TOO_LARGE)


class Visit(NamedTuple):
    """One connection: some requests, perhaps nonsense after them, and how it ends.

    manner  "listen": hears everything out; "leave": closes at once; "reset": likewise,
            without reading; "cut": leaves in the middle of the last request
    """

    calls: list[Call]
    nonsense: bytes
    manner: str

    def __repr__(self) -> str:
        return f"Visit({self.calls!r}, {written(self.nonsense)}, {self.manner!r})"


def visits(calls: st.SearchStrategy[Call], *, wild: bool) -> st.SearchStrategy[list[Visit]]:
    """Twenty requests, in visits of ten. `wild`: with nonsense, and departures."""
    manners = ("listen", "listen", "listen", "leave", "reset", "cut") if wild else ("listen",)
    visit = st.builds(
        Visit,
        st.lists(calls, min_size=10, max_size=10),
        (st.just(b"") | NONSENSE) if wild else st.just(b""),
        st.sampled_from(manners),
    )
    return st.lists(visit, min_size=2, max_size=2)
